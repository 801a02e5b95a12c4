"""allauth's forms, with problems named so that a person knows what to do."""

from typing import Any

from allauth.account import forms as allauth
from django.utils.translation import gettext_lazy as _

from gateway.accounts.addresses import confirmed_accounts

REQUIRED = {
    "login": _("Enter your e-mail"),
    "email": _("Enter your e-mail"),
    "password": _("Enter your password"),
    "password1": _("Choose a password"),
    "password2": _("Enter the password again"),
}


class _PlainProblems:
    fields: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, message in REQUIRED.items():
            if name in self.fields:
                self.fields[name].error_messages["required"] = message


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
