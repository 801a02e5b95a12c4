"""What an AI client did with records, by the audit log: what was delivered to it, and what it then read.

Only its own, and only what it knows already: a subject that came to nothing is in none of it, nor is a cohort
of which it was told no result.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.conf import settings
from django.db.models import Count, Q, QuerySet

from consent.models import Requester
from gateway.analysis.models import Job, JobSubject
from ledger.audit.merkle import leaf_hash
from ledger.audit.models import AuditRow

KINDS = ("job.delivered", "result.read")
AT_ONCE = 200


@dataclass(frozen=True)
class Use:
    """One row of the log. `id` is its leaf's hash in hex; `details` and `kind` are the line's."""

    id: str
    kind: str
    at: datetime
    details: dict[str, Any]
    subject: JobSubject

    @property
    def mark(self) -> str:
        """Where a page ends: says nothing of how much else was logged."""
        return f"{self.subject.pk}.{self.id}"


def told_subjects(requester: Requester) -> QuerySet[JobSubject]:
    """The subjects whose results this client was shown."""
    delivered = JobSubject.objects.filter(
        job__requester=requester, job__state__in=Job.SETTLED, state=JobSubject.State.DELIVERED
    ).exclude(job__kind=Job.Kind.SUMMARY)  # of which it was told no subject
    of_cohorts = delivered.filter(job__cohort__isnull=False).order_by().values("job")
    many = of_cohorts.annotate(many=Count("pk")).filter(many__gte=settings.COHORT_FEWEST).values("job")
    return delivered.filter(Q(job__cohort=None) | Q(job__in=many))


def uses_of(
    requester: Requester,
    *,
    subject: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    after: str = "",
) -> Iterator[Use]:
    """Newest first: of one subject, from `since` on, before `until`, after the mark of a page's last one."""
    subjects = told_subjects(requester)
    if subject:
        subjects = subjects.filter(pk=subject)
    rows = AuditRow.objects.filter(kind__in=KINDS, step_of__in=subjects.values("pk"))
    if since is not None:
        rows = rows.filter(recorded_at__gte=since)
    if until is not None:
        rows = rows.filter(recorded_at__lt=until)
    if after:
        last = _find(subjects, after)
        rows = rows.none() if last is None else rows.filter(pk__lt=last)
    before: int | None = None
    while page := list((rows if before is None else rows.filter(pk__lt=before)).order_by("-pk")[:AT_ONCE]):
        before = page[-1].pk
        known = subjects.select_related("job", "job__requester", "request").in_bulk(
            [row.step_of for row in page]
        )
        for row in page:
            line = orjson.loads(bytes(row.line))
            if row.step_of in known and (row.kind == "job.delivered" or line["actor"]["kind"] == "client"):
                subject_row = known[row.step_of]
                yield Use(_id(row), row.kind, row.recorded_at, line["details"], subject_row)


def _find(subjects: QuerySet[JobSubject], mark: str) -> int | None:
    """The row of a mark."""
    subject, _dot, id = mark.partition(".")
    if not subjects.filter(pk=subject).exists():
        return None
    rows = AuditRow.objects.filter(kind__in=KINDS, step_of=subject)
    return next((row.pk for row in rows if _id(row) == id), None)


def _id(row: AuditRow) -> str:
    return leaf_hash(bytes(row.line)).hex()
