"""`manage.py quarantine list|show|mend|release|drop`: faulty resources that `ingest --lenient` set aside."""

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.keyholder.client import Keyholder
from gateway.records import mending
from gateway.records.models import Quarantined
from gateway.records.reports import FileReport
from ledger.errors import GatewayError

_SHOWN = 1_000


class Command(BaseCommand):
    help = "List, read, mend, release or drop the resources that `ingest --lenient` set aside."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        acts.add_parser("list", help="what is there, and what is wrong with it")
        self._act(acts, "show", "print one as it came; the audit log says so")
        mend = self._act(acts, "mend", "take in FILE instead of it, if nothing is wrong with that")
        mend.add_argument("file", metavar="FILE", help="the mended resource; - is standard input")
        release = acts.add_parser("release", help="check again, and take in what nothing is wrong with now")
        release.add_argument("ids", nargs="*", metavar="ID", help="all, if none is named")
        drop = self._act(acts, "drop", "throw it away")
        drop.add_argument("--reason", required=True, choices=mending.REASONS)

    def _act(self, acts: Any, name: str, help: str) -> CommandParser:
        parser: CommandParser = acts.add_parser(name, help=help)
        parser.add_argument("id", metavar="ID", help="from `list`; its first eight characters are enough")
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
        try:
            getattr(self, f"_{options['act']}")(keyholder, options)
        except GatewayError as error:
            raise CommandError(f"{error.message} [{error.code}]") from None
        finally:
            keyholder.close()

    def _list(self, keyholder: Keyholder, options: dict[str, Any]) -> None:
        for row in Quarantined.objects.order_by("created_at", "id")[:_SHOWN]:
            where = f"file {row.file[:12]} line {row.line}" + (f" {row.entry}" if row.entry else "")
            self.stdout.write(f"{row.id[:12]}  {row.kind or 'of no type taken in'}  {where}")
            for fault in row.faults:
                self.stdout.write(f"    {fault['element'] or 'this'} {fault['message']} [{fault['code']}]")
        self.stdout.write(f"{Quarantined.objects.count():,} in quarantine")

    def _show(self, keyholder: Keyholder, options: dict[str, Any]) -> None:
        raw = mending.read(options["id"], keyholder=keyholder)
        self.stdout.write(raw.decode(errors="replace"))

    def _mend(self, keyholder: Keyholder, options: dict[str, Any]) -> None:
        try:
            raw = (
                sys.stdin.buffer.read() if options["file"] == "-" else Path(options["file"]).read_bytes()
            ).strip()
        except OSError as error:
            raise CommandError(f"FILE cannot be read: {error.strerror}") from None
        report = mending.mend(options["id"], raw, keyholder=keyholder)
        self._tell(options["id"], report)
        if report.state != "taken":
            sys.exit(1)

    def _release(self, keyholder: Keyholder, options: dict[str, Any]) -> None:
        ids = options["ids"] or list(
            Quarantined.objects.order_by("created_at", "id").values_list("pk", flat=True)
        )
        taken = 0
        # Twice: a Patient among them makes known whom the others are of.
        for _ in range(2):
            reports = {id: mending.release(id, keyholder=keyholder) for id in ids}
            taken += sum(report.state == "taken" for report in reports.values())
            ids = [id for id, report in reports.items() if report.state != "taken"]
        for id in ids:
            self._tell(id, reports[id])
        self.stdout.write(f"{taken:,} taken in, {len(ids):,} stay in quarantine")
        if ids:
            sys.exit(1)

    def _drop(self, keyholder: Keyholder, options: dict[str, Any]) -> None:
        mending.drop(options["id"], reason=options["reason"])
        self.stdout.write(f"{options['id'][:12]} dropped")

    def _tell(self, id: str, report: FileReport) -> None:
        for found in report.refused:
            self.stdout.write(f"{id[:12]}  {found.element or 'this'} {found.message} [{found.code}]")
        if report.state == "taken":
            self.stdout.write(f"{id[:12]}  taken in")
