"""`Idempotency-Key` on every POST that creates (draft-ietf-httpapi-idempotency-key-header).

The same key and body replays the answer, the same key and another body is 422, a request that is
still under way is 409.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any, cast

from django.db import IntegrityError, transaction
from rest_framework.request import Request
from rest_framework.response import Response

from consent.models import Requester
from gateway.api.models import IdempotentAnswer
from gateway.api.permissions import requester_of
from ledger.errors import GatewayError, InvalidInput


class KeyReused(GatewayError):
    """The key stands for another request (422)."""

    code = "idempotency_key_reused"
    status = 422


def once(request: Request, create: Callable[[Requester], Response]) -> Response:
    """Run `create` at most once for this requester and key; replay its answer otherwise.

    `create` runs inside the database transaction that stores its answer.
    """
    requester = requester_of(request)
    key = request.headers.get("Idempotency-Key", "")
    if not 1 <= len(key) <= 128 or not key.isascii() or not key.isprintable():
        raise InvalidInput(
            "Send a header Idempotency-Key of 1 to 128 visible characters, new for each request.",
            code="idempotency_key_missing",
        )
    asked = json.dumps([request.path, request.data], sort_keys=True)
    digest = hashlib.sha256(asked.encode()).hexdigest()
    try:
        with transaction.atomic():
            if (known := _known(requester, key)) is None:
                answer = create(requester)
                IdempotentAnswer.objects.create(
                    requester=requester,
                    key=key,
                    request_digest=digest,
                    status=answer.status_code,
                    headers=dict(answer.headers.items()),
                    body=answer.data,
                )
                return answer
    except IntegrityError:
        # Somebody else answered this key while we did; ours is rolled back.
        if (known := _known(requester, key)) is None:
            raise
    if known.request_digest != digest:
        raise KeyReused("This Idempotency-Key was used for another request. Use a new one.")
    return Response(known.body, status=known.status, headers=cast(dict[str, Any], known.headers))


def _known(requester: Requester, key: str) -> IdempotentAnswer | None:
    return IdempotentAnswer.objects.filter(requester=requester, key=key).first()
