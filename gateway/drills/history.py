"""The history check: what the ledger, the keyholder's log and the callers saw, held against the promises.

Pure: facts in, violations out; no IO, no clock. It trusts nobody's word for what can be derived: the
ledger's writes are replayed, each kept reading is judged again by the contract's own rule, and what callers
received is looked for in the log. `docs/fabric.md` lists the rules by their codes.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.client import Reading
from ledger.contract import canonical
from ledger.contract.errors import Refused
from ledger.contract.in_force import IN_FORCE, consent_key, consent_of, mark_key, mark_of, standing
from ledger.contract.release import deliver_key, release_key
from ledger.contract.state import Json

Place = tuple[int, int]
"""(block, position in it): the ledger's order."""


@dataclass(frozen=True)
class Write:
    """One key of a valid transaction; `value` None is a deletion. `raised`: it set the key's own policy."""

    place: Place
    key: str
    value: bytes | None
    raised: bool = False


@dataclass(frozen=True)
class Opening:
    """One row of the keyholder's log. `at` is whole seconds of its clock, `proof` the digest of a reading."""

    at: int
    ground: str  # release or output
    job: str
    attempt: int
    part: int | None
    consents: tuple[str, ...]
    opened: tuple[str, ...]  # chunk/version, or the digest of an output
    proof: str


@dataclass(frozen=True)
class Seen:
    """One kept reading: what each organisation signed under `nonce`; no `readings` where it does not hold.

    Of the organisations, `needed` must show a door for it to open.
    """

    nonce: str
    readings: tuple[Reading, ...]
    needed: int = 1


@dataclass(frozen=True)
class Key:
    """A data key that somebody received and could unwrap with the private half of `public_key`.

    `asked` is the moment before the question, in seconds of one monotonic clock of the machine.
    """

    asked: float
    job: str
    attempt: int
    part: int
    chunk: str  # chunk/version
    public_key: str


@dataclass(frozen=True)
class Result:
    """An output that somebody received in clear."""

    asked: float
    job: str
    digest: str


@dataclass(frozen=True)
class Acknowledged:
    """A stop that the keyholder, or a revocation that the ledger, had acknowledged at this moment."""

    at: float
    consent: str


@dataclass(frozen=True)
class History:
    """All that is known. `commitments` are of the openings that the keyholder keeps, by consent."""

    writes: Sequence[Write]
    openings: Sequence[Opening] = ()
    proofs: Mapping[str, Seen] = field(default_factory=dict)
    keys: Sequence[Key] = ()
    results: Sequence[Result] = ()
    stops: Sequence[Acknowledged] = ()
    revocations: Sequence[Acknowledged] = ()
    commitments: Mapping[str, str] = field(default_factory=dict)
    delta: float = 1.0


@dataclass(frozen=True)
class Violation:
    """One broken rule, and where."""

    rule: str
    where: str


def check(history: History) -> list[Violation]:
    """Every violation found; an empty list is the proof.

    1. the ledger's own order: releases and deliveries against revocations, marks, attempts and expiries
    2. the log: each opening rests on a fresh reading that holds and that allows it
    3. the callers: they received nothing that is not in the log, nor after a stop
    4. every acknowledged revocation stands on the ledger
    """
    ledger = _Ledger()
    found = [violation for write in history.writes for violation in ledger.take(write)]
    found += _log(history, ledger)
    found += _received(history, ledger)
    found += [
        Violation("revocation_lost", f"consent {one.consent[:8]}")
        for one in history.revocations
        if one.consent not in ledger.revoked
    ]
    return list(dict.fromkeys(found))


