"""Taking records in: no file with a fault, each version of a resource once.

A file is read and checked to its end (`intake.py`), sealed outside the database (`sealing.py`), and
then kept in one short transaction. A large one is checked whole, and then sealed and kept section by section,
so that neither memory nor what an interruption costs grows with it. Only after a commit is the keyholder told
that the chunks may be selected (`settling.py`); what a crash leaves untold, `confirm_pending` tells.
"""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TypeVar

from django.conf import settings
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Count
from django.utils import timezone

from consent.channels import channel_for
from consent.models import Patient
from gateway.keyholder.client import Keyholder
from gateway.keyholder.regrouping import CUSTODIAN, instant, resource_name
from gateway.labels.labelling import FOLLOWS
from gateway.labels.rules import ORDER, VERSION
from gateway.records import clinical_labels, quarantine, settling
from gateway.records.due import note_to_pass_on, note_unsettled
from gateway.records.intake import Deleted, Intake, Record, Refusal, Spoiled, refusal
from gateway.records.models import (
    Chunk,
    Deletion,
    Gone,
    IngestedFile,
    LabelChange,
    Quarantined,
    ResourceVersion,
    ToPassOn,
    Unsettled,
)
from gateway.records.quarantine import Aside
from gateway.records.relabelling import pass_on, pass_on_due, relabel
from gateway.records.reports import FileReport, Report
from gateway.records.sealing import Fresh, SealedChunk, Spool, digests, rules_of, seal
from gateway.records.settling import confirm, settle, settle_due
from gateway.records.sources import NDJSON_SUFFIXES, SUFFIXES, Place, Section, Source
from gateway.records.spill import Spill
from gateway.records.strict_json import Refused
from ledger.audit.log import Actor, record
from ledger.client import HOME
from ledger.errors import GatewayError, RefusedTransition

log = logging.getLogger(__name__)
T = TypeVar("T")

ACTOR = Actor.system("command")
# Plaintext held at once while one file is read; past it, what is there is sealed and set aside.
MAX_HELD_BYTES = 16 * 1024 * 1024
# An NDJSON file of more than this is kept in sections of it.
SECTION_BYTES = 64 * 1024 * 1024
# Faulty resources of one file that a lenient run sets aside; past it, the file is refused: it is not R4.
MAX_ASIDE, MAX_ASIDE_BYTES = 10_000, 64 * 1024 * 1024
MAX_PATIENTS = 50_000  # looked-up persons that are remembered
_BATCH = 500
_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,40})"')


class IngestError(GatewayError):
    """The file could not be kept; nothing of it was (503)."""

    code = "ingest_failed"
    status = 503


def ingest(
    paths: Iterable[Path],
    *,
    dry_run: bool = False,
    create_patients: bool = True,
    lenient: bool = False,
    keyholder: Keyholder | None = None,
    progress: Callable[[int], object] = lambda _: None,
    report: Report | None = None,
) -> Report:
    """Take in FHIR R4 from files and folders: Bundles (`.json`) and Bulk Data NDJSON (`.ndjson`, `.jsonl`).

    A file with one fault is refused whole, and the others still go in. `lenient`: a faulty resource is set
    aside, sealed, and the rest of its file goes in; what cannot be cut into resources is refused as ever.
    `dry_run` checks only and writes nothing. `create_patients` makes a Patient row (without an account) of a
    Patient resource whose person is unknown; otherwise that is a fault. `progress` is told bytes done.
    `report` is filled as files are done, so that it holds what was kept when a GatewayError ends the run:
    KeyholderUnavailable, IngestError.
    """
    report = Report() if report is None else report
    keyholder = keyholder or Keyholder(settings.KEYHOLDER_SOCKET)
    run = Run(keyholder, dry_run=dry_run, create=create_patients, lenient=lenient, progress=progress)
    for path in in_order(paths):
        done = FileReport(str(path))
        report.files.append(done)
        run.take(path, done)
    if run.lacked:
        _label_by_what_is_stored(keyholder)
    return report


def _label_by_what_is_stored(keyholder: Keyholder) -> None:
    """What records must follow may have come with another run: the keyholder looks among what is sealed."""
    try:
        relabel(keyholder, only="")
    except GatewayError as error:  # they are withheld meanwhile
        log.warning("records wait to be labelled by `manage.py relabel`: %s", error.code)


