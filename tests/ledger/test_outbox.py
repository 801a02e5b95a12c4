"""ledger/outbox.py: intents to the ledger, events back, each once."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from ledger import outbox
from ledger.client import Envelope, Event, Outcome
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.embedded.client import EmbeddedLedger
from ledger.errors import KeyholderUnavailable, LedgerError, OutcomeUnknown, RefusedTransition, SendError
from ledger.models import EventCursor, LedgerTransaction
from tests.ledger.conftest import Toy, put

pytestmark = pytest.mark.django_db

State = LedgerTransaction.State


def intend(name: str = "Put", reference: str = "thing/1", **fields: Any) -> LedgerTransaction:
    args = fields.pop("args", {"key": "a", "value": "1"})
    with transaction.atomic():
        return outbox.enqueue(name=name, args=args, reference=reference, **fields)


def make_due(row: LedgerTransaction) -> None:
    LedgerTransaction.objects.filter(pk=row.pk).update(not_before=timezone.now() - timedelta(seconds=1))


class Flaky:
    """The real ledger, with a fault put in front of one call."""

    def __init__(self, ledger: EmbeddedLedger) -> None:
        self._ledger = ledger
        self.sent: list[bytes] = []
        self.faults: dict[str, list[Exception]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def _fault(self, name: str) -> None:
        if self.faults.get(name):
            raise self.faults[name].pop(0)

    def prepare(self, name: str, args: Json) -> Envelope:
        self._fault("prepare")
        return self._ledger.prepare(name, args)

    def send(self, envelope: Envelope) -> None:
        self._fault("send")
        self.sent.append(envelope.data)
        self._ledger.send(envelope)

    def outcome(self, tx_id: str, *, timeout: float) -> Outcome:
        self._fault("outcome")
        return self._ledger.outcome(tx_id, timeout=timeout)


@pytest.fixture
def flaky(ledger: EmbeddedLedger) -> Flaky:
    return Flaky(ledger)


def test_an_intent_is_carried_to_the_ledger(ledger: EmbeddedLedger) -> None:
    row = intend()
    assert outbox.send_pending(ledger) == 1
    row.refresh_from_db()
    assert (row.state, row.block, row.error_code) == (State.COMMITTED, 1, "")
    assert row.settled_at is not None
    assert ledger.evaluate(["a"]) == [b"1"]
    assert outbox.send_pending(ledger) == 0


@pytest.mark.django_db(transaction=True)
def test_an_intent_needs_the_callers_transaction() -> None:
    with pytest.raises(RuntimeError):
        outbox.enqueue(name="Put", args={}, reference="thing/1")
    with transaction.atomic():
        outbox.enqueue(name="Put", args={}, reference="thing/1")
        transaction.set_rollback(True)
    assert not LedgerTransaction.objects.exists()


def test_all_are_sent_before_any_is_awaited(flaky: Flaky) -> None:
    """So that a ledger that gathers transactions puts them into one block."""
    for number in range(5):
        intend(reference=f"thing/{number}", args={"key": f"k/{number}", "value": "x"})
    flaky.faults["outcome"] = [OutcomeUnknown("Not yet.")]
    assert outbox.send_pending(flaky) == 4
    assert len(flaky.sent) == 5


def test_the_envelope_is_stored_before_it_is_sent(flaky: Flaky) -> None:
    row = intend()
    flaky.faults["send"] = [SendError("The orderer is down.")]
    assert outbox.send_pending(flaky) == 0
    row.refresh_from_db()
    assert row.state == State.SENT
    stored = bytes(row.envelope or b"")
    assert row.not_before is not None
    make_due(row)
    assert outbox.send_pending(flaky) == 1
    assert flaky.sent == [stored]


def test_an_unknown_outcome_sends_the_same_envelope_again(flaky: Flaky) -> None:
    row = intend("Add", args={"key": "n"})
    flaky.faults["outcome"] = [OutcomeUnknown("Not yet."), OutcomeUnknown("Not yet.")]
    assert outbox.send_pending(flaky) == 0
    make_due(row)
    assert outbox.send_pending(flaky) == 1
    assert len(flaky.sent) == 2
    assert len(set(flaky.sent)) == 1
    assert flaky.evaluate(["n"]) == [b"1"]


def test_after_a_crash_a_known_outcome_is_recorded_without_sending(flaky: Flaky) -> None:
    row = intend()
    flaky.faults["outcome"] = [OutcomeUnknown("Not yet.")]
    outbox.send_pending(flaky)
    row.refresh_from_db()
    assert flaky.outcome(row.tx_id, timeout=10).is_valid  # it stands in a block before the relay comes again
    make_due(row)
    assert outbox.send_pending(flaky) == 1
    assert len(flaky.sent) == 1


def test_a_conflict_makes_a_new_transaction_at_once(flaky: Flaky) -> None:
    row = intend("Add", args={"key": "n"})
    prepare = flaky._ledger.prepare

    def overtaken(name: str, args: Json) -> Envelope:
        envelope = prepare(name, args)
        put(flaky._ledger, "n", "10")
        flaky.prepare = prepare  # type: ignore[method-assign]
        return envelope

    flaky.prepare = overtaken  # type: ignore[method-assign]
    assert outbox.send_pending(flaky) == 1
    row.refresh_from_db()
    assert row.state == State.COMMITTED
    assert len(set(flaky.sent)) == 2
    assert flaky.evaluate(["n"]) == [b"11"]


def test_an_endless_conflict_waits_its_turn(flaky: Flaky) -> None:
    row = intend("Add", args={"key": "n"})
    prepare = flaky._ledger.prepare

    def overtaken(name: str, args: Json) -> Envelope:
        envelope = prepare(name, args)
        put(flaky._ledger, "n", "10")
        return envelope

    flaky.prepare = overtaken  # type: ignore[method-assign]
    assert outbox.send_pending(flaky) == 0
    row.refresh_from_db()
    assert (row.state, row.envelope, row.error_code) == (State.PENDING, None, "mvcc_read_conflict")
    assert len(flaky.sent) == outbox.CONFLICTS


def test_a_refusal_settles_the_row_and_tells_its_owner(ledger: EmbeddedLedger) -> None:
    row = intend("Nothing")
    told: list[str] = []
    assert outbox.send_pending(ledger, refused=lambda row: told.append(row.error_code)) == 1
    row.refresh_from_db()
    assert (row.state, row.error_code) == (State.REFUSED, "unknown_transaction")
    assert told == ["unknown_transaction"]


def test_an_invalid_transaction_is_refused_for_good(ledger: EmbeddedLedger) -> None:
    intend("Guard", args={"key": "g", "orgs": ["Elsewhere"]})
    row = intend("Put", args={"key": "g", "value": "x"}, reference="thing/2")
    outbox.send_pending(ledger, limit=1)
    outbox.send_pending(ledger)
    row.refresh_from_db()
    assert (row.state, row.error_code) == (State.REFUSED, "endorsement_policy_failure")


def test_a_dead_ledger_makes_the_row_wait(toy: Toy, ledger: EmbeddedLedger) -> None:
    row = intend()
    toy.process.close()
    assert outbox.send_pending(ledger) == 0
    row.refresh_from_db()
    assert (row.state, row.error_code) == (State.PENDING, "ledger_prepare_failed")
    assert row.not_before > timezone.now()
    assert outbox.send_pending(ledger) == 0
    toy.start()
    make_due(row)
    assert outbox.send_pending(ledger) == 1


def test_a_stop_goes_first_and_never_waits_long(toy: Toy, ledger: EmbeddedLedger) -> None:
    others = [intend(reference=f"thing/{n}", args={"key": f"k/{n}", "value": "x"}) for n in range(3)]
    stop = intend("RevokeConsent", reference="consent/1")
    assert [row.pk for row in outbox.due()] == [stop.pk, *(row.pk for row in others)]
    LedgerTransaction.objects.filter(pk=stop.pk).update(attempts=30)
    toy.process.close()
    outbox.send_pending(ledger)
    stop.refresh_from_db()
    assert stop.not_before <= timezone.now() + timedelta(seconds=outbox.URGENT_BACKOFF)
    toy.start()


def test_rows_about_one_thing_go_in_order(flaky: Flaky) -> None:
    """A stop of a consent must not reach the ledger before the grant of it."""
    grant = intend("Put", args={"key": "c", "value": "granted"})
    stop = intend("RevokeConsent", args={"key": "c", "value": "stopped"})
    flaky.faults["send"] = [SendError("The orderer is down.")]
    outbox.send_pending(flaky)
    stop.refresh_from_db()
    assert (stop.state, stop.attempts) == (State.PENDING, 0)
    make_due(grant)
    assert outbox.send_pending(flaky) == 1
    assert outbox.send_pending(flaky) == 1
    assert flaky.evaluate(["c"]) == [b"stopped"]


def test_one_bad_row_does_not_stop_the_others(flaky: Flaky, caplog: pytest.LogCaptureFixture) -> None:
    bad = intend(reference="thing/1", args={"key": "alice", "value": "1"})
    intend(reference="thing/2", args={"key": "b", "value": "1"})
    flaky.faults["prepare"] = [ValueError("alice")]
    assert outbox.send_pending(flaky) == 1
    bad.refresh_from_db()
    assert (bad.state, bad.error_code) == (State.PENDING, "internal_error")
    assert "alice" not in caplog.text


def test_an_owner_that_fails_leaves_the_row_unsettled(ledger: EmbeddedLedger) -> None:
    row = intend("Nothing")

    def fail(_: LedgerTransaction) -> None:
        raise ValueError

    assert outbox.send_pending(ledger, refused=fail) == 0
    row.refresh_from_db()
    assert (row.state, row.settled_at) == (State.PENDING, None)
    make_due(row)
    assert outbox.send_pending(ledger) == 1


def test_an_envelope_that_no_ledger_takes_is_prepared_anew(ledger: EmbeddedLedger) -> None:
    row = intend()
    LedgerTransaction.objects.filter(pk=row.pk).update(state=State.SENT, envelope=b"{}", tx_id="00" * 32)
    assert outbox.send_pending(ledger) == 0
    make_due(row)
    assert outbox.send_pending(ledger) == 1


# Two relays


def test_a_claimed_row_is_left_alone(ledger: EmbeddedLedger) -> None:
    row = intend()
    (seen,) = outbox.due()
    assert outbox._claim(seen)
    assert outbox.send_pending(ledger) == 0
    assert not outbox._claim(row)  # the other relay read it before the claim


def test_a_relay_that_lost_its_lease_changes_nothing(flaky: Flaky) -> None:
    row = intend("Add", args={"key": "n"})
    prepare = flaky._ledger.prepare

    def slow(name: str, args: Json) -> Envelope:
        envelope = prepare(name, args)
        flaky.prepare = prepare  # type: ignore[method-assign]
        make_due(row)
        assert outbox.send_pending(flaky) == 1  # the other relay is faster
        return envelope

    flaky.prepare = slow  # type: ignore[method-assign]
    assert outbox.send_pending(flaky) == 0
    row.refresh_from_db()
    assert row.state == State.COMMITTED
    assert flaky.evaluate(["n"]) == [b"1"]


def test_two_relays_that_read_the_same_rows_send_each_once(
    flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        intend("Add", args={"key": f"n/{number}"}, reference=f"thing/{number}")
    claim = outbox._claim

    def overtaken(row: LedgerTransaction) -> bool:
        if row.reference == "thing/2":  # between two of our claims the other relay takes what it sees
            monkeypatch.setattr(outbox, "_claim", claim)
            assert outbox.send_pending(flaky) == 4
        return claim(row)

    monkeypatch.setattr(outbox, "_claim", overtaken)
    assert outbox.send_pending(flaky) == 2
    assert flaky.evaluate([f"n/{number}" for number in range(6)]) == [b"1"] * 6
    assert len(flaky.sent) == len(set(flaky.sent)) == 6


# Through the keyholder


@pytest.mark.parametrize(
    ("answer", "state", "code"),
    [
        ({"tx_id": "ab", "state": "committed", "code": None}, State.COMMITTED, ""),
        ({"tx_id": "ab", "state": "sent", "code": None}, State.SENT, "ledger_outcome_unknown"),
        ({"tx_id": None, "state": "refused", "code": "consent_exists"}, State.REFUSED, "consent_exists"),
        (KeyholderUnavailable("Gone."), State.PENDING, "keyholder_unavailable"),
        (RefusedTransition("No.", code="not_enrolled"), State.REFUSED, "not_enrolled"),
        (Refused("expiry_mismatch", "No."), State.REFUSED, "expiry_mismatch"),
    ],
)
def test_the_keyholder_submits_what_carries_openings(
    ledger: EmbeddedLedger, answer: Any, state: str, code: str
) -> None:
    row = intend("GrantConsent", through="keyholder")

    def submit(row: LedgerTransaction) -> dict[str, Any]:
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    assert outbox.send_pending(ledger) == 0  # without a keyholder it stays
    row.refresh_from_db()
    assert row.attempts == 0
    outbox.send_pending(ledger, through_keyholder=submit)
    row.refresh_from_db()
    assert (row.state, row.error_code) == (state, code)


def test_what_the_keyholder_only_sent_is_asked_again(ledger: EmbeddedLedger) -> None:
    row = intend("GrantConsent", through="keyholder")
    answers: Iterator[dict[str, str]] = iter(
        [{"tx_id": "ab", "state": "sent"}, {"tx_id": "ab", "state": "committed"}]
    )
    outbox.send_pending(ledger, through_keyholder=lambda row: next(answers))
    make_due(row)
    assert outbox.send_pending(ledger, through_keyholder=lambda row: next(answers)) == 1
    row.refresh_from_db()
    assert (row.state, row.tx_id) == (State.COMMITTED, "ab")


def answered(rows: Sequence[LedgerTransaction], state: str = "committed") -> list[dict[str, str]]:
    return [{"tx_id": f"{row.pk:064x}", "state": state, "code": ""} for row in rows]


def test_several_grants_go_through_the_keyholder_together(ledger: EmbeddedLedger) -> None:
    rows = [intend("GrantConsent", reference=f"consent/{number}", through="keyholder") for number in range(3)]
    asked: list[list[int]] = []

    def many(rows: Sequence[LedgerTransaction]) -> list[dict[str, str]]:
        asked.append([row.pk for row in rows])
        answers = answered(rows)
        answers[1] = {"tx_id": "", "state": "refused", "code": "consent_expired"}
        return answers

    settled = outbox.send_pending(ledger, through_keyholder=no_single, grants_through_keyholder=many)
    assert (settled, asked) == (3, [[row.pk for row in rows]])
    for row in rows:
        row.refresh_from_db()
    assert [row.state for row in rows] == [State.COMMITTED, State.REFUSED, State.COMMITTED]


def no_single(row: LedgerTransaction) -> dict[str, str]:
    raise AssertionError("one by one")


def test_a_single_grant_goes_alone(ledger: EmbeddedLedger) -> None:
    row = intend("GrantConsent", through="keyholder")

    def many(rows: Sequence[LedgerTransaction]) -> list[dict[str, str]]:
        raise AssertionError("together")

    single: list[int] = []

    def one(row: LedgerTransaction) -> dict[str, str]:
        single.append(row.pk)
        return answered([row])[0]

    assert outbox.send_pending(ledger, through_keyholder=one, grants_through_keyholder=many) == 1
    assert single == [row.pk]


@pytest.mark.parametrize(
    ("error", "states"),
    [
        (KeyholderUnavailable("Gone."), [State.PENDING] * 2),
        (ValueError("a fault of ours"), [State.COMMITTED] * 2),
        (RefusedTransition("No.", code="not_enrolled"), [State.COMMITTED] * 2),
    ],
)
def test_what_fails_together_goes_one_by_one_or_waits(
    ledger: EmbeddedLedger, error: Exception, states: list[str]
) -> None:
    rows = [intend("GrantConsent", reference=f"consent/{number}", through="keyholder") for number in range(2)]

    def many(rows: Sequence[LedgerTransaction]) -> list[dict[str, str]]:
        raise error

    outbox.send_pending(
        ledger, through_keyholder=lambda row: answered([row])[0], grants_through_keyholder=many
    )
    for row in rows:
        row.refresh_from_db()
    assert [row.state for row in rows] == states


# Events


def follow(ledger: EmbeddedLedger, handler: Callable[[Event], None], listener: str = "test") -> int:
    return outbox.follow(ledger, listener=listener, handlers={"Put": handler}, wait=0)


def test_the_cursor_says_when_it_stood_at_the_end(ledger: EmbeddedLedger) -> None:
    minute = timedelta(minutes=1)
    put(ledger, "a", "1")
    height = ledger.height()
    assert not outbox.is_caught_up("test", height=0, within=minute)
    with pytest.raises(RuntimeError):
        follow(ledger, fail_once)
    assert not outbox.is_caught_up("test", height=0, within=minute)
    follow(ledger, lambda event: None)
    assert outbox.is_caught_up("test", height=height, within=minute)
    put(ledger, "b", "1")
    assert not outbox.is_caught_up("test", height=ledger.height(), within=minute)
    follow(ledger, lambda event: None)
    assert outbox.is_caught_up("test", height=ledger.height(), within=minute)
    EventCursor.objects.update(caught_up_at=timezone.now() - 2 * minute)
    assert not outbox.is_caught_up("test", height=0, within=minute)


def fail_once(event: Event) -> None:
    raise RuntimeError("a handler's fault")


def test_each_event_is_handled_once(ledger: EmbeddedLedger) -> None:
    heard: list[str] = []
    put(ledger, "a", "1")
    put(ledger, "b", "1")
    assert follow(ledger, lambda event: heard.append(event.payload["key"])) == 2
    assert follow(ledger, lambda event: heard.append(event.payload["key"])) == 0
    put(ledger, "c", "1")
    assert follow(ledger, lambda event: heard.append(event.payload["key"])) == 1
    assert heard == ["a", "b", "c"]
    cursor = EventCursor.objects.get(listener="test")
    assert (cursor.block, cursor.index) == (3, 0)


def test_a_handler_that_fails_leaves_the_cursor_and_nothing_else(ledger: EmbeddedLedger) -> None:
    put(ledger, "a", "1")

    def fail(event: Event) -> None:
        LedgerTransaction.objects.create(name="half", reference="done")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 (it is ours)
        follow(ledger, fail)
    assert not LedgerTransaction.objects.exists()
    heard: list[Event] = []
    assert follow(ledger, heard.append) == 1
    assert heard[0].payload == {"key": "a"}


def test_two_followers_of_one_listener_handle_an_event_once(ledger: EmbeddedLedger) -> None:
    put(ledger, "a", "1")
    heard: list[Event] = []

    def meanwhile(event: Event) -> None:
        heard.append(event)

    class Stale:
        """A follower that read the cursor before the other one moved it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(ledger, name)

        def events(self, after: tuple[int, int], *, wait: float) -> Iterator[Event]:
            found = list(ledger.events(after, wait=wait))
            follow(ledger, meanwhile)
            return iter(found)

    assert outbox.follow(Stale(), listener="test", handlers={"Put": meanwhile}, wait=0) == 0
    assert len(heard) == 1


def test_a_restored_ledger_is_noticed(ledger: EmbeddedLedger) -> None:
    EventCursor.objects.create(listener="test", block=5, index=0)
    with pytest.raises(LedgerError) as raised:
        follow(ledger, lambda event: None)
    assert raised.value.code == "ledger_went_back"
