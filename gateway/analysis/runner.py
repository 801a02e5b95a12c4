"""A worker's run of one job: on each channel in turn release, chunk by chunk through a child, deliver.

The worker sees sealed chunks and sealed results; the child that it starts sees records; the keyholder
decides. Every write carries the claim (jobs.py). Stopping anywhere, by kill -9 too, leaves a job that
another worker takes up: nothing leaves but by the delivery that the ledger holds.
"""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from consent import news
from gateway.analysis import exports, jobs
from gateway.analysis.children import JobChild
from gateway.analysis.jobs import WORKER, CancelRequested, Claim, ClaimLost, State, details, held
from gateway.analysis.models import Attempt, Job, JobSubject, Leg, Output, Summary
from gateway.analysis.replayed import require_replayed
from gateway.analysis.services import request_of
from gateway.analysis.taking import fewest_in_summary
from gateway.keyholder.client import Delivered, Keyholder, OutputDigest, Part, Released
from gateway.records.models import Chunk
from ledger.audit.incidents import require_none_holds
from ledger.audit.log import record
from ledger.channels import told
from ledger.contract.errors import Refused
from ledger.errors import (
    AccessDenied,
    EnvelopeError,
    GatewayError,
    KeyholderUnavailable,
    LedgerError,
    RefusedTransition,
)
from ledger.rpc import from_b64, to_b64

PART = 0  # one child for a leg
MOST_UNHEARD = 5  # releases in a row that a dead worker may have left unrecorded
# There is a release under this number already, of a worker that died before it could write it down.
UNHEARD = frozenset({"release_differs", "attempt_superseded", "attempt_out_of_order"})
# The keyholder says: the attempt is over, whatever the consents say.
ATTEMPT_OVER = frozenset(
    {"attempt_superseded", "records_changed", "release_too_old", "release_unknown", "release_missing"}
)

log = logging.getLogger(__name__)


class AttemptOver(RefusedTransition):
    """A later attempt took this one's place, or its release ran out: the job is begun anew."""

    code = "attempt_over"


def run(job_id: str, *, keyholder: Keyholder | None = None) -> None:
    """Run one job to its end, or to where somebody else must go on. Never raises for what can be retried."""
    claim = jobs.claim(job_id)
    if claim is not None:
        run_claimed(claim, keyholder=keyholder)


def run_claimed(claim: Claim, *, keyholder: Keyholder | None = None) -> None:
    """The same, for who has the claim already."""
    try:
        try:
            _Run(claim, keyholder or Keyholder(settings.KEYHOLDER_SOCKET)).go()
        except CancelRequested:
            jobs.settle(claim, State.CANCELLED)
        except (LedgerError, KeyholderUnavailable, AttemptOver) as error:
            log.warning("a job waits: %s", error.code)
            jobs.put_back(claim, error)
        except ClaimLost:
            raise
        except (GatewayError, Refused) as error:
            level = logging.CRITICAL if isinstance(error, EnvelopeError) else logging.ERROR
            log.log(level, "a job failed: %s", error.code)
            jobs.settle(claim, State.FAILED, code=error.code)
    except ClaimLost:
        log.warning("claim_lost: another worker has this job, or it is settled")


