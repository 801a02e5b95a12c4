"""`manage.py fsck`: derive the whole ledger again from its first block. Needs no database."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand
from tqdm import tqdm

from gateway.management.commands.ledger import embedded_folder
from ledger.embedded.fsck import Report, check
from ledger.errors import GatewayError


class Command(BaseCommand):
    help = "Check the embedded ledger's file: exit 0 if every root, signature and state holds, else 1."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", nargs="?", type=Path, help="default: the one in LEDGER_URL")
        parser.add_argument("--json", action="store_true", help="one JSON object on standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = self._check(options["folder"] or embedded_folder())
        except GatewayError as error:
            self.stderr.write(f"fsck: {error.message} ({error.code})")
            raise SystemExit(1) from None
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(), sort_keys=True))
        else:
            self.stdout.write(_sentence(report))
        if not report.good:
            raise SystemExit(1)

    def _check(self, folder: Path) -> Report:
        with tqdm(unit=" blocks", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            return check(folder, progress=progress)


def _sentence(report: Report) -> str:
    counts = f"{report.blocks} blocks, {report.transactions} transactions, {report.keys} keys"
    if report.good:
        return f"good: {counts}"
    where = "the file" if report.block is None else f"block {report.block}"
    return f"bad: {where}: {report.problem}"
