"""What the keyholder does for its callers: the calls of docs/architecture.md, "The keyholder".

It alone submits transactions that carry openings. It opens nothing by itself: that is `opening.py`.
"""

import hmac
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.keyholder.clinicians import Clinicians
from gateway.keyholder.clock import KeptClock
from gateway.keyholder.copies import Copies
from gateway.keyholder.doors import Doors, openings_json
from gateway.keyholder.emergencies import Emergencies
from gateway.keyholder.erasure import erase, erased
from gateway.keyholder.opening import (
    DELTA_SECONDS,
    LEASE_SECONDS,
    DeliveredOutput,
    JobRelease,
    Opened,
    Opener,
    PersonalRecords,
    Regroup,
    Relabel,
    Survey,
    access_purpose,
)
from gateway.keyholder.pages import log_page, openings_of
from gateway.keyholder.preselection import Preselection
from gateway.keyholder.regrouping import CUSTODIAN, Changes, Held, Regrouped, resource_name
from gateway.keyholder.relabelling import Doubt
from gateway.keyholder.shelves import check_files, file_openings, filed_openings
from gateway.keyholder.signing import Signing, committed, differs, says
from gateway.keyholder.store import Header, Opening, Store, Submission
from gateway.keyholder.submit import Draft, finish, submit
from gateway.labels.rules import FOLLOWED
from ledger.channels import Channels
from ledger.client import HOME
from ledger.contract import canonical, times
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.errors import EnvelopeError, InvalidInput, OutcomeUnknown, RefusedTransition, SendError
from ledger.webauthn import Assertion, access_digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """What opens, and passes the doors, on one channel."""

    opener: Opener
    doors: Doors


