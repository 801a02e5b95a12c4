"""Incidents: what must not be, found by itself, for the compliance side to look into."""

import logging

from django.db import transaction

from ledger.audit.log import Actor, record
from ledger.audit.models import Incident

log = logging.getLogger(__name__)

PROOF_DIFFERS = "proof_differs"


@transaction.atomic
def open_incident(*, code: str, leaf: int, by: Actor) -> Incident:
    """An incident about the log's row at `leaf`, opened once, with its audit row. Raises InvalidInput."""
    incident, is_new = Incident.objects.get_or_create(code=code, leaf=leaf)
    if is_new:
        record(kind="incident.opened", actor=by, code=code, leaf=leaf)
        log.error("incident %s: row %d of the audit log is not what the ledger sealed", code, leaf)
    return incident
