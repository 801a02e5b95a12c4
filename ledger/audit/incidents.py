"""Incidents: what must not be, found by itself, for the compliance side to look into.

An incident that holds stops releases: where two stores disagree, nobody knows which of them to believe.
"""

import logging

from django.db import transaction
from django.utils import timezone

from ledger.audit.log import Actor, record
from ledger.audit.models import Incident
from ledger.errors import LedgerError

log = logging.getLogger(__name__)

PROOF_DIFFERS = "proof_differs"


def row(leaf: int) -> str:
    """The place of the log's row at `leaf`."""
    return f"row {leaf}"


@transaction.atomic
def open_incident(*, code: str, place: str, by: Actor, holds: bool = False) -> Incident:
    """An incident about this place, open once, with its audit row. The log says its number, not the place."""
    incident, is_new = Incident.objects.get_or_create(
        code=code, place=place, settled_at=None, defaults={"holds": holds}
    )
    if is_new:
        record(kind="incident.opened", actor=by, code=code, incident=incident.pk)
        log.error("incident %d: %s", incident.pk, code)
    return incident


@transaction.atomic
def settle_incident(*, incident: Incident, by: Actor) -> None:
    """It is so no more: releases no longer wait for it. Harmless to repeat."""
    if Incident.objects.filter(pk=incident.pk, settled_at=None).update(settled_at=timezone.now()):
        record(kind="incident.settled", actor=by, code=incident.code, incident=incident.pk)
        log.warning("incident %d: %s is settled", incident.pk, incident.code)


def is_held() -> bool:
    """Whether an incident holds releases now."""
    return Incident.objects.filter(holds=True, settled_at=None).exists()


def require_none_holds() -> None:
    """Raises LedgerError (`releases_held`): the job waits until the incident is settled."""
    if is_held():
        raise LedgerError(
            "Two of the gateway's stores do not agree. Nothing is released until that is settled.",
            code="releases_held",
        )
