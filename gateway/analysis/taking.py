"""Taking jobs: over patients whom the client names, over a cohort, and exports.

A job is one database transaction with its legs, its subjects and its audit row, and is handed to the broker
when that is committed. Who is unknown takes the same way as everyone else (docs/threats.md).
"""

from collections.abc import Sequence
from datetime import date

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from consent import cohorts
from consent.models import Cohort, Consent, ConsentRequest, Requester
from gateway.analysis.catalogue import find
from gateway.analysis.catalogue.summary import FEWEST, Summary
from gateway.analysis.jobs import details
from gateway.analysis.models import AIModel, Job, JobSubject, Leg
from gateway.analysis.tasks import enqueue
from ledger.audit.log import Actor, record
from ledger.client import HOME
from ledger.contract import purposes
from ledger.contract.arguments import MAX_CONSENTS
from ledger.contract.state import Json
from ledger.errors import AccessDenied, GatewayError, InvalidInput, RefusedTransition

MOST_SUBJECTS = 1000


class QuotaReached(GatewayError):
    """This requester has as many jobs under way as it may (429)."""

    code = "too_many_jobs"
    status = 429


@transaction.atomic
def submit(
    *,
    requester: Requester,
    model: str,
    purpose: str,
    use: Sequence[str],
    subjects: Sequence[str],
    index_date: date | None = None,
) -> Job:
    """Take a job: `model` by digest, `subjects` by the ids of the requester's consent requests (1 to 1,000).

    A request that is unknown or another's becomes a subject like any other, and comes to nothing.
    `index_date` (default today) is the day that the records are read for. Raises InvalidInput,
    RefusedTransition (`suspended`), QuotaReached.
    """
    index_date = index_date or timezone.localdate()
    _check_job(requester, model, purpose, use, index_date)
    if isinstance(find(model), Summary):
        raise InvalidInput("This model summarises: name a cohort, and no people.", code="cohort_only")
    return _take(
        Job(requester=requester, model=model, purpose=purpose, use=sorted(set(use)), index_date=index_date),
        _named(requester, list(dict.fromkeys(subjects))),
    )


@transaction.atomic
def submit_over_cohort(
    *,
    requester: Requester,
    cohort: str,
    kinds: Sequence[str] = (),
    given_since: date | None = None,
    index_date: date | None = None,
) -> Job:
    """Take a job over everyone of a cohort whose consent is in force, for what was asked.

    Only those whose consent gives all of `kinds` and came into force on `given_since` or later. This
    pre-selects; the contract decides. A model that summarises gives one result of them all, as of today: who
    could choose whom it is about could take one person away. Raises AccessDenied, InvalidInput
    (`whole_cohort`), RefusedTransition (`too_few`), QuotaReached.
    """
    found = Cohort.objects.filter(pk=cohort, requester=requester).first()
    if found is None:
        raise AccessDenied("There is no such cohort.", code="not_available")
    today = timezone.localdate()
    question = found.question
    _check_job(requester, question["model"], question["purpose"], question["use"], index_date or today)
    summarises = isinstance(find(question["model"]), Summary)
    if summarises and (kinds or given_since or index_date not in (None, today)):
        raise InvalidInput(
            "This model tells of the whole cohort, today: no `kinds`, `given_since` or other `index_date`.",
            code="whole_cohort",
        )
    fewest = fewest_in_summary() if summarises else settings.COHORT_FEWEST
    chosen = cohorts.in_force(found, kinds=kinds, given_since=given_since)
    if len(chosen) < fewest:
        raise RefusedTransition(f"Fewer than {fewest} of the cohort can be used so.", code="too_few")
    job = Job(
        requester=requester,
        kind=Job.Kind.SUMMARY if summarises else Job.Kind.ANALYSE,
        cohort=found,
        model=question["model"],
        purpose=question["purpose"],
        use=sorted(set(question["use"])),
        index_date=index_date or today,
    )
    return _take(job, [("", each) for each in chosen])


def fewest_in_summary() -> int:
    """So many people a summary is about, or there is none."""
    return max(FEWEST, settings.COHORT_FEWEST)


@transaction.atomic
def submit_export(
    *, requester: Requester, purpose: str, use: Sequence[str], subjects: Sequence[str], spec: Json
) -> Job:
    """Take an export, of a `spec` as exports.py makes it. Raises as `submit` does."""
    return _take(
        Job(
            requester=requester,
            kind=Job.Kind.EXPORT,
            purpose=purpose,
            use=sorted(set(use)),
            index_date=timezone.localdate(),
            spec=spec,
        ),
        _named(requester, subjects),
    )


