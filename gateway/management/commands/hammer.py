"""`manage.py hammer`: load the audit log and check it at once, on a ledger and database of its own."""

from argparse import ArgumentParser
from typing import Any

from gateway.drills.hammer import SECONDS
from gateway.management.commands import drill


class Command(drill.Command):
    help = "Write, seal, anchor and check an audit log at once, in a temporary folder; exit 1 where it fails."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for how long ({SECONDS:.0f})")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        known = {
            "name": "hammer",
            "list": False,
            "ledger": None,
            "jobs": 1,
            "stops": 1,
            "kills": 0,
            "seed": None,
        }
        super().handle(*args, **{**known, **options})
