"""A row for each ingest, which says how far it is and what became of it; and ingest in a process of its own.

The files are named to that process alone. What it kept stays kept: started again with the same files, it
passes over those that were taken in before, and goes on with the one that it was at.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from gateway.records.models import ImportRun
from ledger.errors import InvalidInput, RefusedTransition

State = ImportRun.State

ROOT = Path(__file__).resolve().parent.parent.parent
EVERY = 1.0  # seconds between two notes of progress
SILENT = timedelta(minutes=2)  # after which a run is taken for lost: one file may be sealed for as long


def begin(files: Sequence[Path]) -> ImportRun:
    """Note that these files are being taken in from now on."""
    sizes = [path.stat().st_size for path in files if path.is_file()]
    return ImportRun.objects.create(files=len(files), bytes=sum(sizes), seen_at=timezone.now())


def start(arguments: Sequence[str], *, files: Sequence[Path]) -> ImportRun:
    """Begin a run of `manage.py ingest` with these arguments; it outlives this process.

    Raises InvalidInput (`nothing_to_take`).
    """
    if not files:
        raise InvalidInput("There is no .json, .ndjson or .jsonl file there.", code="nothing_to_take")
    run = begin(files)
    command = [sys.executable, str(ROOT / "manage.py"), "ingest", "--json", "--run", run.pk, *arguments]
    subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=os.getcwd(),
        start_new_session=True,
        close_fds=True,
    )
    return run


def find(id: str) -> ImportRun:
    """By its id, or by as much of its beginning as tells it from all others. Raises RefusedTransition."""
    _give_up_lost()
    found = list(ImportRun.objects.filter(pk__startswith=id)[:2]) if len(id) >= 8 else []
    if len(found) != 1:
        raise RefusedTransition("There is no such import: see `manage.py ingest --status`.", code="no_import")
    return found[0]


def newest(most: int = 20) -> list[ImportRun]:
    _give_up_lost()
    return list(ImportRun.objects.order_by("-started_at")[:most])


def note(run: str, report: dict[str, Any], *, files_done: int, bytes_done: int) -> None:
    """How far it is: `report` is what `ingest --json` would answer of the files that are done."""
    ImportRun.objects.filter(pk=run, ended_at=None).update(
        files_done=files_done,
        bytes_done=bytes_done,
        report={**report, "refused": []},  # said at the end
        seen_at=timezone.now(),
        state=State.RUNNING,
    )


def end(run: str, report: dict[str, Any], *, files: Sequence[str]) -> None:
    """`report` is what `ingest --json` answers, of `files` in their order. A file goes by its number there: a
    name may be a person's."""
    numbers = {name: number for number, name in enumerate(files, start=1)}
    refused = [{**one, "file": numbers[one["file"]]} for one in report["refused"]]
    error = report["error"]
    now = timezone.now()
    ImportRun.objects.filter(pk=run).update(
        state=State.DONE if error is None else State.FAILED,
        error_code="" if error is None else error["code"],
        report={**report, "refused": refused},
        seen_at=now,
        ended_at=now,
    )


def _give_up_lost() -> None:
    silent = ImportRun.objects.filter(state=State.RUNNING, seen_at__lt=timezone.now() - SILENT)
    silent.update(state=State.LOST)
