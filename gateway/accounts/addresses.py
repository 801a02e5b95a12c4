"""The email of an account: shown to be its owner's before a new password is to be had by it.

A link in a letter proves that whoever opens it reads that mailbox, and not who they are: a mistyped address
has an owner too. So it counts only for who is signed in to the account that it was made for. The rows are
allauth's `EmailAddress`: one for the address in use, and one for an address that is to take its place.
"""

import logging
from typing import Any, cast

from allauth.account.internal.flows.email_verification import send_verification_email_to_address
from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from allauth.account.models import EmailAddress, get_emailconfirmation_model
from allauth.core import ratelimit
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.mail import EmailMessage
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from gateway.accounts.models import User
from gateway.accounts.oidc.identities import audited_as
from ledger.audit.log import record
from ledger.errors import RefusedTransition

log = logging.getLogger(__name__)


def address_of(user: User) -> EmailAddress:
    """The row of the address in use; an account that no sign-up made gets its row here."""
    row, _made = EmailAddress.objects.get_or_create(user=user, email=user.email.lower())
    return row


def is_confirmed(user: User) -> bool:
    """Whether the address in use was shown to be this person's."""
    return bool(EmailAddress.objects.filter(user=user, email=user.email.lower(), verified=True).exists())


def waiting_for(user: User) -> EmailAddress | None:
    """The address that takes the place of the one in use once its link is opened."""
    rows = EmailAddress.objects.filter(user=user, verified=False).exclude(email=user.email.lower())
    return cast(EmailAddress | None, rows.order_by("-pk").first())


def confirmed_accounts(email: str) -> list[User]:
    """The active account that confirmed this very address and uses it; at most one."""
    rows = EmailAddress.objects.filter(email=email.lower(), verified=True, user__is_active=True)
    return [row.user for row in rows.select_related("user") if row.user.email.lower() == row.email]


def confirm_without_asking(user: User) -> None:
    """For accounts of a demonstration or a sandbox, whose addresses are nobody's."""
    EmailAddress.objects.update_or_create(
        user=user, email=user.email.lower(), defaults={"verified": True, "primary": True}
    )


@transaction.atomic
def ask_for_another(*, user: User, email: str) -> EmailAddress:
    """`email` waits for its link to be opened, and whatever waited before waits no more. Until then we write
    to the address in use."""
    forget_waiting(user=user)
    row, _made = EmailAddress.objects.update_or_create(
        user=user, email=email.lower(), defaults={"verified": False}
    )
    return cast(EmailAddress, row)


def forget_waiting(*, user: User) -> None:
    EmailAddress.objects.filter(user=user, verified=False).exclude(email=user.email.lower()).delete()


def of_link(*, user: User, key: str) -> EmailAddress:
    """The address that a link confirms for this person.

    Raises RefusedTransition: `link_invalid` (it was used, is too old, or was made for another account),
    `email_taken` (another account uses the address).
    """
    found = get_emailconfirmation_model().from_key(key)
    if found is None or found.email_address.user_id != user.pk:
        raise RefusedTransition(_("This link does not work."), code="link_invalid")
    address = cast(EmailAddress, found.email_address)
    others = User.objects.exclude(pk=user.pk).filter(email__iexact=address.email)
    if others.exists() or not address.can_set_verified():
        raise RefusedTransition(_("Another account uses this address already."), code="email_taken")
    return address


@transaction.atomic
def confirm(*, user: User, key: str) -> EmailAddress:
    """The address is this person's, and the one in use from now on; the one before is told, if it was theirs.

    A letter that cannot be sent undoes it: no address goes without a word. Raises RefusedTransition as
    `of_link`, and what the mail server raises.
    """
    user = User.objects.select_for_update().get(pk=user.pk)
    address = of_link(user=user, key=key)
    before = user.email.lower()
    told = before != address.email and is_confirmed(user)
    address.verified = True
    address.set_as_primary()  # saves both, and the account's own copy of it
    EmailAddress.objects.filter(user=user).exclude(pk=address.pk).delete()
    actor, subject = audited_as(user)
    code = "first" if before == address.email else "another"
    record(kind="address.confirmed", actor=actor, subject=subject, code=code)
    if told:
        _tell_of_change(before)
    return address


def _tell_of_change(before: str) -> None:
    body = _(
        "The email of your account at %(hospital)s was changed. We do not write to this one any more.\n\n"
        "If it was not you, call us at once: %(phone)s."
    ) % {"hospital": settings.CUSTODIAN, "phone": settings.HELP_PHONE}
    EmailMessage(_("Your email was changed"), body, to=[before]).send()


# Pages


class AddressForm(forms.Form):
    email = forms.EmailField(
        max_length=254,
        label=gettext_lazy("New email"),
        error_messages={"required": gettext_lazy("Enter your email")},
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )

    def __init__(self, user: User, *args: Any) -> None:
        super().__init__(*args)
        self._user = user

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"].lower()
        if email == self._user.email.lower():
            raise forms.ValidationError(_("You use this email already"))
        return email


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def index(request: HttpRequest) -> HttpResponse:
    """Where we write to, whether that was confirmed, and which address is to take its place."""
    user = cast(User, request.user)
    adds = "action_add" in request.POST
    form = AddressForm(user, request.POST if adds else None)
    if request.method == "POST":
        too_many: HttpResponse | None = ratelimit.consume_or_429(request, action="manage_email", user=user)
        if too_many:
            return too_many
        if "action_drop" in request.POST:
            forget_waiting(user=user)
            messages.success(request, _("Your email stays as it is."))
            return redirect("account_email")
        if not adds:
            send_link(request, waiting_for(user) or address_of(user))
            return redirect("account_email")
        raise_if_reauthentication_required(request, app="allauth.account")
        if form.is_valid():
            send_link(request, ask_for_another(user=user, email=form.cleaned_data["email"]))
            return redirect("account_email")
    context = {
        "section": "settings",
        "form": form,
        "confirmed": is_confirmed(user),
        "waiting": waiting_for(user),
    }
    return render(request, "account/email.html", context)


def send_link(request: HttpRequest, address: EmailAddress) -> None:
    """The letter with the link, or a message on the next page that says why there is none."""
    if address.verified:
        return
    try:
        sent = send_verification_email_to_address(request, address)
    except Exception as error:  # a mail server fails in many ways; its words may name the address
        log.warning("a letter was not sent: %s", type(error).__name__)
        messages.error(request, _("We cannot send email just now. Try again in a few minutes."))
        return
    if not sent:
        messages.info(request, _("We sent you a link a moment ago. Look among the spam too."))


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def confirm_page(request: HttpRequest, key: str) -> HttpResponse:
    """Where the link of a letter leads. A GET confirms nothing: mail programs open links by themselves."""
    user = cast(User, request.user)
    try:
        if request.method == "POST":
            confirm(user=user, key=key)
            messages.success(request, _("Thank you. This email is confirmed."))
            return redirect("account_email")
        address = of_link(user=user, key=key)
    except RefusedTransition as error:
        status = 404 if error.code == "link_invalid" else error.status
        return render(request, "account/email_confirm.html", {"code": error.code}, status=status)
    except OSError as error:  # smtplib's errors are OSErrors
        log.warning("a letter was not sent: %s", type(error).__name__)
        return render(request, "account/email_confirm.html", {"code": "not_now"}, status=503)
    return render(request, "account/email_confirm.html", {"email": address.email, "key": key})