def in_order(paths: Iterable[Path]) -> list[Path]:
    """The files to take in, also of folders: Patients first, then what others' labels rest on."""
    files: dict[Path, None] = {}
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        files.update(
            (one, None) for one in inside if one == path or (one.is_file() and one.suffix.lower() in SUFFIXES)
        )
    return sorted(files, key=lambda one: (_rank(one), str(one)))


def _rank(path: Path) -> float:
    if path.suffix.lower() not in NDJSON_SUFFIXES:
        return 0.5
    try:
        with Source(path) as source:
            found = _TYPE.search(source.file.read(64 * 1024))
    except Refused:
        return 0
    return ORDER.get(found[1].decode(), 1) if found else 1


def confirm_pending(keyholder: Keyholder) -> int:
    """Tell the keyholder of chunks that were kept and not yet told of; how many it took.

    Of those whose records are to be regrouped first, `settle_due` tells. Raises KeyholderUnavailable. A chunk
    that it does not know stays unconfirmed, and is never selected.
    """
    settle_due(keyholder)
    pass_on_due(keyholder)
    pending = Chunk.objects.filter(confirmed_at=None).exclude(patient__in=Unsettled.objects.values("whose"))
    pending = pending.exclude(patient__in=ToPassOn.objects.values("whose"))
    due = LabelChange.objects.filter(state=LabelChange.State.DUE)
    pending = pending.exclude(patient__in=due.values("patient"))
    acts = pending.exclude(act="").order_by("act").values_list("act", flat=True).distinct()[:_BATCH]
    told = sum(_confirm_logged(Chunk.objects.filter(confirmed_at=None, act=act), keyholder) for act in acts)
    some = list(pending.filter(act="").order_by("created_at")[:_BATCH])
    late = _labelled_meanwhile({one.patient_id for one in some if one.patient_id is not None})
    some = [one for one in some if one.patient_id not in late]  # theirs are withheld in the next round
    try:
        return told + confirm(some, keyholder=keyholder)
    except RefusedTransition:
        return told + sum(_confirm_logged([one], keyholder) for one in some)


def _labelled_meanwhile(patients: Iterable[str]) -> set[str]:
    """Those to whom a clinician's label passes along, though nobody knew it when their records were kept:
    whoever says one from now on finds those records and has them withheld."""
    found: set[str] = set()
    for some in _batches(sorted(patients)):
        found |= clinical_labels.passing_on(some)
    with transaction.atomic():
        note_to_pass_on(found)
    return found


def _confirm_logged(chunks: Iterable[Chunk], keyholder: Keyholder) -> int:
    try:
        return confirm(chunks, keyholder=keyholder)
    except RefusedTransition:
        log.error("The keyholder has no header of a chunk in the database: its records cannot be opened.")
        return 0


