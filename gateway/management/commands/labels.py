"""`manage.py labels [PATH…]`: the rules that label records by sensitivity, or what they say of files;
with `--stored` how many of the stored records each version of the rules has labelled.

Standard output has one line for each resource: where it stands, its labels, and the rules that put them on.
Files need no database. Writes nothing. The exit status is 1 if a resource could not be taken in.
"""

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db.models import Count

from gateway.labels.rules import RULES, STATEMENTS, VERSION
from gateway.labels.versions import tables
from gateway.records.ingest import in_order
from gateway.records.intake import Deleted, Intake, Spoiled
from gateway.records.models import ResourceVersion
from gateway.records.sources import Source
from gateway.records.strict_json import Refused


class Command(BaseCommand):
    help = "Show the rules that label records, or the labels of the resources in files with their basis."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
        parser.add_argument(
            "--stored", action="store_true", help="count what is stored, by the rules that labelled it"
        )
        parser.add_argument("--json", action="store_true", help="JSON: one object, or one a line for files")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["stored"]:
            self._stored(options["json"])
            return
        if not options["paths"]:
            self._rules(options["json"])
            return
        intake = Intake()  # one for all: labels of one file are known to those that follow
        good = [self._file(intake, path, options["json"]) for path in in_order(options["paths"])]
        if not all(good):
            sys.exit(1)

    def _stored(self, as_json: bool) -> None:
        """Nothing is opened to count them.

        Those of none came in before rules were noted, or wait for what they must follow.
        """
        counted = ResourceVersion.objects.values_list("rules").annotate(Count("pk")).order_by("rules")
        counts = {rules or "none": count for rules, count in counted}
        if as_json:
            self.stdout.write(json.dumps({"rules": VERSION, "stored": counts}))
            return
        for rules, count in counts.items():
            todo = "" if rules == VERSION else "  `manage.py relabel` labels them anew"
            self.stdout.write(f"{rules:10} {count:>12,}{todo}")

    def _rules(self, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(tables(), indent=2))
            return
        self.stdout.write(f"Rules {VERSION}")
        for rule in RULES:
            put_on = " ".join(rule.sensitivity)
            self.stdout.write(f"{rule.name:22} {put_on:14} {rule.basis}: {rule.system}")
            self.stdout.write(f"{'':22} {rule.codes}")
        self.stdout.write("Types; any other is withheld")
        for kind in sorted(STATEMENTS):
            self.stdout.write(f"{kind:28} {STATEMENTS[kind]}")

    def _file(self, intake: Intake, path: Path, as_json: bool) -> bool:
        """Whether all of the file could be taken in."""
        good = True
        try:
            with Source(path) as source:
                for found in intake.records(source):
                    if isinstance(found, Spoiled):
                        good = False
                        for refusal in found.refusals:
                            self.stderr.write(f"refused: {refusal}")
                        continue
                    if isinstance(found, Deleted):
                        continue
                    told = {
                        "file": str(path),
                        "line": found.place.line,
                        "entry": found.place.entry,
                        "type": found.kind,
                        "labels": found.labels,
                        "basis": found.basis,
                        "rules": VERSION,
                    }
                    where = f"{path}:{found.place.line} {found.kind}"
                    why = ", ".join(found.basis) or "the rules cannot tell: withheld"
                    said = f"{where}: {' '.join(found.labels)} ({why}; rules {VERSION})"
                    self.stdout.write(json.dumps(told) if as_json else said)
        except Refused as fault:
            self.stderr.write(f"refused: {path}: {fault.message} [{fault.code}]")
            return False
        return good
