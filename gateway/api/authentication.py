"""Who calls: an AI client, by the token that its request carries."""

from typing import Any

from drf_spectacular.contrib.django_oauth_toolkit import DjangoOAuthToolkitScheme
from oauth2_provider.contrib.rest_framework import OAuth2Authentication
from oauth2_provider.models import AccessToken
from rest_framework.request import Request

from gateway.accounts.bearers import token_of


class Bearer(OAuth2Authentication):  # type: ignore[misc]
    """A token that stands, sent as it should be, is taken at once. Whatever else comes is for the toolkit to
    judge, and to refuse in its words (RFC 6750)."""

    def authenticate(self, request: Request) -> tuple[Any, AccessToken] | None:
        kind, _, text = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if kind == "Bearer" and "access_token" not in request.GET:
            token = token_of(text)
            # A token for one resource alone (RFC 8707) is none that we give: the toolkit knows those.
            if token is not None and not token.is_expired() and not token.resource:
                return token.user, token
        judged: tuple[Any, AccessToken] | None = super().authenticate(request)
        return judged


class BearerScheme(DjangoOAuthToolkitScheme):  # type: ignore[no-untyped-call]
    """As the OpenAPI document tells of it."""

    target_class = "gateway.api.authentication.Bearer"