class _Ledger:
    """The ledger's state as its writes make it, one by one."""

    def __init__(self) -> None:
        self.consents: dict[str, Json] = {}
        self.revoked: dict[str, Place] = {}
        self.releases: dict[tuple[str, int], tuple[Place, Json]] = {}
        self.attempts: dict[str, int] = {}
        self.deliveries: dict[str, tuple[Place, Json]] = {}
        self._set: set[str] = set()
        self._doors: dict[str, Write] = {}

    def take(self, write: Write) -> Iterator[Violation]:
        kind, _, rest = write.key.partition("/")
        where = f"block {write.place[0]}, transaction {write.place[1]}"
        match kind:
            case "consent":
                yield from self._consent(rest, write, where)
            case "revoked":
                yield from self._mark(rest, write, where)
            case "release":
                yield from self._release(rest, write, where)
            case "deliver":
                yield from self._delivery(rest, write, where)

    def _consent(self, consent: str, write: Write, where: str) -> Iterator[Violation]:
        value = None if write.value is None else consent_of(write.value)
        before = self.consents.get(consent)
        if value is None:
            yield Violation("consent_spoilt", where)
            return
        if before is not None:
            same = (before["commitment"], before["expires"]) == (value["commitment"], value["expires"])
            if not same or (before["state"], value["state"]) == ("superseded", "active"):
                yield Violation("consent_revived", where)
        self.consents[consent] = value

    def _mark(self, rest: str, write: Write, where: str) -> Iterator[Violation]:
        mark = mark_of(write.value)
        if write.key in self._set and (mark is None or not mark["set"]):
            yield Violation("mark_cleared", where)
        if mark is not None and mark["set"]:
            self._set.add(write.key)
            self.revoked.setdefault(rest.partition("/")[0], write.place)
            if not write.raised:
                yield Violation("mark_not_raised", where)

    def _release(self, rest: str, write: Write, where: str) -> Iterator[Violation]:
        job, _, number = rest.partition("/")
        value, attempt = _json(write.value), int(number)
        if job in self.deliveries:
            yield Violation("release_after_delivery", where)
        if attempt != self.attempts.get(job, 0) + 1:
            yield Violation("attempt_out_of_order", where)
        if value.get("decision") == "permit":
            yield from self._in_force("release", released_consents(value), value.get("at", 0), write, where)
        self.releases[job, attempt] = write.place, value
        self._doors[write.key] = write
        self.attempts[job] = max(attempt, self.attempts.get(job, 0))

    def _delivery(self, job: str, write: Write, where: str) -> Iterator[Violation]:
        value = _json(write.value)
        if job in self.deliveries:
            yield Violation("delivered_twice", where)
        attempt = value.get("attempt", 0)
        _, released = self.release(job, attempt)
        consents = {consent for one in value.get("outputs", ()) for consent in one["consents"]}
        if attempt != self.attempts.get(job) or not consents <= released_consents(released):
            yield Violation("deliver_without_release", where)
        yield from self._in_force("deliver", consents, value.get("at", 0), write, where)
        self.deliveries[job] = write.place, value
        self._doors[write.key] = write

    def _in_force(
        self, door: str, consents: set[str], at: int, write: Write, where: str
    ) -> Iterator[Violation]:
        for consent in sorted(consents):
            value = self.consents.get(consent)
            if value is None or value["state"] != "active":
                yield Violation(f"{door}_without_consent", where)
            elif self.revoked.get(consent, write.place) < write.place:
                yield Violation(f"{door}_after_revocation", where)
            elif value["expires"] is not None and at >= value["expires"]:
                yield Violation(f"{door}_after_expiry", where)

    def release(self, job: str, attempt: int) -> tuple[Place | None, Json]:
        """Where a release stands and what it says; (None, {}) where there is none."""
        return self.releases.get((job, attempt)) or (None, {})

    def is_shown(self, door: str, reading: Reading) -> bool:
        """Whether an organisation's answer shows the door as it stands, and of its block."""
        write = self._doors.get(door)
        if write is None or write.value is None or reading.values.get(door) != write.value:
            return False
        return reading.blocks.get(door, write.place[0]) == write.place[0]

    def is_seen(self, door: str, seen: Seen) -> bool:
        """Whether any answer was given when the door stood already: by its height, or by what it shows.

        On Fabric the height is asked before the values, so that the values may be younger.
        """
        write = self._doors.get(door)
        return any(
            reading.values.get(door) is not None or (write is not None and write.place[0] < reading.height)
            for reading in seen.readings
        )

    def delivery(self, job: str) -> tuple[Place | None, Json]:
        return self.deliveries.get(job) or (None, {})

    def delivered(self, job: str, digest: str) -> tuple[Place, set[str]] | None:
        """Where an output of this digest was delivered, and on which consents."""
        if job in self.deliveries:
            place, value = self.deliveries[job]
            for one in value.get("outputs", ()):
                if one["output"] == digest:
                    return place, set(one["consents"])
        return None


