"""`manage.py features PATH…`: FHIR files as a typed table, as a model would get it from permitted records.

JSON lines on standard output, or with --out a Parquet file (the extra `features`). Needs no database.
"""

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.analysis.features import Table
from gateway.records.ingest import in_order
from gateway.records.intake import Intake, Record, Spoiled
from gateway.records.sources import Source
from gateway.records.strict_json import Refused


class Command(BaseCommand):
    help = "Write Observations, Conditions and MedicationRequests of FHIR files as a typed table."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument("--out", type=Path, help="a Parquet file instead of JSON lines")
        parser.add_argument(
            "--unit",
            action="append",
            default=[],
            metavar="SYSTEM|CODE=UNIT",
            help="convert a result to this UCUM unit: http://loinc.org|2093-3=g/L",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        units = dict(one.rpartition("=")[::2] for one in options["unit"])
        if not all("|" in coding and unit for coding, unit in units.items()):
            raise CommandError("A unit is given as SYSTEM|CODE=UNIT.")
        table, refused = Table(units), 0
        intake = Intake()
        for path in in_order(options["paths"]):
            try:
                with Source(path) as source:
                    for found in intake.records(source):
                        if isinstance(found, Spoiled):
                            refused += len(found.refusals)
                            for one in found.refusals:
                                self.stderr.write(f"refused: {one}")
                        elif isinstance(found, Record) and found.owner is not None:
                            table.add(found.raw, found.owner)
            except Refused as fault:
                refused += 1
                self.stderr.write(f"refused: {path}: this {fault.message} [{fault.code}]")
        if options["out"]:
            self._parquet(table, options["out"])
        else:
            for row in table:
                self.stdout.write(json.dumps(row._asdict()))
        if refused:
            sys.exit(1)

    def _parquet(self, table: Table, out: Path) -> None:
        try:
            from pyarrow import parquet
        except ImportError:
            raise CommandError(
                "Parquet needs the extra `features`: pip install 'consent-gateway[features]'."
            ) from None
        try:
            parquet.write_table(table.to_arrow(), out)
        except OSError as error:
            raise CommandError(f"The file cannot be written: {error.strerror or 'no room'}") from None