class _Run:
    def __init__(self, claim: Claim, keyholder: Keyholder) -> None:
        self.claim, self.keyholder = claim, keyholder
        self.job = Job.objects.select_related("requester").get(pk=claim.job)

    def go(self) -> None:
        """Every leg as far as it comes: one whose channel is down waits, and the others go on.

        Raises LedgerError, AttemptOver, of the first that waits.
        """
        waiting: LedgerError | AttemptOver | None = None
        for leg in self.job.legs.filter(state__in=Leg.UNDER_WAY).order_by("channel", "number"):
            try:
                self.pass_leg(leg)
            except AttemptOver as error:
                with held(self.claim):
                    jobs.move_leg(leg, Leg.State.OPEN)
                waiting = waiting or error
            except LedgerError as error:
                waiting = waiting or error
        if waiting is not None:
            raise waiting

    def pass_leg(self, leg: Leg) -> None:
        if leg.state == Leg.State.DELIVERING:
            # A delivery was begun: it is repeated, never computed anew.
            self.deliver(leg.attempts.order_by("-number")[:1].get())
            return
        require_replayed(leg.channel)
        require_none_holds()
        attempt = jobs.begin_attempt(self.claim, leg)
        with JobChild() as child:
            live = leg.subjects.exclude(state=JobSubject.State.NOT_AVAILABLE)
            subjects = list(live.select_related("patient").order_by("number"))
            released = self.release(attempt, child, subjects)
            permitted = self.record_release(attempt, released, subjects)
            if not permitted:
                return
            child.call(
                "start",
                {
                    **self.work(),
                    "index_date": self.job.index_date.isoformat(),
                    "job": leg.id,
                    "attempt": attempt.number,
                    "part": PART,
                    "output_key": self.keyholder.output_key().hex(),
                },
            )
            for subject in permitted:
                self.compute(attempt, child, subject)
            if self.job.kind == Job.Kind.SUMMARY:
                self.summarise(attempt, child)
        if self.begin_delivery(leg):
            self.deliver(attempt)

    def work(self) -> dict[str, Any]:
        if self.job.kind == Job.Kind.EXPORT:
            return {"export": exports.given_to_child(self.job)}
        return {"model": self.job.model}

    # The first door

    def release(self, attempt: Attempt, child: JobChild, subjects: Sequence[JobSubject]) -> Released:
        """Pass the first door, under the next number if a dead worker's release already has this one."""
        part: Part = {
            "part": PART,
            "key": child.public_key,
            "subjects": [{"subject": each.id, "patient": each.keyholder_patient} for each in subjects],
        }
        first = attempt.number
        for attempt.number in range(first, first + MOST_UNHEARD):
            jobs.keep_going(self.claim)
            try:
                return self.keyholder.release(
                    job=attempt.leg_id,
                    attempt=attempt.number,
                    request=request_of(self.job),
                    parts=[part],
                    channel=attempt.leg.channel,
                )
            except (RefusedTransition, Refused) as error:
                if error.code not in UNHEARD:
                    raise
        raise LedgerError("A release of this job is not settled yet.", code="release_unsettled")

    def record_release(
        self, attempt: Attempt, released: Released, subjects: Sequence[JobSubject]
    ) -> list[JobSubject]:
        """Write down what the release decided; the subjects that it permits. A denied leg ends here."""
        permitted = []
        with held(self.claim) as job:
            attempt.release_tx = released["tx_id"]
            attempt.save(update_fields=["number", "release_tx"])
            where = _where(attempt, released)
            for subject in subjects:
                decided = released["subjects"].get(subject.id)
                if released["decision"] == "permit" and decided and decided["decision"] == "permit":
                    subject.state, subject.consent = JobSubject.State.RELEASED, decided["consent"] or ""
                    subject.save(update_fields=["state", "consent"])
                    self.log("job.released", subject, **where)
                    permitted.append(subject)
                else:
                    reasons = _codes(decided["reasons"]) if decided else ["not_released"]
                    # Who was let in by an earlier attempt was not refused: her records may have been seen.
                    kind = "job.stopped" if subject.consent else "job.denied"
                    self.withhold(subject, reasons, kind=kind, **where)
            if permitted:
                jobs.move(job, State.RUNNING)
            else:
                jobs.end_leg(job, attempt.leg, Leg.State.DENIED)
        return permitted

    # The records

    def compute(self, attempt: Attempt, child: JobChild, subject: JobSubject) -> None:
        """One subject, chunk by chunk; each chunk is asked for alone, so that a stop is heard at the next."""
        after: str | None = None
        more = True
        while more:
            jobs.keep_going(self.claim)
            try:
                page = self.keyholder.open_chunks(
                    job=attempt.leg_id, attempt=attempt.number, part=PART, subject=subject.id, after=after
                )
            except AccessDenied as error:
                if error.code in ATTEMPT_OVER:
                    raise AttemptOver("This attempt is over; another is made.") from None
                with held(self.claim):
                    self.withhold(subject, [error.code], kind="job.stopped", attempt=attempt.number)
                return
            if after is None:
                patient = subject.keyholder_patient
                child.call("subject", {"subject": subject.id, "patient": patient, "rules": page["rules"]})
            for chunk in page["chunks"]:
                blob = self.blob(subject, chunk["chunk"], chunk["version"])
                told = {name: chunk[name] for name in ("chunk", "version", "resource_type", "labels")}
                child.call(
                    "chunk", {**told, "wrapped_b64": to_b64(chunk["wrapped"]), "blob_b64": to_b64(blob)}
                )
                after = chunk["chunk"]
            more = page["more"] and bool(page["chunks"])
        answer = child.call("finish", {})
        with transaction.atomic():
            jobs.renew(self.claim)
            # What an earlier attempt left was dropped when this one began.
            if self.job.kind != Job.Kind.SUMMARY:
                Output.objects.create(subject=subject, **_sealed(answer))
            JobSubject.objects.filter(pk=subject.pk).update(state=JobSubject.State.COMPUTED)

    def summarise(self, attempt: Attempt, child: JobChild) -> None:
        """One result of all whose records were seen to their end; of few there is none."""
        jobs.keep_going(self.claim)
        computed = list(_computed(attempt.leg))
        if len(computed) < fewest_in_summary():
            with held(self.claim):
                for subject in computed:
                    self.withhold(subject, ["withheld"], kind="job.stopped", attempt=attempt.number)
            return
        answer = child.call("summarise", {"subjects": [subject.pk for subject in computed]})
        with transaction.atomic():
            jobs.renew(self.claim)
            Summary.objects.create(leg=attempt.leg, **_sealed(answer))

    def blob(self, subject: JobSubject, chunk: str, version: int) -> bytes:
        found = (
            Chunk.objects.filter(pk=chunk, patient_id=subject.patient_id, version=version)
            .values_list("blob", flat=True)
            .first()
        )
        if found is None:
            raise EnvelopeError(
                "A chunk that the keyholder knows is not in the database.", code="chunk_missing"
            )
        return bytes(found)

    # The second door

    def begin_delivery(self, leg: Leg) -> bool:
        """Whether there is anything to deliver. From here on only a consent can stop the leg."""
        jobs.keep_going(self.claim)
        with held(self.claim) as job:
            if Output.objects.filter(subject__leg=leg).exists() or Summary.objects.filter(leg=leg).exists():
                jobs.move(job, State.DELIVERING)
                jobs.move_leg(leg, Leg.State.DELIVERING)
                return True
            jobs.end_leg(job, leg, Leg.State.STOPPED)
            return False

    def deliver(self, attempt: Attempt) -> None:
        leg = attempt.leg
        if self.job.kind == Job.Kind.SUMMARY:
            self.deliver_summary(attempt, Summary.objects.get(leg=leg))
            return
        found = Output.objects.filter(subject__leg=leg).select_related("subject__patient").defer("sealed")
        outputs = list(found)
        answer = self.pass_second_door(
            attempt, [{"subjects": [each.subject_id], "digest": each.digest} for each in outputs]
        )
        delivered = set(answer["delivered"])
        where = _where(attempt, answer)
        with held(self.claim) as job:
            attempt.deliver_tx = answer["tx_id"]
            attempt.save(update_fields=["deliver_tx"])
            let_out = Output.objects.filter(subject__leg=leg, digest__in=delivered)
            JobSubject.objects.filter(output__in=let_out).update(state=JobSubject.State.DELIVERED)
            let_out.update(delivered_at=timezone.now())
            for output in outputs:
                if output.digest in delivered:
                    self.log("job.delivered", output.subject, **where)
                else:
                    self.withhold(output.subject, ["withheld"], kind="job.stopped", **where)
            jobs.end_leg(job, leg, Leg.State.DONE if delivered else Leg.State.STOPPED)

    def deliver_summary(self, attempt: Attempt, summary: Summary) -> None:
        """All or nothing. Where somebody stopped after her records were seen, it is made anew without her."""
        subjects = list(_computed(attempt.leg).select_related("patient"))
        output: OutputDigest = {"subjects": [each.pk for each in subjects], "digest": summary.digest}
        try:
            answer = self.pass_second_door(attempt, [output])
        except (RefusedTransition, Refused) as error:
            if error.code != "aggregates_too_alike":
                raise
            self.drop_summary(attempt, summary, subjects)
            return
        if not answer["delivered"] and not answer["tx_id"]:
            raise AttemptOver("Somebody of these has stopped; another attempt is made.")
        where = _where(attempt, answer)
        with held(self.claim) as job:
            attempt.deliver_tx = answer["tx_id"]
            attempt.save(update_fields=["deliver_tx"])
            if answer["delivered"]:
                Summary.objects.filter(pk=summary.pk).update(delivered_at=timezone.now())
            for subject in subjects:
                if answer["delivered"]:
                    JobSubject.objects.filter(pk=subject.pk).update(state=JobSubject.State.DELIVERED)
                    self.log("job.delivered", subject, **where)
                else:
                    self.withhold(subject, ["withheld"], kind="job.stopped", **where)
            jobs.end_leg(job, attempt.leg, Leg.State.DONE if answer["delivered"] else Leg.State.STOPPED)

    def drop_summary(self, attempt: Attempt, summary: Summary, subjects: Sequence[JobSubject]) -> None:
        """An earlier one was about nearly the same people: nothing leaves, as where too few are left."""
        with held(self.claim) as job:
            summary.delete()
            for subject in subjects:
                self.withhold(subject, ["withheld"], kind="job.stopped", attempt=attempt.number)
            jobs.end_leg(job, attempt.leg, Leg.State.STOPPED)

    def pass_second_door(self, attempt: Attempt, outputs: Sequence[OutputDigest]) -> Delivered:
        """Raises AttemptOver."""
        try:
            return self.keyholder.deliver(job=attempt.leg_id, attempt=attempt.number, outputs=outputs)
        except (RefusedTransition, Refused) as error:
            if error.code in ATTEMPT_OVER:
                raise AttemptOver("This attempt is over; another is made.") from None
            raise

    # Writing down

    def withhold(self, subject: JobSubject, reasons: list[str], *, kind: str, **where: Any) -> None:
        """This subject comes to nothing, for reasons that are for the patient and the staff."""
        subject.state, subject.reasons = JobSubject.State.NOT_AVAILABLE, reasons
        subject.save(update_fields=["state", "reasons"])
        Output.objects.filter(subject=subject).delete()
        self.log(kind, subject, reasons=reasons, **where)

    def log(self, kind: str, subject: JobSubject, **told: Any) -> None:
        """One row and one piece of news for the patient concerned, within the caller's `held`.

        Of nobody both are written and taken back at once, so that a job about nobody takes the steps of any
        other (docs/threats.md).
        """
        patient = subject.patient
        written = transaction.savepoint()
        news.tell_of_use(kind, patient=subject.keyholder_patient, use=subject.id)
        record(
            kind=kind,
            actor=WORKER,
            subject="" if patient is None else patient.pseudonym,
            subject_id=subject.id,
            request=subject.request_id,
            consent=subject.consent or None,
            **told,
            **details(self.job),
        )
        if patient is None:
            transaction.savepoint_rollback(written)
        else:
            transaction.savepoint_commit(written)


def _computed(leg: Leg) -> QuerySet[JobSubject]:
    return leg.subjects.filter(state=JobSubject.State.COMPUTED).order_by("number")


def _sealed(answer: dict[str, Any]) -> dict[str, Any]:
    """What a child sealed, as its row has it."""
    sealed = from_b64(answer["sealed_b64"])
    return {"digest": hashlib.sha256(sealed).hexdigest(), "sealed": sealed}


def _where(attempt: Attempt, answer: Released | Delivered) -> dict[str, Any]:
    """Where a door was passed, as audit rows say it."""
    return {
        "attempt": attempt.number,
        "tx_id": answer["tx_id"] or None,
        "block": answer["block"],
        "channel": told(attempt.leg.channel),
    }


def _codes(reasons: Sequence[object]) -> list[str]:
    """Stable codes out of what the decision gave as reasons."""
    found = [each.get("code") if isinstance(each, dict) else each for each in reasons]
    return [str(each) for each in found if each][:50]
