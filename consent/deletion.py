"""Asking a requester to delete what it got before a stop: results that left cannot be called back.

The patient asks on the page of a choice that is over; the requester reads it in the API and the hospital
on the requester's page, until somebody writes down that the requester confirmed it.
"""

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from consent.asking import record_act
from consent.models import Consent, Deletion, Patient, Requester
from consent.state import OPEN, state_of
from ledger.audit.log import Actor
from ledger.errors import RefusedTransition


@transaction.atomic
def ask_deletion(*, consent: Consent, patient: Patient) -> Deletion:
    """The patient asks for it; once is enough. Raises RefusedTransition (`still_shared`, `never_shared`)."""
    if consent.patient_id != patient.pk:
        raise RefusedTransition(_("This is another person's."), code="not_yours")
    if state_of(consent) in OPEN:
        raise RefusedTransition(_("Stop sharing first. Then you can ask for this."), code="still_shared")
    if consent.granted_at is None:
        raise RefusedTransition(_("Nothing was shared, so there is nothing to delete."), code="never_shared")
    found, new = Deletion.objects.get_or_create(consent=consent)
    if new:
        record_act("deletion.asked", Actor.patient(patient.pseudonym), consent.request, consent=consent.pk)
    return found


def deletions_asked_of(requester: Requester) -> QuerySet[Deletion]:
    """What it did not confirm yet, oldest first."""
    asked = Deletion.objects.filter(consent__request__requester=requester, confirmed_at=None)
    return asked.select_related("consent").order_by("asked_at", "pk")


@transaction.atomic
def confirm_deletion(*, deletion: Deletion, by: Actor) -> None:
    """The requester says that it is done. Raises RefusedTransition (`confirmed_already`)."""
    if not Deletion.objects.filter(pk=deletion.pk, confirmed_at=None).update(confirmed_at=timezone.now()):
        raise RefusedTransition(_("This was confirmed already."), code="confirmed_already")
    consent = deletion.consent
    record_act("deletion.confirmed", by, consent.request, consent=consent.pk)
