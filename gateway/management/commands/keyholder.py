"""`manage.py keyholder`: the keyholder's process of this installation, as the settings say where it is."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from gateway.keyholder.__main__ import main


class Command(BaseCommand):
    help = "Run the keyholder: the only process that can unwrap a key."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "rest", nargs="*", help="options of `python -m gateway.keyholder`, after --", metavar="OPTION"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        socket = Path(settings.KEYHOLDER_SOCKET)
        arguments = [str(socket.parent), "--ledger", settings.LEDGER_URL, "--socket", str(socket)]
        arguments += [f"--channel={name}={url}" for name, url in settings.LEDGER_CHANNELS.items()]
        raise SystemExit(main([*arguments, *options["rest"]]))
