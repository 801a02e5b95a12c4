"""What an emergency and a patient's own copy have in common: whose the ledger's event is, and blobs in parts.

Nothing begins, opens or is told here: gateway/emergency/services.py and own_copies.py do that.
"""

from collections.abc import Sequence

from django.db.models.functions import Length

from consent.models import Patient
from gateway.keyholder.client import AccessTold, Keyholder
from gateway.records.models import Chunk
from ledger.client import Event
from ledger.errors import RefusedTransition


def whose(event: Event, kind: str, keyholder: Keyholder) -> tuple[Patient, AccessTold] | None:
    """Of an Accessed of this kind (`emergency`, `subject`): the patient, and what the keyholder was asked.

    None for another kind, another organisation's, and a patient who is not here. Raises KeyholderUnavailable.
    """
    if event.payload.get("kind") != kind:
        return None
    try:
        told = keyholder.access_told(access=str(event.payload.get("access")))
    except RefusedTransition:
        return None  # another organisation's keyholder asked for it
    patient = Patient.objects.filter(pk=told["patient"]).first()
    return None if patient is None else (patient, told)


def sizes_of(chunks: Sequence[str]) -> dict[str, int]:
    """How many bytes each blob has, of those that are there."""
    return dict(Chunk.objects.filter(pk__in=chunks).annotate(size=Length("blob")).values_list("pk", "size"))


def blobs_of(patient: str, chunks: Sequence[str]) -> dict[str, bytes]:
    """The sealed blobs of this patient's among these chunks."""
    found = Chunk.objects.filter(pk__in=chunks, patient=patient).values_list("pk", "blob")
    return {chunk: bytes(blob) for chunk, blob in found}
