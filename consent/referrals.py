"""Referral codes: how a requester asks a patient without knowing who she is.

The clinic hands the patient a code for one requester; the patient passes it on. A code is used
once, ends after thirty days, and is kept only as a digest.
"""

import hashlib
import secrets
from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from consent.models import Patient, ReferralCode, Requester
from ledger.audit.log import Actor, record
from ledger.errors import RefusedTransition

DAYS = 30


@transaction.atomic
def issue(*, patient: Patient, requester: Requester, by: Actor) -> str:
    """A new code of 26 characters (104 bits); shown once, never stored.

    Raises RefusedTransition (`not_linked`): a requester could ask nothing with it yet.
    """
    if not patient.record_id:
        raise RefusedTransition(_("Link this patient to a record first."), code="not_linked")
    code = secrets.token_hex(13)
    ReferralCode.objects.create(
        digest=_digest(code),
        patient=patient,
        requester=requester,
        expires_at=timezone.now() + timedelta(days=DAYS),
    )
    record(kind="referral.issued", actor=by, subject=patient.pseudonym, requester=str(requester.pk))
    return code


def redeem(*, code: str, requester: Requester) -> Patient | None:
    """The patient behind the code, once; None when it is unknown, used, ended or another's."""
    now = timezone.now()
    taken = ReferralCode.objects.filter(
        digest=_digest(code), requester=requester, used_at=None, expires_at__gt=now
    ).update(used_at=now)
    if not taken:
        return None
    return Patient.objects.get(referral_codes__digest=_digest(code))


def _digest(code: str) -> str:
    return hashlib.sha256(code.strip().lower().encode()).hexdigest()
