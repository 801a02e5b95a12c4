"""What changes in this room, and what may be seen of it: models, jobs, their results.

Acts are keyword-only functions in one database transaction each, with their audit row. What an AI
client is shown tells refused, revoked, never asked and unknown apart in nothing: see `client_view`.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from consent import services as consents
from consent.channels import known_channels
from consent.counting import tenths
from consent.models import Cohort, Deletion, Requester
from gateway.analysis.catalogue import find
from gateway.analysis.catalogue.model import Model
from gateway.analysis.jobs import State, close, details, recover
from gateway.analysis.models import AIModel, Attempt, Job, JobSubject, Leg, Output, Summary
from gateway.analysis.proofs import log_sent
from gateway.analysis.results import STATUS
from gateway.analysis.taking import (
    MOST_SUBJECTS,
    QuotaReached,
    fewest_in_summary,
    submit,
    submit_export,
    submit_over_cohort,
)
from gateway.keyholder.client import Keyholder
from gateway.statements import Given, Row, Statement
from ledger import outbox
from ledger.audit.log import Actor, record
from ledger.channels import told
from ledger.client import HOME, Event
from ledger.contract import canonical
from ledger.contract.state import Json
from ledger.errors import AccessDenied, InvalidInput, RefusedTransition
from ledger.models import LedgerTransaction

__all__ = [
    "MOST_SUBJECTS",
    "QuotaReached",
    "cancel",
    "client_brief",
    "client_view",
    "manifest",
    "record_model_registered",
    "record_test",
    "recover",
    "register_model",
    "request_of",
    "result",
    "results_to_delete",
    "submit",
    "submit_export",
    "submit_over_cohort",
    "suspend_model",
]

FEWEST_TESTED = 100
SUBJECTS_AT_ONCE = 1000
RELAY = Actor.system("relay")


# Models


@transaction.atomic
def register_model(*, model: Model, provider: Requester, by: Actor) -> AIModel:
    """Put a model of the catalogue on every channel, by its digest. It runs where the ledger has it.

    Two people approved it (registrations.py), or an installation is being set up. Repeating it puts it on
    channels that are new since. Raises RefusedTransition (`model_of_another`), InvalidInput where its files
    could not be run (`Model.check`).
    """
    model.check()
    digest = model.digest()
    known = AIModel.objects.select_for_update().filter(digest=digest).first()
    if known is not None:
        if known.provider_id != provider.pk:
            raise RefusedTransition(
                _("This model is registered for another provider."), code="model_of_another"
            )
        if known.state != AIModel.State.SUSPENDED:
            _put_on_ledger(known, "approved", by, again=False)
            return known
    row, _new = AIModel.objects.update_or_create(
        digest=digest,
        defaults={
            "name": model.name,
            "version": model.version,
            "provider": provider,
            "card": model.describe(),
            "pending_on": [],
            "state": AIModel.State.REGISTERING,
        },
    )
    _put_on_ledger(row, "approved", by)
    return row


@transaction.atomic
def suspend_model(*, model: AIModel, by: Actor) -> None:
    """From now on no job with this model is taken; every channel follows and refuses its releases."""
    changed = AIModel.objects.filter(pk=model.pk, state=AIModel.State.APPROVED).update(
        state=AIModel.State.SUSPENDED
    )
    if not changed:
        raise RefusedTransition(_("Only an approved model can be suspended."), code="model_not_approved")
    _put_on_ledger(model, "suspended", by)


@transaction.atomic
def record_test(*, model: AIModel, people: int, wrong: int, by: Actor) -> None:
    """What the hospital's own test found: wrong for `wrong` of `people` (100 or more). Raises InvalidInput.

    Patients who are asked from now on read it under "What can go wrong".
    """
    check_test(people=people, wrong=wrong)
    model.tested_people, model.tested_wrong = people, wrong
    model.save(update_fields=["tested_people", "tested_wrong"])
    record(
        kind="model.tested",
        actor=by,
        model=model.digest,
        requester=str(model.provider_id),
        people=people,
        wrong=wrong,
    )


def check_test(*, people: int, wrong: int) -> None:
    """A test on enough people, of whom no more were wrong than there were. Raises InvalidInput (`tested`)."""
    if people < FEWEST_TESTED or not 0 <= wrong <= people:
        raise InvalidInput(
            _("Test on %(number)s people or more; no more can be wrong than were tested.")
            % {"number": FEWEST_TESTED},
            code="tested",
        )


def stands_everywhere(model: AIModel) -> bool:
    """It is approved, or about to be, on every channel that there is by now."""
    is_suspended = model.state == AIModel.State.SUSPENDED
    return not is_suspended and not _not_asked(_args(model, AIModel.State.APPROVED))


def _not_asked(args: Json) -> set[str]:
    """The channels that were not asked for this, or refused it."""
    asked = LedgerTransaction.objects.filter(reference=f"model/{args['model']}", args=args)
    asked = asked.exclude(state=LedgerTransaction.State.REFUSED)
    return set(known_channels()).difference(asked.values_list("channel", flat=True))


def _args(model: AIModel, state: str) -> Json:
    card = hashlib.sha256(canonical.dumps(model.card)).hexdigest()
    return {"model": model.digest, "card": card, "provider": model.provider.reference, "state": state}


def _put_on_ledger(model: AIModel, state: str, by: Actor, *, again: bool = True) -> None:
    """On every channel; not `again` on one that was asked for the same before."""
    args = _args(model, state)
    asked = set(known_channels()) if again else _not_asked(args)
    if not asked:
        return
    if state == AIModel.State.APPROVED:
        model.pending_on = sorted(asked.union(model.pending_on))
        model.save(update_fields=["pending_on"])
    for channel in sorted(asked):
        outbox.enqueue(name="RegisterModel", args=args, reference=f"model/{model.digest}", channel=channel)
    record(
        kind="model.registered",
        actor=by,
        model=model.digest,
        card=args["card"],
        requester=str(model.provider_id),
        state=state,
        code="asked",
    )


@transaction.atomic
def record_model_registered(event: Event) -> None:
    """ModelRegistered: the ledger's word on a model. May come twice."""
    digest, state = str(event.payload.get("model")), str(event.payload.get("state"))
    row = AIModel.objects.select_for_update().filter(digest=digest).first()
    if row is None or state not in (AIModel.State.APPROVED, AIModel.State.SUSPENDED):
        return
    heard = row.state == state and event.channel not in row.pending_on
    if heard or (row.state == AIModel.State.SUSPENDED and state == AIModel.State.APPROVED):
        return  # heard before, or suspended since: that is stronger
    row.state = state
    row.pending_on = [channel for channel in row.pending_on if channel != event.channel]
    row.save(update_fields=["state", "pending_on"])
    record(
        kind="model.registered",
        actor=RELAY,
        model=digest,
        state=state,
        code="committed",
        tx_id=event.tx_id,
        block=event.block,
        channel=told(event.channel),
    )


