"""SMART Backend Services over django-oauth-toolkit: who gets a token, for which scopes, and once.

The toolkit keeps the tokens (as digests, 300 s) and speaks RFC 6749, 7009 and 7662; here stands what is
ours: a client shows who it is by a signed assertion and by nothing else.
"""

import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.oauth2.rfc6749.errors import InvalidClientError, InvalidScopeError

from gateway.accounts import assertions
from gateway.accounts.assertions import Assertion, AssertionRefused
from gateway.accounts.bearers import token_of
from gateway.accounts.models import UsedAssertion
from gateway.accounts.scopes import Scopes
from ledger.errors import InvalidInput

USED = "This assertion was used before. Make a new one, with a new jti."


def token_address() -> str:
    """The `aud` of every assertion, whichever of our addresses it is sent to."""
    return f"{settings.PUBLIC_URL.rstrip('/')}/oauth/token"


def remember(assertion: Assertion) -> None:
    """Write down that it was used, in the caller's transaction. Raises AssertionRefused for the second time.

    What has run out is forgotten: it is refused by its time.
    """
    grace = timedelta(seconds=2 * assertions.SKEW_SECONDS)
    UsedAssertion.objects.filter(expires_at__lt=timezone.now() - grace).delete()
    try:
        with transaction.atomic():
            UsedAssertion.objects.create(
                client=assertion.client, jti_digest=assertion.jti_digest, expires_at=assertion.expires
            )
    except IntegrityError:
        raise AssertionRefused(USED) from None


class NotShown(InvalidClientError):  # type: ignore[misc]
    """`invalid_client`, as JSON wherever in the request it is found out."""

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, "Content-Type": "application/json", "Cache-Control": "no-store"}


class ClientAssertionValidator(OAuth2Validator):  # type: ignore[misc]
    """What oauthlib asks: `request` is its view of one request."""

    def authenticate_client(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        """The client by its assertion; `request.assertion` waits there until it is written down."""
        try:
            request.assertion = self.assertion_of(request)
            if getattr(request, "grant_type", None) is None:  # revocation: no token to write it down with
                remember(request.assertion)
        except AssertionRefused as refused:
            raise NotShown(description=refused.message, request=request) from None
        request.client = request.assertion.client.application
        request.client_id = request.client.client_id
        return True

    def assertion_of(self, request: Any) -> Assertion:
        """Raises AssertionRefused."""
        text = getattr(request, "client_assertion", None)
        if getattr(request, "client_assertion_type", None) != assertions.TYPE or not isinstance(text, str):
            raise AssertionRefused(
                "Send client_assertion_type and client_assertion; there are no secrets here."
            )
        if "client_assertion" in request.duplicate_params:
            raise AssertionRefused("Send one client_assertion.")
        return assertions.verify(
            text,
            audience=token_address(),
            now=int(time.time()),
            client_id=getattr(request, "client_id", None),
        )

    def client_authentication_required(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        return True

    def authenticate_client_id(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> bool:
        return False

    def validate_scopes(
        self, client_id: str, scopes: Any, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        try:
            Scopes.read(" ".join(scopes))
        except InvalidInput as error:
            raise InvalidScopeError(description=error.message, request=request) from None
        return bool(scopes)

    def _load_access_token(self, token: str) -> AccessToken | None:
        return token_of(token)

    def _save_bearer_token(self, token: dict[str, Any], request: Any, *args: Any, **kwargs: Any) -> None:
        """Within the toolkit's transaction: the token and the use of the assertion, or neither."""
        try:
            remember(request.assertion)
        except AssertionRefused as refused:
            raise NotShown(description=refused.message, request=request) from None
        gone = timezone.now() - timedelta(hours=1)
        AccessToken.objects.filter(application=request.client, expires__lt=gone).delete()
        super()._save_bearer_token(token, request, *args, **kwargs)
