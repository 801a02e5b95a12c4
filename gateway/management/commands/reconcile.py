"""`manage.py reconcile`: database, ledger, keyholder's log and audit log, each held against the others.

Exit status: 0 they agree, 1 something differs, 2 the ledger or the keyholder cannot be asked. What differs
holds releases from then on; what differs no more is settled, and releases go on.

After the keyholder's store was lost and an older backup restored, its log lacks what was opened since.
Nothing brings those rows back: `--accept-lost-openings` writes down, for good, that they were lost.
"""

import json
from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from gateway.compliance.reconcile import Look, Reconciler, accept_lost, hold, settle_others
from gateway.keyholder.client import Keyholder
from ledger.audit.log import Actor
from ledger.channels import Channels, named
from ledger.errors import GatewayError

BY = Actor.system("command")
PAUSE = 3.0


class Command(BaseCommand):
    help = (
        "Hold database, ledger, keyholder's log and audit log against each other; exit 1 where they differ."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
        parser.add_argument(
            "--look-only", action="store_true", help="neither hold releases nor settle anything"
        )
        parser.add_argument(
            "--accept-lost-openings",
            action="store_true",
            help="after a restore: what the keyholder's log lacks of delivered jobs (never_opened) was lost",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        channels = Channels.open(named(settings.LEDGER_URL, settings.LEDGER_CHANNELS), identity="gateway")
        keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
        try:
            look = Reconciler(channels, keyholder, pause=PAUSE).look(whole=True)
        except GatewayError as error:
            self.stderr.write(f"reconcile: {error.message} ({error.code})")
            raise SystemExit(2) from None
        finally:
            channels.close()
            keyholder.close()
        if options["accept_lost_openings"]:
            look = replace(look, findings=tuple(accept_lost(look.findings, by=BY)))
        settled = 0
        if not options["look_only"]:
            hold(look.findings, by=BY)
            settled = settle_others(look.findings, by=BY)
        self._say(look, settled, as_json=options["json"])
        if look.findings:
            raise SystemExit(1)

    def _say(self, look: Look, settled: int, *, as_json: bool) -> None:
        if as_json:
            found = [{"code": one.code, "place": one.place} for one in look.findings]
            told = {"findings": found, "openings": look.openings, "rows": look.rows, "settled": settled}
            self.stdout.write(json.dumps(told, sort_keys=True))
            return
        for one in look.findings:
            self.stdout.write(f"{one.code}: {one.place}")
        self.stdout.write(
            f"{look.rows} rows of the audit log and {look.openings} openings looked at: "
            f"{len(look.findings)} findings, {settled} incidents settled"
        )
