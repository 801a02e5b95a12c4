"""How allauth works here: an account is made only by somebody whom the clinic invited, and what counts is
done only after showing again who one is."""

import logging
from itertools import chain, count
from typing import Any
from urllib.parse import urlencode

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core import context
from allauth.core.exceptions import ReauthenticationRequired
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from consent import invitations
from gateway.accounts import step_up
from gateway.accounts.models import User
from ledger.errors import RefusedTransition

log = logging.getLogger(__name__)

INVITATION = "invitation"  # session: the code that the visitor came with, until they sign up or in
SIGNED_OUT_OF = "provider"  # query: the provider by which the session that has ended had begun
LAST_VISIT = "last_visit"  # session: when this person signed in before, ISO 8601


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Sign-up only with an invitation; it is used up in the same transaction that makes the account."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        try:
            invitations.find(request.session.get(INVITATION, ""))
        except RefusedTransition:
            return False
        return True

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        with transaction.atomic():
            user = super().save_user(request, user, form, commit=True)
            invitations.accept(code=request.session.pop(INVITATION, ""), user=user)
        return user

    def send_confirmation_mail(self, request: HttpRequest, emailconfirmation: Any, signup: bool) -> None:
        """A mail server that is down keeps nobody from an account: the settings offer the link again."""
        try:
            super().send_confirmation_mail(request, emailconfirmation, signup)
        except Exception as error:  # its words may name the address
            if not signup:
                raise
            log.warning("a letter was not sent: %s", type(error).__name__)

    def pre_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse | None:
        request.session.pop(INVITATION, None)  # whoever has an account needs no sign-up
        if user.last_login is not None:
            request.session[LAST_VISIT] = user.last_login.isoformat()
        response: HttpResponse | None = super().pre_login(request, user, **kwargs)
        return response

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """allauth lets an account without a password go on: here it shows at its provider that it is them."""
        user = context.request.user
        if user.is_authenticated and step_up.by_provider_alone(user):
            if not step_up.showed_again(context.request):
                raise ReauthenticationRequired
            return False
        return bool(super().is_reauthentication_required(app=app, **kwargs))

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        """Where the page is that asks again; the first is taken."""
        found: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        if not found and user.is_authenticated and (page := step_up.provider_page(user)):
            return [{"id": step_up.METHOD, "url": page}]
        words = {"mfa_reauthenticate": _("Use a code"), "mfa_reauthenticate:webauthn": _("Use a passkey")}
        return [{**each, "description": words.get(each["id"], each["description"])} for each in found]

    def get_logout_redirect_url(self, request: HttpRequest) -> str:
        """Who came by a provider is told that the provider may still know them."""
        for seen in get_authentication_records(request, request.user):
            if seen["method"] == step_up.METHOD:
                return f"{reverse('provider_signed_out')}?{urlencode({SIGNED_OUT_OF: seen['provider']})}"
        return str(super().get_logout_redirect_url(request))


class MFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """A passkey has a name that its owner could have given it."""

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:
        taken = {each.wrap().name for each in Authenticator.objects.filter(user=user, type=type)}
        names = (_("My passkey %(number)d") % {"number": number} for number in count(2))
        return next(name for name in chain([_("My passkey")], names) if name not in taken)
