"""Who may call: an OAuth application that belongs to a requester, with the scope that the view names."""

from typing import Any

from oauth2_provider.models import AccessToken
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from consent.models import Requester


class IsAIClient(BasePermission):
    """Refuses whoever is not an AI client, and every view that names no scope."""

    message = "This token does not carry the scope that this address needs."

    def has_permission(self, request: Request, view: Any) -> bool:
        scope = getattr(view, "required_scope", None)
        token = request.auth
        if scope is None or not isinstance(token, AccessToken) or not token.is_valid([scope]):
            return False
        return is_of_a_client(request, token)


def is_of_a_client(request: Request, token: AccessToken) -> bool:
    """Whether an AI client's token calls; whose it is came with the token (gateway/accounts/bearers.py)."""
    request.requester = token.requester  # type: ignore[attr-defined]
    return token.requester is not None


def requester_of(request: Request) -> Requester:
    """The organisation whose client calls."""
    requester: Requester = request.requester  # type: ignore[attr-defined]
    return requester
