"""What a person sees of signing in at a provider: the way there, who comes back, linking and unlinking.

A provider's answer says nothing on these pages: each problem has a sentence of ours.
"""

import time
from functools import wraps
from typing import Any, cast
from urllib.parse import urlencode

from allauth.account.internal.flows.login import record_authentication
from allauth.account.internal.flows.reauthentication import resume_request
from allauth.account.utils import get_next_redirect_url, perform_login
from allauth.core import ratelimit
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from consent import invitations
from gateway.accounts.adapter import INVITATION, SIGNED_OUT_OF
from gateway.accounts.addresses import address_of, send_link
from gateway.accounts.models import User
from gateway.accounts.oidc import discovery, exchange, identities, providers
from gateway.accounts.oidc.exchange import AGAIN, LINK, SIGN_IN, Begun
from gateway.accounts.oidc.id_token import Shown
from gateway.accounts.oidc.providers import Provider, ProviderRefused
from gateway.accounts.step_up import METHOD, by_provider_alone, showed_again, where_to_show
from ledger.errors import GatewayError, InvalidInput, RefusedTransition

SIGNING_UP = "sign-up that began"  # session: an invited person whom a provider showed, without an account
SIGNING_UP_SECONDS = 1800


def for_provider(view: Any) -> Any:
    """`view(request, provider)` for the configured provider of this address."""

    @never_cache
    @wraps(view)
    def inner(request: HttpRequest, provider: str) -> HttpResponse:
        found = providers.find(provider)
        if found is None:
            raise Http404
        too_many: HttpResponse | None = ratelimit.consume_or_429(request, action="provider")
        answer: HttpResponse = too_many or view(request, found)
        return answer

    return inner


def after_showing_again(view: Any) -> Any:
    """`view(request, provider)` for somebody who showed a moment ago who they are; else they do so first."""

    @wraps(view)
    def inner(request: HttpRequest, provider: Provider) -> HttpResponse:
        if not showed_again(request):
            there = where_to_show(request, reverse("providers"))
            return redirect(there or reverse("mfa_reauthenticate_webauthn"))  # a passkey is what is left
        answer: HttpResponse = view(request, provider)
        return answer

    return inner


# The way there


@for_provider
@require_POST
def start(request: HttpRequest, provider: Provider) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect("home")
    return _go(request, provider, SIGN_IN, get_next_redirect_url(request) or "")


@login_required
@for_provider
@require_POST
@after_showing_again
def link(request: HttpRequest, provider: Provider) -> HttpResponse:
    return _go(request, provider, LINK, reverse("providers"))


@login_required
@for_provider
@require_http_methods(["GET", "HEAD", "POST"])
def again(request: HttpRequest, provider: Provider) -> HttpResponse:
    """Somebody who has neither a password nor an app shows at the provider that it is still them."""
    user = cast(User, request.user)
    if not by_provider_alone(user) or identities.of(user, provider) is None:
        return redirect("home")
    back = get_next_redirect_url(request) or reverse("home")
    if request.method == "POST":
        return _go(request, provider, AGAIN, back)
    return render(request, "account/provider_again.html", {"provider": provider, "back": back})


def _go(request: HttpRequest, provider: Provider, act: str, back: str) -> HttpResponse:
    """To the provider by a page of its own: a form may not lead to another site (form-action of our CSP)."""
    try:
        address = exchange.begin(request.session, provider, act=act, next=back, user=request.user.pk)
    except ProviderRefused as error:
        return _problem(request, provider, error, status=503)
    page = render(request, "account/provider_go.html", {"provider": provider, "address": address})
    page["Refresh"] = f"0; url={address}"
    return page


# Who comes back


@for_provider
@require_safe
def callback(request: HttpRequest, provider: Provider) -> HttpResponse:
    answer = {name: request.GET[name] for name in request.GET if len(request.GET.getlist(name)) == 1}
    try:
        begun = exchange.take(request.session, provider, answer.get("state", ""))
        if begun.user != request.user.pk:  # who signed in or out meanwhile is another person
            raise ProviderRefused("Another person is signed in now.", code="sign_in_over")
        shown = exchange.finish(provider, begun, answer)
        if begun.act == SIGN_IN:
            return _sign_in(request, provider, begun, shown)
        return _for_signed_in(request, provider, begun, shown)
    except (ProviderRefused, RefusedTransition) as error:
        return _problem(request, provider, error, status=error.status)


def _sign_in(request: HttpRequest, provider: Provider, begun: Begun, shown: Shown) -> HttpResponse:
    found = identities.find(provider, shown.subject)
    if found is not None:
        return _enter(request, found.user, provider, shown.second_factor, begun.next)
    try:
        invitations.find(request.session.get(INVITATION, ""))
    except RefusedTransition:
        return render(request, "account/provider_unlinked.html", {"provider": provider}, status=403)
    request.session[SIGNING_UP] = {
        "provider": provider.slug,
        "issuer": provider.issuer,
        "subject": shown.subject,
        "second_factor": shown.second_factor,
        "at": int(time.time()),
    }
    return redirect("provider_sign_up")


