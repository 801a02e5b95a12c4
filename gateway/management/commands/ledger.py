"""`manage.py ledger`: the embedded ledger's process in the foreground. Needs no database."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ledger.embedded.__main__ import add_arguments, run


class Command(BaseCommand):
    help = "Run the embedded ledger's process until it is told to stop (SIGTERM)."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", nargs="?", type=Path, help="default: the one in LEDGER_URL")
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        status = run(
            options["folder"] or embedded_folder(),
            allow_uid=options["allow_uid"],
            group=options["group"],
            max_pages=options["max_pages"],
        )
        if status:
            raise SystemExit(status)


def embedded_folder() -> Path:
    """The folder that LEDGER_URL names. Raises CommandError on another kind of ledger."""
    parts = urlsplit(settings.LEDGER_URL)
    if parts.scheme != "embedded":
        raise CommandError(
            "LEDGER_URL is not an embedded ledger. Name a folder, or use the peers' own tools."
        )
    return Path(parts.path)