# Jobs


@transaction.atomic
def cancel(*, job: Job, requester: Requester) -> None:
    """Stop a job of one's own: at once while it waits, else at its next chunk. Harmless to repeat.

    One whose results are leaving ends as it would have: to refuse would say that somebody had said yes.
    Raises RefusedTransition (`job_settled`) once it has an end; results that were delivered stay.
    """
    row = Job.objects.select_for_update().filter(pk=job.pk, requester=requester).first()
    if row is None:
        raise AccessDenied(_("There is no such job."), code="not_available")
    leaves = row.legs.filter(state=Leg.State.DELIVERING).exists()
    if row.state == State.CANCELLED or (leaves and row.state not in Job.SETTLED):
        return
    if row.state in Job.SETTLED:
        raise RefusedTransition(_("The job has ended: it cannot be cancelled."), code="job_settled")
    Job.objects.filter(pk=row.pk).update(cancel_requested=True)
    if row.state == State.QUEUED:
        close(row, State.CANCELLED)
        record(kind="job.cancelled", actor=Actor.client(requester.pk), **details(row))


def request_of(job: Job) -> Json:
    """The request that the contract decides on (docs/architecture.md, "The request").

    An export discloses, and names no model: what a consent permits to a model it does not permit to leave.
    """
    exports = job.kind == Job.Kind.EXPORT
    reads = job.spec["types"] if exports else sorted(find(job.model).reads)
    return {
        "action": "disclose" if exports else "use",
        "model": None if exports else job.model,
        "purpose": job.purpose,
        "recipient": job.requester.reference,
        "resources": [{"codes": None, "type": each} for each in reads],
        "use": sorted(job.use),
        "version": 1,
    }


# What is seen of a job


_JOB_FIELDS = tuple(field.attname for field in Job._meta.concrete_fields)
_OWN = Statement(
    lambda: Job.objects.filter(pk=Given("job"), requester=Given("requester", Requester._meta.pk)).values_list(
        *_JOB_FIELDS
    )
)


