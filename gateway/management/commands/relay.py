"""`manage.py relay`: carries intents to the ledger, and the ledger's events back."""

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from gateway.relay import Relay
from ledger.channels import named


class Command(BaseCommand):
    help = "Send what the outbox holds, follow the ledger's events, seal the audit log, recover jobs."

    def handle(self, *args: Any, **options: Any) -> None:
        urls = named(settings.LEDGER_URL, settings.LEDGER_CHANNELS)
        relay = Relay(urls, settings.KEYHOLDER_SOCKET)
        signal.signal(signal.SIGTERM, lambda *_: relay.stop())
        signal.signal(signal.SIGINT, lambda *_: relay.stop())
        relay.run()
