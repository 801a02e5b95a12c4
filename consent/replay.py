"""What the ledger alone says of every consent, held against the readable copies in the database.

The ledger is derived twice: from its events, and from the values that stand there now; the two must agree.
`repair` moves the readable copies to what the ledger says, and never towards sharing more than the patient
last asked for: a stop that the ledger does not have is sent to it again.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from consent.models import Consent, ErasedConsent
from ledger import outbox
from ledger.audit.log import Actor, record
from ledger.client import HOME, Event, Ledger
from ledger.contract.in_force import consent_key, consent_of, mark_key, mark_of
from ledger.contract.state import Json
from ledger.contract.times import day_after
from ledger.models import LedgerTransaction

EVENT_SECONDS = 0.2  # without an event, at the ledger's end
KEYS_AT_ONCE = 500
ROUNDS = 5
REPLAY = Actor.system("replay")

LedgerState, Status = Consent.LedgerState, Consent.Status
SETTLED_HERE = (LedgerState.IN_FORCE, LedgerState.REVOKED, LedgerState.SUPERSEDED)

Kept = Mapping[str, Any]
"""`{"opening": "fits" | "differs" | "missing", "stopped": bool}`, as the keyholder says it."""

AskKeyholder = Callable[[Mapping[str, str]], Mapping[str, Kept]]
"""Commitments by consent → what the keyholder keeps of each. No content."""


@dataclass(frozen=True)
class OnLedger:
    """One consent as the ledger tells it. `agrees`: its events and its values, well formed, say the same."""

    state: str
    version: int
    expires: int | None
    commitment: str
    revoked_at: int | None
    agrees: bool


@dataclass(frozen=True)
class Difference:
    """What differs, for one consent; `here` and `ledger` in words of the code's own kind.

    Codes: `state_differs`, `version_differs`, `expiry_differs`, `missing_here`, `missing_on_ledger`,
    `stop_lost` (asked for, and on its way no more), `ledger_disagrees` (with itself), `opening_missing`,
    `opening_differs`, `channel_differs` (another channel's consent stands on this one too).
    """

    consent: str
    code: str
    here: str = ""
    ledger: str = ""
    channel: str = HOME

    def as_json(self) -> Json:
        return asdict(self)


# The ledger's side


def derive(ledger: Ledger) -> dict[str, OnLedger]:
    """Every consent that was ever granted on the ledger, by its id. Raises LedgerError."""
    for _ in range(ROUNDS):
        height = ledger.height()
        found = _values(ledger, _history(ledger, height))
        if ledger.height() == height:
            break
    return found


@dataclass
class _Told:
    """What the events say of one consent."""

    version: int
    superseded: bool = False
    revoked_at: int | None = None


def _history(ledger: Ledger, height: int) -> dict[str, _Told]:
    told: dict[str, _Told] = {}
    for event in ledger.events((-1, -1), wait=EVENT_SECONDS):
        if event.block >= height:
            break
        _take(told, event)
    return told


def _take(told: dict[str, _Told], event: Event) -> None:
    consent = str(event.payload.get("consent"))
    if event.name == "ConsentGranted":
        told[consent] = _Told(1)
    elif event.name == "ConsentsGranted":
        told.update({one: _Told(1) for one in event.payload["consents"]})
    elif event.name == "ConsentReplaced":
        replaced = told[event.payload["replaces"]]
        replaced.superseded = True
        told[consent] = _Told(replaced.version + 1)
    elif event.name == "ConsentRevoked" and told[consent].revoked_at is None:
        told[consent].revoked_at = event.payload["at"]


def _values(ledger: Ledger, told: Mapping[str, _Told]) -> dict[str, OnLedger]:
    consents = list(told)
    values = _evaluate(ledger, [consent_key(consent) for consent in consents])
    parsed = [None if value is None else consent_of(value) for value in values]
    keys = [
        [] if value is None else [mark_key(consent, org) for org in value["marks"]]
        for consent, value in zip(consents, parsed, strict=True)
    ]
    marks = iter(_evaluate(ledger, [key for own in keys for key in own]))
    return {
        consent: _one(told[consent], value, [mark_of(next(marks)) for _ in own])
        for consent, value, own in zip(consents, parsed, keys, strict=True)
    }


def _one(told: _Told, value: Json | None, marks: Sequence[Json | None]) -> OnLedger:
    stops = [mark["at"] for mark in marks if mark is not None and mark["set"]]
    superseded = told.superseded or (value is not None and value["state"] != "active")
    # Whichever of the two says that it is over is believed.
    if stops or told.revoked_at is not None:
        state = LedgerState.REVOKED
    elif superseded or value is None or None in marks:
        state = LedgerState.SUPERSEDED
    else:
        state = LedgerState.IN_FORCE
    return OnLedger(
        state=state,
        version=told.version if value is None else value["version"],
        expires=None if value is None else value["expires"],
        commitment="" if value is None else value["commitment"],
        revoked_at=min([*stops, *([] if told.revoked_at is None else [told.revoked_at])], default=None),
        agrees=value is not None
        and None not in marks
        and value["version"] == told.version
        and (value["state"] != "active") == told.superseded
        and bool(stops) == (told.revoked_at is not None),
    )


def _evaluate(ledger: Ledger, keys: Sequence[str]) -> list[bytes | None]:
    found: list[bytes | None] = []
    for start in range(0, len(keys), KEYS_AT_ONCE):
        found += ledger.evaluate(keys[start : start + KEYS_AT_ONCE])
    return found


# Held against each other


def compare(
    on_ledger: Mapping[str, OnLedger], ask_keyholder: AskKeyholder | None = None, *, channel: str = HOME
) -> list[Difference]:
    """What differs between one channel's ledger, the database and the keyholder's openings, by consent."""
    foreign = set(Consent.objects.exclude(channel=channel).values_list("pk", flat=True)) & on_ledger.keys()
    found = [Difference(id, "channel_differs", ledger=on_ledger[id].state) for id in sorted(foreign)]
    own = {id: truth for id, truth in on_ledger.items() if id not in foreign}
    return [replace(one, channel=channel) for one in (*found, *_compare(own, ask_keyholder, channel))]


def _compare(
    on_ledger: Mapping[str, OnLedger], ask_keyholder: AskKeyholder | None, channel: str
) -> list[Difference]:
    kept = {} if ask_keyholder is None else _ask(ask_keyholder, on_ledger)
    here = {consent.pk: consent for consent in Consent.objects.filter(channel=channel)}
    erased = set(ErasedConsent.objects.values_list("pk", flat=True))
    moving = _moving()
    versions = _versions(here)
    found: list[Difference] = []
    for id in sorted({*here, *on_ledger}):
        truth, row = on_ledger.get(id), here.get(id)
        if truth is not None:
            found += _of_ledger(id, truth, kept.get(id))
        if row is None and id in moving:
            continue  # its stop is on its way
        if row is None and id in erased and truth is not None and truth.state != LedgerState.IN_FORCE:
            continue  # its patient was erased, and nothing rests on it
        if row is None:
            found.append(Difference(id, "missing_here", ledger=truth.state if truth else ""))
        elif truth is None:
            stopping = row.granted_at is not None and row.ledger_state == LedgerState.REVOKING
            if stopping or row.ledger_state in SETTLED_HERE:
                found.append(Difference(id, "missing_on_ledger", here=row.ledger_state))
        else:
            stopped = bool(row.stopped_at) or bool(kept.get(id, {}).get("stopped"))
            found += _of_row(row, truth, stopped=stopped, moving=id in moving)
            if versions[id] != truth.version:
                found.append(Difference(id, "version_differs", str(versions[id]), str(truth.version)))
    return found


def _ask(ask: AskKeyholder, on_ledger: Mapping[str, OnLedger]) -> dict[str, Kept]:
    ids = [id for id, truth in on_ledger.items() if truth.commitment]
    kept: dict[str, Kept] = {}
    for start in range(0, len(ids), KEYS_AT_ONCE):
        some = ids[start : start + KEYS_AT_ONCE]
        kept |= ask({id: on_ledger[id].commitment for id in some})
    return kept


def _of_ledger(id: str, truth: OnLedger, kept: Kept | None) -> Iterator[Difference]:
    if not truth.agrees:
        yield Difference(id, "ledger_disagrees", ledger=truth.state)
    if kept is None:
        return
    # An erased patient's openings are gone with her key, and so are her consents in force.
    needed = truth.state == LedgerState.IN_FORCE
    if kept["opening"] == "differs" or (kept["opening"] == "missing" and needed):
        yield Difference(id, f"opening_{kept['opening']}", ledger=truth.state)


def _of_row(row: Consent, truth: OnLedger, *, stopped: bool, moving: bool) -> Iterator[Difference]:
    if stopped and truth.state == LedgerState.IN_FORCE:
        if not moving:
            yield Difference(row.pk, "stop_lost", row.ledger_state, truth.state)
    elif row.ledger_state != truth.state:
        yield Difference(row.pk, "state_differs", row.ledger_state, truth.state)
    ends = None if row.expires_at is None else day_after(int(row.expires_at.timestamp()))
    if ends != truth.expires:
        yield Difference(row.pk, "expiry_differs", _day(ends), _day(truth.expires))


def _moving() -> set[str]:
    """Consents that a stop is on its way for."""
    unsettled = LedgerTransaction.objects.filter(
        name="RevokeConsent", state__in=[LedgerTransaction.State.PENDING, LedgerTransaction.State.SENT]
    )
    return {ref.removeprefix("consent/") for ref in unsettled.values_list("reference", flat=True)}


def _versions(here: Mapping[str, Consent]) -> dict[str, int]:
    """How many consents each has taken the place of, one after another, and itself."""
    versions: dict[str, int] = {}
    for id in here:
        line = [id]
        while (before := here[line[-1]].replaces_id) is not None and before in here:
            line.append(before)
        versions[id] = len(line)
    return versions


def _day(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


# Put right


def repair(differences: Sequence[Difference], on_ledger: Mapping[str, OnLedger]) -> Counter[str]:
    """Put the readable copies right, each in a transaction of its own; the number for each code.

    What is missing or contradicts itself on the ledger or in the keyholder stays as it is.
    """
    done: Counter[str] = Counter()
    for one in differences:
        with transaction.atomic():
            row = (
                Consent.objects.select_for_update(of=("self",))
                .select_related("request__patient", "request__requester", "request__notice")
                .filter(pk=one.consent)
                .first()
            )
            if row is None:
                continue
            if one.code == "state_differs":
                _move(row, on_ledger[one.consent])
            elif one.code == "stop_lost":
                _stop_again(row)
            elif one.code == "missing_on_ledger":
                row.status, row.ledger_state = Status.ENTERED_IN_ERROR, LedgerState.REFUSED
                row.save(update_fields=["status", "ledger_state"])
            else:
                continue
            _record(row)
            done[one.code] += 1
    return done


def stop_missing(differences: Sequence[Difference], stop: Callable[[str], None]) -> int:
    """End what is in force on the ledger and unknown here, so that nobody uses what its patient cannot see.

    Nothing of it can be made again: the keyholder keeps what was decided, not the question, the words that
    the patient read, or the FHIR Consent. `stop(consent)` has the keyholder refuse it at once; the ledger
    follows. It cannot be undone: a newer backup is better. The number of stops; each is recorded.
    """
    missing = [one for one in differences if is_missing(one)]
    for one in missing:
        stop(one.consent)
        with transaction.atomic():
            _revoke(one.consent, one.channel)
            record(kind="consent.replayed", actor=REPLAY, consent=one.consent, code="stopped_missing")
    return len(missing)


def is_missing(one: Difference) -> bool:
    """In force on the ledger, and its patient sees nothing of it here."""
    return one.code == "missing_here" and one.ledger == LedgerState.IN_FORCE


def _move(row: Consent, truth: OnLedger) -> None:
    now = timezone.now()
    row.ledger_state = truth.state
    row.status = Status.ACTIVE if truth.state == LedgerState.IN_FORCE else Status.INACTIVE
    row.granted_at = row.granted_at or now
    if truth.state == LedgerState.REVOKED:
        at = now if truth.revoked_at is None else datetime.fromtimestamp(truth.revoked_at, UTC)
        row.revoked_at, row.stopped_at = row.revoked_at or at, row.stopped_at or at
    row.save(update_fields=["ledger_state", "status", "granted_at", "revoked_at", "stopped_at"])


def _stop_again(row: Consent) -> None:
    row.stopped_at, row.revoked_at = row.stopped_at or timezone.now(), None
    row.status, row.ledger_state = Status.INACTIVE, LedgerState.REVOKING
    row.save(update_fields=["ledger_state", "status", "revoked_at", "stopped_at"])
    _revoke(row.pk, row.channel)


def _revoke(consent: str, channel: str) -> None:
    outbox.enqueue(
        name="RevokeConsent", args={"consent": consent}, reference=f"consent/{consent}", channel=channel
    )


def _record(row: Consent) -> None:
    request = row.request
    record(
        kind="consent.replayed",
        actor=REPLAY,
        subject=request.patient.pseudonym,
        consent=row.pk,
        request=request.pk,
        requester=str(request.requester_id),
        code=row.ledger_state,
    )
