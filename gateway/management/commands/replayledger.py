"""`manage.py replayledger`: every consent from the ledger alone, held against the database and the keyholder.

Exit status: 0 they agree, 1 something differs or is missing, 2 the ledger or the keyholder cannot be asked.
"""

import json
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from consent import replay
from gateway.keyholder.client import Keyholder
from ledger.channels import HOME, Channels, named
from ledger.client import Ledger
from ledger.errors import GatewayError

MISSING = (
    "Consents in force on the ledger are not in this database: their patients can neither see nor stop them "
    "here, and they cannot be made again from what the keyholder keeps. Restore a newer backup; where there "
    "is none, end them with --stop-missing. That cannot be undone."
)


class Command(BaseCommand):
    help = (
        "Derive every consent's state, version, expiry and stops from the ledger, and list what differs here."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--repair", action="store_true", help="put the database's readable copies right, then look again"
        )
        parser.add_argument(
            "--stop-missing",
            action="store_true",
            help="stop for good what is in force on the ledger and not in the database",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
        parser.add_argument(
            "--without-keyholder", action="store_true", help="do not ask whether the stored openings fit"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            consents, found, repaired = self._replay(options)
        except GatewayError as error:
            self.stderr.write(f"replayledger: {error.message} ({error.code})")
            raise SystemExit(2) from None
        if options["json"]:
            listed = [one.as_json() for one in found]
            report = {"consents": consents, "differences": listed, "repaired": dict(repaired)}
            self.stdout.write(json.dumps(report, sort_keys=True))
        else:
            self._print(consents, found, repaired)
        if any(replay.is_missing(one) for one in found):
            self.stderr.write(MISSING)
        if found:
            raise SystemExit(1)

    def _replay(self, options: Mapping[str, Any]) -> tuple[int, list[replay.Difference], Counter[str]]:
        channels = Channels.open(named(settings.LEDGER_URL, settings.LEDGER_CHANNELS), identity="gateway")
        keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
        consents, repaired = 0, Counter[str]()
        found: list[replay.Difference] = []
        try:
            for name, channel in channels.items():
                known, differing, done = self._replay_one(name, channel.ledger, keyholder, options)
                consents, found, repaired = consents + known, found + differing, repaired + done
            return consents, found, repaired
        finally:
            channels.close()
            keyholder.close()

    def _replay_one(
        self, channel: str, ledger: Ledger, keyholder: Keyholder, options: Mapping[str, Any]
    ) -> tuple[int, list[replay.Difference], Counter[str]]:
        def kept(commitments: Mapping[str, str]) -> Mapping[str, Any]:
            return keyholder.kept_openings(commitments=commitments)

        ask = None if options["without_keyholder"] else kept
        first = replay.compare(replay.derive(ledger), ask, channel=channel)
        # What is only on its way between ledger and database is gone at the second look.
        truth = replay.derive(ledger)
        found = [one for one in replay.compare(truth, ask, channel=channel) if one in first]
        repaired: Counter[str] = Counter()
        if options["repair"] and found:
            repaired = replay.repair(found, truth)
        if options["stop_missing"]:
            repaired["missing_here"] = replay.stop_missing(
                found, lambda consent: keyholder.stop(consent=consent)
            )
        if repaired:
            found = replay.compare(truth, ask, channel=channel)
        return len(truth), found, repaired

    def _print(self, consents: int, found: Sequence[replay.Difference], repaired: Counter[str]) -> None:
        for code, count in sorted(repaired.items()):
            self.stdout.write(f"put right: {count} {code}")
        for one in found:
            sides = f": here {one.here or 'nothing'}, on the ledger {one.ledger or 'nothing'}"
            place = "" if one.channel == HOME else f" on {one.channel}"
            self.stdout.write(f"{one.code} consent/{one.consent}{place}{sides}")
        self.stdout.write(f"{consents} consents on the ledger, {len(found)} differences")
