"""Trace: from a record to everything that used it, and back, as with a lot of food that is called back.

Nothing is kept for it. Which sealed records a job was given is in the keyholder's log of openings, each row
proved by the ledger; whose job it was, by which model, and what came of it is in the jobs' rows, which
reconciliation holds against releases, deliveries and the audit log (docs/adr/0020-trace.md).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _

from consent.models import Patient
from gateway.analysis.models import Job, JobSubject, Output, ResultReview
from gateway.emergency.models import Emergency
from gateway.keyholder.client import Keyholder, OpeningOf
from gateway.records.models import Chunk, OwnCopy
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput

AT_ONCE = 2_000

Place = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Traced:
    """One use of one patient's records: by a job, or by a person (`kind` is emergency or own_copy).

    `key` is the job's subject or the access; `records` the sealed packets that were opened for it, as
    `chunk/version`; `output` the digest of the sealed result, "" where none is known here any more (the
    ledger's `deliver/<leg>` has it). `patient` is None once she was erased. What does not apply is empty.
    """

    key: str
    kind: str
    at: datetime
    patient: str | None
    state: str = ""
    job: str = ""
    leg: str = ""
    model: str = ""
    requester: str = ""
    consent: str = ""
    output: str = ""
    delivered_at: datetime | None = None
    read: int = 0
    review: str = ""
    records: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """Where the keyholder's log has it."""
        return (self.leg, self.key) if self.leg else (self.key, None)

    def as_json(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in self.__slots__}
        told |= {"at": _time(self.at), "delivered_at": _time(self.delivered_at), "records": [*self.records]}
        return {name: value for name, value in told.items() if value not in ("", None)}


# From where a trace begins


def of_record(chunk: str, keyholder: Keyholder) -> Iterator[Traced]:
    """Every use for which this sealed packet was opened. Raises InvalidInput (`unknown_record`).

    A packet that a regrouping sealed holds lines of packets that stand no more, and nobody keeps which: uses
    of any such packet of this patient count too, since a trace may name a use too many, and none too few.
    """
    found = Chunk.objects.filter(pk=chunk).select_related("patient").first()
    if found is None or found.patient is None:
        raise InvalidInput(_("There is no sealed record of a patient with this id."), code="unknown_record")
    standing = {*Chunk.objects.filter(patient=found.patient, retired_at=None).values_list("pk", flat=True)}
    for use in of_patient(found.patient, keyholder):
        opened = {record.partition("/")[0] for record in use.records}
        if chunk in opened or (found.act and opened - standing):
            yield use


def of_patient(patient: Patient, keyholder: Keyholder) -> Iterator[Traced]:
    """Every use of this patient's records, jobs first, each oldest first."""
    yield from of_subjects(JobSubject.objects.filter(patient=patient), keyholder)
    yield from _with_records(_by_people(patient), keyholder)


def of_job(job: str, keyholder: Keyholder) -> Iterator[Traced]:
    return of_subjects(JobSubject.objects.filter(job=job), keyholder)


def of_model(digest: str, keyholder: Keyholder) -> Iterator[Traced]:
    """Everything that this version of a model was given, and what came of it."""
    return of_subjects(JobSubject.objects.filter(job__model=digest), keyholder)


def of_output(digest: str, keyholder: Keyholder) -> Iterator[Traced]:
    """The use that a sealed result came of, by the result's digest."""
    return of_subjects(JobSubject.objects.filter(pk__in=subjects_of_output(digest)), keyholder)


def of_requester(requester: UUID, keyholder: Keyholder) -> Iterator[Traced]:
    return of_subjects(JobSubject.objects.filter(job__requester=requester), keyholder)


def of_subjects(subjects: QuerySet[JobSubject], keyholder: Keyholder) -> Iterator[Traced]:
    """Those that a release let in, by the time of the job: of what was refused, nothing was opened."""
    return _with_records(_by_jobs(subjects), keyholder)


def without_records(subjects: QuerySet[JobSubject]) -> Iterator[Traced]:
    """The same for whoever cannot ask the keyholder: nothing is said of what was opened."""
    return _by_jobs(subjects)


def subjects_of_output(digest: str) -> list[str]:
    """Of a result that is kept, and of one that is deleted and was judged."""
    kept = Output.objects.filter(digest=digest).values_list("subject_id", flat=True)
    summed = JobSubject.objects.filter(leg__summary__digest=digest, state=JobSubject.State.DELIVERED)
    judged = ResultReview.objects.filter(output=digest).values_list("subject_id", flat=True)
    return sorted({*kept, *judged, *summed.values_list("pk", flat=True)})


# What it meets

_COLUMNS = (
    "pk", "job__kind", "job__created_at", "patient_id", "state", "job_id", "leg_id", "job__model",
    "job__requester_id", "consent", "output__digest", "output__delivered_at", "review__output",
    "review__state",
)  # fmt: skip


def _by_jobs(subjects: QuerySet[JobSubject]) -> Iterator[Traced]:
    rows = subjects.exclude(consent="").order_by("job__created_at", "job", "number").values_list(*_COLUMNS)
    for page in _pages(rows.iterator(chunk_size=AT_ONCE)):
        reads = _readings([row[0] for row in page])
        for (
            key, kind, at, patient, state, job, leg, model, requester, consent, digest, delivered, judged,
            review,
        ) in page:  # fmt: skip
            yield Traced(
                key, kind, at, patient, state, job, leg, model, str(requester), consent,
                digest or judged or "", delivered, reads[key], review or "",
            )  # fmt: skip


def _readings(subjects: list[str]) -> Counter[str]:
    """How often each subject's result was read."""
    rows = AuditRow.objects.filter(kind="result.read", step_of__in=subjects).order_by().values("step_of")
    return Counter(dict(rows.annotate(times=Count("pk")).values_list("step_of", "times")))


def _by_people(patient: Patient) -> Iterator[Traced]:
    for emergency in Emergency.objects.filter(patient=patient).order_by("opened_at"):
        yield Traced(emergency.pk, "emergency", emergency.opened_at, patient.pk, state=emergency.state)
    for copy in OwnCopy.objects.filter(patient=patient).order_by("asked_at"):
        yield Traced(copy.pk, "own_copy", copy.asked_at, patient.pk, state=copy.state)


def _with_records(uses: Iterator[Traced], keyholder: Keyholder) -> Iterator[Traced]:
    """Each with what was opened for it, in any attempt. Raises KeyholderUnavailable, EnvelopeError."""
    for page in _pages(uses):
        opened: dict[Place, dict[str, None]] = {}
        for one in keyholder.openings_of(places=[use.place for use in page]):
            if one["ground"] != "output":
                opened.setdefault(_place(one), {}).update(dict.fromkeys(one["opened"]))
        for use in page:
            yield replace(use, records=tuple(opened.get(use.place, ())))


def _place(one: OpeningOf) -> Place:
    return one["reference"], one["subject"]


def _pages(found: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(found)
    while page := list(islice(left, AT_ONCE)):
        yield page


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# What a trace comes to


class Summary:
    """How much a trace met: distinct patients, jobs, records and results; models by how many uses."""

    def __init__(self) -> None:
        self.uses = self.results = 0
        self.models: Counter[str] = Counter()
        self._seen: dict[str, set[str]] = {"patients": set(), "jobs": set(), "records": set()}

    def add(self, use: Traced) -> None:
        self.uses += 1
        self.results += use.delivered_at is not None or use.state == JobSubject.State.DELIVERED
        if use.patient:
            self._seen["patients"].add(use.patient)
        if use.job:
            self._seen["jobs"].add(use.job)
        if use.kind in (Job.Kind.ANALYSE, Job.Kind.SUMMARY):
            self.models[use.model] += 1
        self._seen["records"].update(use.records)

    def as_json(self) -> dict[str, Any]:
        counts = {name: len(each) for name, each in self._seen.items()}
        return {"uses": self.uses, "results": self.results, **counts, "models": dict(self.models)}