class Service:
    """One keyholder at work. `clock` gives seconds since 1970 UTC; `origin` is where patients sign;
    `emergencies` how many may begin within an hour (`emergencies_signed`: each by the clinician's passkey),
    `copies` how many that no patient signed for; see Opener for the rest.

    A patient, her consents and a job's release are on one channel each: everything about them goes there.
    Raises RefusedTransition (`channel_differs`) when a channel is another ledger than it was.
    """

    def __init__(
        self,
        store: Store,
        channels: Channels,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        delta: float = DELTA_SECONDS,
        lease: int = LEASE_SECONDS,
        origin: str = "",
        emergencies: int = 0,
        emergencies_signed: bool = False,
        copies: int = 0,
    ) -> None:
        self._store, self._channels, self._clock = store, channels, clock
        kept_clock = KeptClock(store, clock)
        self.signing = Signing(store, origin=origin, clock=kept_clock)
        self._copies = Copies(store, self.signing, clock=kept_clock, per_hour=copies)
        self.clinicians = Clinicians(store, origin=origin, clock=kept_clock, required=emergencies_signed)
        self._emergencies = Emergencies(store, self.clinicians, clock=kept_clock, per_hour=emergencies)
        self._preselection = Preselection(store)
        self._places: dict[str, _Place] = {}
        for name, channel in channels.items():
            store.know_channel(name, channel.trust.identity)
            opener = Opener(
                store,
                channel,
                signing=self.signing,
                clinicians=self.clinicians,
                clock=kept_clock,
                monotonic=monotonic,
                delta=delta,
                lease=lease,
            )
            doors = Doors(store, channel, opener.reader, signing=self.signing, clock=kept_clock)
            self._places[name] = _Place(opener, doors)

    def _at(self, channel: str) -> _Place:
        """Raises LedgerError (`channel_unknown`)."""
        return self._places[self._channels[channel].name]

    def _of_release(self, job: str, attempt: int | None) -> _Place:
        """Where the attempt was released; home where it never was, which then says so."""
        release = None if attempt is None else self._store.release(job, attempt)
        return self._at(HOME if release is None else release.channel)

    def _of_access(self, access: str) -> _Place:
        """Where the access's patient is; home where there is none, which then says so."""
        kept = self._store.access(access)
        return self._at(HOME if kept is None else self._store.channel_of(kept.patient))

    # Passkeys

    def drop_passkey(
        self, *, credential: str, patient: str | None = None, clinician: str | None = None
    ) -> None:
        """A passkey of a patient, of a member of staff, or of somebody who is both signs no more. Of who is
        both, for both, or where one of the two has to keep it, for neither.

        Raises RefusedTransition (`passkey_last`, `emergency_passkey_last`), InvalidInput (nobody's).
        """
        if patient is None and clinician is None:
            raise InvalidInput("Say whose passkey it is.")
        with self._store.transaction():
            if patient is not None:
                self.signing.drop_passkey(patient=patient, credential=credential)
            if clinician is not None:
                self.clinicians.drop(clinician=clinician, credential=credential)

    # Records

    def enrol(self, *, patient: str, channel: str = HOME) -> None:
        """Raises RefusedTransition (`channel_differs`), LedgerError (`channel_unknown`)."""
        self._store.enrol(patient, self._channels[channel].name)

    def new_chunks(self, *, patient: str, chunks: Sequence[Header]) -> tuple[dict[str, bytes], bytes]:
        """The data keys by chunk, and the patient's index key."""
        self._store.add_chunks(patient, chunks)
        return {header.chunk: header.dek for header in chunks}, self._store.index_key(patient)

    def enrol_many(self, *, channels: Mapping[str, str]) -> dict[str, bytes]:
        """All of them or none; their index keys. Raises as `enrol` does."""
        with self._store.transaction():
            for patient, channel in channels.items():
                self.enrol(patient=patient, channel=channel)
        return {patient: self._store.index_key(patient) for patient in channels}

    def new_chunks_many(self, *, chunks: Mapping[str, Sequence[Header]]) -> dict[str, bytes]:
        """The headers of all these patients' chunks or none are kept; the data keys by chunk."""
        with self._store.transaction():
            for patient, headers in chunks.items():
                self._store.add_chunks(patient, headers)
        return {header.chunk: header.dek for headers in chunks.values() for header in headers}

    def confirm_chunks(self, *, chunks: Sequence[tuple[str, int]]) -> None:
        self._store.confirm_chunks(chunks)

    def regroup(self, *, act: str, patient: str, chunks: Mapping[str, Held], changes: Changes) -> Regrouped:
        """Lines of sealed chunks moved, labelled or left out, and sealed again; nothing is opened to anybody.

        What comes out is selected, and what went in is not, only after `replace_chunks`. Raises
        RefusedTransition (`chunk_unknown`), InvalidInput, EnvelopeError.
        """
        return self._inside(patient).open_sealed(Regroup(act, patient, chunks, changes)).regrouped

    def survey(self, *, patient: str, chunks: Mapping[str, Held], followed: bool) -> Doubt:
        """Which of these chunks today's rules may label otherwise: they are withheld from every job until
        they are labelled anew. No record is opened. Raises RefusedTransition, EnvelopeError.
        """
        return self._inside(patient).open_sealed(Survey(patient, chunks, followed)).doubt

    def relabel(
        self,
        *,
        act: str,
        patient: str,
        chunks: Mapping[str, Held],
        neighbours: Mapping[str, tuple[str, Held]] | None = None,
    ) -> Regrouped:
        """`regroup` by what this keyholder's own rules say of every record in these chunks.

        Where records refer to others that are not among them, nothing is done but `wanted`; asked again with
        the chunks of those as `neighbours`, it is. Raises RefusedTransition, EnvelopeError.
        """
        return self._inside(patient).open_sealed(Relabel(act, patient, chunks, neighbours)).regrouped

    def _inside(self, patient: str) -> Opener:
        return self._at(self._store.channel_of(patient)).opener

    def replace_chunks(
        self, *, patient: str, confirm: Sequence[tuple[str, int]], retire: Sequence[tuple[str, int]]
    ) -> None:
        """`retire` are in no later opening, and their keys are gone."""
        self._store.replace_chunks(patient, confirm=confirm, retire=retire, at=int(self._clock()))

    def resource_name(self, *, resource: str) -> str:
        """What finds the versions of a resource in the database. Raises RefusedTransition."""
        return resource_name(self._store.index_key(CUSTODIAN), resource.encode())

    def restrict_chunk(self, *, patient: str, chunk: str, version: int, label: str) -> None:
        """The whole chunk carries one more sensitivity from now on, until a regrouping tells its lines apart.

        Nothing is opened. Raises RefusedTransition (`chunk_unknown`).
        """
        self._store.restrict_chunk(patient, chunk, version, label)

    def withhold_followers(
        self, *, patient: str, chunk: str, version: int, chunks: Mapping[str, Held]
    ) -> None:
        """Withhold those of the chunks whose labels may follow from this one, until they are labelled anew.

        Their notes are opened and no record is; nothing is answered. Raises RefusedTransition, EnvelopeError.
        """
        if self._store.header(patient, chunk, version).resource_type in FOLLOWED:
            self.survey(patient=patient, chunks=chunks, followed=True)

    def index(self, *, patient: str) -> list[Json]:
        """Counts by type and labels: headers are read, no record is. Raises RefusedTransition."""
        return counted(self._store.headers(patient))

    def with_kinds(self, *, patients: Sequence[str], kinds: Sequence[str]) -> list[str]:
        """Those of the patients who have a record of each of these kinds that carries no sensitivity; whom to
        ask is looked for by it, and nothing is decided."""
        return self._preselection.with_kinds(patients, kinds)

    # Consents

    def grant(
        self,
        *,
        consent: str,
        patient: str,
        fhir: Json,
        replaces: str | None = None,
        signature: Json | None = None,
        signature_required: bool = False,
    ) -> Json:
        """Keep the opening, then put its commitment on the ledger; a repeat goes on where it stopped.

        `signature` is the patient's, of the draft's commitment. Raises PrepareError (nothing was sent),
        RefusedTransition.
        """
        try:
            opening = self._keep_opening(consent, patient, fhir, signature, signature_required)
        except Refused as error:  # a consent that cannot be read
            return _refused(error.code)
        draft = Draft(
            "GrantConsent" if replaces is None else "ReplaceConsent",
            {**_grant_args(opening), **({} if replaces is None else {"replaces": replaces})},
            {"openings": openings_json([opening])},
        )
        answer = self._granted_together(opening) or self._submitted(
            f"grant/{consent}", draft, opening.channel
        )
        if answer["code"] == "consent_exists":  # a batch was faster: what it did counts
            return self._granted_together(opening) or answer
        return answer

    def grant_many(self, *, grants: Sequence[Json]) -> dict[str, Json]:
        """`grant` for each of its arguments but `replaces`, the new ones of each channel in one transaction.

        The answers by consent. Where the contract refuses them together they go one by one, so that each gets
        its own answer. Raises PrepareError (nothing was sent).
        """
        answers: dict[str, Json] = {}
        fresh: list[Opening] = []
        for one in grants:
            if self._store.submission(f"grant/{one['consent']}") or self._store.batch_of(one["consent"]):
                answers[one["consent"]] = self._grant_one(one)
                continue
            try:
                fresh.append(
                    self._keep_opening(
                        one["consent"],
                        one["patient"],
                        one["fhir"],
                        one.get("signature"),
                        one.get("signature_required", False),
                    )
                )
            except (Refused, RefusedTransition) as error:
                answers[one["consent"]] = _refused(error.code)
        fresh.sort(key=lambda opening: opening.consent)
        for channel in sorted({opening.channel for opening in fresh}):
            batch = [opening for opening in fresh if opening.channel == channel]
            if len(batch) > 1 and (together := self._submit_together(batch))["state"] != "refused":
                answers |= {opening.consent: dict(together) for opening in batch}
        for one in grants:
            if one["consent"] not in answers:
                answers[one["consent"]] = self._grant_one(one)
        return answers

    def _grant_one(self, one: Json) -> Json:
        try:
            return self.grant(**one)
        except RefusedTransition as error:
            return _refused(error.code)

    def _submit_together(self, openings: Sequence[Opening]) -> Json:
        consents = [opening.consent for opening in openings]
        purpose = f"grants/{canonical.digest(consents)}"
        draft = Draft(
            "GrantConsents",
            {"grants": [_grant_args(opening) for opening in openings]},
            {"openings": openings_json(openings)},
            keep=lambda: self._store.put_batch(purpose, consents),
        )
        return self._submitted(purpose, draft, openings[0].channel)

    def _granted_together(self, opening: Opening) -> Json | None:
        """What became of the transaction that grants this consent with others, if there is one."""
        purpose = self._store.batch_of(opening.consent)
        if purpose is None:
            return None
        try:
            done = finish(self._store, self._channels[opening.channel].ledger, purpose)
        except (SendError, OutcomeUnknown) as error:
            return _sent(self._store.tx_id(purpose), error.code)
        return None if done is None else _committed(done)

    def _keep_opening(
        self, consent: str, patient: str, fhir: Json, signature: Json | None, required: bool
    ) -> Opening:
        if self._store.opening(consent) is None:
            self._store.add_opening(
                self.signing.opening_of(
                    consent=consent, patient=patient, fhir=fhir, signature=signature, required=required
                )
            )
        # What is kept counts, whoever was first: a consent says one thing.
        kept = self._store.opening(consent)
        if kept is None or not says(kept, patient, fhir):
            raise differs()
        return kept

    def _submitted(self, purpose: str, draft: Draft, channel: str) -> Json:
        """The state of a transaction that may be asked for again and again."""
        try:
            done = submit(self._store, self._channels[channel].ledger, purpose, lambda: draft)
        except Refused as error:
            return _refused(error.code)
        except (SendError, OutcomeUnknown) as error:
            return _sent(self._store.tx_id(purpose), error.code)
        return _committed(done)

    def stop(self, *, consent: str) -> None:
        """Durable before this returns; needs no ledger. There is no call that takes it back."""
        self._store.deny(consent, at=int(self._clock()))

    def kept_openings(self, *, commitments: Mapping[str, str]) -> dict[str, Json]:
        """For each consent whether the opening kept here fits its commitment, and whether it is stopped here.

        `{"opening": "fits" | "differs" | "missing", "stopped"}`: nothing of an opening's content.
        """
        return {
            consent: {
                "opening": self._fit(consent, commitment),
                "stopped": self._store.is_denied([consent]),
            }
            for consent, commitment in commitments.items()
        }

    def _fit(self, consent: str, commitment: str) -> str:
        try:
            kept = self._store.opening(consent)
        except EnvelopeError:  # what does not open fits nothing
            return "differs"
        if kept is None:
            return "missing"
        return "fits" if hmac.compare_digest(committed(kept), commitment) else "differs"

    def erase(self, *, patient: str) -> Json:
        """Destroy the patient's keys and all that is sealed under them; see erasure.py."""
        return erase(self._store, patient=patient, clock=self._clock)

    def erased(self, *, patients: Sequence[str]) -> list[str]:
        return erased(self._store, patients)

    def log_page(self, *, after: int, limit: int) -> Json:
        """Rows of the log of openings, for reconciliation; see pages.py."""
        return log_page(self._store, after=after, limit=limit)

    def openings_of(self, *, places: Sequence[tuple[str, str | None]]) -> list[Json]:
        """What was opened for these jobs' subjects and accesses, for a trace; see pages.py."""
        return openings_of(self._store, places)

    def file_openings(self) -> int:
        """File what the log has in full shelves; how many shelves wait. See shelves.py."""
        return file_openings(self._store)

    def filed_openings(self, *, references: Sequence[str], after: int) -> Json:
        """All that was opened for these jobs' legs, for a recall; see shelves.py."""
        return filed_openings(self._store, references, after=after)

    def check_files(self, *, after: int) -> Json:
        """Whether what is filed is what the log says, for reconciliation; see shelves.py."""
        return check_files(self._store, after=after)

    def signed_consent(self, *, consent: str, patient: str) -> Json:
        """What shows a third party that the patient signed what is on the ledger, without what it says.

        `{"commitment", "evidence", "signature"}`: `evidence` is of the block that granted it, null as long as
        there is none. Raises RefusedTransition (`not_signed`; another's and unknown look the same),
        LedgerError.
        """
        kept = self._store.opening(consent)
        if kept is None or kept.patient != patient or kept.signature is None:
            raise RefusedTransition("This choice was not signed with a passkey.", code="not_signed")
        tx_id = self._store.tx_id(self._store.batch_of(consent) or f"grant/{consent}")
        return {
            "commitment": committed(kept),
            "evidence": self._channels[kept.channel].ledger.evidence(tx_id) if tx_id else None,
            "signature": self.signing.shown(kept),
        }

    # Jobs

    def output_key(self) -> bytes:
        return self._store.output_key.public_key().public_bytes_raw()

    def release(
        self, *, job: str, attempt: int, request: Json, parts: Sequence[Json], channel: str = HOME
    ) -> Json:
        place = self._at(channel)
        try:
            return place.doors.release(job=job, attempt=attempt, request=request, parts=parts)
        finally:
            place.opener.forget(job)

    def open_chunks(self, ground: JobRelease) -> Opened:
        return self._of_release(ground.job, ground.attempt).opener.open_sealed(ground)

    def deliver(self, *, job: str, attempt: int, outputs: Sequence[Json]) -> Json:
        place = self._of_release(job, attempt)
        try:
            return place.doors.deliver(job=job, attempt=attempt, outputs=outputs)
        finally:
            place.opener.forget(job)

    def open_output(self, *, job: str, digest: str, sealed: bytes) -> bytes:
        attempt, _ = self._store.delivery(job) or (None, [])
        ground = DeliveredOutput(job, digest, sealed)
        return self._of_release(job, attempt).opener.open_sealed(ground).output

    # Persons

    def _personal_access(
        self,
        kind: str,
        *,
        access: str,
        patient: str,
        details: Json,
        expires: int,
        check: Callable[[str], Json | None],
    ) -> Json:
        """Record an emergency (`emergency`) or the patient's own copy (`subject`) on the ledger.

        The ledger gets its digest, with which `check` is called: what to keep of a signature over it.
        """
        digest = access_digest(access=access, details=details, expires=expires, kind=kind, patient=patient)
        with self._store.transaction():
            signature = check(digest)
            self._store.put_access(
                access,
                kind=kind,
                patient=patient,
                details=details,
                digest=digest,
                expires=expires,
                signature=signature,
            )
        kept = self._store.access(access)
        if kept is None or kept.digest != digest:
            raise RefusedTransition("This access was asked for before, otherwise.", code="access_differs")
        name = {"emergency": "EmergencyAccess", "subject": "SubjectAccess"}[kind]
        draft = Draft(name, {"access": access, "digest": digest, "expires": expires})
        return self._submitted(access_purpose(kind, access), draft, self._store.channel_of(patient))

    def evidence(self, *, tx_id: str) -> Json:
        """What shows a third party that a transaction stands on home, where the audit log's checkpoints are:
        nothing of a patient's.

        Web has no connection to the ledger of its own, so it asks here. Raises LedgerError.
        """
        return self._channels.home.ledger.evidence(tx_id)

    def emergency_access(
        self,
        *,
        access: str,
        patient: str,
        details: Json,
        expires: int,
        signature: Assertion | None = None,
    ) -> Json:
        """Begin an emergency; where `details` say that a passkey confirmed it, by that passkey's `signature`
        over its digest. Raises RefusedTransition (`emergencies_too_many`, `access_expiry`, …),
        SignatureRefused."""
        return self._personal_access(
            "emergency",
            access=access,
            patient=patient,
            details=details,
            expires=expires,
            check=lambda digest: self._emergencies.check_may_begin(
                access, details=details, digest=digest, expires=expires, signature=signature
            ),
        )

    def complete_emergencies(self, *, channel: str = HOME) -> Json:
        """Have the other organisations put on the ledger that they saw the emergencies that ours recorded.

        `{"completed", "refused"}`: how many, and of how many they would not say so. An emergency opens
        without it. Raises LedgerError where too few answer: ask again.
        """
        ledger, counts = self._channels[channel].ledger, {"completed": 0, "refused": 0}
        for access in self._store.emergencies_to_complete(self._channels[channel].name):
            draft = partial(Draft, "CompleteEmergency", {"access": access})
            try:
                submit(self._store, ledger, f"completed/{access}", draft)
                counts["completed"] += 1
            except Refused as error:
                log.warning("an emergency is not completed: %s", error.code)
                counts["refused"] += 1
        return counts

    def emergency_completed(self, *, access: str) -> bool:
        """Whether the other organisations put on the ledger that they saw it."""
        found = self._store.submission(f"completed/{access}")
        return found is not None and found.state == "committed"

    def end_emergency(self, *, access: str) -> None:
        """Nothing more is opened by this emergency, whatever the ledger says. Harmless to repeat."""
        self._emergencies.end(access)

    def emergency_index(self, *, access: str) -> list[Header]:
        """What there is of an emergency's patient: headers are read, no record is. Raises AccessDenied."""
        return self._emergencies.headers(access)

    def read_emergency(self, *, access: str, sealed: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return (
            self._of_access(access).opener.open_sealed(PersonalRecords(access, "emergency", sealed)).records
        )

    def own_copy(self, *, access: str, patient: str, expires: int, voucher: Assertion | None) -> Json:
        """Begin a patient's own copy, signed for where a passkey of hers is known (copies.py).

        Raises RefusedTransition, SignatureRefused.
        """
        return self._personal_access(
            "subject",
            access=access,
            patient=patient,
            details={"signed_by": None if voucher is None else voucher.credential},
            expires=expires,
            check=lambda _digest: self._copies.check_may_begin(
                access, patient=patient, expires=expires, voucher=voucher
            ),
        )

    def own_copy_index(self, *, access: str) -> list[Header]:
        """What there is for the copy: headers are read, no record is. Raises AccessDenied."""
        return self._copies.headers(access)

    def read_own_copy(self, *, access: str, sealed: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return self._of_access(access).opener.open_sealed(PersonalRecords(access, "subject", sealed)).records

    def access_told(self, *, access: str) -> Json:
        """What was asked for under this id, for whoever tells the patient. Raises RefusedTransition."""
        kept = self._store.access(access)
        if kept is None:
            raise RefusedTransition("No such access was asked for here.", code="access_unknown")
        return {
            "details": self._store.access_details(access),
            "expires": kept.expires,
            "kind": kept.kind,
            "patient": kept.patient,
            "signed": self._store.access_signature(access) is not None,
        }

    def signed_emergency(self, *, access: str) -> Json:
        """What shows a third party that a clinician signed the emergency that is on the ledger, without what
        it says: `{"completed", "digest", "evidence", "organisation", "signature"}`. `evidence` is of the
        block in which the other organisations completed it, else of that in which ours recorded it, or null.

        Raises RefusedTransition (`not_signed`; one that is not known looks the same), LedgerError.
        """
        kept = self._store.access(access)
        signature = self.clinicians.shown(access) if kept is not None and kept.kind == "emergency" else None
        if kept is None or signature is None:
            raise RefusedTransition("This emergency was not signed with a passkey.", code="not_signed")
        channel = self._channels[self._store.channel_of(kept.patient)]
        is_completed = self.emergency_completed(access=access)
        purpose = f"completed/{access}" if is_completed else access_purpose("emergency", access)
        tx_id = self._store.tx_id(purpose)
        return {
            "completed": is_completed,
            "digest": kept.digest,
            "evidence": channel.ledger.evidence(tx_id) if tx_id else None,
            "organisation": channel.trust.own,
            "signature": signature,
        }

    def status(self) -> Json:
        """Counts, and for each channel the heights seen."""
        return {
            **self._store.counts(),
            "channels": {name: self._store.heights(name) for name in self._channels},
            "kek": self._store.kek.id,
            "under_old_keks": self._store.under_old_keks(),
        }

    def height(self, *, channel: str = HOME) -> int:
        """How many blocks the channel's ledger has now. Raises LedgerError."""
        return self._channels[channel].ledger.height()


def counted(headers: Iterable[Header]) -> list[Json]:
    """How many records there are, by type and labels."""
    counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for header in headers:
        counts[header.resource_type, tuple(sorted(header.labels))] += header.count
    return [
        {"resource_type": kind, "labels": list(labels), "count": count}
        for (kind, labels), count in sorted(counts.items())
    ]


def _grant_args(opening: Opening) -> Json:
    """What the ledger gets of a consent: a commitment, and an end that says little."""
    expires = opening.canonical["expires"]
    return {
        "consent": opening.consent,
        "commitment": committed(opening),
        "expires": None if expires is None else times.day_after(expires),
    }


def _refused(code: str) -> Json:
    return {"tx_id": "", "block": None, "state": "refused", "code": code}


def _sent(tx_id: str, code: str) -> Json:
    return {"tx_id": tx_id, "block": None, "state": "sent", "code": code}


def _committed(done: Submission) -> Json:
    return {"tx_id": done.tx_id, "block": done.block, "state": "committed", "code": ""}
