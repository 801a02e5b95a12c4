"""`manage.py relabel`: bring every stored record under today's label rules; no file has to come again.

Run it right after an upgrade that changed the rules; `manage.py labels --stored` counts what is under older
ones. Standard output has the counts, or with --json one JSON object; progress goes to standard error.
Interrupted, it is run again. The exit status is 1 if something could not be done.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from gateway.keyholder.client import Keyholder
from gateway.labels.rules import VERSION
from gateway.records.relabelling import relabel
from ledger.errors import GatewayError

STEPS = {"look": "which newer rules concern", "label": "labelled anew"}


class Command(BaseCommand):
    help = (
        "Label stored records by today's rules: what those can concern is withheld, opened, and sealed anew."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    def handle(self, *args: Any, **options: Any) -> None:
        bars: dict[str, tqdm[Any]] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in bars:
                bars[step] = tqdm(
                    total=total, unit="patient", desc=STEPS[step], disable=None, file=sys.stderr
                )
            bars[step].update(done - bars[step].n)

        try:
            outcome = relabel(Keyholder(settings.KEYHOLDER_SOCKET), progress=progress)
        except GatewayError as error:
            raise CommandError(f"{error.message} [{error.code}] Run it again: it goes on.") from None
        finally:
            for bar in bars.values():
                bar.close()
        if options["json"]:
            self.stdout.write(json.dumps({"rules": VERSION, **asdict(outcome)}))
        else:
            for count, what in (
                (outcome.patients, "patients with records under older rules"),
                (outcome.looked, "chunks looked at, by what is noted beside them"),
                (
                    outcome.opened,
                    f"chunks that rules {VERSION} could concern: opened, in the keyholder alone",
                ),
                (outcome.sealed, "chunks sealed in their place"),
            ):
                self.stdout.write(f"{count:>9,}  {what}")
            if outcome.failed:
                self.stdout.write(f"{outcome.failed:>9,}  patients not done: what is in doubt stays withheld")
        if outcome.failed:
            sys.exit(1)
