"""The one function through which every opening passes: of a patient's record, of a job's result.

Whatever is unknown, missing, malformed or late refuses, with a code that says which check said no.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from typing import NoReturn

from gateway.keyholder.clinicians import Clinicians
from gateway.keyholder.denials import denied_patients
from gateway.keyholder.doors import patients_of
from gateway.keyholder.envelope import PartWrapper, open_chunk, open_sealed_output
from gateway.keyholder.log import REGROUP, RELABEL, Entry, append
from gateway.keyholder.parts import Part, Parts, job_keys
from gateway.keyholder.reading import Look, Reader, in_force
from gateway.keyholder.regrouping import CUSTODIAN, UNLABELLED, Changes, Held, Regrouped, regroup
from gateway.keyholder.relabelling import Doubt, Neighbour, label_anew, survey
from gateway.keyholder.signing import Signing, committed
from gateway.keyholder.store import Header, Opening, Store
from gateway.keyholder.store import Release as KeptRelease
from ledger.channels import Channel, told
from ledger.contract import canonical
from ledger.contract.access import completed_key, recorded
from ledger.contract.decision import decide
from ledger.contract.organisations import emergency_key
from ledger.contract.rules import CompiledRules
from ledger.contract.state import Json
from ledger.contract.version import source_digest
from ledger.errors import AccessDenied, LedgerError, RefusedTransition

DELTA_SECONDS = 1.0
# A reading may serve other openings for so much of δ; what is left is for the opening itself.
SHARED = 0.5
LEASE_SECONDS = 3600
MAX_LIMIT = 1000
PERSONAL = frozenset({"emergency", "subject"})  # grounds that rest on no consent
MAX_RECORDS_BYTES = 32 * 1024 * 1024  # of one answer to a person


@dataclass(frozen=True)
class JobRelease:
    """Records of one subject of one part of a job's attempt, after the chunk `after`."""

    job: str
    attempt: int
    part: int
    subject: str
    after: str | None = None
    limit: int = 1


@dataclass(frozen=True)
class DeliveredOutput:
    """One delivered output of a job; `digest` is SHA-256 of `sealed`, in hex."""

    job: str
    digest: str
    sealed: bytes


@dataclass(frozen=True)
class PersonalRecords:
    """Records of an access's patient, for a person to read: `sealed` are their blobs by chunk.

    They are opened here, so that no data key leaves: what can be read ends with the access.
    """

    access: str
    kind: str  # emergency, or subject: the patient's own copy
    sealed: Mapping[str, bytes]


Ground = JobRelease | DeliveredOutput | PersonalRecords


@dataclass(frozen=True)
class Regroup:
    """Chunks of a patient whose lines move as `changes` say (regrouping.py): sealed in, sealed out.

    No door is passed, because neither a key nor a word of a record leaves: what comes out is sealed again,
    under keys that stay here.
    """

    act: str
    patient: str
    chunks: Mapping[str, Held]
    changes: Changes


@dataclass(frozen=True)
class Relabel:
    """Chunks whose records are labelled anew by the keyholder's own rules (relabelling.py), and then moved as
    by a regrouping. `neighbours` say, by chunk, whose it is and what of it is held besides."""

    act: str
    patient: str
    chunks: Mapping[str, Held]
    neighbours: Mapping[str, tuple[str, Held]] | None


@dataclass(frozen=True)
class Survey:
    """Which of a patient's chunks newer rules may concern: their notes are opened, no record is.

    Those are withheld from every job, from before the answer until a relabelling has sealed them anew.
    """

    patient: str
    chunks: Mapping[str, Held]
    followed: bool


Inside = Regroup | Relabel | Survey  # nothing of a record leaves


@dataclass(frozen=True)
class WrappedDek:
    """One chunk's data key, wrapped to the public key of a part."""

    header: Header
    key: bytes


@dataclass(frozen=True)
class Opened:
    """What an opening gives: keys of chunks with the rules left over for them, one output, records
    (NDJSON by chunk), chunks that were sealed again, or which are in doubt."""

    chunks: tuple[WrappedDek, ...] = ()
    rules: Json | None = None
    more: bool = False
    output: bytes = b""
    records: Mapping[str, bytes] = field(default_factory=dict)
    regrouped: Regrouped = field(default_factory=Regrouped)
    doubt: Doubt = field(default_factory=Doubt)


