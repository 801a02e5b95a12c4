"""The two doors of a job as the keyholder passes them: *release* before any key, *deliver* before any result.

It gathers every consent of each patient that speaks to the request, so that a deny wins wherever it
stands, and hands their openings to the contract, which alone decides.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.keyholder.denials import denied_patients, denies
from gateway.keyholder.envelope import new_key, read_public_key
from gateway.keyholder.log import opened_subjects
from gateway.keyholder.reading import OVER, Reader, is_over, standing
from gateway.keyholder.signing import Signing
from gateway.keyholder.store import Opening, Release, Store
from gateway.keyholder.submit import Draft, finish, submit
from ledger.channels import Channel
from ledger.contract import canonical
from ledger.contract.decision import Asking, decide
from ledger.contract.requests import check_request
from ledger.contract.state import Json
from ledger.errors import RefusedTransition

NOBODYS = "0" * 64  # the id of no consent
# Patients: the small cell that CMS suppresses; fixed, whatever GATEWAY_COHORT_FEWEST says.
FEWEST_IN_AGGREGATE = 11
# Models of which nothing about one leaves, by digest: each summary of the catalogue, which this room cannot
# import; analysis/test_summary.py compares. One of before stays here, for what was released for it.
SUMMARISING = frozenset({"55edf013d19eb42176b1a73a0462c02b5358d2b709ef7cde5017523e004fb897"})
DAY = 86_400


def openings_json(openings: Sequence[Opening]) -> bytes:
    """The transient `openings`: `[{"consent": canonical consent, "key": hex k}]`."""
    return canonical.dumps([{"consent": one.canonical, "key": one.key.hex()} for one in openings])


@dataclass(frozen=True)
class _Speaking:
    """What speaks for one subject: the openings for the contract, and our own view with its reasons."""

    openings: tuple[Opening, ...]
    reasons: tuple[str, ...]
    consent: str | None


class Doors:
    """Release and deliver of one keyholder on one channel."""

    def __init__(
        self, store: Store, channel: Channel, reader: Reader, *, signing: Signing, clock: Callable[[], int]
    ) -> None:
        self._store, self._channel, self._reader = store, channel, reader
        self._signing, self._clock = signing, clock

    # Release

    def release(self, *, job: str, attempt: int, request: Json, parts: Sequence[Json]) -> Json:
        """Pass the first door. A repeat of the same attempt goes on with what was sent.

        Subjects who are one patient belong in one part: the contract refuses a consent that stands in two.
        Raises RefusedTransition (`attempt_superseded`, `release_differs`; `channel_differs` where a patient
        or the job is on another channel), InvalidInput (`malformed_key`), Refused, LedgerError.
        """
        check_request(request)
        for part in parts:
            read_public_key(bytes.fromhex(part["key"]))
        purpose = f"release/{job}/{attempt}"
        asked = {"parts": list(parts), "request": request}
        self._check_channel(job, parts)
        self._finish(job)
        last = self._store.last_attempt(job)
        if attempt < last:
            raise RefusedTransition("A later attempt took this one's place.", code="attempt_superseded")
        kept = self._store.release(job, attempt)
        if attempt == last and kept is not None and kept.body["asked"] != asked:
            raise RefusedTransition(
                "This attempt was released before, for something else. Start another attempt.",
                code="release_differs",
            )
        done = submit(
            self._store,
            self._channel.ledger,
            purpose,
            lambda: self._draft_release(job, attempt, request, parts),
        )
        release = self._store.release(job, attempt)
        if release is None:
            raise RefusedTransition("The release is not kept here.", code="release_unknown")
        return {
            "tx_id": done.tx_id,
            "block": done.block,
            "decision": done.result["decision"],
            "subjects": _answers(release.body, done.result),
        }

    def _check_channel(self, job: str, parts: Sequence[Json]) -> None:
        patients = {one["patient"] for part in parts for one in part["subjects"]}
        places = {self._store.channel_of(one) for one in patients if self._store.is_enrolled(one)}
        before = self._store.release(job, self._store.last_attempt(job))
        if not places <= {self._channel.name} or (before and before.channel != self._channel.name):
            raise RefusedTransition("A patient or the job is on another channel.", code="channel_differs")

    def _finish(self, job: str) -> None:
        """Learn what became of what a dead caller left: a release or a delivery, stored and perhaps sent.

        Until that is known, nobody can say which attempt comes next. Raises LedgerError (ask again).
        """
        last = self._store.last_attempt(job)
        finish(self._store, self._channel.ledger, f"release/{job}/{last}")
        finish(self._store, self._channel.ledger, f"deliver/{job}/{last}")

    def _draft_release(self, job: str, attempt: int, request: Json, parts: Sequence[Json]) -> Draft:
        speaking = self._speaking(request, parts)
        nonce, issued = new_key().hex(), self._clock()
        kept_parts = [
            {
                "part": part["part"],
                "key": part["key"],
                "subjects": [
                    {
                        **subject,
                        "consents": [one.consent for one in speaking[subject["subject"]].openings],
                        "reasons": list(speaking[subject["subject"]].reasons),
                        "consent": speaking[subject["subject"]].consent,
                    }
                    for subject in part["subjects"]
                ],
            }
            for part in parts
        ]
        groups = [
            [subject["consents"] for subject in part["subjects"] if subject["consents"]]
            for part in kept_parts
        ]
        args = {
            "job": job,
            "attempt": attempt,
            "model": request["model"],
            "request": canonical.digest(request),
            "nonce": nonce,
            "parts": [
                {"part": part["part"], "key": part["key"], "consents": _union(found)}
                for part, found in zip(kept_parts, groups, strict=True)
                if found
            ],
        }
        openings = {one.consent: one for found in speaking.values() for one in found.openings}
        transient = {
            "request": canonical.dumps(request),
            "openings": openings_json([openings[consent] for consent in sorted(openings)]),
            "subjects": canonical.dumps(_groups(found for part in groups for found in part)),
        }
        body = {
            "asked": {"parts": list(parts), "request": request},
            "channel": self._channel.name,
            "parts": kept_parts,
            "request": request,
        }
        return Draft(
            "Release",
            args,
            transient,
            keep=lambda: self._store.put_release(job, attempt, Release(body, nonce, issued)),
        )

    def _speaking(self, request: Json, parts: Sequence[Json]) -> dict[str, _Speaking]:
        """For each subject, every consent of its patient that speaks to the request, by a fresh read."""
        patients = {one["subject"]: one["patient"] for part in parts for one in part["subjects"]}
        openings: dict[str, list[Opening]] = {patient: [] for patient in patients.values()}
        kept = self._store.openings_of(openings)
        for one in kept:
            openings[one.patient].append(one)
        now = self._clock()
        stands = self._standings(kept, Asking(request), now)
        by_patient = {
            patient: self._speaking_of(found, stands, request, now) for patient, found in openings.items()
        }
        return {subject: by_patient[patient] for subject, patient in patients.items()}

    def _standings(self, openings: Sequence[Opening], asking: Asking, now: int) -> dict[str, str]:
        found = {}
        for first in range(0, max(1, len(openings)), Reader.AT_ONCE):
            batch = openings[first : first + Reader.AT_ONCE]
            # Without a consent as much is read of nobody's, so that who never said yes takes no shorter.
            look = self._reader.look([], [one.consent for one in batch] or [NOBODYS])
            for one in batch:
                stands = standing(look, one.consent, at=now)
                # A deny counts until every answer shows its end: one organisation alone cannot take it away.
                if (
                    stands in OVER
                    and not is_over(look, one.consent, at=now)
                    and denies(one.canonical, asking, exceptions=True, at=now)
                ):
                    stands = "deny_not_over"
                found[one.consent] = stands
        return found

    def _speaking_of(
        self, openings: Sequence[Opening], stands: Mapping[str, str], request: Json, now: int
    ) -> _Speaking:
        current: list[Opening] = []
        over: list[Opening] = []
        expired = False
        stopped: list[Opening] = []
        forged: list[Opening] = []
        for one in openings:
            found = stands[one.consent]
            if found in ("consent_revoked", "consent_superseded"):
                over.append(one)
            elif self._store.is_denied([one.consent]):
                stopped.append(one)
            elif found == "consent_expired":
                expired = True
            elif found == "consent_unknown":
                continue
            elif not self._signing.holds(one) and not denies(
                one.canonical, Asking(request), exceptions=True, at=now
            ):
                forged.append(one)  # it speaks for nothing; what it denies it denies all the same
            else:
                current.append(one)  # where it is malformed or a mark is missing, the contract denies
        verdict = decide([one.canonical for one in current], request, at=now)
        if verdict.decision == "permit":
            # What is silent stays off the ledger: nothing there shall link two consents of a person.
            speak = {one["consent"] for one in verdict.rules["consents"]}
            chosen = tuple(one for one in current if one.consent in speak)
            return _Speaking(chosen, verdict.reasons, verdict.consent)
        # A denial is evidence too: it names the consents that denied, or that would have permitted.
        evidence = tuple(
            one for one in (*current, *over) if one.consent == verdict.consent or _permits(one, request, now)
        )
        reasons = verdict.reasons
        if any(_permits(one, request, now) for one in stopped):
            reasons = ("consent_stopped",)
        elif any(_permits(one, request, now) for one in forged):
            reasons = ("signature_wrong",)
        elif any(one in over for one in evidence):
            reasons = ("consent_revoked",)
        elif expired and reasons == ("no_consent",):
            reasons = ("consent_expired",)
        return _Speaking(evidence, reasons, verdict.consent)

    # Deliver

    def deliver(self, *, job: str, attempt: int, outputs: Sequence[Json]) -> Json:
        """Pass the second door with `[{subjects, digest}]`.

        What rests on a stopped consent is withheld here, and so is what another consent denies by now, and
        what rests on a signature that does not hold.

        An output about several subjects is all or nothing, about 11 patients or more, and shares none with
        another of its delivery; of a model that summarises every output is. Nor is it about nearly the same
        patients as one that left before: see `_check_apart`. Raises RefusedTransition (`attempt_superseded`,
        `output_not_opened`, `deliver_differs`, `aggregate_too_small`, `aggregates_overlap`,
        `aggregates_too_alike`), Refused, LedgerError.
        """
        purpose = f"deliver/{job}/{attempt}"
        self._finish(job)
        if attempt != self._store.last_attempt(job):
            raise RefusedTransition("This is not the job's last attempt.", code="attempt_superseded")
        asked = self._outputs(job, attempt, outputs)
        left = [
            one
            for one in asked
            if not self._store.is_denied(named := _union(one["consents"])) and self._signatures_hold(named)
        ]
        kept = self._store.delivery(job)
        if kept is not None and kept[0] == attempt and self._store.tx_id(purpose):
            # Nothing is added to what went out; what was stopped meanwhile is withheld when it is opened.
            if not {one["digest"] for one in kept[1]} <= {one["digest"] for one in asked}:
                raise RefusedTransition("Other outputs were delivered.", code="deliver_differs")
        else:
            left = self._without_denied(job, attempt, left)
            if not left:
                withheld = [one["digest"] for one in asked]
                return {"tx_id": "", "block": None, "delivered": [], "withheld": withheld}
        done = submit(
            self._store, self._channel.ledger, purpose, lambda: self._draft_deliver(job, attempt, left)
        )
        delivered = set(done.result["outputs"])
        return {
            "tx_id": done.tx_id,
            "block": done.block,
            "delivered": sorted(delivered),
            "withheld": [one["digest"] for one in asked if one["digest"] not in delivered],
        }

    def _signatures_hold(self, consents: Sequence[str]) -> bool:
        openings = [self._store.opening(consent) for consent in consents]
        return all(one is not None and self._signing.holds(one) for one in openings)

    def _outputs(self, job: str, attempt: int, outputs: Sequence[Json]) -> list[Json]:
        """The outputs with the consents of each of their subjects, all of whose records were opened."""
        release = self._store.release(job, attempt)
        if release is None:
            raise RefusedTransition("This release was not asked for here.", code="release_unknown")
        opened = opened_subjects(self._store, job=job, attempt=attempt)
        released = {
            one["subject"]: one["consents"]
            for part in release.body["parts"]
            for one in part["subjects"]
            if one["consents"] and one["subject"] in opened
        }
        if not all(one["subjects"] and released.keys() >= set(one["subjects"]) for one in outputs):
            raise RefusedTransition(
                "An output is about a subject whose records were not opened.", code="output_not_opened"
            )
        _check_aggregates(
            patients_of(release.body),
            [one["subjects"] for one in outputs],
            summarises=release.body["request"]["model"] in SUMMARISING,
        )
        return [
            {
                "digest": one["digest"],
                "subjects": list(one["subjects"]),
                "consents": [released[subject] for subject in one["subjects"]],
            }
            for one in outputs
        ]

    def _without_denied(self, job: str, attempt: int, outputs: list[Json]) -> list[Json]:
        """Those of the outputs that no patient denies in a consent which the release does not name."""
        release = self._store.release(job, attempt)
        if release is None:
            raise RefusedTransition("This release was not asked for here.", code="release_unknown")
        patients = patients_of(release.body)
        named = [
            (patients[subject], consents)
            for one in outputs
            for subject, consents in zip(one["subjects"], one["consents"], strict=True)
        ]
        denied = denied_patients(
            self._store, self._reader, named, release.body["request"], exceptions=False, at=self._clock()
        )
        return [one for one in outputs if denied.isdisjoint(patients[subject] for subject in one["subjects"])]

    def _draft_deliver(self, job: str, attempt: int, outputs: list[Json]) -> Draft:
        release = self._store.release(job, attempt)
        openings = [
            opening
            for consent in _union([group for one in outputs for group in one["consents"]])
            if (opening := self._store.opening(consent)) is not None
        ]
        if release is None:
            raise RefusedTransition("This release was not asked for here.", code="release_unknown")

        body = release.body

        def keep() -> None:
            # Within the transaction that stores the envelope, so that no two deliveries miss each other.
            self._check_apart(job, attempt, body, outputs)
            self._store.put_delivery(job, attempt, outputs)

        return Draft(
            "Deliver",
            {
                "job": job,
                "attempt": attempt,
                "outputs": [
                    {"output": one["digest"], "consents": _union(one["consents"])} for one in outputs
                ],
            },
            {
                "request": canonical.dumps(release.body["request"]),
                "openings": openings_json(openings),
                "subjects": canonical.dumps(_groups(group for one in outputs for group in one["consents"])),
            },
            keep=keep,
        )

    def _check_apart(self, job: str, attempt: int, body: Json, outputs: Sequence[Json]) -> None:
        """No difference of two outputs about several is about few, whatever jobs they are of.

        Compared are those that left to this recipient by this model; of one that summarises, by any that
        does, for two versions compute nearly the same. Those who are in one of the two alone are 11 patients
        or more; or nobody, where the other's release was issued on an earlier day (UTC): each day has an
        index date of its own. Raises RefusedTransition (`aggregates_too_alike`).
        """
        patients, request = patients_of(body), body["request"]
        several = [
            {patients[subject] for subject in one["subjects"]} for one in outputs if len(one["subjects"]) > 1
        ]
        if not several:
            return
        model = request["model"]
        today = int(self._clock()) // DAY
        for other, issued in self._store.aggregates(
            recipient=request["recipient"],
            models=SUMMARISING if model in SUMMARISING else {model},
            besides=(job, attempt),
        ):
            for found in several:
                apart = len(found ^ other)
                if apart < FEWEST_IN_AGGREGATE and (apart or issued // DAY == today):
                    raise RefusedTransition(
                        "An output about nearly the same patients left before, or about the same ones today.",
                        code="aggregates_too_alike",
                    )


def _answers(body: Json, result: Json) -> Json:
    """What the contract decided for each subject, with the reasons that we have."""
    permitted = {one["consent"] for one in result["consents"] if one["decision"] == "permit"}
    answers = {}
    for part in body["parts"]:
        for subject in part["subjects"]:
            consents, reasons = subject["consents"], subject["reasons"]
            is_permitted = bool(consents) and permitted.issuperset(consents)
            if not is_permitted and "permitted" in reasons:
                reasons = ["consent_not_in_force"]  # it ended between our reading and the contract's
            answers[subject["subject"]] = {
                "decision": "permit" if is_permitted else "deny",
                "reasons": reasons,
                "consent": subject["consent"],
            }
    return answers


def patients_of(body: Json) -> dict[str, str]:
    """The patient of each subject, by what we keep of a release."""
    return {one["subject"]: one["patient"] for part in body["parts"] for one in part["subjects"]}


def _check_aggregates(
    patients: Mapping[str, str], outputs: Iterable[Sequence[str]], *, summarises: bool
) -> None:
    """A worker says what each output is about, so what it calls one about several is bounded here."""
    among: set[str] = set()
    for subjects in outputs:
        if len(subjects) == 1 and not summarises:
            continue
        found = {patients[subject] for subject in subjects}
        if len(found) < FEWEST_IN_AGGREGATE:
            raise RefusedTransition(
                f"An output about several is about {FEWEST_IN_AGGREGATE} patients or more.",
                code="aggregate_too_small",
            )
        if found & among:
            raise RefusedTransition("Two outputs about several share a patient.", code="aggregates_overlap")
        among |= found


def _permits(opening: Opening, request: Json, now: int) -> bool:
    return decide([opening.canonical], request, at=now).decision == "permit"


def _union(groups: Sequence[Sequence[str]]) -> list[str]:
    """Consents in the order that args have them: sorted, each once."""
    return sorted({consent for group in groups for consent in group})


def _groups(groups: Iterable[Sequence[str]]) -> list[list[str]]:
    """The transient `subjects`: each subject's consents, sorted."""
    return sorted({tuple(sorted(group)): sorted(group) for group in groups}.values())
