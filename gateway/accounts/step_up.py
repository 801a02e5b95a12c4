"""Showing again that it is you, shortly before an act that counts: by the app's code where there is one,
else by the password (allauth's reauthentication)."""

import time
from typing import cast
from urllib.parse import urlencode

from allauth.account import app_settings
from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.models import Authenticator
from django.http import HttpRequest
from django.urls import reverse

from gateway.accounts.models import User


def showed_again(request: HttpRequest) -> bool:
    """Whether this person showed it within the last minutes (ACCOUNT_REAUTHENTICATION_TIMEOUT)."""
    user = cast(User, request.user)
    since = time.time() - app_settings.REAUTHENTICATION_TIMEOUT
    methods = {
        record.get("method")
        for record in get_authentication_records(request, user)
        if record.get("reauthenticated") and record["at"] > since
    }
    return bool(methods & ({"mfa"} if _has_app(user) else {"mfa", "password"}))


def where_to_show(request: HttpRequest, back: str) -> str | None:
    """The page on which to show it, which leads `back`; None: neither app nor password is set up."""
    user = cast(User, request.user)
    if _has_app(user):
        page = "mfa_reauthenticate"
    elif user.has_usable_password():
        page = "account_reauthenticate"
    else:
        return None
    return f"{reverse(page)}?{urlencode({'next': back})}"


def _has_app(user: User) -> bool:
    return bool(Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists())
