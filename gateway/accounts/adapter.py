"""How allauth works here: an account is made only by somebody whom the clinic invited."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from consent import invitations
from gateway.accounts.models import User
from ledger.errors import RefusedTransition

INVITATION = "invitation"  # session: the code that the visitor came with, until they sign up or in
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

    def pre_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse | None:
        request.session.pop(INVITATION, None)  # whoever has an account needs no sign-up
        if user.last_login is not None:
            request.session[LAST_VISIT] = user.last_login.isoformat()
        response: HttpResponse | None = super().pre_login(request, user, **kwargs)
        return response
