"""`manage.py ingest PATH…`: take in FHIR R4 records from files and folders, no file with a fault.

Standard output has the counts and what was refused (or, with --json, one JSON object); progress goes to
standard error. The exit status is 1 if a file was refused or something failed. `--background` begins it in a
process of its own, and `--status` says how far that is.
"""

import json
import sys
import time
from argparse import SUPPRESS
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from tqdm import tqdm

from gateway.records import imports
from gateway.records.ingest import in_order, ingest
from gateway.records.models import ImportRun
from gateway.records.reports import MAX_REFUSALS, Report
from ledger.errors import GatewayError


class Command(BaseCommand):
    help = "Take in FHIR R4 Bundles (.json) and Bulk Data NDJSON (.ndjson, .jsonl), files or folders."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
        parser.add_argument(
            "--background", action="store_true", help="begin it in a process of its own; see --status"
        )
        parser.add_argument(
            "--status",
            nargs="?",
            const="",
            metavar="ID",
            help="how far imports in the background are; with ID, one of them whole",
        )
        parser.add_argument("--run", help=SUPPRESS)
        parser.add_argument("--dry-run", action="store_true", help="check only; write nothing, need nothing")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
        parser.add_argument(
            "--lenient",
            action="store_true",
            help="set faulty resources aside, sealed, and take in the rest of their file; see `quarantine`",
        )
        parser.add_argument(
            "--no-create-patients",
            action="store_true",
            help="refuse a Patient whose person is not known here, instead of making a row for them",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["status"] is not None:
            self._status(options["status"], options["json"])
            return
        if not options["paths"]:
            raise CommandError("Name a file or a folder.")
        paths = in_order(options["paths"])
        if options["background"]:
            self._begin(paths, options)
            return
        total = sum(path.stat().st_size for path in paths if path.is_file())
        report, failure = Report(), None
        run = options["run"] or _begun(paths, dry_run=options["dry_run"])
        with tqdm(
            total=total, unit="B", unit_scale=True, desc="ingest", disable=None, file=sys.stderr
        ) as bar:
            progress = _Progress(run, report, bar.update)
            try:
                ingest(
                    paths,
                    dry_run=options["dry_run"],
                    create_patients=not options["no_create_patients"],
                    lenient=options["lenient"],
                    progress=progress,
                    report=report,
                )
            except GatewayError as error:
                failure = error
            except Exception:
                failure = GatewayError("It ended by a fault of its own.", code="ingest_failed")
                raise
            finally:
                if run:
                    progress.note()
                    imports.end(
                        run,
                        _answer(report, dry_run=options["dry_run"], failure=failure),
                        files=[one.path for one in report.files],
                    )
        if not paths:
            failure = GatewayError("There is no .json, .ndjson or .jsonl file there.", code="nothing_to_take")
        answer = _answer(report, dry_run=options["dry_run"], failure=failure)
        if options["json"]:
            self.stdout.write(json.dumps(answer))
        else:
            self._tell(answer, report)
        if answer["files"]["refused"] or failure is not None:
            sys.exit(1)

    def _begin(self, paths: list[Path], options: dict[str, Any]) -> None:
        chosen = [name for name in ("lenient", "no_create_patients", "dry_run") if options[name]]
        arguments = [f"--{name.replace('_', '-')}" for name in chosen]
        try:
            run = imports.start(
                [*arguments, "--", *(str(path.resolve()) for path in options["paths"])], files=paths
            )
        except GatewayError as error:
            raise CommandError(f"{error.message} [{error.code}]") from None
        if options["json"]:
            self.stdout.write(json.dumps({"run": run.pk}))
        else:
            self.stdout.write(f"{run.pk[:12]} has begun; see `manage.py ingest --status {run.pk[:12]}`")

    def _status(self, id: str, as_json: bool) -> None:
        try:
            runs = [imports.find(id)] if id else imports.newest()
        except GatewayError as error:
            raise CommandError(f"{error.message} [{error.code}]") from None
        told = [_told(run) for run in runs]
        if as_json:
            self.stdout.write(json.dumps(told[0] if id else told))
            return
        for run, one in zip(runs, told, strict=True):
            ended = f", {run.error_code}" if run.error_code else ""
            self.stdout.write(
                f"{run.pk[:12]}  {run.state}{ended}  {one['percent']} %"
                f"  {run.files_done:,} of {run.files:,} files  begun {run.started_at:%Y-%m-%d %H:%M} UTC"
            )
            if id and run.report:
                counts = run.report
                self.stdout.write(
                    f"{counts['resources']:>9,}  resources, {counts['sealed']:,} sealed now, "
                    f"{counts['aside']:,} set aside, {counts['refusals']:,} faults"
                )
                for fault in counts["refused"]:
                    where = f"file {fault['file']}" + (f" line {fault['line']}" if fault["line"] else "")
                    self.stdout.write(
                        f"refused: {where}: {fault['element'] or 'this'} {fault['message']} [{fault['code']}]"
                    )

    def _tell(self, answer: dict[str, Any], report: Report) -> None:
        for kind, count in answer["types"].items():
            self.stdout.write(f"{count:>9,}  {kind}")
        files = answer["files"]
        self.stdout.write(
            f"{answer['resources']:>9,}  resources in {files['taken'] + files['checked']} files"
        )
        if not answer["dry_run"]:
            self.stdout.write(f"{answer['sealed']:>9,}  sealed now, in {answer['chunks']:,} chunks")
            self.stdout.write(f"{answer['patients']:>9,}  patients new here")
            if answer["labelled"]:
                self.stdout.write(f"{answer['labelled']:>9,}  labelled anew: the rules have changed")
            if answer["deleted"]:
                self.stdout.write(f"{answer['deleted']:>9,}  deletions")
        if answer["withheld"]:
            kept = "would be sealed" if answer["dry_run"] else "sealed"
            self.stdout.write(
                f"{answer['withheld']:>9,}  without a label: {kept}, and withheld from every job"
            )
        if files["repeated"]:
            self.stdout.write(f"{files['repeated']:>9,}  files that were taken in before")
        if answer["unconfirmed"]:
            self.stdout.write(f"{answer['unconfirmed']:>9,}  files kept; the relay will make them selectable")
        for one in report.files:
            for found in one.refused:
                self.stdout.write(f"{'refused' if one.state == 'refused' else 'set aside'}: {found}")
        if answer["aside"]:
            self.stdout.write(f"{answer['aside']:>9,}  set aside: see `manage.py quarantine list`")
        if files["refused"]:
            self.stdout.write(f"{report.refusals:,} refused, {files['refused']} files not taken in")
        if answer["error"]:
            self.stdout.write(f"stopped: {answer['error']['message']} [{answer['error']['code']}]")


class _Progress:
    """Bytes done go to the bar, and once a second to the run's row, if there is one."""

    def __init__(self, run: str | None, report: Report, bar: Callable[[int], object]) -> None:
        self._run, self._report, self._bar = run, report, bar
        self._done = 0
        self._noted = 0.0

    def __call__(self, done: int) -> None:
        self._bar(done)
        self._done += done
        if self._run and time.monotonic() - self._noted > imports.EVERY:
            self.note()

    def note(self) -> None:
        self._noted = time.monotonic()
        files = sum(one.state != "failed" for one in self._report.files)  # `failed` until it is done
        imports.note(
            str(self._run),
            _answer(self._report, dry_run=False, failure=None),
            files_done=files,
            bytes_done=self._done,
        )


def _begun(paths: list[Path], *, dry_run: bool) -> str | None:
    """The row of this run, which the staff site shows; none where nothing is written, or could be."""
    if dry_run or not paths:
        return None
    try:
        return str(imports.begin(paths).pk)
    except DatabaseError:
        return None  # the first file will say so


def _told(run: ImportRun) -> dict[str, Any]:
    return {
        "run": run.pk,
        "state": run.state,
        "files": run.files,
        "files_done": run.files_done,
        "bytes": run.bytes,
        "bytes_done": run.bytes_done,
        "percent": 100 * run.bytes_done // run.bytes if run.bytes else 100,
        "error": run.error_code or None,
        "started": run.started_at.isoformat(),
        "ended": run.ended_at and run.ended_at.isoformat(),
        "report": run.report or None,
    }


def _answer(report: Report, *, dry_run: bool, failure: GatewayError | None) -> dict[str, Any]:
    """The whole outcome as JSON; at most MAX_REFUSALS refusals of each file are listed, all are counted."""
    states = [one.state for one in report.files]
    done = [one for one in report.files if one.state in ("taken", "checked")]
    return {
        "dry_run": dry_run,
        "resources": report.resources,
        "types": dict(sorted(report.by_type.items())),
        "sealed": report.sealed,
        "labelled": sum(one.labelled for one in done),
        "deleted": sum(one.deleted for one in done),
        "chunks": sum(one.chunks for one in done),
        "patients": sum(one.patients for one in done),
        "aside": sum(one.aside for one in done),
        "withheld": sum(one.withheld for one in done),
        "unconfirmed": sum(not one.confirmed for one in done),
        "files": {
            state: states.count(state) for state in ("taken", "checked", "repeated", "refused", "failed")
        },
        "refusals": report.refusals,
        "refused": [asdict(found) for found in report.refused],
        "refused_listed_at_most": MAX_REFUSALS,
        "error": None if failure is None else {"code": failure.code, "message": failure.message},
    }
