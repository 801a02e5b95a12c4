"""`manage.py ingest PATH…`: take in FHIR R4 records from files and folders, each file whole or not at all.

Standard output has the counts and what was refused (or, with --json, one JSON object); progress goes to
standard error. The exit status is 1 if a file was refused or something failed.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from tqdm import tqdm

from gateway.records.ingest import MAX_REFUSALS, Report, in_order, ingest
from ledger.errors import GatewayError


class Command(BaseCommand):
    help = "Take in FHIR R4 Bundles (.json) and Bulk Data NDJSON (.ndjson, .jsonl), files or folders."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
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
        paths = in_order(options["paths"])
        total = sum(path.stat().st_size for path in paths if path.is_file())
        report, failure = Report(), None
        with tqdm(
            total=total, unit="B", unit_scale=True, desc="ingest", disable=None, file=sys.stderr
        ) as bar:
            try:
                ingest(
                    paths,
                    dry_run=options["dry_run"],
                    create_patients=not options["no_create_patients"],
                    lenient=options["lenient"],
                    progress=bar.update,
                    report=report,
                )
            except GatewayError as error:
                failure = error
        if not paths:
            failure = GatewayError("There is no .json, .ndjson or .jsonl file there.", code="nothing_to_take")
        answer = _answer(report, dry_run=options["dry_run"], failure=failure)
        if options["json"]:
            self.stdout.write(json.dumps(answer))
        else:
            self._tell(answer, report)
        if answer["files"]["refused"] or failure is not None:
            sys.exit(1)

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


def _answer(report: Report, *, dry_run: bool, failure: GatewayError | None) -> dict[str, Any]:
    """The whole outcome as JSON; at most MAX_REFUSALS refusals of each file are listed, all are counted."""
    states = [one.state for one in report.files]
    done = [one for one in report.files if one.state in ("taken", "checked")]
    return {
        "dry_run": dry_run,
        "resources": report.resources,
        "types": dict(sorted(report.by_type.items())),
        "sealed": report.sealed,
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
