"""From an intent in the database to its outcome on the ledger, and the ledger's events back.

A row goes pending -> sent -> committed or refused. Its signed envelope is stored before it is first
sent, and while the outcome is unknown that same envelope is sent again. A relay owns a row by a
lease (`not_before`) and a fencing number (`attempts`): only the last claim may change the row, so
two relays do no harm. Rows about the same thing (`reference`) go one after another.
"""

import dataclasses
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import models, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, When
from django.utils import timezone

from ledger.client import (
    ENDORSEMENT_POLICY_FAILURE,
    HOME,
    Envelope,
    Event,
    Ledger,
    Outcome,
    may_prepare_again,
)
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.errors import (
    GatewayError,
    InvalidInput,
    KeyholderUnavailable,
    LedgerError,
    OutcomeUnknown,
    RefusedTransition,
    SendError,
)
from ledger.models import EventCursor, LedgerTransaction

LEASE = timedelta(seconds=30)
OUTCOME_SECONDS = 10.0
KNOWN_SECONDS = 0.2  # to learn the outcome of what was sent before
CONFLICTS = 5  # new transactions at once; after that the row waits its turn
CONFLICT_JITTER = 0.05
MAX_BACKOFF = 60.0
URGENT_BACKOFF = 1.0
FOLLOW_EVENTS = 1000
# Grants that go into one transaction. A stop waits for no more than one such transaction.
GRANTS_AT_ONCE = 200
GRANT = "GrantConsent"

URGENT = ["RevokeConsent"]  # a stop goes before everything else that is due

# Refusals that say that what was intended is so already: a consent that is stopped twice is stopped.
ALREADY = {"RevokeConsent": "already_revoked"}

State = LedgerTransaction.State
Through = LedgerTransaction.Through
ThroughKeyholder = Callable[[LedgerTransaction], Mapping[str, Any]]
GrantsThroughKeyholder = Callable[[Sequence[LedgerTransaction]], Sequence[Mapping[str, Any]]]
OnRefused = Callable[[LedgerTransaction], None]

log = logging.getLogger(__name__)


def enqueue(
    *, name: str, args: Json, reference: str, through: str = Through.GATEWAY, channel: str = HOME
) -> LedgerTransaction:
    """Intend a transaction, in the caller's database transaction, which must be open.

    `reference` is what it is about ("consent/<id>"), `channel` where it is to stand. Raises RuntimeError
    outside a transaction: the intent would not stand or fall with what it carries out.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("An intent is enqueued in the database transaction of what it carries out.")
    return LedgerTransaction.objects.create(
        name=name, args=args, reference=reference, through=Through(through), channel=channel
    )


def due(channel: str = HOME) -> models.QuerySet[LedgerTransaction]:
    """The channel's unsettled rows whose time has come, and that wait for no earlier one of a reference."""
    unsettled = LedgerTransaction.objects.filter(channel=channel, state__in=[State.PENDING, State.SENT])
    earlier = unsettled.filter(reference=OuterRef("reference"), pk__lt=OuterRef("pk"))
    return unsettled.filter(
        ~Exists(earlier), Q(not_before=None) | Q(not_before__lte=timezone.now())
    ).order_by(Case(When(name__in=URGENT, then=0), default=1), "pk")


def send_pending(
    ledger: Ledger,
    *,
    through_keyholder: ThroughKeyholder | None = None,
    grants_through_keyholder: GrantsThroughKeyholder | None = None,
    refused: OnRefused | None = None,
    limit: int = GRANTS_AT_ONCE,
    channel: str = HOME,
) -> int:
    """Carry what is due to the channel's ledger; the number of rows settled. A failed row waits, the others
    go on.

    `through_keyholder(row)` submits a row that carries openings: {"tx_id", "state", "code"}, state being
    "committed", "sent" or "refused"; without it such rows stay. `grants_through_keyholder(rows)` does so for
    several grants at once and answers in their order; it is asked when more than one is due. `refused(row)`
    is called within the database transaction that refuses the row.
    """
    rows = due(channel) if through_keyholder else due(channel).exclude(through=Through.KEYHOLDER)
    claims = [_Claim(row, refused) for row in rows[:limit] if _claim(row)]
    together, alone = _apart(claims) if grants_through_keyholder else ([], claims)
    # All are sent before any is awaited, so that they share a block.
    for claim in alone:
        if claim.row.through == Through.KEYHOLDER and through_keyholder:
            claim.guarded(partial(claim.hand_over, through_keyholder))
        else:
            claim.guarded(partial(claim.submit, ledger))
    for claim in alone:
        if claim.is_sent:
            claim.guarded(partial(claim.await_outcome, ledger))
    if together and grants_through_keyholder and through_keyholder:
        _hand_over_together(together, grants_through_keyholder, through_keyholder)
    return sum(claim.is_settled for claim in claims)


