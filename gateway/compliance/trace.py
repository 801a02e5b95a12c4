"""Trace: from a record to everything that used it, and back, as with a lot of food that is called back.

Which sealed packets a job was given is in the keyholder's log of openings, each row proved by the ledger;
whose job it was, by which model, and what came of it is in the jobs' rows, which reconciliation holds against
releases, deliveries and the audit log; which packets held a record is in records/whereabouts.py
(docs/adr/0020-trace.md).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from consent.models import Patient, Requester
from gateway.analysis.models import AIModel, Job, JobSubject, Output, ResultReview
from gateway.emergency.models import Emergency
from gateway.keyholder.client import Keyholder
from gateway.records.models import Moved, OwnCopy
from gateway.records.whereabouts import sealed_from, standing, whereabouts
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput

AT_ONCE = 2_000
AS_FILED = frozenset({"job", "model", "client"})  # what reads whole jobs, by what the keyholder has filed

Place = tuple[str, str | None]
Opened = Callable[[Sequence[Place]], Iterable[Iterable[str]]]
"""The packets opened for each of these places, in their order."""


@dataclass(frozen=True, slots=True)
class Traced:
    """One use of one patient's records: by a job, or by a person (`kind` is emergency or own_copy).

    `key` is the job's subject or the access; `records` the sealed packets that were opened for it, as
    `chunk/version`; `output` the digest of the sealed result, which of a summary is that of all whom it is
    about, "" where none is known here any more (the ledger's `deliver/<leg>` has it). `patient` is None once
    she was erased. `held`: whether what was opened held the record that is traced, yes or maybe. What does
    not apply is empty.
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
    held: str = ""

    def as_json(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in self.__slots__}
        told |= {"at": _time(self.at), "delivered_at": _time(self.delivered_at), "records": [*self.records]}
        return {name: value for name, value in told.items() if value not in ("", None)}


# From where a trace begins


def of_record(reference: str, keyholder: Keyholder, patient: Patient | None = None) -> Iterator[Traced]:
    """Every use for which a packet was opened that held this record: `Type/id`, or one version of it.

    `held` says whether the packet held it for certain. Raises InvalidInput (`record_reference`,
    `unknown_record`) at once, KeyholderUnavailable.
    """
    places = whereabouts(reference, keyholder=keyholder, patient=patient)
    return (
        replace(use, held=held)
        for place in places
        for use in of_patient(place.patient, keyholder)
        if (held := place.held_by(_packets(use)))
    )


def of_packet(chunk: str, keyholder: Keyholder) -> Iterator[Traced]:
    """Every use for which this sealed packet was opened. Raises InvalidInput (`unknown_packet`).

    A packet that a regrouping sealed holds lines of others: uses of those count too, since a trace may name
    a use too many, and none too few.
    """
    patient = patient_of_packet(chunk)
    if patient is None:
        raise InvalidInput(_("There is no sealed packet of a patient with this id."), code="unknown_packet")
    sources = sealed_from({chunk})
    is_lost = any("" in each for each in sources.values())
    stands = standing(patient)
    for use in of_patient(patient, keyholder):
        opened = _packets(use)
        if opened & sources.keys() or (is_lost and opened - stands):
            yield use


def patient_of_packet(chunk: str) -> Patient | None:
    """Whose it is, or was before it was sealed again."""
    moved = Moved.objects.filter(old=chunk).values("patient")
    return Patient.objects.filter(Q(chunks=chunk) | Q(pk__in=moved)).distinct().first()


def _packets(use: Traced) -> set[str]:
    return {record.partition("/")[0] for record in use.records}


def of_patient(patient: Patient, keyholder: Keyholder) -> Iterator[Traced]:
    """Every use of this patient's records, jobs first, each oldest first."""
    opened = partial(_by_place, keyholder)
    yield from _by_jobs(JobSubject.objects.filter(patient=patient), opened)
    yield from _by_people(patient, opened)


def of_job(job: str, keyholder: Keyholder) -> Iterator[Traced]:
    return _by_jobs(JobSubject.objects.filter(job=job), _ByJob(keyholder))


def of_model(digest: str, keyholder: Keyholder) -> Iterator[Traced]:
    """Everything that this version of a model was given, and what came of it."""
    return _by_jobs(JobSubject.objects.filter(job__model=digest), _ByJob(keyholder))


def of_output(digest: str, keyholder: Keyholder) -> Iterator[Traced]:
    """The use that a sealed result came of, by the result's digest."""
    return of_subjects(JobSubject.objects.filter(pk__in=subjects_of_output(digest)), keyholder)


def of_requester(requester: UUID, keyholder: Keyholder) -> Iterator[Traced]:
    return _by_jobs(JobSubject.objects.filter(job__requester=requester), _ByJob(keyholder))


def of_subjects(subjects: QuerySet[JobSubject], keyholder: Keyholder) -> Iterator[Traced]:
    """Those that a release let in, by the time of the job: of what was refused, nothing was opened."""
    return _by_jobs(subjects, partial(_by_place, keyholder))


def without_records(subjects: QuerySet[JobSubject]) -> Iterator[Traced]:
    """The same for whoever cannot ask the keyholder: nothing is said of what was opened."""
    return _by_jobs(subjects, lambda places: [()] * len(places))


def subjects_of_output(digest: str) -> list[str]:
    """Of a result that is kept, and of one that is deleted and was judged."""
    kept = Output.objects.filter(digest=digest).values_list("subject_id", flat=True)
    summed = JobSubject.objects.filter(leg__summary__digest=digest, state=JobSubject.State.DELIVERED)
    judged = ResultReview.objects.filter(output=digest).values_list("subject_id", flat=True)
    return sorted({*kept, *judged, *summed.values_list("pk", flat=True)})


# From what a trace may begin, but for a record: whether such a one is known here by its id. Of a result that
# was deleted before anybody judged it, the ledger alone knows.
KNOWN: Mapping[str, Callable[[str], bool]] = {
    "patient": lambda id: Patient.objects.filter(pk=id).exists(),
    "job": lambda id: Job.objects.filter(pk=id).exists(),
    "model": lambda id: AIModel.objects.filter(pk=id).exists(),
    "output": lambda id: bool(subjects_of_output(id)),
    "packet": lambda id: patient_of_packet(id) is not None,
    "client": lambda id: Requester.objects.filter(pk=id).exists(),
}


# What it meets

_COLUMNS = (
    "pk", "leg_id", "job_id", "patient_id", "state", "consent", "output__digest", "output__delivered_at",
    "review__output", "review__state", "leg__summary__digest", "leg__summary__delivered_at",
)  # fmt: skip


def _by_jobs(subjects: QuerySet[JobSubject], opened: Opened) -> Iterator[Traced]:
    """Each with what was opened for it, in any attempt. Raises KeyholderUnavailable, EnvelopeError."""
    rows = subjects.exclude(consent="").order_by("job__created_at", "job", "number").values_list(*_COLUMNS)
    for page in _pages(rows.iterator(chunk_size=AT_ONCE)):
        jobs = {
            one.pk: (one.kind, one.created_at, one.model, str(one.requester_id))
            for one in Job.objects.filter(pk__in={row[2] for row in page})
        }
        reads = _readings([row[0] for row in page])
        found = opened([(row[1], row[0]) for row in page])
        for row, records in zip(page, found, strict=True):
            key, leg, job, patient, state, consent, digest, delivered, judged, review, *summary = row
            kind, at, model, requester = jobs[job]
            if kind == Job.Kind.SUMMARY and state == JobSubject.State.DELIVERED:
                digest, delivered = summary
            yield Traced(
                key, kind, at, patient, state, job, leg, model, requester, consent, digest or judged or "",
                delivered, reads.get(key, 0), review or "", tuple(records),
            )  # fmt: skip


def _readings(subjects: Sequence[str]) -> dict[str, int]:
    """How often each subject's result was read by whom it was sent to, where it was: staff read it too."""
    rows = AuditRow.objects.filter(kind="result.read", step_of__in=subjects).values_list("step_of", "line")
    lines = rows.order_by().iterator(chunk_size=2000)
    return Counter(of for of, line in lines if orjson.loads(bytes(line))["actor"]["kind"] == "client")


def _by_people(patient: Patient, opened: Opened) -> Iterator[Traced]:
    found = [
        Traced(one.pk, "emergency", one.opened_at, patient.pk, state=one.state)
        for one in Emergency.objects.filter(patient=patient).order_by("opened_at")
    ] + [
        Traced(one.pk, "own_copy", one.asked_at, patient.pk, state=one.state)
        for one in OwnCopy.objects.filter(patient=patient).order_by("asked_at")
    ]
    for use, records in zip(found, opened([(use.key, None) for use in found]), strict=True):
        yield replace(use, records=tuple(records))


# What was opened for it


def _by_place(keyholder: Keyholder, places: Sequence[Place]) -> Iterable[Iterable[str]]:
    """Of a few subjects of each job: row by row of the keyholder's log, by its index."""
    opened: dict[Place, dict[str, None]] = {place: {} for place in places}
    for one in keyholder.openings_of(places=places):
        if one["ground"] != "output":
            opened[one["reference"], one["subject"]].update(dict.fromkeys(one["opened"]))
    return opened.values()


class _ByJob:
    """Of whole jobs: as the keyholder has its log filed. The last job's stays for the next page."""

    def __init__(self, keyholder: Keyholder) -> None:
        self._keyholder = keyholder
        self._known: dict[str, dict[str | None, Iterable[str]]] = {}
        self._is_filed = False

    def __call__(self, places: Sequence[Place]) -> Iterable[Iterable[str]]:
        if not self._is_filed:
            self._keyholder.file_openings()
            self._is_filed = True
        legs = dict.fromkeys(leg for leg, _ in places)
        self._known = {leg: self._known.get(leg, {}) for leg in legs}
        asked = [leg for leg in legs if not self._known[leg]]
        for leg, openings in self._keyholder.filed_openings(references=asked):
            of = self._known[leg]
            for subject, ground, opened in openings:
                if ground != "output":
                    of[subject] = dict.fromkeys((*of[subject], *opened)) if subject in of else opened
        return [self._known[leg].get(subject, ()) for leg, subject in places]


def _pages(found: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(found)
    while page := list(islice(left, AT_ONCE)):
        yield page


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# What a trace comes to


class Totals:
    """How much a trace met: distinct patients, jobs, records and results; models by how many uses.

    `of_record`: it began at a record, and `held` counts the uses that opened a packet which held it for
    certain.
    """

    def __init__(self, *, of_record: bool = False) -> None:
        self.uses = self.held = 0
        self.models: Counter[str] = Counter()
        self._of_record = of_record
        self._seen: dict[str, set[str]] = {
            "patients": set(), "jobs": set(), "records": set(), "results": set(),
        }  # fmt: skip

    def add(self, use: Traced) -> None:
        self.uses += 1
        if use.delivered_at is not None or use.state == JobSubject.State.DELIVERED:
            # A leg's summary is one result, however many it is about.
            self._seen["results"].add(use.leg if use.kind == Job.Kind.SUMMARY else use.key)
        self.held += use.held == "yes"
        if use.patient:
            self._seen["patients"].add(use.patient)
        if use.job:
            self._seen["jobs"].add(use.job)
        if use.kind in (Job.Kind.ANALYSE, Job.Kind.SUMMARY):
            self.models[use.model] += 1
        self._seen["records"].update(use.records)

    def as_json(self) -> dict[str, Any]:
        counts = {name: len(each) for name, each in self._seen.items()}
        told = {"uses": self.uses, **counts, "models": dict(self.models)}
        return {**told, "held": self.held} if self._of_record else told
