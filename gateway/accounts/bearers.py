"""Whose token it is that a call of the API carries: one statement, read anew at each call.

So a token that was revoked a moment ago is none, and a requester that was suspended is seen to be.
"""

import hashlib

from django.db import DEFAULT_DB_ALIAS
from oauth2_provider.models import AccessToken

from consent.models import Requester
from gateway.statements import Given, Statement

TOKEN = ("id", "user_id", "application_id", "expires", "scope", "resource")
REQUESTER = ("id", "name", "purposes", "suspended_at")
_TOKEN = Statement(
    lambda: AccessToken.objects.filter(token_checksum=Given("digest")).values_list(
        *TOKEN, *(f"application__ai_client__requester__{name}" for name in REQUESTER)
    )
)


def token_of(text: str) -> AccessToken | None:
    """The token that this is, expired or not. Its `requester` is whose AI client has it: None, where it is no
    AI client's."""
    found = _TOKEN.rows(digest=hashlib.sha256(text.encode()).hexdigest())
    if not found:
        return None
    row = found[0]
    token = AccessToken.from_db(DEFAULT_DB_ALIAS, TOKEN, row[: len(TOKEN)])
    whose = row[len(TOKEN) :]
    token.requester = None if whose[0] is None else Requester.from_db(DEFAULT_DB_ALIAS, REQUESTER, whose)
    return token