def _claim(row: LedgerTransaction) -> bool:
    """Take the row for the time of a lease, unless another relay was faster."""
    taken = LedgerTransaction.objects.filter(
        pk=row.pk, attempts=row.attempts, state__in=[State.PENDING, State.SENT]
    ).update(attempts=F("attempts") + 1, not_before=timezone.now() + LEASE)
    row.attempts += 1
    return taken == 1


def _apart(claims: Sequence["_Claim"]) -> tuple[Sequence["_Claim"], Sequence["_Claim"]]:
    """The grants that go as one transaction, where there is more than one, and the other rows."""
    grants = [one for one in claims if one.row.name == GRANT and one.row.through == Through.KEYHOLDER]
    if len(grants) < 2:
        return [], claims
    return grants, [one for one in claims if one not in grants]


def _hand_over_together(
    claims: Sequence["_Claim"], many: GrantsThroughKeyholder, single: ThroughKeyholder
) -> None:
    """Several grants through the keyholder at once; one by one where the call fails for a row's sake."""
    try:
        answers = list(many([claim.row for claim in claims]))
    except (KeyholderUnavailable, LedgerError) as error:
        for claim in claims:
            claim.later(error.code)
        return
    except Exception as error:
        log.error("%s together: %s", GRANT, type(error).__name__)
        for claim in claims:
            claim.guarded(partial(claim.hand_over, single))
        return
    for claim, answer in zip(claims, answers, strict=True):
        claim.guarded(partial(claim.take_answer, answer))


class _LostError(Exception):
    """Another relay has the row now."""


class _Claim:
    """One claimed row on its way."""

    def __init__(self, row: LedgerTransaction, refused: OnRefused | None) -> None:
        self.row = row
        self.is_sent = False
        self.is_settled = False
        self._refused = refused
        self._conflicts = self._policy_failures = 0

    def guarded(self, step: Callable[[], None]) -> None:
        """Take one step; whatever goes wrong, the row knows why and when it is due again."""
        try:
            step()
        except _LostError:
            self.is_sent = False
        except (Refused, RefusedTransition, InvalidInput) as error:
            is_so = ALREADY.get(self.row.name) == error.code
            self._end(State.COMMITTED if is_so else State.REFUSED, error.code)
        except GatewayError as error:
            self.later(error.code)
        except Exception as error:  # a fault of ours in one row must not stop the others
            self._fail(error)

    def submit(self, ledger: Ledger) -> None:
        """Prepare, store, send; or, where an envelope is stored, find its outcome or send it again."""
        if self.row.envelope is None:
            self._prepare(ledger)
        elif outcome := _known(ledger, self.row.tx_id):
            self._conclude(ledger, outcome)
            return
        envelope = Envelope(self.row.tx_id, bytes(self.row.envelope or b""), {})
        try:
            ledger.send(envelope)
        except SendError as error:
            if error.code == "envelope_invalid":  # it can never be ordered, and is in no block
                self._save(state=State.PENDING, envelope=None, tx_id="")
            raise
        self.is_sent = True

    def _prepare(self, ledger: Ledger) -> None:
        envelope = ledger.prepare(self.row.name, self.row.args)
        self._save(state=State.SENT, envelope=envelope.data, tx_id=envelope.tx_id)

    def await_outcome(self, ledger: Ledger) -> None:
        self.is_sent = False
        self._conclude(ledger, ledger.outcome(self.row.tx_id, timeout=OUTCOME_SECONDS))

    def _conclude(self, ledger: Ledger, outcome: Outcome) -> None:
        if outcome.is_valid:
            self._settle(State.COMMITTED, block=outcome.block, error_code="")
            return
        self._policy_failures += outcome.validity == ENDORSEMENT_POLICY_FAILURE
        if may_prepare_again(outcome.validity, self._policy_failures):
            self._save(state=State.PENDING, envelope=None, tx_id="")
            self._conflicts += 1
            if self._conflicts >= CONFLICTS:
                self.later(outcome.validity.lower())
                return
            time.sleep(random.uniform(0, CONFLICT_JITTER * self._conflicts))  # noqa: S311 (only spreads load)
            self.submit(ledger)
            self.await_outcome(ledger)
        else:
            self._settle(State.REFUSED, block=outcome.block, error_code=outcome.validity.lower())

    def hand_over(self, through_keyholder: ThroughKeyholder) -> None:
        self.take_answer(through_keyholder(self.row))

    def take_answer(self, answer: Mapping[str, Any]) -> None:
        """The keyholder's answer about this row: {"tx_id", "state", "code"}."""
        tx_id, state = str(answer.get("tx_id") or ""), answer.get("state")
        if state == "committed":
            self._settle(State.COMMITTED, tx_id=tx_id, error_code="")
        elif state == "refused":
            self._settle(State.REFUSED, tx_id=tx_id, error_code=str(answer.get("code") or "refused"))
        else:
            self._save(state=State.SENT, tx_id=tx_id)
            self.later(OutcomeUnknown.code)

    def _end(self, state: str, code: str) -> None:
        try:
            self._settle(state, error_code=code)
        except _LostError:
            return
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        log.error("%s: %s", self.row.name, type(error).__name__)
        self.later("internal_error")

    def _settle(self, state: str, **fields: Any) -> None:
        with transaction.atomic():
            self._save(state=state, settled_at=timezone.now(), not_before=None, **fields)
            if state == State.REFUSED and self._refused:
                self._refused(self.row)
        self.is_settled = True

    def later(self, code: str) -> None:
        """The row is due again after a while, for this reason."""
        longest = URGENT_BACKOFF if self.row.name in URGENT else MAX_BACKOFF
        seconds = min(longest, 0.25 * 2 ** min(self.row.attempts, 12))
        wait = timedelta(seconds=seconds * random.uniform(0.5, 1.0))  # noqa: S311 (only spreads load)
        self.is_sent = False
        try:
            self._save(error_code=code[:60], not_before=timezone.now() + wait)
        except _LostError:
            return

    def _save(self, **fields: Any) -> None:
        """Change the row, if it is still ours. Raises _LostError."""
        if not LedgerTransaction.objects.filter(pk=self.row.pk, attempts=self.row.attempts).update(**fields):
            raise _LostError
        for name, value in fields.items():
            setattr(self.row, name, value)