class Run:
    """One call of `ingest`: what its files share."""

    def __init__(
        self,
        keyholder: Keyholder,
        *,
        dry_run: bool = False,
        create: bool = True,
        lenient: bool = False,
        progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.keyholder, self.progress = keyholder, progress
        self.dry_run, self.create, self.lenient = dry_run, create, lenient
        self.intake = Intake()
        self.lacked = False  # something that a record must follow was not in the files
        # record id → patient id and channel, as far as they were looked up
        self.patients: dict[str, tuple[str, str]] = {}

    def take(self, path: Path, report: FileReport) -> None:
        try:
            source = Source(path)
        except Refused as fault:
            report.refuse(Refusal(str(path), None, None, fault.element, fault.code, fault.message))
            return
        with source:
            digest = "" if self.dry_run else source.digest()
            if digest and IngestedFile.objects.filter(pk=digest, rules=VERSION).exists():
                report.state = "repeated"
                self.progress(source.size)
                return
            if source.is_ndjson and source.size > SECTION_BYTES and not self.dry_run:
                self._take_in_sections(source, report, digest)
                return
            self.take_source(source, report, digest, partial(_note_file, digest, digest, report))

    def _take_in_sections(self, source: Source, report: FileReport, digest: str) -> None:
        """Check all of it, then keep one section after the other. A section that was kept before, by its own
        digest, is passed over: so an interrupted run goes on in the middle of a file."""
        checked = FileReport(report.path)
        with closing(Spill()) as made:  # persons whom earlier sections make known
            sections = list(self._checked(source, checked, made))
        if checked.state == "refused":
            vars(report).update(vars(checked))
            return
        for section in sections:
            part = FileReport(report.path)
            noted = partial(_note_file, section.sha256, digest, part)
            self.take_source(section, part, section.sha256, noted, file=digest)
            report.add(part)
            if part.state == "refused":
                report.state = "refused"
                return
        _check_unchanged(source, report, digest)
        if report.state == "refused":
            return
        report.state = "taken"
        rules = VERSION if report.confirmed else ""
        IngestedFile.objects.update_or_create(
            digest=digest, defaults={"resources": report.by_type.total(), "rules": rules}
        )

    def _checked(self, source: Source, report: FileReport, made: Spill) -> Iterator[Section]:
        """The sections that are still to be kept; what is wrong in them is told by `report`."""
        for section in source.sections(SECTION_BYTES):
            if IngestedFile.objects.filter(pk=section.sha256, rules=VERSION).exists():
                self.progress(section.size)
                continue
            with Spool() as spool, closing(Spill()) as seen, TemporaryFile() as labelled:
                held = _File(self, section, report, spool=spool, seen=seen, labelled=labelled, made=made)
                held.read()
            _check_unchanged(section, report, section.sha256)
            for person in held.new:
                made[person] = 1
            # What is lenient is told apart again when it is kept.
            section.is_checked = not self.lenient
            yield section

    def take_source(
        self,
        source: Source,
        report: FileReport,
        digest: str,
        noted: Callable[[int], object],
        *,
        file: str = "",
    ) -> None:
        """Read, seal and keep. `noted` is called in the transaction that keeps, with the number of chunks.

        `digest` is of what is read, `file` of the file that it is a section of.
        """
        with Spool() as spool, closing(Spill()) as seen, TemporaryFile() as labelled:
            held = _File(self, source, report, spool=spool, seen=seen, labelled=labelled)
            try:
                held.read()
                if digest:  # else nothing is kept
                    _check_unchanged(source, report, digest)
                if report.state == "refused":
                    return
                if self.dry_run:
                    self.patients.update(dict.fromkeys(held.new, ("", HOME)))
                    report.state = "checked"
                    return
                held.seal()
                held.keep(digest, noted, file=file or digest)
            except IntegrityError:
                raise IngestError(
                    "The same records were taken in by someone else meanwhile; what was read here was not "
                    "kept. Run it again.",
                    code="ingest_conflict",
                ) from None
            except DatabaseError:
                raise IngestError(
                    "The database did not take what was read; nothing of it was kept. See whether it is "
                    "there and its disk has room, and run it again: it goes on.",
                    code="database_failed",
                ) from None
            except OSError as error:
                raise IngestError(
                    f"A file could not be set aside ({error.strerror}); nothing of it was kept. "
                    "Make room and run it again.",
                    code="disk_full",
                ) from None

    def find(self, record_ids: Iterable[str]) -> None:
        """Look up which of these persons are known. Whom it asked about before may be forgotten."""
        if len(self.patients) > MAX_PATIENTS and not self.dry_run:
            self.patients.clear()
        wanted = [one for one in record_ids if one not in self.patients]
        for batch in _batches(wanted):
            try:
                rows = Patient.objects.filter(record_id__in=batch).values_list("record_id", "pk", "channel")
                self.patients.update((record_id or "", (pk, channel)) for record_id, pk, channel in rows)
            except DatabaseError:
                if not self.dry_run:
                    raise
                return  # a dry run needs no database: nobody is known yet


class _File:
    """One file on its way in."""

    def __init__(
        self,
        run: Run,
        source: Source,
        report: FileReport,
        *,
        spool: Spool,
        seen: Spill,
        labelled: IO[bytes],
        made: Spill | None = None,
    ) -> None:
        self.run, self.source, self.spool, self.report = run, source, spool, report
        self.made = made  # where it is only checked: persons whom earlier sections make known
        self.seen = seen  # digests and names of this file's versions
        self.labelled = labelled  # versions that are here under older rules: JSON lines of whose, and labels
        self.deleted: list[bytes] = []  # resources, `Type/id`
        self.again: list[str] = []  # names that came again after their deletion
        self.unsettled: set[str] = set()
        self.passing_on: set[str] = set()  # patients to whose records clinicians gave labels that pass along
        self.new: dict[str, Patient] = {}  # by record id
        self.held: dict[str | None, list[Record]] = defaultdict(list)
        self.size = 0
        self.places: dict[str, Place] = {}  # where each owner was named first
        self.enrolled: dict[str, bytes] = {}
        self.aside: list[Aside] = []
        self.aside_size = 0

    def read(self) -> None:
        """Read to the end. With the first refusal nothing is held any more, but all faults are told."""
        done = self.source.start
        for found in self.run.intake.records(self.source):
            if isinstance(found, Spoiled):
                self._spoiled(found)
                continue
            if isinstance(found, Deleted):
                self.deleted.append(found.resource)
                self.report.deleted += 1
                continue
            if self.made is None:
                self.run.progress(max(found.place.offset + found.place.length - done, 0))
            done = max(done, found.place.offset + found.place.length)
            self._count(found)
            if self.is_only_checked or self.report.state == "refused":
                continue
            self.held[found.owner].append(found)
            self.size += len(found.raw)
            if self.size > MAX_HELD_BYTES:
                self._check_owners()
                if self.report.state != "refused":
                    self.seal()
        self._check_owners()
        if self.made is None:
            self.run.progress(max(self.source.start + self.source.size - done, 0))

    @property
    def is_only_checked(self) -> bool:
        return self.run.dry_run or self.made is not None

    def _spoiled(self, found: Spoiled) -> None:
        """Set it aside where that is wanted and can be, or refuse the file."""
        if not self.run.lenient or found.raw is None or found.place is None:
            self.report.refuse(*found.refusals)
        elif self.report.aside == MAX_ASIDE or self.aside_size > MAX_ASIDE_BYTES:
            said = f"has more faulty resources than are set aside ({MAX_ASIDE:,}): it is refused whole"
            self.report.refuse(refusal(self.source, Refused("too_many_faults", said), None))
        else:
            self.report.tell(*found.refusals)
            self.report.aside += 1
            if not self.is_only_checked and self.report.state != "refused":
                self.aside.append(Aside(found.raw, found.place, found.refusals, self.run.intake.addresses))
                self.aside_size += len(found.raw)
        if self.report.state == "refused":
            self.held.clear()
            self.aside.clear()

    def _count(self, found: Record) -> None:
        self.report.by_type[found.kind] += 1
        self.report.withheld += "unlabelled" in found.labels
        if found.owner is not None:
            self.places.setdefault(found.owner, found.place)
        if found.person is not None and self.run.create:
            person = found.person
            self.new.setdefault(
                person.record_id,
                Patient(
                    record_id=person.record_id,
                    name=person.name,
                    birth_date=person.birth_date,
                    channel=channel_for(person.custodian),
                ),
            )

    def _check_owners(self) -> None:
        """Every person is known, or is made known by a Patient resource of this file."""
        self.run.find(self.places)
        for owner, place in self.places.items():
            if owner in self.run.patients or owner in self.new or (self.made and owner in self.made):
                continue
            fault = Refused(
                "unknown_patient", "is of a patient who is not known here; take in the Patient first"
            )
            if not self.run.lenient:
                self.report.refuse(refusal(self.source, fault, place))
                continue
            for one in self.held.pop(owner, []):
                found = refusal(self.source, fault, one.place)
                self._spoiled(Spoiled((found,), one.place, one.raw))
                self.report.by_type[one.kind] -= 1
            if self.run.dry_run:
                self.report.tell(refusal(self.source, fault, place))
        self.places = {owner: place for owner, place in self.places.items() if owner not in self.run.patients}

    def seal(self) -> None:
        """Seal what is held, as far as it is not here already, into the spool."""
        self.run.find(self.held.keys() - {None})  # type: ignore[arg-type]
        for record_id in self.new.keys() & self.run.patients.keys():
            del self.new[record_id]
        for owner, records in self.held.items():
            patient, channel = self._place(owner)
            fresh = self._fresh(patient, self._named(patient, channel, records), is_new=owner in self.new)
            if fresh:
                seal(self.run.keyholder, patient, fresh, self.spool)
            self.report.sealed += len(fresh)
        self.held.clear()
        self.size = 0

    def _place(self, owner: str | None) -> tuple[str, str]:
        """Whose key seals the records, and the channel of that patient's consents."""
        if owner is None:
            return CUSTODIAN, HOME
        if (new := self.new.get(owner)) is not None:
            return new.pk, new.channel
        return self.run.patients[owner]

    def _index_key(self, patient: str, channel: str) -> bytes:
        if patient not in self.enrolled:
            self.run.keyholder.enrol(patient=patient, channel=channel)
            self.enrolled[patient] = self.run.keyholder.new_chunks(patient=patient, chunks=[])["index_key"]
        return self.enrolled[patient]

    def _named(self, patient: str, channel: str, records: list[Record]) -> list[Fresh]:
        found = digests(self._index_key(patient, channel), records)
        key = self._index_key(CUSTODIAN, HOME)
        return [
            Fresh(
                one,
                digest,
                resource_name(key, one.resource),
                resource_name(key, one.versioned) if one.version else "",
            )
            for one, digest in zip(records, found, strict=True)
        ]

    def _fresh(self, patient: str, named: list[Fresh], *, is_new: bool) -> list[Fresh]:
        """Those that are in no chunk yet, each once; notes what is to be regrouped because of them."""
        rules: dict[str, str] = {}  # of those that are here, or were
        older: set[str] = set()
        deleted: dict[str, datetime] = {}
        for some in () if is_new else _batches(named):
            digest_in, name_in = [one.digest for one in some], [one.name for one in some]
            here = ResourceVersion.objects.filter(digest__in=digest_in)
            rules.update(here.values_list("digest", "rules"))
            gone = Gone.objects.filter(digest__in=digest_in).values_list("digest", flat=True)
            rules.update(dict.fromkeys(gone, VERSION))
            older.update(ResourceVersion.objects.filter(name__in=name_in).values_list("name", flat=True))
            deleted.update(Deletion.objects.filter(name__in=name_in).values_list("name", "at"))
        found, labelled = [], {}
        for one in named:
            if one.digest in rules:
                if rules[one.digest] != VERSION:
                    said = one.record
                    labelled[one.digest] = said.labels, said.basis, one.name, said.codes
            elif one.digest not in self.seen and not self._is_deleted(one, deleted):
                if one.name in older or one.name in self.seen:
                    self.unsettled.add(patient)
                self.seen[one.digest] = self.seen[one.name] = 1
                self.run.lacked = self.run.lacked or rules_of(one.record) == ""
                found.append(one)
        if labelled and clinical_labels.passing_on([patient]):
            # What follows others is left to the keyholder: it knows of clinicians' labels, and we do not.
            self.passing_on.add(patient)
            labelled = {one: said for one, said in labelled.items() if FOLLOWS not in said[3]}
        if labelled:
            self.report.labelled += len(labelled)
            self.labelled.write(json.dumps([patient, labelled]).encode() + b"\n")
        return found

    def _is_deleted(self, one: Fresh, deleted: dict[str, datetime]) -> bool:
        """Whether its source deleted the resource after it said this. What came again later is no longer."""
        if one.name not in deleted:
            return False
        if 0 <= instant(one.record.updated) <= instant(deleted[one.name].isoformat()):
            return True
        self.again.append(one.name)
        return False

    def keep(self, digest: str, noted: Callable[[int], object], *, file: str) -> None:
        """One transaction for patients, chunks and what was set aside; then the keyholder is told."""
        aside = quarantine.sealed(self.run.keyholder, file, self.aside)
        with transaction.atomic():
            Patient.objects.bulk_create(self.new.values(), batch_size=_BATCH)
            chunks = [self._keep_chunk(*one) for one in self.spool]
            Quarantined.objects.bulk_create(aside, batch_size=_BATCH)
            self._keep_deletions()
            self._note_passing_on({patient for _, patient in chunks})
            self._note_crowded({patient for _, patient in chunks} - self.unsettled)
            note_unsettled(self.unsettled)
            noted(len(chunks))
        self.run.patients.update(
            (record_id, (patient.pk, patient.channel)) for record_id, patient in self.new.items()
        )
        self.report.state = "taken"
        self.report.chunks, self.report.patients = len(chunks), len(self.new)
        try:
            self._settle(chunks)
        except (GatewayError, DatabaseError):
            self.report.confirmed = False  # the file is safe; the relay goes on later
        else:
            if self.report.labelled:
                IngestedFile.objects.filter(pk=digest).update(rules=VERSION)

    def _keep_chunk(self, chunk: SealedChunk, blob: bytes, notes: bytes) -> tuple[str, str]:
        patient = None if chunk.patient == CUSTODIAN else chunk.patient
        Chunk.objects.create(pk=chunk.id, patient_id=patient, blob=blob, notes=notes)
        ResourceVersion.objects.bulk_create(
            (
                ResourceVersion(
                    digest=digest, chunk_id=chunk.id, name=name, version=version, rules=chunk.rules
                )
                for digest, name, version in zip(chunk.digests, chunk.names, chunk.versions, strict=True)
            ),
            batch_size=_BATCH,
        )
        return chunk.id, chunk.patient

    def _keep_deletions(self) -> None:
        key, now = self._index_key(CUSTODIAN, HOME) if self.deleted else b"", timezone.now()
        names = (resource_name(key, one) for one in self.deleted)
        # FHIR R4, transaction: what a Bundle stores comes after what it deletes.
        for some in _batches(name for name in names if name not in self.seen):
            Deletion.objects.bulk_create(
                [Deletion(name=name, at=now) for name in dict.fromkeys(some)],
                update_conflicts=True,
                unique_fields=["name"],
                update_fields=["at"],
            )
            whose = ResourceVersion.objects.filter(name__in=some).values_list("chunk__patient", flat=True)
            self.unsettled.update(one or CUSTODIAN for one in whose.distinct())
        for some in _batches(self.again):
            Deletion.objects.filter(name__in=some).delete()

    def _note_passing_on(self, patients: set[str]) -> None:
        """Those whose new records may follow from what a clinician labelled: these are withheld first."""
        for some in _batches(sorted(patients)):
            self.passing_on |= clinical_labels.passing_on(some)
        self.unsettled |= self.passing_on
        note_to_pass_on(self.passing_on)

    def _note_crowded(self, patients: set[str]) -> None:
        """Those with so many new small chunks that some are to be sealed as one."""
        for some in _batches(sorted(patients)):
            live = Chunk.objects.filter(patient__in=some, retired_at=None, stays_small=False).values(
                "patient"
            )
            crowded = live.annotate(count=Count("pk")).filter(count__gt=settling.MOST_CHUNKS)
            self.unsettled.update(crowded.values_list("patient", flat=True))

    def _settle(self, chunks: list[tuple[str, str]]) -> None:
        """Have what is new selected: at once, or where older records are touched after a regrouping."""
        late = _labelled_meanwhile({patient for _, patient in chunks} - self.passing_on)
        self.passing_on |= late
        self.unsettled |= late
        settled = [chunk for chunk, patient in chunks if patient not in self.unsettled]
        for some in _batches(settled):
            confirm(Chunk.objects.filter(pk__in=some, act=""), keyholder=self.run.keyholder)
        for patient in sorted(self.unsettled):
            settle(patient, keyholder=self.run.keyholder)
        self.labelled.seek(0)
        for line in self.labelled:
            patient, labelled = json.loads(line)
            settle(patient, keyholder=self.run.keyholder, labelled=labelled)
        for patient in sorted(self.passing_on):
            pass_on(patient, keyholder=self.run.keyholder)


def _check_unchanged(source: Source, report: FileReport, digest: str) -> None:
    """What is kept is what was checked, and what is noted as taken, byte by byte."""
    if not source.is_still(digest):
        said = Refused("file_changed", "was changed while it was taken in: begin again")
        report.refuse(refusal(source, said, None))


def _note_file(digest: str, file: str, report: FileReport, chunks: int) -> None:
    # Under no rules until what was here before is labelled by today's: a crash before that reads it again.
    rules = "" if report.labelled else VERSION
    IngestedFile.objects.update_or_create(
        digest=digest, defaults={"resources": report.by_type.total(), "rules": rules}
    )
    record(
        kind="records.ingested",
        actor=ACTOR,
        file=file,
        resources=report.sealed,
        chunks=chunks,
        refused=report.aside,
    )


def _batches(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while batch := list(islice(rest, _BATCH)):
        yield batch