def own_job(*, id: str, requester: Requester) -> Job | None:
    """The requester's own job; another's and none look the same, also by the time that it takes."""
    found = _OWN.rows(job=id, requester=requester.pk)
    if not found:
        return None
    job = Job.from_db(DEFAULT_DB_ALIAS, _JOB_FIELDS, found[0])
    job.requester = requester
    return job


class SubjectEntry(TypedDict):
    """`request` is the id that the client gave; `state` is queued, then delivered or not_available.

    `review` is what the clinic says of a delivered result, as a FHIR RiskAssessment.status.
    """

    subject: str
    request: str | None
    state: str
    digest: str | None
    review: str | None


class Doors(TypedDict):
    release_tx: str
    deliver_tx: str


class Manifest(TypedDict):
    """`summaries` are the digests of what a model gave that summarises. `doors` has the two transactions of
    each leg that delivered; `release_tx` and `deliver_tx` are those of the first. `next` goes on where there
    are more than SUBJECTS_AT_ONCE subjects."""

    subjects: list[SubjectEntry]
    summaries: list[str]
    next: str | None
    doors: list[Doors]
    release_tx: str | None
    deliver_tx: str | None


_PASSED = Statement(
    lambda: (
        Attempt.objects.filter(leg__job=Given("job"), leg__state=Leg.State.DONE)
        .exclude(deliver_tx="")
        .values_list("leg__channel", "leg__number", "number", "release_tx", "deliver_tx")
    )
)


def manifest(job: Job, *, after: str = "") -> Manifest:
    """The subjects of a job, and the ledger's transactions that its results stand on, home's first. A
    result's Provenance names its own release.

    Without a result there are no transactions to show: that there was a release at all would say that
    someone had said yes. Of a cohort those alone are shown whose result was delivered, and none where they
    are few.
    """
    settled = job.state in Job.SETTLED
    shown = _shown(job, after)
    following = shown[SUBJECTS_AT_ONCE - 1][0] if len(shown) > SUBJECTS_AT_ONCE else None
    entries: list[SubjectEntry] = []
    for subject, asked, output, delivered_at, review in shown[:SUBJECTS_AT_ONCE]:
        digest = output if settled and delivered_at else None
        entries.append(
            {
                "subject": subject,
                "request": asked or None,
                "state": "delivered" if digest else "not_available" if settled else "queued",
                "digest": digest,
                "review": STATUS[review or ""] if digest else None,
            }
        )
    doors: list[Doors] = []
    summaries = [] if job.kind != Job.Kind.SUMMARY else list(_summaries(job).values_list("digest", flat=True))
    if summaries or any(one["digest"] for one in entries):
        found = _PASSED.rows(job=job.pk)
        home_first = sorted(found, key=lambda one: (one[0] != HOME, one[0], one[1], -one[2]))
        doors = [{"release_tx": release, "deliver_tx": deliver} for *_, release, deliver in home_first]
    return {
        "subjects": entries,
        "summaries": summaries,
        "next": following,
        "doors": doors,
        "release_tx": doors[0]["release_tx"] if doors else None,
        "deliver_tx": doors[0]["deliver_tx"] if doors else None,
    }


# A subject's id, the request's as the client named it, its output's digest and delivery, its review.
SHOWN = ("pk", "asked", "output__digest", "output__delivered_at", "review__state")
_IN_ORDER = Statement(
    lambda: JobSubject.objects.filter(job=Given("job")).values_list(*SHOWN).order_by("number")
)


def _summaries(job: Job) -> QuerySet[Summary]:
    """Those that the client sees: of each leg one, unless it is about few."""
    about = Count("leg__subjects", filter=Q(leg__subjects__state=JobSubject.State.DELIVERED))
    found = Summary.objects.filter(leg__job=job).exclude(delivered_at=None)
    found = found.annotate(about=about).filter(about__gte=fewest_in_summary())
    return found.order_by("delivered_at", "pk") if job.state in Job.SETTLED else found.none()


def _shown(job: Job, after: str) -> list[Row]:
    """The subjects that the client sees, and one more where there are more."""
    if job.kind == Job.Kind.SUMMARY:
        return []
    if job.cohort_id is None:
        return _IN_ORDER.rows(job=job.pk)
    if job.state not in Job.SETTLED or not _are_told(job):
        return []
    delivered = job.subjects.filter(state=JobSubject.State.DELIVERED, pk__gt=after)
    return list(delivered.values_list(*SHOWN).order_by("pk")[: SUBJECTS_AT_ONCE + 1])


