"""How a person becomes a patient here: invited by the clinic, identity-proofed, linked to records.

The invitation code is shown once and kept only as a digest; it works once and for a stated time.
"""

import hashlib
import re
import secrets
from datetime import date, timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from consent.channels import channel_for, check_channel
from consent.models import Patient
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput, RefusedTransition

INVITATION_LASTS = timedelta(days=14)
PROOFS = frozenset({"in_person", "video", "known_to_staff", "id_document"})

_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")  # FHIR R4, datatype id


def digest_of(code: str) -> str:
    """How a code is kept: SHA-256 in hex. The code has 128 random bits, so nothing slower is needed."""
    return hashlib.sha256(code.encode()).hexdigest()


@transaction.atomic
def invite(
    *, name: str, by: Actor, birth_date: date | None = None, channel: str | None = None
) -> tuple[Patient, str]:
    """A new patient and the code that only this person gets.

    `channel` is where all her consents will be; None: where the installation puts new patients.
    Raises InvalidInput.
    """
    if not name.strip():
        raise InvalidInput(_("Give the name of the person to invite."), code="name")
    place = channel_for() if channel is None else check_channel(channel)
    patient = Patient(name=name.strip(), birth_date=birth_date, channel=place)
    return patient, _new_code(patient, by)


@transaction.atomic
def invite_again(*, patient: Patient, by: Actor) -> str:
    """A new code for who has not signed up yet; the old one stops working. Raises RefusedTransition."""
    locked = Patient.objects.select_for_update().get(pk=patient.pk)
    if locked.user_id is not None:
        raise RefusedTransition(_("This person has signed up already."), code="invitation_used")
    return _new_code(locked, by)


def _new_code(patient: Patient, by: Actor) -> str:
    code = secrets.token_urlsafe(16)
    patient.invitation_digest = digest_of(code)
    patient.invitation_expires = timezone.now() + INVITATION_LASTS
    patient.save()
    record(kind="patient.invited", actor=by, subject=patient.pseudonym)
    return code


def find_invitation(code: str) -> Patient:
    """Whom this code invites. Raises RefusedTransition; unknown, used and expired look the same."""
    patient = Patient.objects.filter(
        invitation_digest=digest_of(code), invitation_expires__gt=timezone.now(), user=None
    ).first()
    if not code or patient is None:
        raise RefusedTransition(
            _("This invitation does not work. Ask the clinic for a new one."), code="invitation_invalid"
        )
    return patient


@transaction.atomic
def accept_invitation(*, code: str, user: AbstractBaseUser) -> Patient:
    """Ties the account to the patient; the code is used up. Raises RefusedTransition."""
    patient = find_invitation(code)
    if Patient.objects.filter(user_id=user.pk).exists():
        raise RefusedTransition(_("This account already belongs to a patient."), code="account_taken")
    taken = Patient.objects.filter(pk=patient.pk, user=None, invitation_digest=digest_of(code)).update(
        user_id=user.pk, invitation_digest="", invitation_expires=None
    )
    if not taken:
        raise RefusedTransition(
            _("This invitation does not work. Ask the clinic for a new one."), code="invitation_invalid"
        )
    patient.refresh_from_db()
    return patient


@transaction.atomic
def proof_identity(*, patient: Patient, by: AbstractBaseUser, method: str) -> None:
    """A member of staff has checked who this person is; once is enough. Nobody vouches for themselves.

    Raises InvalidInput, RefusedTransition (`own_proof`).
    """
    if method not in PROOFS:
        raise InvalidInput(_("Say how the person was identified."), code="proof_method")
    if Patient.objects.filter(pk=patient.pk, user_id=by.pk).exists():
        raise RefusedTransition(_("Somebody else has to check who you are."), code="own_proof")
    if Patient.objects.filter(pk=patient.pk, proofed_at=None).update(
        proofed_at=timezone.now(), proofed_by_id=by.pk
    ):
        record(kind="patient.proofed", actor=Actor.staff(by.pk), subject=patient.pseudonym, method=method)
    patient.refresh_from_db(fields=["proofed_at", "proofed_by"])


@transaction.atomic
def link_record(*, patient: Patient, record_id: str, by: Actor) -> None:
    """Ties the patient to the FHIR Patient resource with id `record_id`; never to another one later.

    Raises InvalidInput, RefusedTransition.
    """
    if not _FHIR_ID.fullmatch(record_id):
        raise InvalidInput(
            _("The id of a record has letters, digits, hyphens and dots, at most 64."), code="record_id"
        )
    locked = Patient.objects.select_for_update().get(pk=patient.pk)
    if locked.record_id == record_id:
        return
    if locked.record_id is not None:
        raise RefusedTransition(_("This patient is linked to another record already."), code="already_linked")
    if Patient.objects.filter(record_id=record_id).exists():
        raise RefusedTransition(_("This record belongs to another patient already."), code="record_taken")
    locked.record_id = record_id
    locked.save(update_fields=["record_id"])
    record(kind="patient.linked", actor=by, subject=locked.pseudonym)
    patient.record_id = record_id


@transaction.atomic
def mark_well_known(*, patient: Patient, is_so: bool, by: Actor) -> None:
    """From now on each look at her records is judged by somebody else, or no longer. Harmless to repeat."""
    changed = Patient.objects.filter(pk=patient.pk).exclude(well_known=is_so).update(well_known=is_so)
    patient.well_known = is_so
    if changed:
        record(
            kind="patient.marked", actor=by, subject=patient.pseudonym, code="well_known" if is_so else "not"
        )
