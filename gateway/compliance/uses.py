"""Every use of a patient's records as the audit log has it, with the names that our own tables give.

A use is all steps of one: a job's release, its result, each reading of that; an emergency; an own copy.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from consent.models import Consent, Patient, Requester
from gateway.analysis.models import Job, JobSubject
from gateway.emergency.models import Emergency
from ledger.audit.merkle import leaf_hash
from ledger.audit.models import AuditRow

RELEASED, DELIVERED = "job.released", "job.delivered"
EMERGENCY, OWN_COPY = "access.emergency", "access.subject"
BLOCKED = frozenset({"job.denied", "job.stopped"})
OPENED = frozenset({RELEASED, EMERGENCY, OWN_COPY})
STEPS = frozenset(
    {
        *OPENED, *BLOCKED, DELIVERED, "result.read", "result.accepted", "result.rejected", "result.withdrawn",
        "emergency.read", "emergency.ended", "emergency.reviewed",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One row of the log; `leaf` is its place there, None until it is sealed; `leaf_hash` is in hex."""

    kind: str
    at: datetime
    leaf: int | None
    leaf_hash: str
    details: dict[str, Any]
    actor: dict[str, str]


@dataclass(frozen=True)
class Use:
    """`key` is what its steps have in common in the log. What is None does not apply, or is not known."""

    key: str
    steps: Sequence[Step]
    patient: Patient | None
    requester: Requester | None
    consent: Consent | None
    emergency: Emergency | None
    exports: bool  # a de-identified copy, and not a result
    leg: str  # the job's id on the ledger of the patient's channel, or ""

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(step.kind for step in self.steps)

    @property
    def told(self) -> dict[str, Any]:
        """The details of all steps, the newest last word."""
        return {name: value for step in self.steps for name, value in step.details.items()}

    @property
    def purpose(self) -> str:
        return str(self.told.get("purpose", ""))

    def at(self, *kinds: str) -> datetime | None:
        """When the first step of these kinds was."""
        return next((step.at for step in self.steps if step.kind in kinds), None)

    @property
    def when(self) -> datetime:
        """When something left; else when it began."""
        return self.at(DELIVERED) or self.steps[0].at


def between(since: date | None, until: date | None) -> dict[str, datetime]:
    """These days, both included, in the hospital's time zone: bounds for rows of the log."""
    bounds = {}
    if since is not None:
        bounds["recorded_at__gte"] = timezone.make_aware(datetime.combine(since, time.min))
    if until is not None:
        bounds["recorded_at__lte"] = timezone.make_aware(datetime.combine(until, time.max))
    return bounds


def uses_of(patient: Patient, *, since: date | None = None, until: date | None = None) -> list[Use]:
    """All that have a step within these days, oldest first, each with all its steps."""
    rows = AuditRow.objects.filter(subject=patient.pseudonym, kind__in=STEPS).order_by("pk")
    bounds = between(since, until)
    return [
        use
        for use in read(rows)
        if all(
            (name.endswith("gte") and use.steps[-1].at >= bound)
            or (name.endswith("lte") and use.steps[0].at <= bound)
            for name, bound in bounds.items()
        )
    ]


def read(rows: QuerySet[AuditRow]) -> list[Use]:
    """The uses that these rows tell of, in the order of their first rows."""
    steps: dict[str, list[Step]] = {}
    for row in rows.iterator():
        line = json.loads(bytes(row.line))
        hashed = leaf_hash(bytes(row.line)).hex()
        step = Step(row.kind, row.recorded_at, row.leaf, hashed, line["details"], line["actor"])
        steps.setdefault(row.step_of or str(row.pk), []).append(step)
    told = [step.details for each in steps.values() for step in each]
    consents = Consent.objects.select_related(
        "request__requester", "request__notice", "patient", "representative", "notice", "scan"
    )
    requesters = Requester.objects.in_bulk([UUID(id) for id in _named(told, "requester")])
    given = consents.in_bulk(_named(told, "consent"))
    emergencies = Emergency.objects.in_bulk(_named(told, "access"))
    jobs = Job.objects.in_bulk(_named(told, "job"))
    subjects = JobSubject.objects.select_related("patient").in_bulk(list(steps))
    found = []
    for key, each in steps.items():
        all_told = {name: value for step in each for name, value in step.details.items()}
        subject, job = subjects.get(key), jobs.get(all_told.get("job", ""))
        requester = all_told.get("requester")
        found.append(
            Use(
                key=key,
                steps=each,
                patient=subject.patient if subject else None,
                requester=requesters.get(UUID(requester)) if requester else None,
                consent=given.get(all_told.get("consent", "")),
                emergency=emergencies.get(all_told.get("access", "")),
                exports=job is not None and job.kind == Job.Kind.EXPORT,
                leg=subject.leg_id if subject else "",
            )
        )
    return found


def _named(told: Iterable[dict[str, Any]], field: str) -> list[str]:
    return sorted({each[field] for each in told if field in each})