def _are_told(job: Job) -> bool:
    """Whether the client hears of the results at all: few of a cohort are none."""
    delivered = job.subjects.filter(state=JobSubject.State.DELIVERED)
    return job.cohort_id is None or delivered.count() >= settings.COHORT_FEWEST


def results_to_delete(cohort: Cohort) -> list[dict[str, Any]]:
    """What the requester got of patients of a cohort who ask that it be deleted, by the names it knows."""
    wanted = Deletion.objects.filter(consent__request__cohort=cohort, confirmed_at=None)
    asked = dict(wanted.values_list("consent_id", "asked_at"))
    had = JobSubject.objects.filter(
        consent__in=asked, job__cohort=cohort, state=JobSubject.State.DELIVERED
    ).exclude(job__kind=Job.Kind.SUMMARY)  # a summary has nobody's result, nor a name for anybody
    had = had.order_by("job__created_at", "pk")
    return [{"job": one.job_id, "subject": one.pk, "asked_at": asked[one.consent]} for one in had]


CLIENT_STATES = {
    State.QUEUED: "queued",
    State.RELEASING: "running",
    State.RUNNING: "running",
    State.DELIVERING: "running",
    # Whether nobody had said yes or somebody said stop is not the client's to know.
    State.DENIED: "done",
    State.STOPPED: "done",
    State.DONE: "done",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}


# Why a job waits, and what its client hears of that; of anything else: that the ledger is away.
_WAITS_FOR = {
    "": "",
    "attempt_over": "",
    "clock_went_back": "keyholder_unavailable",
    "keyholder_unavailable": "keyholder_unavailable",
    # Before any release, so they say nothing of one.
    "ledger_catching_up": "ledger_catching_up",
    "releases_held": "releases_held",
}


def client_brief(job: Job) -> dict[str, Any]:
    """A job's row as its AI client sees it. `code` says why it failed, or what it waits for."""
    waits = job.state == State.QUEUED or (job.state in Job.UNDER_WAY and job.retry_at is not None)
    state = "queued" if waits else CLIENT_STATES[State(job.state)]
    return {
        "id": job.id,
        "kind": job.kind,
        "cohort": job.cohort_id,
        "state": state,
        "code": _waits_for(job) if waits else job.error_code if state == "failed" else "",
        "model": job.model,
        "purpose": job.purpose,
        "index_date": job.index_date.isoformat(),
        "created_at": job.created_at.isoformat(),
        "settled_at": job.settled_at.isoformat() if job.settled_at else None,
        "results_until": results_until(job).isoformat() if job.settled_at else None,
    }


def _waits_for(job: Job) -> str:
    """What is away, and no more: at which step it waits would say that somebody had said yes."""
    return _WAITS_FOR.get(job.error_code, "ledger_unavailable")


def results_until(job: Job) -> datetime:
    """Until when the results of a settled job are kept. What a consent ends before that, it ends."""
    assert job.settled_at is not None
    if job.kind == Job.Kind.EXPORT:
        return job.settled_at + timedelta(hours=settings.EXPORT_HOURS)
    return job.settled_at + timedelta(days=settings.RESULT_DAYS)


def drop_old_results() -> int:
    """Delete the sealed results whose time is over; the relay calls this. Returns how many."""
    over = timezone.now() - timedelta(days=settings.RESULT_DAYS)
    results = Output.objects.filter(subject__job__kind=Job.Kind.ANALYSE)
    summaries = Summary.objects.filter(leg__job__settled_at__lt=over)
    return results.filter(subject__job__settled_at__lt=over).delete()[0] + summaries.delete()[0]


THROUGH = (JobSubject.State.COMPUTED, JobSubject.State.DELIVERED, JobSubject.State.NOT_AVAILABLE)
_COUNTED = Statement(
    lambda: (
        JobSubject.objects.filter(job=Given("job"))
        .values("job")
        .annotate(done=Count("pk", filter=Q(state__in=THROUGH)), all=Count("pk"))
        .values_list("done", "all")
    )
)


def progress(job: Job) -> tuple[int, int]:
    """How many of a job's subjects are through, and how many there are; of a cohort's, in tenths."""
    done, of = next(iter(_COUNTED.rows(job=job.pk)), (0, 0))
    return (done, of) if job.cohort_id is None else (tenths(done, of), 10)


