"""`manage.py drill NAME`: break something on purpose and see whether the promises hold; exit 1 where not.

It makes a ledger, a keyholder and patients of its own in a temporary folder, and touches nothing else.
"""

import json
import signal
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from gateway.drills import catalogue
from gateway.drills.report import Report


class Command(BaseCommand):
    help = "Break a ledger or a keyholder on purpose; print what happened; exit 1 where a promise broke."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", metavar="NAME", help="which drill; --list names them")
        parser.add_argument("--list", action="store_true", help="list the drills and what each promises")
        parser.add_argument(
            "--ledger", choices=["embedded", "fabric"], help="the drill's own default, if not given"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--jobs", type=int, default=1000, help="history: how many jobs (1000)")
        parser.add_argument("--stops", type=int, default=200, help="history: how many patients stop (200)")
        parser.add_argument(
            "--kills", type=int, default=30, help="history: how many processes are killed (30)"
        )
        parser.add_argument("--seed", help="history: the same random choices again (not the same timing)")

    def handle(self, *args: Any, **options: Any) -> None:
        known = catalogue.drills()
        if options["list"] or not options["name"]:
            width = max(map(len, known))
            for drill in known.values():
                self.stdout.write(f"{drill.name:{width}}  {'|'.join(drill.ledgers):15}  {drill.promise}")
            return
        if options["name"] not in known:
            raise CommandError(f"No such drill: {options['name']}. --list names them.")
        drill = known[options["name"]]
        ledger = options["ledger"] or drill.ledgers[0]
        if ledger not in drill.ledgers:
            raise CommandError(f"{drill.name} runs on: {', '.join(drill.ledgers)}.")
        if min(options["jobs"], options["stops"]) < 1 or options["kills"] < 0:
            raise CommandError("At least one job and one stop are needed.")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its processes are ended too
        report = Report(drill.name, ledger, say=lambda text: tqdm.write(f"  {text}", file=sys.stderr))
        tqdm.write(f"{drill.name} on {ledger}: {drill.promise}", file=sys.stderr)
        self._run(drill, ledger, report, options)
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json()))
        else:
            self.stdout.write(report.as_table())
        if not report.is_kept:
            raise SystemExit(1)

    def _run(self, drill: catalogue.Drill, ledger: str, report: Report, options: dict[str, Any]) -> None:
        from deploy.fabric.binaries import BinariesMissing

        try:
            catalogue.run(drill, ledger, report, options)
        except BinariesMissing as error:
            raise CommandError(str(error)) from None
        except Exception as error:
            code = getattr(error, "code", type(error).__name__)
            report.promise("the drill comes to its end", False, f"{type(error).__name__}: {code}")
            if options["traceback"]:
                raise