def released_consents(release: Json) -> set[str]:
    """The consents that a `release/<job>/<attempt>` value permits."""
    if release.get("decision") != "permit":
        return set()
    return {consent for part in release["parts"] for consent in part["consents"]}


# The log


def _log(history: History, ledger: _Ledger) -> Iterator[Violation]:
    for number, row in enumerate(history.openings, start=1):
        for rule in _row(row, history, ledger):
            yield Violation(rule, f"row {number} of the log")
    yield from _readings(history)


def _row(row: Opening, history: History, ledger: _Ledger) -> Iterator[str]:
    seen = history.proofs.get(row.proof)
    if seen is None or not seen.readings:
        yield "proof_does_not_hold"
        return
    # 1. The door stands on the ledger, allows this, and enough organisations show it.
    rules = _release(row, seen, ledger) if row.ground == "release" else _delivery(row, ledger)
    yield from rules
    door = release_key(row.job, row.attempt) if row.ground == "release" else deliver_key(row.job)
    witnesses = [reading for reading in seen.readings if ledger.is_shown(door, reading)]
    if len(witnesses) < seen.needed:
        yield "reading_without_door"
    # 2. By the keyholder's clock every consent is in force for each of them and ended by no other answer, and
    # it is the one that the keyholder keeps.
    for consent in row.consents:
        for reading in seen.readings:
            found = _standing(reading, consent, row.at)
            if found != IN_FORCE and (reading in witnesses or found != "consent_unknown"):
                yield "reading_not_in_force"
        value = ledger.consents.get(consent)
        if value is None or value["commitment"] != history.commitments.get(consent, value["commitment"]):
            yield "commitment_differs"


def _release(row: Opening, seen: Seen, ledger: _Ledger) -> Iterator[str]:
    """What is wrong with the first door of an opening of records."""
    _, release = ledger.release(row.job, row.attempt)
    if release.get("decision") != "permit":
        yield "key_without_release"
        return
    part = next((one for one in release["parts"] if one["part"] == row.part), None)
    if part is None or not set(row.consents) <= set(part["consents"]):
        yield "consent_not_released"
    if ledger.is_seen(release_key(row.job, row.attempt + 1), seen):
        yield "attempt_superseded"
    if ledger.is_seen(deliver_key(row.job), seen):
        yield "key_after_delivery"


def _delivery(row: Opening, ledger: _Ledger) -> Iterator[str]:
    """What is wrong with the second door of an opening of a result."""
    found = [ledger.delivered(row.job, digest) for digest in row.opened]
    if not found or any(one is None or one[1] != set(row.consents) for one in found):
        yield "result_without_deliver"


def _standing(reading: Reading, consent: str, at: int) -> str:
    value = reading.values.get(consent_key(consent))
    known = None if value is None else consent_of(value)
    marks = [] if known is None else [reading.values.get(mark_key(consent, org)) for org in known["marks"]]
    return standing(value, marks, at)