def _known(ledger: Ledger, tx_id: str) -> Outcome | None:
    """The outcome of a transaction that was perhaps sent before, if it stands in a block."""
    try:
        return ledger.outcome(tx_id, timeout=KNOWN_SECONDS)
    except OutcomeUnknown:
        return None


def follow(
    ledger: Ledger,
    *,
    listener: str,
    handlers: Mapping[str, Callable[[Event], None]],
    wait: float = 5.0,
    channel: str = HOME,
) -> int:
    """Handle the events of the channel's ledger after the listener's cursor; the number handled.

    Handler and cursor are one database transaction, so each event takes effect once, whoever else
    follows. Returns when none came for `wait` seconds, or after FOLLOW_EVENTS. Raises LedgerError
    (`ledger_went_back`) when the cursor lies beyond the ledger: an old ledger was restored.
    """
    listener = _listener_on(channel, listener)
    cursor, _ = EventCursor.objects.get_or_create(listener=listener)
    height = ledger.height()
    if cursor.block >= height:
        raise LedgerError(
            "The ledger ends before what was already handled. Was an old copy restored?",
            code="ledger_went_back",
        )
    handled = 0
    for event in ledger.events((cursor.block, cursor.index), wait=wait):
        with transaction.atomic():
            cursor = EventCursor.objects.select_for_update().get(listener=listener)
            if (event.block, event.index) <= (cursor.block, cursor.index):
                continue
            if handler := handlers.get(event.name):
                handler(dataclasses.replace(event, channel=channel))
                handled += 1
            EventCursor.objects.filter(listener=listener).update(block=event.block, index=event.index)
        if handled >= FOLLOW_EVENTS:
            break
        if event.block >= height:  # whatever was there when we began has been handled
            _mark_caught_up(listener, height)
            height = event.block
    else:
        _mark_caught_up(listener, height)
    return handled


def _listener_on(channel: str, listener: str) -> str:
    """The name of the listener's cursor on this channel."""
    return listener if channel == HOME else f"{listener}/{channel}"


def _mark_caught_up(listener: str, height: int) -> None:
    EventCursor.objects.filter(listener=listener).update(height=height, caught_up_at=timezone.now())


def is_caught_up(listener: str, *, height: int, within: timedelta, channel: str = HOME) -> bool:
    """Whether the listener has handled all of the first `height` blocks, and stood at the end lately."""
    return EventCursor.objects.filter(
        listener=_listener_on(channel, listener),
        height__gte=height,
        caught_up_at__gte=timezone.now() - within,
    ).exists()
