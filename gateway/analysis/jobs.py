"""The job state machine: who runs a job, until when, and what they may still write.

    queued → releasing → running → delivering → done
                 └ denied    └ stopped └ stopped      failed and cancelled from anywhere before done

A worker claims a job for a lease and gets a fencing token, a number that only grows. Every write of a
worker goes through `held`, which checks that number under the row's lock: a worker that was thought
dead and comes back can change nothing. Each change of state is one conditional UPDATE.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.utils import timezone

from gateway.accounts import webhooks
from gateway.analysis.models import Attempt, Job, JobSubject, Leg, Output, Summary
from ledger.audit.log import Actor, record
from ledger.errors import GatewayError, RefusedTransition

WORKER = Actor.system("worker")
State = Job.State

MOST_LOST = 5  # claims that may end without a word before the job is given up
FRESH = timedelta(seconds=10)  # so long a lease that was extended is not extended again
ENQUEUE_AGAIN = timedelta(seconds=30)
LONGEST_PAUSE = 60  # seconds between tries while a part of the system is down
RECOVER_AT_ONCE = 500

log = logging.getLogger(__name__)


class ClaimLost(RefusedTransition):
    """Another worker has the job by now, or it is settled: stop, write nothing."""

    code = "claim_lost"


class CancelRequested(RefusedTransition):
    """The client cancelled the job while it ran."""

    code = "job_cancelled"


@dataclass(frozen=True)
class Claim:
    """The right to run one job, as long as `fence` is the highest and the lease lasts."""

    job: str
    fence: int


def claim(job_id: str) -> Claim | None:
    """Take a job that waits or whose worker is lost. None when there is nothing to take.

    A job that was delivering stays so: its delivery may be on the ledger already and is repeated.
    """
    now = timezone.now()
    with transaction.atomic():
        taken = _due(now).filter(pk=job_id)
        changed = taken.update(
            state=Case(
                When(state=State.DELIVERING, then=Value(State.DELIVERING.value)),
                default=Value(State.RELEASING.value),
            ),
            lost=F("lost") + Case(When(state=State.QUEUED, then=0), default=1),
            fence=F("fence") + 1,
            lease_until=now + _lease(),
            retry_at=None,
        )
        if not changed:
            return None
        job = Job.objects.get(pk=job_id)
        mine = Claim(job_id, job.fence)
    if job.lost > MOST_LOST:
        settle(mine, State.FAILED, code="worker_lost")
        return None
    return mine


def _due(now: datetime) -> QuerySet[Job]:
    waiting = Q(state=State.QUEUED) & (Q(retry_at=None) | Q(retry_at__lte=now))
    return Job.objects.filter(waiting | Q(state__in=Job.UNDER_WAY, lease_until__lt=now))


def _lease() -> timedelta:
    return timedelta(seconds=settings.JOB_LEASE_SECONDS)


@contextmanager
def held(mine: Claim) -> Iterator[Job]:
    """One database transaction under the claim, with the job's row locked. Raises ClaimLost."""
    with transaction.atomic():
        renew(mine)
        yield Job.objects.select_related("requester").get(pk=mine.job)


def renew(mine: Claim) -> None:
    """Extend the lease. Raises ClaimLost."""
    if not _current(mine).update(lease_until=timezone.now() + _lease()):
        raise ClaimLost("Another worker has this job, or it is settled.")


def _current(mine: Claim) -> QuerySet[Job]:
    """The job, while the claim on it holds."""
    return Job.objects.filter(pk=mine.job, fence=mine.fence, state__in=Job.UNDER_WAY)


def keep_going(mine: Claim) -> None:
    """Between two chunks: heed a cancellation, and extend the lease. Raises ClaimLost, CancelRequested.

    A lease that was extended just now is left: a write waits for the disk, and a chunk is read in less.
    """
    found = _current(mine).values_list("cancel_requested", "lease_until").first()
    if found is not None and found[0]:
        raise CancelRequested("The client cancelled this job.")
    if found is None or found[1] is None or found[1] < timezone.now() + _lease() - FRESH:
        renew(mine)


def move(job: Job, to: State) -> None:
    """Change the state of a held job."""
    Job.objects.filter(pk=job.pk).update(state=to)
    job.state = to


