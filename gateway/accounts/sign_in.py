"""Signing in: what is written down, and what is said to who failed too often."""

from typing import Any

from allauth.account.internal.flows.login import get_authentication_records
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from gateway.accounts.models import User
from gateway.accounts.oidc import identities
from ledger.audit.log import Actor, record


def record_sign_in(sender: type, user: User, request: HttpRequest | None = None, **kwargs: Any) -> None:
    """Receiver of user_logged_in: staff, and whoever comes by a provider, leave a row in the audit log."""
    if user.is_staff:
        with transaction.atomic():
            record(kind="staff.signed_in", actor=Actor.staff(user.pk))
    if request is not None and (slug := _provider(get_authentication_records(request, user))):
        identities.record_sign_in(user, slug)


def _provider(seen: list[dict[str, Any]]) -> str:
    """By which provider a session began, if by one; our own second step may have come after it."""
    first_steps = [step for step in seen if step["method"] != "mfa" or step.get("passwordless")]
    return str(first_steps[-1].get("provider", "")) if first_steps else ""


def username_of(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """Whose account is tried, for django-axes: allauth's form calls it `login`, and its backend `email`."""
    given = credentials or {}
    name = given.get("email") or given.get("username") or request.POST.get("login", "")
    return str(name).strip().lower()[:255]


def locked_out(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    """The page after too many wrong passwords; whether there is such an account it does not say."""
    minutes = round(60 * settings.AXES_COOLOFF_TIME)
    answer = render(request, "account/locked_out.html", {"minutes": minutes}, status=429)
    answer["Retry-After"] = str(60 * minutes)
    return answer
