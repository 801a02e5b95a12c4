"""Telling the keyholder of a stop in the moment that it is asked."""

import logging

from django.conf import settings

from gateway.keyholder.client import Keyholder
from ledger.errors import GatewayError

log = logging.getLogger(__name__)


def stop_now(consent_id: str) -> None:
    """The keyholder opens nothing more from here on. Where it cannot be reached, the ledger tells it."""
    try:
        Keyholder(settings.KEYHOLDER_SOCKET).stop(consent=consent_id)
    except GatewayError as error:
        log.warning("stop was not told to the keyholder at once: %s", error.code)
