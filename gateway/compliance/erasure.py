"""Carrying out erasures that two people confirmed: stops first, then keys, then rows. The relay does it.

Each step may be repeated: killed anywhere, the next round goes on. A store that comes back from a backup is
made to forget again: the database tells the keyholder, and the keyholder the database.
"""

from collections.abc import Iterator

from django.db import transaction
from django.utils import timezone

from consent import services
from consent.erasure import RELAY, forget
from consent.models import Consent, Erasure, Patient
from gateway.analysis.models import Job, JobSubject, Output, Summary
from gateway.keyholder.client import Keyholder
from gateway.records.models import Chunk
from ledger.errors import RefusedTransition

LedgerState = Consent.LedgerState
ON_THE_WAY = (LedgerState.GRANTING, LedgerState.IN_FORCE, LedgerState.REVOKING)
AT_ONCE = 500


def carry_out(keyholder: Keyholder) -> int:
    """Every erasure that is due, as far as it comes; how many were done. Raises KeyholderUnavailable.

    One that exceeds the keyholder's bound for a day waits (RefusedTransition, `erasures_exceeded`).
    """
    done = 0
    for erasure in Erasure.objects.filter(state=Erasure.State.DUE, patient__isnull=False).order_by("pk"):
        assert erasure.patient is not None
        if _is_quiet(erasure.patient, keyholder):
            _destroy(erasure.patient, kek=keyholder.erase(patient=erasure.patient.pk)["kek"])
            done += 1
    return done


def repeat(keyholder: Keyholder) -> int:
    """Erase again whom one store forgot and the other, from a backup, knows; how many rows were."""
    found = 0
    for some in _patients():
        for patient in Patient.objects.filter(pk__in=keyholder.erased(patients=some)):
            if _is_quiet(patient, keyholder):
                _destroy(patient, kek="")
                found += 1
    for erasure in Erasure.objects.filter(state=Erasure.State.DONE):
        keyholder.erase(patient=erasure.key)
    return found


def close_backups(keyholder: Keyholder) -> int:
    """Note which erasures no backup of the keyholder's store can undo any more: none needs their KEK now.

    That every copy of that KEK was destroyed is the operator's word. How many were noted.
    """
    status = keyholder.status()
    if status["under_old_keks"]:
        return 0
    open_ones = Erasure.objects.filter(state=Erasure.State.DONE, backups_closed_at=None).exclude(kek="")
    return open_ones.exclude(kek=status["kek"]).update(backups_closed_at=timezone.now())


def _is_quiet(patient: Patient, keyholder: Keyholder) -> bool:
    """Whether nothing of hers is in force or under way; what is, is stopped."""
    for consent in Consent.objects.filter(patient=patient, ledger_state__in=ON_THE_WAY):
        try:
            services.stop(consent, RELAY, lambda id: keyholder.stop(consent=id))
        except RefusedTransition:  # its stop is on its way
            continue
    under_way = JobSubject.objects.filter(patient=patient).exclude(job__state__in=Job.SETTLED)
    return (
        not Consent.objects.filter(patient=patient, ledger_state__in=ON_THE_WAY).exists()
        and not under_way.exists()
    )


@transaction.atomic
def _destroy(patient: Patient, *, kek: str) -> None:
    """Her sealed records and results, which open no more, and all rows that lead to her.

    A summary goes with hers in it. One that was made without her is the others', and stays.
    """
    subjects = JobSubject.objects.filter(patient=patient)
    Output.objects.filter(subject__in=subjects).delete()
    delivered = subjects.filter(state=JobSubject.State.DELIVERED)
    Summary.objects.filter(leg__subjects__in=delivered).delete()
    subjects.update(patient=None, request=None)
    Chunk.objects.filter(patient=patient).delete()
    forget(patient=patient, kek=kek)


def _patients() -> Iterator[list[str]]:
    page: list[str] = []
    for id in Patient.objects.order_by("pk").values_list("pk", flat=True).iterator(chunk_size=AT_ONCE):
        page.append(id)
        if len(page) == AT_ONCE:
            yield page
            page = []
    if page:
        yield page
