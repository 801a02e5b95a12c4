"""Erasing a patient: who may decide it, and what of her is destroyed in the database.

Two people of the compliance side confirm it, each once. What must be kept by law is kept by refusing, and the
patient is told why. What cannot be destroyed says nothing of her: the ledger's commitments, whose keys die at
the keyholder, and the audit log, whose pseudonym for her dies with her row.
"""

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from consent.models import (
    Conflict,
    Consent,
    ConsentRequest,
    ErasedConsent,
    Erasure,
    Patient,
    Representative,
    Scan,
)
from ledger.audit.log import Actor, record
from ledger.errors import RefusedTransition

State = Erasure.State
RELAY = Actor.system("relay")


@transaction.atomic
def ask_erasure(*, patient: Patient, by: AbstractBaseUser) -> Erasure:
    """Write down that the patient asked for it. Raises RefusedTransition (`erasure_asked`)."""
    patient = Patient.objects.select_for_update(of=("self",)).get(pk=patient.pk)
    if patient.erasures.exclude(state__in=(State.DONE, State.REFUSED)).exists():
        raise RefusedTransition(_("This was asked for already."), code="erasure_asked")
    made = Erasure.objects.create(patient=patient, key=patient.pk, asked_by_id=by.pk)
    record(kind="erasure.asked", actor=Actor.staff(by.pk), subject=patient.pseudonym)
    return made


@transaction.atomic
def confirm_erasure(*, erasure: Erasure, by: AbstractBaseUser) -> Erasure:
    """The first confirmation, or the second, by somebody else: then it is due, and there is no way back.

    Raises RefusedTransition (`erasure_settled`, `second_person`).
    """
    found = _open(erasure)
    if found.state == State.ASKED:
        found.state, found.confirmed_by_id = State.CONFIRMED, by.pk
    elif found.confirmed_by_id == by.pk:
        raise RefusedTransition(_("Somebody else has to confirm it too."), code="second_person")
    else:
        found.state, found.second_by_id = State.DUE, by.pk
    found.save(update_fields=["state", "confirmed_by", "second_by"])
    _record("erasure.confirmed", found, by, "first" if found.state == State.CONFIRMED else "second")
    return found


@transaction.atomic
def refuse_erasure(*, erasure: Erasure, by: AbstractBaseUser, hold: str) -> Erasure:
    """Her records are kept, for a reason that the law knows. Raises RefusedTransition (`erasure_settled`)."""
    found = _open(erasure)
    found.state, found.hold, found.settled_at = State.REFUSED, Erasure.Hold(hold), timezone.now()
    found.save(update_fields=["state", "hold", "settled_at"])
    _record("erasure.refused", found, by, found.hold)
    return found


@transaction.atomic
def forget(*, patient: Patient, kek: str) -> None:
    """Destroy the patient's rows. Her keys are destroyed already; nothing rests on her consents any more.

    Consents' ids stay, each by itself, so that the ledger is not taken to know more than we do.
    """
    consents = Consent.objects.filter(patient=patient)
    ErasedConsent.objects.bulk_create(
        [ErasedConsent(consent=id) for id in sorted(consents.values_list("pk", flat=True))],
        ignore_conflicts=True,
    )
    due = patient.erasures.filter(state=State.DUE)
    due.update(state=State.DONE, settled_at=timezone.now(), kek=kek)
    user = patient.user
    Conflict.objects.filter(patient=patient).delete()
    consents.update(replaces=None, scan=None, representative=None, stopper=None)
    consents.delete()
    ConsentRequest.objects.filter(patient=patient).delete()
    Representative.objects.filter(patient=patient).delete()
    Scan.objects.filter(patient=patient).delete()
    patient.delete()
    if user is not None and not user.is_staff and not user.represents.exists():
        user.delete()
    record(kind="erasure.done", actor=RELAY)


def _open(erasure: Erasure) -> Erasure:
    found = Erasure.objects.select_for_update(of=("self",)).select_related("patient").get(pk=erasure.pk)
    if found.state not in Erasure.OPEN:
        raise RefusedTransition(_("This is decided already."), code="erasure_settled")
    return found


def _record(kind: str, erasure: Erasure, by: AbstractBaseUser, code: str) -> None:
    assert erasure.patient is not None
    record(kind=kind, actor=Actor.staff(by.pk), subject=erasure.patient.pseudonym, code=code)
