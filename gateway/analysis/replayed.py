"""Whether our database knows what the ledger said: releases wait until the relay's replay has caught up.

The keyholder would refuse what was revoked anyway, by its own reading. This keeps a database that came back
from an old backup from asking at all, and its pages from showing a stopped consent in use.
"""

import time
from datetime import timedelta
from functools import cache

from django.conf import settings

from gateway.keyholder.client import Keyholder
from ledger import outbox
from ledger.errors import LedgerError

LISTENER = "gateway"  # the relay's cursor
PATIENCE = 3.0  # seconds


def require_replayed(channel: str) -> None:
    """Raises LedgerError (`ledger_catching_up`): the job waits and is tried again.

    The relay must have handled every block that the channel's ledger had when this process asked first, and
    must have stood at its end within REPLAY_SECONDS. One that runs does so every second or two.
    """
    if settings.REPLAY_SECONDS is None:
        return
    within = timedelta(seconds=settings.REPLAY_SECONDS)
    height = _height_at_first(settings.KEYHOLDER_SOCKET, channel)
    deadline = time.monotonic() + PATIENCE
    while not outbox.is_caught_up(LISTENER, height=height, within=within, channel=channel):
        if time.monotonic() > deadline:
            raise LedgerError(
                "The gateway has not heard yet all that the ledger says. The job waits.",
                code="ledger_catching_up",
            )
        time.sleep(0.05)


@cache
def _height_at_first(socket: str, channel: str) -> int:
    """How many blocks the channel's ledger had when this process first asked it. Raises GatewayError."""
    keyholder = Keyholder(socket)
    try:
        return keyholder.height(channel=channel)
    finally:
        keyholder.close()