Wanted = Sequence[tuple[str, ConsentRequest | None]]
"""Each subject's name, as the client gave it, and its question."""


def _named(requester: Requester, subjects: Sequence[str]) -> Wanted:
    """Consent requests by their ids; what is unknown or another's stays without one. Raises InvalidInput."""
    if not 1 <= len(subjects) <= MOST_SUBJECTS:
        raise InvalidInput(f"Name 1 to {MOST_SUBJECTS} consent requests.", code="subjects")
    if not all(isinstance(id, str) and 0 < len(id) <= 64 for id in subjects):
        raise InvalidInput("A consent request is named by its id.", code="subjects")
    named = ConsentRequest.objects.named_by(requester).filter(id__in=subjects).select_related("patient")
    own = {each.id: each for each in named}
    return [(id, own.get(id)) for id in subjects]


def _take(job: Job, wanted: Wanted) -> Job:
    requester = job.requester
    if requester.suspended_at:
        raise RefusedTransition("The hospital takes no jobs from you now. Ask it why.", code="suspended")
    under_way = Job.objects.filter(requester=requester).exclude(state__in=Job.SETTLED)
    if under_way.count() >= settings.JOBS_AT_ONCE:
        raise QuotaReached(
            f"{settings.JOBS_AT_ONCE} jobs of yours are under way, the most. Wait for one, or cancel one."
        )
    job.save(force_insert=True)
    JobSubject.objects.bulk_create(_subjects(job, wanted))
    record(
        kind="job.queued",
        actor=Actor.client(requester.pk),
        subjects=len(wanted),
        cohort=job.cohort_id,
        **details(job),
    )
    transaction.on_commit(lambda: enqueue(job.id), robust=True)
    return job


def _check_job(requester: Requester, model: str, purpose: str, use: Sequence[str], index_date: date) -> None:
    approved = AIModel.objects.filter(digest=model, provider=requester, state=AIModel.State.APPROVED)
    if not approved.exists():
        raise InvalidInput("This model is not registered and approved for you.", code="model_not_approved")
    find(model)
    if purpose not in purposes.KNOWN:
        raise InvalidInput("This purpose is not a v3-ActReason code.", code="unknown_purpose")
    if len(use) > 20 or not all(isinstance(code, str) and 0 < len(code) <= 40 for code in use):
        raise InvalidInput("Give at most 20 DUO codes.", code="unknown_use")
    if index_date > timezone.localdate():
        raise InvalidInput("The index date lies in the future.", code="index_date")


def _subjects(job: Job, wanted: Wanted) -> list[JobSubject]:
    """The job's subjects, each in a leg. Who is unknown goes the way of the others: with the first leg.

    A leg is one transaction at each door, and so holds no more consents than one can. Raises InvalidInput.
    """
    channels = {request.patient.channel for _, request in wanted if request is not None} or {HOME}
    model = AIModel.objects.filter(digest=job.model).first()  # an export has none
    if model is not None and not channels.isdisjoint(model.pending_on):
        raise InvalidInput("This model is not registered and approved for you.", code="model_not_approved")
    # Of nobody is asked, too: who is unknown takes the same steps.
    speak = _consents_of({"" if request is None else request.patient_id for _, request in wanted})
    legs = {channel: [_leg(job, channel, 0)] for channel in sorted(channels)}
    held = dict.fromkeys(legs, 0)
    found = []
    for number, (asked, request) in enumerate(wanted):
        channel = min(legs) if request is None else request.patient.channel
        many = max(1, speak.get(request.patient_id, 0)) if request is not None else 1
        if held[channel] + many > MAX_CONSENTS and held[channel]:
            legs[channel].append(_leg(job, channel, len(legs[channel])))
            held[channel] = 0
        held[channel] += many
        patient = None if request is None else request.patient_id
        leg = legs[channel][-1]
        found.append(
            JobSubject(job=job, leg=leg, number=number, asked=asked, request=request, patient_id=patient)
        )
    return found


def _leg(job: Job, channel: str, number: int) -> Leg:
    first = {"id": job.id} if (channel, number) == (HOME, 0) else {}
    return Leg.objects.create(job=job, channel=channel, number=number, **first)


def _consents_of(patients: set[str]) -> dict[str, int]:
    """How many consents of each patient may speak at a door: those on the ledger, to whomever."""
    on_ledger = Consent.objects.filter(patient__in=patients).exclude(
        ledger_state__in=(Consent.LedgerState.NONE, Consent.LedgerState.HELD, Consent.LedgerState.REFUSED)
    )
    return dict(on_ledger.values_list("patient").annotate(many=Count("pk")).order_by())
