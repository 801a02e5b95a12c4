"""`manage.py worker`: runs jobs. Any number may run; each job has one at a time."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Run jobs from the broker."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--concurrency", type=int, default=2, help="jobs at a time (default 2)")

    def handle(self, *args: Any, **options: Any) -> None:
        from gateway.analysis.sandbox import has_bubblewrap
        from gateway.celery import app

        has_bubblewrap()  # found out, and said, once for all its processes
        app.worker_main(
            [
                "--quiet",
                "worker",
                f"--concurrency={options['concurrency']}",
                "--pool=prefork",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
                "-Ofair",
                "--loglevel=WARNING",
            ]
        )