@dataclass(frozen=True)
class _Claim:
    """What a ground says of itself, by our own store: whose records, on which consents, by which door."""

    ground: str
    reference: str
    patient: str | None
    subjects: tuple[str, ...]
    consents: tuple[tuple[str, ...], ...]  # for each subject
    keys: tuple[str, ...]
    purpose: str  # of the transaction that passed the door
    release: KeptRelease | None = None
    attempt: int | None = None
    part: int | None = None
    public_key: bytes = b""
    shared: Part | None = None  # whose readings it may share

    @property
    def all_consents(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one for group in self.consents for one in group))


class Opener:
    """Opens by one channel's word. `clock` is the keyholder's own, in whole seconds since 1970 UTC.

    `delta` bounds the age of the read that an opening rests on, `lease` the age of a release.
    """

    def __init__(
        self,
        store: Store,
        channel: Channel,
        *,
        signing: Signing,
        clinicians: Clinicians,
        clock: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
        delta: float = DELTA_SECONDS,
        lease: int = LEASE_SECONDS,
    ) -> None:
        self._store, self._signing, self._clock, self._monotonic = store, signing, clock, monotonic
        self._delta, self._lease, self._channel = delta, lease, channel.name
        self._trust, self._clinicians = channel.trust, clinicians
        self.reader = Reader(store, channel, monotonic=monotonic)
        self._parts = Parts(store, self.reader, seconds=SHARED * delta, monotonic=monotonic)
        self._wrappers: OrderedDict[tuple[str, int, int, bytes], PartWrapper] = OrderedDict()
        self._guard = threading.Lock()

    def open_sealed(self, ground: Ground | Inside) -> Opened:
        """Open what `ground` asks for, or refuse. Nothing sealed is opened anywhere else.

        Raises AccessDenied with the code of the check that said no, LedgerError where the ledger cannot be
        asked or its answer came too late (ask again), EnvelopeError for what was tampered with.
        """
        # (0) what is looked at or sealed again here and goes to nobody has no door; all else has
        match ground:
            case Survey():
                return self._survey(ground)
            case Relabel():
                return self._relabel(ground)
            case Regroup():
                return self._regroup(ground)
        # (1) what we know of the ground ourselves: whom it names, and that no one asked to stop
        claim = self._claim(ground)
        self._check_not_stopped(claim)
        # (2) the door and its consents from the ledger itself: fresh nonce, verified answers, heights that
        # never go back and, of as many organisations as are needed, lie above the door's block; one reading
        # may serve the next subjects of its part
        look = self._look(claim)
        now = self._clock()
        # (3) the door stands committed as we asked for it, by enough witnesses, and is the last one
        look = self._check_door(ground, claim, look, now)
        # (4) every consent is in force by every witness of the door and ended by no answer, its opening is
        # the one committed to, and the patient's signature of it holds; (5) the decision, once more, by our
        # own clock
        rules = [self._decide_again(claim, look, group, now) for group in claim.consents]
        self._check_nothing_denies(ground, claim, now)
        # (6) the chunks, selected here and nowhere else
        chosen, more = self._select(ground, claim, rules)
        # (7) what leaves is made ready, so that a row in the log is an opening that took place
        opened = self._wrap(ground, claim, chosen, rules[0] if rules else None, more)
        # (8) the log and a last look at the stops, in one transaction; the reading is still fresh
        self._record(ground, claim, look, chosen, now)
        if self._monotonic() - look.began > self._delta:
            raise LedgerError("The ledger's answer is too old to rest on. Ask again.", code="reading_too_old")
        return opened

    def _regroup(self, ground: Regroup) -> Opened:
        """Opens no more chunks than the changes touch, and writes down which, before anything is answered."""
        headers = self._headers(ground.patient, ground.chunks)
        regrouped = regroup(headers, ground.chunks, ground.changes, patient=ground.patient)
        self._record_inside(REGROUP, ground, regrouped, [headers[chunk] for chunk in regrouped.retired])
        return Opened(regrouped=regrouped)

    def _relabel(self, ground: Relabel) -> Opened:
        """Opens all the chunks that it is given, and writes them down, before anything is answered; also
        where one of them cannot be opened, and nothing comes of it."""
        headers = self._headers(ground.patient, ground.chunks)
        neighbours = None if ground.neighbours is None else self._neighbours(ground)
        regrouped = Regrouped()
        try:
            anew = label_anew(
                headers,
                ground.chunks,
                neighbours,
                patient=ground.patient,
                index_key=self._store.index_key(CUSTODIAN),
            )
            if anew.wanted:
                regrouped = Regrouped(wanted=anew.wanted)
            else:
                done = regroup(headers, ground.chunks, anew.changes, patient=ground.patient)
                regrouped = replace(done, waiting=anew.waiting)
        finally:
            self._record_inside(RELABEL, ground, regrouped, list(headers.values()))
        return Opened(regrouped=regrouped)

    def _survey(self, ground: Survey) -> Opened:
        """What is in doubt is withheld also where another chunk is unknown: that is refused only then, for it
        may have been sealed anew meanwhile, as a chunk that nobody has looked at."""
        headers: dict[str, Header] = {}
        unknown: RefusedTransition | None = None
        for chunk, held in ground.chunks.items():
            try:
                headers[chunk] = self._store.header(ground.patient, chunk, held.version)
            except RefusedTransition as error:
                unknown = error
        doubt = survey(headers, ground.chunks, patient=ground.patient, followed=ground.followed)
        with self._store.transaction():
            for chunk in doubt.ranks:
                if UNLABELLED not in headers[chunk].labels:
                    self._store.restrict_chunk(ground.patient, chunk, headers[chunk].version, UNLABELLED)
        if unknown is not None:
            raise unknown
        return Opened(doubt=doubt)

    def _headers(self, patient: str, chunks: Mapping[str, Held]) -> dict[str, Header]:
        return {chunk: self._store.header(patient, chunk, held.version) for chunk, held in chunks.items()}

    def _neighbours(self, ground: Relabel) -> list[Neighbour]:
        """Labels follow from a patient's own records and from those of no patient; from no others'."""
        return [
            Neighbour(whose, self._store.header(whose, chunk, held.version), held)
            for chunk, (whose, held) in (ground.neighbours or {}).items()
            if whose in (ground.patient, CUSTODIAN)
        ]

    def _record_inside(
        self, purpose: str, ground: Regroup | Relabel, done: Regrouped, opened: Sequence[Header]
    ) -> None:
        entry = Entry(
            at=self._clock(),
            ground=purpose,
            reference=ground.act,
            attempt=None,
            part=None,
            subjects=(),
            consents=(),
            opened=tuple(f"{one.chunk}/{one.version}" for one in opened),
            tx_id="",
            channel=told(self._channel),
        )
        with self._store.transaction() as db:
            is_stale = any(self._has_changed(ground.patient, one) for one in opened)
            if not is_stale:
                self._store.add_chunks(ground.patient, [one.header for one in done.chunks])
            append(db, entry, proof=b"", digest=sha256(b"").hexdigest())
        if is_stale:
            raise RefusedTransition("A chunk was labelled or replaced meanwhile.", code="regroup_conflict")

    def _has_changed(self, patient: str, header: Header) -> bool:
        try:
            return self._store.header(patient, header.chunk, header.version) != header
        except RefusedTransition:
            return True

    def forget(self, job: str) -> None:
        """Rest on no reading of this job from before."""
        self._parts.forget(job)

    # (1)

    def _claim(self, ground: Ground) -> _Claim:
        match ground:
            case JobRelease():
                return self._claim_release(ground)
            case DeliveredOutput():
                return self._claim_output(ground)
            case PersonalRecords():
                return self._claim_access(ground)

    def _claim_release(self, ground: JobRelease) -> _Claim:
        part = self._parts.get(ground.job, ground.attempt, ground.part)
        found = part.subjects.get(ground.subject)
        if found is None or not found["consents"]:
            _refuse("subject_not_released", "The release names no such subject in this part.")
        return _Claim(
            ground="release",
            reference=ground.job,
            patient=found["patient"],
            subjects=(ground.subject,),
            consents=(tuple(found["consents"]),),
            keys=job_keys(ground.job, ground.attempt),
            purpose=f"release/{ground.job}/{ground.attempt}",
            release=part.release,
            attempt=ground.attempt,
            part=ground.part,
            public_key=part.key,
            shared=part,
        )

    def _claim_output(self, ground: DeliveredOutput) -> _Claim:
        delivery = self._store.delivery(ground.job)
        if delivery is None:
            _refuse("not_delivered", "This job has no delivery.")
        attempt, outputs = delivery
        output = next((one for one in outputs if one["digest"] == ground.digest), None)
        if output is None or sha256(ground.sealed).hexdigest() != ground.digest:
            _refuse("output_not_delivered", "This is not an output that was delivered.")
        return _Claim(
            ground="output",
            reference=ground.job,
            patient=None,
            subjects=tuple(output["subjects"]),
            consents=tuple(tuple(group) for group in output["consents"]),
            keys=job_keys(ground.job, attempt),
            purpose=f"deliver/{ground.job}/{attempt}",
            release=self._release(ground.job, attempt),
            attempt=attempt,
        )

    def _claim_access(self, ground: PersonalRecords) -> _Claim:
        kept = self._store.access(ground.access)
        if kept is None or kept.kind != ground.kind:
            _refuse("access_unknown", "No such access was recorded.")
        keys: tuple[str, ...] = (f"access/{ground.access}",)
        if kept.kind == "emergency":  # its own organisation recorded it, and the rest may have seen it since
            own = self._trust.own
            keys += (emergency_key(own), completed_key(ground.access, own))
        return _Claim(
            ground=kept.kind,
            reference=ground.access,
            patient=kept.patient,
            subjects=(),
            consents=(),
            keys=keys,
            purpose=access_purpose(kept.kind, ground.access),
        )

    def _release(self, job: str, attempt: int) -> KeptRelease:
        release = self._store.release(job, attempt)
        if release is None:
            _refuse("release_unknown", "This release was not asked for here.")
        return release

    def _check_not_stopped(self, claim: _Claim) -> None:
        if self._store.is_denied(claim.all_consents):
            _refuse("consent_stopped", "The patient has asked to stop.")
        if claim.ground in PERSONAL and self._store.is_denied([claim.reference]):
            _refuse("access_ended", "This access was ended.")

    # (2)

    def _look(self, claim: _Claim) -> Look:
        if claim.shared is None:
            block = self._store.block(claim.purpose)
            if claim.ground == "emergency":
                return self.reader.look_alone(claim.keys, after=block)
            return self.reader.look(claim.keys, claim.all_consents, after=block)
        return self._parts.look(claim.shared, *claim.subjects)

    # (3)

    def _check_door(self, ground: Ground, claim: _Claim, look: Look, now: int) -> Look:
        """The look with only the door's witnesses as its witnesses. Raises AccessDenied."""
        match ground:
            case JobRelease():
                look = self._check_release(claim, look)
                if look.shown(f"deliver/{claim.reference}"):
                    _refuse("already_delivered", "The job is delivered: its records are closed.")
                if now - self._kept(claim).issued > self._lease:
                    _refuse("release_too_old", "The release has run out. Start another attempt.")
                if ground.after and self._store.regrouped_at(claim.patient or "") >= self._kept(claim).issued:
                    _refuse("records_changed", "The records changed meanwhile. Start another attempt.")
                return look
            case DeliveredOutput():
                return self._check_delivery(ground, claim, self._check_release(claim, look))
            case PersonalRecords():
                return self._check_access(ground, look, now)

    def _check_release(self, claim: _Claim, look: Look) -> Look:
        """The release on the ledger is ours, of this request, by this contract, and the highest."""
        release, attempt = self._kept(claim), claim.attempt or 0
        value, look = look.agreed(f"release/{claim.reference}/{attempt}", code="release_missing")
        if look.shown(f"release/{claim.reference}/{attempt + 1}"):
            _refuse("attempt_superseded", "A later attempt took this one's place.")
        if value.get("decision") != "permit":
            _refuse("release_denied", "The release was denied.")
        if value.get("nonce") != release.nonce:
            _refuse("release_foreign", "The release does not carry a nonce of this keyholder.")
        if value.get("request") != canonical.digest(release.body["request"]):
            _refuse("request_differs", "The release is for another request.")
        if value.get("model") != release.body["request"].get("model"):
            _refuse("request_differs", "The release is for another model.")
        # A result that was delivered under an older contract stays readable: it is decided again by this one.
        if claim.part is not None:
            if (
                not isinstance(value.get("contract"), dict)
                or value["contract"].get("source") != source_digest()
            ):
                _refuse("contract_differs", "The ledger runs another contract than this keyholder.")
            _check_part(value, claim)
        return look

    def _check_delivery(self, ground: DeliveredOutput, claim: _Claim, look: Look) -> Look:
        value, look = look.agreed(f"deliver/{ground.job}", code="not_delivered")
        if value.get("attempt") != claim.attempt:
            _refuse("not_delivered", "Another attempt was delivered.")
        for one in value.get("outputs") or ():
            if isinstance(one, dict) and one.get("output") == ground.digest:
                if sorted(one.get("consents", ())) == sorted(claim.all_consents):
                    return look
                break
        _refuse("output_not_delivered", "This is not an output that was delivered.")

    def _check_access(self, ground: PersonalRecords, look: Look, now: int) -> Look:
        kept = self._store.access(ground.access)
        value, look = _shown(ground, look)
        if kept is None or (value.get("kind"), value.get("digest")) != (kept.kind, kept.digest):
            _refuse("access_differs", "The ledger shows another access than was asked for here.")
        if value.get("expires") != kept.expires or now >= kept.expires:
            _refuse("access_expired", "The access has run out.")
        if kept.kind == "emergency":
            self._clinicians.check_kept(ground.access)
        return look

    # (4) and (5)

    def _decide_again(self, claim: _Claim, look: Look, consents: Sequence[str], now: int) -> Json:
        """The rules left over for a subject on these consents. Raises AccessDenied, EnvelopeError."""
        openings = [self._opening(consent, look, now) for consent in consents]
        patients = {opening.patient for opening in openings}
        if len(patients) != 1 or (claim.patient is not None and patients != {claim.patient}):
            _refuse("consent_of_another", "A consent of this subject is another patient's.")
        verdict = decide(
            [opening.canonical for opening in openings], self._kept(claim).body["request"], at=now
        )
        if verdict.decision != "permit":
            # The ledger knows the day that a consent ends, its opening the second.
            if "consent_expired" in verdict.reasons:
                _refuse("consent_expired", "The consent has run out.")
            _refuse("decision_denied", "By the contract's rules and our clock this is not permitted.")
        return verdict.rules

    def _check_nothing_denies(self, ground: Ground, claim: _Claim, now: int) -> None:
        """No consent beside those of the claim, granted since, denies: it wins over what was released."""
        if not claim.subjects:
            return
        body = self._kept(claim).body
        patients = (
            patients_of(body) if claim.patient is None else dict.fromkeys(claim.subjects, claim.patient)
        )
        named = [(patients[one], group) for one, group in zip(claim.subjects, claim.consents, strict=True)]
        # A result was computed from what was permitted then; records are chosen now, by every exception.
        exceptions = isinstance(ground, JobRelease)
        if denied_patients(self._store, self.reader, named, body["request"], exceptions=exceptions, at=now):
            _refuse("consent_denies", "Another consent of this patient denies it.")

    def _opening(self, consent: str, look: Look, now: int) -> Opening:
        value = in_force(look, consent, at=now)
        opening = self._store.opening(consent)
        if opening is None:
            _refuse("opening_unknown", "The opening of this consent is not kept here.")
        if opening.channel != self._channel:
            _refuse("channel_differs", "This consent is on another channel.")
        if value.get("commitment") != committed(opening):
            _refuse("commitment_differs", "The consent on the ledger is not the one kept here.")
        self._signing.check_kept(opening)
        return opening

    # (6)

    def _select(
        self, ground: Ground, claim: _Claim, rules: Sequence[Json]
    ) -> tuple[tuple[Header, ...], bool]:
        """The next permitted chunks of the claim's patient, and whether there are more."""
        if isinstance(ground, DeliveredOutput) or claim.patient is None:
            return (), False
        if isinstance(ground, PersonalRecords):
            asked = tuple(one for one in self._store.headers(claim.patient) if one.chunk in ground.sealed)
            if len(asked) < len(ground.sealed):
                _refuse("chunk_unknown", "This patient has no such records.")
            return asked, False
        limit = max(1, min(ground.limit, MAX_LIMIT))
        permitted = CompiledRules(rules[0]).permits_chunk
        headers = (
            one
            for one in self._store.headers(claim.patient, after=ground.after)
            if permitted(one.resource_type, one.labels) != "deny"
        )
        found = tuple(islice(headers, limit + 1))
        return found[:limit], len(found) > limit

    # (7)

    def _wrap(
        self, ground: Ground, claim: _Claim, chosen: Sequence[Header], rules: Json | None, more: bool
    ) -> Opened:
        match ground:
            case JobRelease():
                wrapper = self._wrapper(ground, claim.public_key)
                keys = (
                    wrapper.wrap(one.dek, subject=ground.subject, chunk=one.chunk, version=one.version)
                    for one in chosen
                )
                return Opened(tuple(map(WrappedDek, chosen, keys)), rules, more)
            case DeliveredOutput():
                output = open_sealed_output(
                    self._store.output_key,
                    ground.sealed,
                    job=ground.job,
                    attempt=claim.attempt or 0,
                    subjects=claim.subjects,
                )
                return Opened(output=output)
            case PersonalRecords():
                return Opened(records=_read(chosen, ground.sealed, patient=claim.patient or ""))

    def _wrapper(self, ground: JobRelease, public_key: bytes) -> PartWrapper:
        """One HPKE for each part; the oldest parts are forgotten."""
        key = (ground.job, ground.attempt, ground.part, public_key)
        with self._guard:
            if key not in self._wrappers:
                self._wrappers[key] = PartWrapper(
                    public_key, job=ground.job, attempt=ground.attempt, part=ground.part
                )
                if len(self._wrappers) > 256:
                    self._wrappers.popitem(last=False)
            return self._wrappers[key]

    # (8)

    def _record(self, ground: Ground, claim: _Claim, look: Look, chosen: Sequence[Header], now: int) -> None:
        opened = (
            (ground.digest,)
            if isinstance(ground, DeliveredOutput)
            else tuple(f"{one.chunk}/{one.version}" for one in chosen)
        )
        entry = Entry(
            at=now,
            ground=claim.ground,
            reference=claim.reference,
            attempt=claim.attempt,
            part=claim.part,
            subjects=claim.subjects,
            consents=claim.all_consents,
            opened=opened,
            tx_id=self._store.tx_id(claim.purpose),
            channel=told(self._channel),
        )
        with self._store.transaction() as db:
            # A stop that was answered before this transaction is in the store, so it is seen here.
            self._check_not_stopped(claim)
            append(db, entry, proof=look.packed[0], digest=look.packed[1])

    @staticmethod
    def _kept(claim: _Claim) -> KeptRelease:
        if claim.release is None:
            _refuse("release_unknown", "This release was not asked for here.")
        return claim.release


