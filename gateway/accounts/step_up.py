"""Showing again that it is you, shortly before an act that counts: by the app's code where there is one,
else by the password (allauth's reauthentication), else at the identity provider that signs you in.

Signing in is no step-up, however it was done: only what was asked for again counts.
"""

import time
from typing import cast
from urllib.parse import urlencode

from allauth.account import app_settings
from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.models import Authenticator
from django.http import HttpRequest
from django.urls import reverse

from gateway.accounts.models import User
from gateway.accounts.oidc import providers

METHOD = "provider"  # among allauth's authentication records: by an identity provider


def showed_again(request: HttpRequest) -> bool:
    """Whether this person showed it within the last minutes (ACCOUNT_REAUTHENTICATION_TIMEOUT)."""
    user = cast(User, request.user)
    since = time.time() - app_settings.REAUTHENTICATION_TIMEOUT
    methods = {
        record.get("method")
        for record in get_authentication_records(request, user)
        if record.get("reauthenticated") and record["at"] > since
    }
    return bool(methods & _taken_from(user))


def _taken_from(user: User) -> set[str]:
    if _has_app(user):
        return {"mfa"}
    return {"mfa", "password"} if user.has_usable_password() else {"mfa", METHOD}


def where_to_show(request: HttpRequest, back: str) -> str | None:
    """The page on which to show it, which leads `back`; None: there is no way for this account."""
    user = cast(User, request.user)
    page: str | None
    if _has_app(user):
        page = reverse("mfa_reauthenticate")
    elif user.has_usable_password():
        page = reverse("account_reauthenticate")
    else:
        page = provider_page(user)
    return page and f"{page}?{urlencode({'next': back})}"


def by_provider_alone(user: User) -> bool:
    """Whether this account has neither a password nor an app to show it by."""
    return not user.has_usable_password() and not _has_app(user)


def provider_page(user: User) -> str | None:
    """Where an account shows it at its provider; None: it has none that is configured."""
    issuers = set(user.identities.values_list("issuer", flat=True))
    slug = next((each.slug for each in providers.configured() if each.issuer in issuers), None)
    return None if slug is None else reverse("provider_again", args=[slug])


def second_factor_shown(request: HttpRequest) -> bool:
    """Whether the provider said, at this sign-in, that this person showed two factors."""
    records = get_authentication_records(request, request.user)
    return any(record.get("second_factor") is True for record in records)


def _has_app(user: User) -> bool:
    return bool(Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists())