def _for_signed_in(request: HttpRequest, provider: Provider, begun: Begun, shown: Shown) -> HttpResponse:
    user = cast(User, request.user)
    if begun.act == LINK:
        if not showed_again(request):
            raise ProviderRefused("It took too long.", code="sign_in_over")
        identities.link(user=user, provider=provider, subject=shown.subject, how="settings")
        messages.success(request, _("You can sign in with %(name)s now.") % {"name": provider.name})
        return redirect("providers")
    own = identities.of(user, provider)
    if own is None or own.subject != shown.subject:
        raise RefusedTransition("Another person signed in at the provider.", code="another_person")
    record_authentication(request, user, METHOD, reauthenticated=True, provider=provider.slug)
    return resume_request(request) or redirect(begun.next)


def _enter(
    request: HttpRequest, user: User, provider: Provider, second_factor: bool, back: str = ""
) -> HttpResponse:
    """Signed in, after our own second step where the account has one. What the provider says never opens
    more than it showed: `second_factor` is read by the staff site alone."""
    record_authentication(request, user, METHOD, provider=provider.slug, second_factor=second_factor)
    answer: HttpResponse = perform_login(request, user, redirect_url=back or None)
    return answer


class SignUpForm(forms.Form):
    email = forms.EmailField(
        max_length=254,
        label=gettext_lazy("Email"),
        help_text=gettext_lazy("We write to you here. You do not sign in with it."),
        error_messages={"required": gettext_lazy("Enter your email")},
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    """The last page of an invited person whom a provider showed: where we write to."""
    begun: dict[str, Any] = request.session.get(SIGNING_UP, {"provider": "", "at": 0})
    provider = providers.find(begun["provider"])
    is_over = begun["at"] <= time.time() - SIGNING_UP_SECONDS
    if request.user.is_authenticated or is_over or provider is None or provider.issuer != begun["issuer"]:
        request.session.pop(SIGNING_UP, None)
        return redirect("account_login")
    form = SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = identities.sign_up(
                request,
                code=request.session.get(INVITATION, ""),
                email=form.cleaned_data["email"].lower(),
                provider=provider,
                subject=begun["subject"],
            )
        except InvalidInput:
            form.add_error("email", _("This email has an account here already. Use another one."))
        except RefusedTransition as error:
            del request.session[SIGNING_UP]
            return render(request, "portal/invitation_invalid.html", {"error": error}, status=error.status)
        else:
            del request.session[SIGNING_UP]
            send_link(request, address_of(user))
            return _enter(request, user, provider, begun["second_factor"])
    return render(request, "account/provider_sign_up.html", {"provider": provider, "form": form})


# Linking, unlinking, signing out


@never_cache
@require_safe
@login_required
def index(request: HttpRequest) -> HttpResponse:
    """With which providers this account signs in."""
    user = cast(User, request.user)
    own = set(user.identities.values_list("issuer", flat=True))
    rows = [{"provider": each, "linked": each.issuer in own} for each in providers.configured()]
    context = {"rows": rows, "section": "settings", "alone": not user.has_usable_password()}
    return render(request, "account/providers.html", context)


@login_required
@for_provider
@require_POST
@after_showing_again
def unlink(request: HttpRequest, provider: Provider) -> HttpResponse:
    try:
        identities.unlink(user=cast(User, request.user), provider=provider)
    except RefusedTransition as error:
        return _problem(request, provider, error, status=error.status)
    messages.success(request, _("%(name)s does not sign you in any more.") % {"name": provider.name})
    return redirect("providers")


@never_cache
@require_safe
def signed_out(request: HttpRequest) -> HttpResponse:
    """After signing out here: the provider may still know this browser (RP-Initiated Logout 1.0).

    We keep no ID token and put none into an address, so the provider asks whether to sign out.
    """
    provider = providers.find(request.GET.get(SIGNED_OUT_OF, ""))
    address = ""
    if provider is not None:
        try:
            address = discovery.endpoints(provider).end_session
        except ProviderRefused:
            address = ""
    if not address or provider is None:
        return redirect("start")
    asked = {
        "client_id": provider.client_id,
        "post_logout_redirect_uri": request.build_absolute_uri(reverse("start")),
    }
    there = f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"
    return render(request, "account/provider_signed_out.html", {"provider": provider, "address": there})


def _problem(request: HttpRequest, provider: Provider, error: GatewayError, *, status: int) -> HttpResponse:
    context = {"provider": provider, "code": error.code}
    return render(request, "account/provider_problem.html", context, status=status)
