"""allauth's forms, with problems named so that a person knows what to do."""

from datetime import UTC, datetime
from textwrap import wrap
from typing import Any

from allauth.account import forms as allauth
from allauth.mfa import app_settings
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm as MFAAuthenticateForm
from allauth.mfa.base.forms import ReauthenticateForm as MFAReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm as MFAActivateTOTPForm
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from gateway.accounts.addresses import confirmed_accounts

REQUIRED = {
    "login": _("Enter your email"),
    "email": _("Enter your email"),
    "password": _("Enter your password"),
    "oldpassword": _("Enter your password"),
    "code": _("Enter the code"),
    "password1": _("Choose a password"),
    "password2": _("Enter the password again"),
}
NEW_PASSWORD = {"password1": _("New password"), "password2": _("New password again")}
CODE = _("Code from the app, or a spare code")


class _PlainProblems:
    fields: dict[str, Any]
    labels: dict[str, Any] = {}  # by field, where allauth's own would not do

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, message in REQUIRED.items():
            if name in self.fields:
                self.fields[name].error_messages["required"] = message
        for name, label in self.labels.items():
            self.fields[name].label = label


class LoginForm(_PlainProblems, allauth.LoginForm):  # type: ignore[misc]
    pass


class SignupForm(_PlainProblems, allauth.SignupForm):  # type: ignore[misc]
    pass


class ResetPasswordForm(_PlainProblems, allauth.ResetPasswordForm):  # type: ignore[misc]
    """A link goes to an address that its account confirmed, and to no other; the page is the same."""

    def clean_email(self) -> str:
        email: str = super().clean_email()
        self.users = confirmed_accounts(email)
        return email


class ReauthenticateForm(_PlainProblems, allauth.ReauthenticateForm):  # type: ignore[misc]
    pass


class ChangePasswordForm(_PlainProblems, allauth.ChangePasswordForm):  # type: ignore[misc]
    labels = {"oldpassword": _("Your password now"), **NEW_PASSWORD}


class SetPasswordForm(_PlainProblems, allauth.SetPasswordForm):  # type: ignore[misc]
    labels = NEW_PASSWORD


class ResetPasswordKeyForm(_PlainProblems, allauth.ResetPasswordKeyForm):  # type: ignore[misc]
    labels = NEW_PASSWORD


class ActivateTOTPForm(_PlainProblems, MFAActivateTOTPForm):  # type: ignore[misc]
    labels = {"code": _("Code from the app")}

    @property
    def key_in_fours(self) -> str:
        """The key as a person types it: an app takes no notice of the spaces."""
        return " ".join(wrap(self.secret, 4))


class _CodeCountsOnce:
    """A code from an app lets in once (RFC 6238, 5.2), whichever web process is asked.

    allauth keeps the codes that were used in the memory of one process. When an app was used last is in the
    database.
    """

    authenticator: Authenticator

    def clean_code(self) -> str:
        asked_at = timezone.now()
        code: str = super().clean_code()  # type: ignore[misc]
        app = self.authenticator
        if app.type == Authenticator.Type.TOTP and not _use(app, asked_at):
            raise get_adapter().validation_error("incorrect_code")
        return code


def _use(app: Authenticator, asked_at: datetime) -> bool:
    """Mark the app as used. False where it was used so lately that it may have been with this code.

    `asked_at` is from before the code was checked; what is marked, from after: no step lies between unseen.
    """
    period, tolerance = app_settings.TOTP_PERIOD, app_settings.TOTP_TOLERANCE  # seconds; steps to either side
    first = datetime.fromtimestamp((asked_at.timestamp() // period - 2 * tolerance) * period, UTC)
    unused = Authenticator.objects.filter(Q(last_used_at=None) | Q(last_used_at__lt=first), pk=app.pk)
    return bool(unused.update(last_used_at=timezone.now()) == 1)


class AuthenticateForm(_PlainProblems, _CodeCountsOnce, MFAAuthenticateForm):  # type: ignore[misc]
    labels = {"code": CODE}


class ReauthenticateByCodeForm(_PlainProblems, _CodeCountsOnce, MFAReauthenticateForm):  # type: ignore[misc]
    labels = {"code": CODE}