def begin_attempt(mine: Claim, leg: Leg) -> Attempt:
    """The leg's attempt whose release comes next. Results of an earlier one are dropped: they cannot be
    delivered.

    The ledger numbers attempts without a gap, so a number whose release is not known to stand is used again.
    """
    with held(mine) as job:
        if job.cancel_requested:
            raise CancelRequested("The client cancelled this job.")
        move(job, State.RELEASING)
        Output.objects.filter(subject__leg=leg).delete()
        Summary.objects.filter(leg=leg).delete()
        live = leg.subjects.exclude(state=JobSubject.State.NOT_AVAILABLE)
        live.update(state=JobSubject.State.QUEUED)
        last = leg.attempts.order_by("-number").first()
        if last is not None and not last.release_tx:
            last.started_at, last.ended_at, last.end = timezone.now(), None, ""
            last.save(update_fields=["started_at", "ended_at", "end"])
            return last
        return leg.attempts.create(number=1 if last is None else last.number + 1)


def move_leg(leg: Leg, to: Leg.State) -> None:
    """Change the state of a leg of a held job."""
    Leg.objects.filter(pk=leg.pk).update(state=to)
    leg.state = to


def end_leg(job: Job, leg: Leg, to: Leg.State) -> None:
    """The leg's end, within the caller's `held`; with the last one comes the job's.

    Until then its client sees no result: who saw some earlier could tell apart what `not_available` hides.
    """
    move_leg(leg, to)
    leg.attempts.filter(ended_at=None).update(ended_at=timezone.now(), end=to)
    ends = set(job.legs.values_list("state", flat=True))
    if ends.isdisjoint(Leg.UNDER_WAY):
        first = next(end for end in (Leg.State.DONE, Leg.State.STOPPED, Leg.State.DENIED) if end in ends)
        settle_held(job, State(first))


def settle(mine: Claim, to: State, *, code: str = "") -> None:
    """The job's end. What was computed and not delivered is dropped. Raises ClaimLost."""
    with held(mine) as job:
        settle_held(job, to, code=code)


def settle_held(job: Job, to: State, *, code: str = "") -> None:
    """As `settle`, within the caller's `held`."""
    close(job, to, code=code)
    kinds = {
        State.DENIED: "job.denied",
        State.STOPPED: "job.stopped",
        State.FAILED: "job.failed",
        State.CANCELLED: "job.cancelled",
    }
    if to in kinds:
        record(kind=kinds[to], actor=WORKER, code=code or None, **details(job))


def close(job: Job, to: State, *, code: str = "") -> None:
    """Write the end of a job whose row the caller has locked."""
    now = timezone.now()
    Job.objects.filter(pk=job.pk).update(
        state=to, error_code=code[:60], lease_until=None, retry_at=None, settled_at=now
    )
    job.state, job.error_code, job.settled_at = to, code[:60], now
    Attempt.objects.filter(leg__job=job, ended_at=None).update(ended_at=now, end=(code or to)[:60])
    JobSubject.objects.filter(job=job).exclude(state=JobSubject.State.DELIVERED).update(
        state=JobSubject.State.NOT_AVAILABLE
    )
    Output.objects.filter(subject__job=job, delivered_at=None).delete()
    Summary.objects.filter(leg__job=job, delivered_at=None).delete()
    webhooks.tell(requester=job.requester_id, event="job.updated", job=job.id)


def put_back(mine: Claim, error: GatewayError) -> None:
    """Something that the job needs is down: it waits, longer each time, and `recover` finds it.

    A leg whose delivery was begun stays so: it is only ever repeated.
    """
    with held(mine) as job:
        delivering = job.legs.filter(state=Leg.State.DELIVERING).exists()
        until = timezone.now() + timedelta(seconds=min(LONGEST_PAUSE, 2 ** min(job.fence, 6)))
        Job.objects.filter(pk=job.pk).update(
            state=State.DELIVERING if delivering else State.QUEUED,
            error_code=error.code[:60],
            lease_until=until if delivering else None,
            retry_at=until,
            lost=0,
            enqueued_at=None,
        )


def recover() -> int:
    """Hand to the broker what waits, and what a worker left: the table knows, whatever the broker lost.

    Called by the relay every few seconds. Returns how many were handed over.
    """
    from gateway.analysis.tasks import enqueue

    now = timezone.now()
    unheard = Q(enqueued_at=None) | Q(enqueued_at__lt=now - ENQUEUE_AGAIN)
    due = _due(now).filter(unheard).order_by("created_at").values_list("pk", flat=True)
    return sum(enqueue(job_id) for job_id in due[:RECOVER_AT_ONCE])


def details(job: Job) -> dict[str, Any]:
    """What an audit row says of a job."""
    return {
        "job": job.id,
        "requester": str(job.requester_id),
        "purpose": job.purpose,
        "model": job.model or None,
    }