def _read(chosen: Sequence[Header], sealed: Mapping[str, bytes], *, patient: str) -> dict[str, bytes]:
    """The NDJSON of each chunk. Raises EnvelopeError, also for more than MAX_RECORDS_BYTES of them."""
    records: dict[str, bytes] = {}
    left = MAX_RECORDS_BYTES
    for one in chosen:
        records[one.chunk] = open_chunk(
            one.dek, sealed[one.chunk], patient=patient, chunk=one.chunk, version=one.version, limit=left
        )
        left -= len(records[one.chunk])
    return records


def access_purpose(kind: str, access: str) -> str:
    """Of the transaction that records it. Emergencies that took as many as any transaction had `access/`."""
    return f"{'emergency' if kind == 'emergency' else 'access'}/{access}"


def _shown(ground: PersonalRecords, look: Look) -> tuple[Json, Look]:
    """What the ledger shows of an access: an emergency in our own organisation's answer alone, be it recorded
    or completed. Raises AccessDenied (`access_missing`)."""
    key = f"access/{ground.access}"
    if ground.kind == "emergency":
        (own,) = look.witnesses
        found = recorded(own.values[emergency_key(own.org)]).get(ground.access)
        if found is not None:
            return {**found, "kind": ground.kind}, look
        key = completed_key(ground.access, own.org)
    return look.agreed(key, code="access_missing")


def _check_part(value: Json, claim: _Claim) -> None:
    """The part stands in the release with the key that we were given, and the subject's consents in it."""
    for part in value.get("parts") or ():
        if isinstance(part, dict) and part.get("part") == claim.part:
            if part.get("key") != claim.public_key.hex():
                _refuse("key_not_released", "The release names another key for this part.")
            if not set(claim.all_consents) <= set(part.get("consents") or ()):
                _refuse("subject_not_released", "The release does not permit this subject.")
            return
    _refuse("part_not_released", "The release names no such part.")


def _refuse(code: str, message: str) -> NoReturn:
    raise AccessDenied(message, code=code)