def ask_again_in(job: Job) -> int:
    """Seconds until it is worth asking again: a quarter of the time that the job has taken, 1 to 30."""
    if job.retry_at is not None and (wait := (job.retry_at - timezone.now()).total_seconds()) > 0:
        return min(30, int(wait) + 1)
    return max(1, min(30, int((timezone.now() - job.created_at).total_seconds() / 4)))


def client_view(job: Job, *, after: str = "") -> dict[str, Any]:
    """The brief and the manifest; the next page of a cohort's subjects comes `after` the last one's id."""
    return {**client_brief(job), **manifest(job, after=after)}


def result(*, job: Job, subject: str, requester: Requester, keyholder: Keyholder | None = None) -> bytes:
    """The delivered result of one subject: a FHIR R4 Bundle as JSON bytes, opened by the keyholder.

    Raises AccessDenied (`not_available`) for everything that is not there for this requester, or no
    longer; KeyholderUnavailable and LedgerError where it cannot be known.
    """
    kept = job.settled_at is not None and timezone.now() < results_until(job)
    own = job.requester_id == requester.pk and job.state in Job.SETTLED and kept
    own = own and job.kind == Job.Kind.ANALYSE
    output = (
        Output.objects.select_related("subject__patient", "subject__request")
        .filter(subject__job=job, subject_id=subject, subject__state=JobSubject.State.DELIVERED)
        .exclude(delivered_at=None)
        .first()
    )
    if not own or output is None or not _are_told(job):
        raise AccessDenied(_("There is no result for you."), code="not_available")
    keyholder = keyholder or Keyholder(settings.KEYHOLDER_SOCKET)
    opened = open_delivered(job=job, output=output, keyholder=keyholder)
    log_sent(job=job, output=output, content=opened)
    # A consent for one time only has now had it: what it gave is read, nothing more comes.
    if output.subject.consent:
        consents.use_up(
            consents=[output.subject.consent], stop_now=lambda consent: keyholder.stop(consent=consent)
        )
    return opened


def summary(*, job: Job, digest: str, requester: Requester, keyholder: Keyholder | None = None) -> bytes:
    """A delivered summary: a FHIR R4 Bundle as JSON bytes, opened by the keyholder while the consents of all
    whom it is about hold. It is a use of each one's records, and logged as such.

    Raises as `result` does.
    """
    kept = job.settled_at is not None and timezone.now() < results_until(job)
    found = _summaries(job).filter(digest=digest).first()
    if job.requester_id != requester.pk or not kept or found is None:
        raise AccessDenied(_("There is no result for you."), code="not_available")
    keyholder = keyholder or Keyholder(settings.KEYHOLDER_SOCKET)
    about = JobSubject.objects.filter(leg=found.leg_id, state=JobSubject.State.DELIVERED)
    subjects = list(about.select_related("patient").order_by("number"))
    if not subjects:
        raise AccessDenied(_("There is no result for you."), code="not_available")
    opened = _opened(job, found, subjects, keyholder)
    used = [one.consent for one in subjects if one.consent]
    consents.use_up(consents=used, stop_now=lambda consent: keyholder.stop(consent=consent))
    return opened


def open_delivered(*, job: Job, output: Output, keyholder: Keyholder) -> bytes:
    """One delivered output in clear, opened by the keyholder after a fresh look at the ledger, and logged.

    To a requester that is suspended by now nothing is opened, whenever it was delivered.
    Raises AccessDenied (`not_available`), RefusedTransition (`suspended`), KeyholderUnavailable, LedgerError.
    """
    return _opened(job, output, [output.subject], keyholder)


def _opened(job: Job, found: Output | Summary, about: Sequence[JobSubject], keyholder: Keyholder) -> bytes:
    if not Requester.objects.filter(pk=job.requester_id, suspended_at=None).exists():
        raise RefusedTransition(_("The hospital gives you no results now. Ask it why."), code="suspended")
    try:
        opened = keyholder.open_output(job=about[0].leg_id, digest=found.digest, sealed=bytes(found.sealed))
    except AccessDenied:
        raise AccessDenied(_("There is no result for you."), code="not_available") from None
    with transaction.atomic():
        for subject in about:
            record(
                kind="result.read",
                actor=Actor.client(job.requester_id),
                subject=subject.patient.pseudonym if subject.patient else "",
                subject_id=subject.pk,
                request=subject.request_id,
                consent=subject.consent or None,
                output=found.digest,
                **details(job),
            )
    return opened
