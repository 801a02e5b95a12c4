"""Telling an AI company that something changed: signed calls to an address of theirs.

A call names what changed and nothing of it; whoever is told asks the API. It is written down in the
transaction that makes the change, sent by the relay, tried again for a day, and kept in a log from which
it can be sent once more. Endpoints take turns, side by side: one that does not answer costs the others a few
seconds, once, and is then left alone for a while.
"""

import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from consent.models import Requester
from gateway.accounts import outbound
from gateway.accounts.models import Webhook, WebhookCall
from ledger.errors import AccessDenied, GatewayError, InvalidInput, RefusedTransition

EVENTS = {
    "consent.changed": "a consent came into force or ended: read the consent request again",
    "job.updated": "a job has ended: read the job",
}
MOST = 10  # webhooks of one requester
SIGNATURE = "Consent-Gateway-Signature"
# Minutes until the next try; after the last one the call has failed.
PAUSES = (1, 5, 30, 120, 360, 960)
AT_ONCE = 20  # endpoints, each with one call
WAVES = 20
ROUND_SECONDS = 10.0
LONGEST_REST = timedelta(minutes=15)
KEPT_DAYS = 30

log = logging.getLogger(__name__)
Call = Callable[..., outbound.Answer]


@transaction.atomic
def register(*, requester: Requester, url: str, events: Sequence[str]) -> tuple[Webhook, str]:
    """A new webhook, and its secret (43 characters of base64url), which is shown this once.

    Raises InvalidInput (`address`, `events`), RefusedTransition (`too_many_webhooks`).
    """
    outbound.check_address(url)
    if not events or set(events) - EVENTS.keys():
        raise InvalidInput(f"Name one or more of {', '.join(EVENTS)}.", code="events")
    if Webhook.objects.filter(requester=requester).count() >= MOST:
        raise RefusedTransition(f"You have {MOST} webhooks, the most.", code="too_many_webhooks")
    secret = secrets.token_urlsafe(32)
    made = Webhook.objects.create(
        requester=requester, url=url, events=sorted(set(events)), secret=secret.encode()
    )
    return made, secret


def find(*, requester: Requester, id: UUID) -> Webhook:
    """One's own webhook. Raises AccessDenied (`not_available`)."""
    found = Webhook.objects.filter(pk=id, requester=requester).first()
    if found is None:
        raise AccessDenied("There is no such webhook.", code="not_available")
    return found


def tell(*, requester: Any, event: str, **about: str) -> None:
    """Write down one call for each webhook that wants this event, in the caller's transaction."""
    wanted = [each for each in Webhook.objects.filter(requester=requester) if event in each.events]
    now = timezone.now()
    for webhook in wanted:
        id = secrets.token_hex(16)
        body = {"id": id, "type": event, "at": now.isoformat(timespec="seconds"), **about}
        WebhookCall.objects.create(id=id, webhook=webhook, event=event, body=body, next_at=now)


def send_again(*, webhook: Webhook, call: str) -> WebhookCall:
    """Send one call of the log once more, now. Raises AccessDenied."""
    changed = WebhookCall.objects.filter(pk=call, webhook=webhook)
    if not changed.update(state=WebhookCall.State.PENDING, next_at=timezone.now(), tries=0):
        raise AccessDenied("There is no such call.", code="not_available")
    Webhook.objects.filter(pk=webhook.pk).update(rests_until=None)
    return changed.get()


def send_due(*, call: Call = outbound.call) -> int:
    """Send what is due; the relay calls this. Returns how many were sent.

    In waves of one call for each endpoint, those first that have waited longest for a turn. A wave takes no
    longer than one call may. An endpoint whose call failed has no turn again until it has rested.
    """
    WebhookCall.objects.filter(created_at__lt=timezone.now() - timedelta(days=KEPT_DAYS)).delete()
    sent, begun = 0, time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(WAVES):
            wave = [each for each in _next_wave() if _take(each)]
            if not wave:
                break
            calls = [partial(call, each.webhook.url, **_signed(each)) for each in wave]
            for each, status in zip(wave, pool.map(_status, calls), strict=True):
                _settle(each, status)
            sent += len(wave)
            if time.monotonic() - begun > ROUND_SECONDS:
                break
    return sent


def _next_wave() -> list[WebhookCall]:
    """Of each endpoint whose turn it is, the call that has been due longest."""
    now = timezone.now()
    due = WebhookCall.objects.filter(state=WebhookCall.State.PENDING, next_at__lte=now)
    waiting = Webhook.objects.filter(Exists(due.filter(webhook=OuterRef("pk"))))
    awake = waiting.filter(Q(rests_until=None) | Q(rests_until__lte=now))
    turns = awake.order_by(F("served_at").asc(nulls_first=True), "pk")[:AT_ONCE]
    first = [
        due.filter(webhook=each).select_related("webhook").order_by("next_at", "pk").first() for each in turns
    ]
    return [each for each in first if each is not None]


def _take(one: WebhookCall) -> bool:
    """A conditional update takes the call first, so that two relays send it once."""
    now = timezone.now()
    later = now + timedelta(minutes=PAUSES[min(one.tries, len(PAUSES) - 1)])
    waiting = WebhookCall.objects.filter(pk=one.pk, state=WebhookCall.State.PENDING, tries=one.tries)
    if not waiting.update(tries=one.tries + 1, next_at=later):
        return False
    Webhook.objects.filter(pk=one.webhook_id).update(served_at=now)
    return True


def _signed(one: WebhookCall) -> dict[str, Any]:
    body = json.dumps(one.body, separators=(",", ":"), sort_keys=True).encode()
    headers = {"Content-Type": "application/json", SIGNATURE: sign(one.webhook, body, int(time.time()))}
    return {"method": "POST", "body": body, "headers": headers}


def _status(call: Callable[[], outbound.Answer]) -> int:
    """Make one call, in a thread of its own: nothing of the database may be touched here. 0: no answer."""
    try:
        return call().status
    except GatewayError as error:
        log.info("webhook: %s", error.code)
        return 0


def _settle(one: WebhookCall, status: int) -> None:
    """Write down what became of a call, and how long its endpoint rests."""
    now = timezone.now()
    if is_heard := 200 <= status < 300:
        state = WebhookCall.State.DELIVERED
    elif one.tries + 1 >= len(PAUSES):
        state = WebhookCall.State.FAILED
    else:
        state = WebhookCall.State.PENDING
    WebhookCall.objects.filter(pk=one.pk).update(state=state, status=status, tried_at=now)
    failures = 0 if is_heard else one.webhook.failures + 1
    rests = min(LONGEST_REST, timedelta(seconds=30 * 2 ** min(failures, 10)))
    Webhook.objects.filter(pk=one.webhook_id).update(
        failures=failures, rests_until=None if is_heard else now + rests
    )


def sign(webhook: Webhook, body: bytes, at: int) -> str:
    """`t=<seconds>,v1=<HMAC-SHA256(secret, "<seconds>.<body>") in hex>`: an old call cannot be sent anew."""
    signed = hmac.new(bytes(webhook.secret), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signed}"