def _readings(history: History) -> Iterator[Violation]:
    """Each reading has a nonce of its own, serves for δ at most, and shows no fewer blocks than before."""
    used: dict[str, list[int]] = defaultdict(list)
    for row in history.openings:
        used[row.proof].append(row.at)
    of_nonce: dict[str, str] = {}
    for digest in used:
        seen = history.proofs.get(digest)
        if seen is not None and of_nonce.setdefault(seen.nonce, digest) != digest:
            yield Violation("nonce_reused", f"reading {digest[:8]}")
    # Times of the log are whole seconds, which may add one.
    slack = math.ceil(history.delta)
    for digest, times in used.items():
        if max(times) - min(times) > slack:
            yield Violation("reading_kept_too_long", f"reading {digest[:8]}")
    # Openings overtake each other within δ; beyond it, an older height is a ledger that was put back.
    highest: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for digest, times in sorted(used.items(), key=lambda item: min(item[1])):
        seen = history.proofs.get(digest)
        for reading in () if seen is None else seen.readings:
            before = highest[reading.org]
            if any(height > reading.height and at < min(times) - slack for at, height in before):
                yield Violation("height_went_back", f"reading {digest[:8]}")
            if not before or reading.height > before[-1][1]:
                before.append((min(times), reading.height))


# The callers


@dataclass(frozen=True)
class _Ends:
    """By consent, the moment from which nothing may be asked for and given any more."""

    stopped: Mapping[str, float]
    revoked: Mapping[str, float]


def _received(history: History, ledger: _Ledger) -> Iterator[Violation]:
    ends = _Ends(_first(history.stops, 0.0), _first(history.revocations, history.delta))
    logged: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for row in history.openings:
        for opened in row.opened:
            place = (row.job, row.attempt, row.part) if row.ground == "release" else (row.job,)
            logged[(*place, opened)].update(row.consents)
    for key in history.keys:
        for rule in _key(key, ledger, logged.get((key.job, key.attempt, key.part, key.chunk)), ends):
            yield Violation(rule, f"job {key.job[:8]}, attempt {key.attempt}")
    for result in history.results:
        for rule in _result(result, ledger, logged.get((result.job, result.digest)), ends):
            yield Violation(rule, f"job {result.job[:8]}")


def _key(key: Key, ledger: _Ledger, logged: set[str] | None, ends: _Ends) -> Iterator[str]:
    """What is wrong with a key that somebody received; `logged` are its row's consents, if it has one."""
    _, release = ledger.release(key.job, key.attempt)
    named = {one["part"]: one["key"] for one in release.get("parts", ())}
    if not named:
        yield "key_without_release"
    elif named.get(key.part) != key.public_key:
        yield "key_to_unnamed_public_key"
    if logged is None:
        yield "key_not_logged"
    yield from _too_late("key", key.asked, logged or set(), ends)


def _result(result: Result, ledger: _Ledger, logged: set[str] | None, ends: _Ends) -> Iterator[str]:
    delivered = ledger.delivered(result.job, result.digest)
    if delivered is None:
        yield "result_without_deliver"
    if logged is None:
        yield "result_not_logged"
    yield from _too_late(
        "result", result.asked, (logged or set()) | (delivered[1] if delivered else set()), ends
    )


def _first(acknowledged: Sequence[Acknowledged], grace: float) -> dict[str, float]:
    """From which moment on nothing may be given on a consent any more."""
    found: dict[str, float] = {}
    for one in acknowledged:
        found[one.consent] = min(one.at + grace, found.get(one.consent, math.inf))
    return found


def _too_late(what: str, asked: float, consents: set[str], ends: _Ends) -> Iterator[str]:
    """`asked` after a stop, or more than δ after a revocation, of one of the consents."""
    for consent in sorted(consents):
        if asked > ends.stopped.get(consent, math.inf):
            yield f"{what}_after_stop"
        if asked > ends.revoked.get(consent, math.inf):
            yield f"{what}_after_revocation"


def _json(value: bytes | None) -> Json:
    try:
        found = None if value is None else canonical.load_canonical(value, limit=2**26)
    except Refused:
        found = None
    return found if isinstance(found, dict) else {}
