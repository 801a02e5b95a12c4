"""`manage.py run`: an installation that keeps its data, with all its processes, on this machine."""

import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway import installation
from gateway.accounts.models import User
from gateway.processes import stop_by_sigterm
from ledger.errors import GatewayError


class Command(BaseCommand):
    help = "Start an installation that keeps its data (GATEWAY_HOME). Ctrl-C or SIGTERM stops it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="where the portal is served")

    def handle(self, *args: Any, **options: Any) -> None:
        stop_by_sigterm()
        try:
            self._run(settings.HOME, options["port"])
        except GatewayError as error:
            raise CommandError(error.message) from None
        except KeyboardInterrupt:
            return

    def _run(self, home: Path, port: int) -> None:
        """Until a process ends by itself, or this one is told to."""
        installation.make(home)
        self._first_administrator()
        with installation.start(home, port=port) as processes:
            self.stdout.write(f"Consent Gateway serves http://localhost:{port}. Ctrl-C stops it.")
            for limit in installation.limits():
                self.stdout.write(self.style.WARNING(f"Not enforced on this machine: {limit}"))
            self.stdout.flush()  # into a service manager's log, too
            while not (ended := processes.ended()):
                time.sleep(1)
        raise CommandError(f"{', '.join(ended)} ended. See {home / 'logs'}.")

    def _first_administrator(self) -> None:
        """One administrator with a password that is shown once, where there is none."""
        import secrets

        if User.objects.filter(is_superuser=True).exists():
            return
        password = secrets.token_urlsafe(12)
        User.objects.create_superuser("admin", "admin@localhost", password)
        self.stdout.write(f"First administrator: admin@localhost, password {password} (shown once)")
        self.stdout.flush()
