"""Taking records in: no file with a fault, each version of a resource once.

A file is read and checked to its end, sealed outside the database (`arriving.py`), and then kept in one short
transaction (`keeping.py`). A large one is checked whole, and then sealed and kept section by section, so that
neither memory nor what an interruption costs grows with it.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, IntegrityError

from gateway.keyholder.client import Keyholder
from gateway.labels.rules import ORDER, VERSION
from gateway.records.arriving import Arriving, Run
from gateway.records.intake import Refusal, refusal
from gateway.records.keeping import keep
from gateway.records.models import IngestedFile
from gateway.records.relabelling import relabel
from gateway.records.reports import FileReport, Report
from gateway.records.sources import NDJSON_SUFFIXES, SUFFIXES, Section, Source
from gateway.records.spill import Spill
from gateway.records.strict_json import Refused
from ledger.audit.log import Actor, record
from ledger.client import HOME
from ledger.errors import GatewayError

log = logging.getLogger(__name__)

ACTOR = Actor.system("command")
# An NDJSON file of more than this is kept in sections of it.
SECTION_BYTES = 64 * 1024 * 1024
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
        _take(run, path, done)
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


def _take(run: Run, path: Path, report: FileReport) -> None:
    try:
        source = Source(path)
    except Refused as fault:
        report.refuse(Refusal(str(path), None, None, fault.element, fault.code, fault.message))
        return
    with source:
        digest = "" if run.dry_run else source.digest()
        if digest and _is_taken(digest):
            report.state = "repeated"
            run.progress(source.size)
            return
        if source.is_ndjson and source.size > SECTION_BYTES and not run.dry_run:
            _take_in_sections(run, source, report, digest)
            return
        take_source(run, source, report, digest, partial(_note_file, digest, digest, report))


class Halved:
    """Tells on half of the bytes that it is told, and loses none: what is read twice counts once."""

    def __init__(self, progress: Callable[[int], object]) -> None:
        self._progress, self._odd = progress, 0

    def __call__(self, done: int) -> None:
        half, self._odd = divmod(self._odd + done, 2)
        self._progress(half)


def _take_in_sections(run: Run, source: Source, report: FileReport, digest: str) -> None:
    """Check all of it, then keep one section after the other. A section that was kept before, by its own
    digest, is passed over: so an interrupted run goes on in the middle of a file. Each reading is half of the
    progress."""
    checked, progress = FileReport(report.path), Halved(run.progress)
    with closing(Spill()) as made:  # persons whom earlier sections make known
        sections = list(_checked(run, source, checked, made, progress))
    if checked.state == "refused":
        vars(report).update(vars(checked))
        progress(sum(section.size for section in sections))  # they are not read again
        return
    for section in sections:
        part = FileReport(report.path)
        noted = partial(_note_file, section.sha256, digest, part)
        take_source(run, section, part, section.sha256, noted, file=digest, progress=progress)
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


def _checked(
    run: Run, source: Source, report: FileReport, made: Spill, progress: Callable[[int], object]
) -> Iterator[Section]:
    """The sections that are still to be kept; what is wrong in them is told by `report`."""
    for section in source.sections(SECTION_BYTES):
        if _is_taken(section.sha256):
            run.progress(section.size)
            continue
        with Arriving(run, section, report, made=made, progress=progress) as arriving:
            arriving.read()
        _check_unchanged(section, report, section.sha256)
        for person in arriving.new:
            made[person] = 1
        # What is lenient is told apart again when it is kept.
        section.is_checked = not run.lenient
        yield section


def take_source(
    run: Run,
    source: Source,
    report: FileReport,
    digest: str,
    noted: Callable[[int], object],
    *,
    file: str = "",
    progress: Callable[[int], object] | None = None,
) -> None:
    """Read, seal and keep. `noted` is called in the transaction that keeps, with the number of chunks.

    `digest` is of what is read, `file` of the file that it is a section of. Raises IngestError.
    """
    with Arriving(run, source, report, progress=progress) as arriving:
        try:
            arriving.read()
            if digest:  # else nothing is kept
                _check_unchanged(source, report, digest)
            if report.state == "refused":
                return
            if run.dry_run:
                run.patients.update(dict.fromkeys(arriving.new, ("", HOME)))
                report.state = "checked"
                return
            arriving.seal()
            keep(arriving, noted, file=file or digest)
            if report.labelled and report.confirmed:
                IngestedFile.objects.filter(pk=digest).update(rules=VERSION)
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


def _is_taken(digest: str) -> bool:
    """Whether this file or section is here, labelled by today's rules."""
    return IngestedFile.objects.filter(pk=digest, rules=VERSION).exists()


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
