"""`manage.py fsck`: derive the whole ledger of every channel again from its first block. Needs no database.

Exit status: 0 all of it holds, 1 something does not, 2 it could not be checked.
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from tqdm import tqdm

from ledger.channels import HOME, named
from ledger.errors import GatewayError
from ledger.fsck import Report, check


class Command(BaseCommand):
    help = (
        "Check every block, signature and state of the ledger: exit 0 if all holds, 1 if not, 2 if unknown."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", nargs="?", type=Path, help="of an embedded ledger; default: LEDGER_URL")
        parser.add_argument("--json", action="store_true", help="one JSON object on standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        urls = named(settings.LEDGER_URL, settings.LEDGER_CHANNELS)
        if folder := options["folder"]:
            urls = {HOME: f"embedded://{folder.resolve()}"}
        statuses = [self._check_one(name, url, options) for name, url in urls.items()]
        if status := max(statuses):
            raise SystemExit(status)

    def _check_one(self, channel: str, url: str, options: Mapping[str, Any]) -> int:
        """Says what was found on one channel; its exit status."""
        place = "" if channel == HOME else f"{channel}: "
        try:
            report = self._check(url)
        except GatewayError as error:
            self.stderr.write(f"fsck: {place}{error.message} ({error.code})")
            if options["folder"] is None:
                self.stderr.write(f"The ledger is {url}; GATEWAY_HOME names the installation.")
            return 2
        except ValueError as error:  # the settings name no ledger, or its profile cannot be read
            self.stderr.write(f"fsck: {place}{error}")
            return 2
        if options["json"]:
            said = report.as_json() if channel == HOME else {"channel": channel, **report.as_json()}
            self.stdout.write(json.dumps(said, sort_keys=True))
        else:
            self.stdout.write(place + _sentence(report))
        return 0 if report.good else 1

    def _check(self, url: str) -> Report:
        with tqdm(unit=" blocks", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            return check(url, progress=progress)


def _sentence(report: Report) -> str:
    counts = f"{report.blocks} blocks, {report.transactions} transactions, {report.keys} keys"
    if report.good:
        return f"good: {counts}" + "".join(f"; not checked: {what}" for what in report.unchecked)
    where = "the ledger" if report.block is None else f"block {report.block}"
    return f"bad: {where}: {report.problem}"
