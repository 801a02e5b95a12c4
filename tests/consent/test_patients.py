"""invite, accept_invitation, proof_identity and link_record."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from consent import services
from consent.models import Patient
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput, RefusedTransition

pytestmark = pytest.mark.django_db
STAFF = Actor.staff(1)


def test_an_invitation_makes_an_account_a_patient_once(user: Any) -> None:
    patient, code = services.invite(name=" Alice Example ", by=STAFF)
    assert patient.name == "Alice Example"
    assert code not in str(Patient.objects.values())
    accepted = services.accept_invitation(code=code, user=user("alice"))
    assert (accepted, accepted.invitation_digest) == (patient, "")
    with pytest.raises(RefusedTransition) as used:
        services.accept_invitation(code=code, user=user("eve"))
    with pytest.raises(RefusedTransition) as unknown:
        services.accept_invitation(code="x", user=user("mallory"))
    assert used.value.message == unknown.value.message
    assert AuditRow.objects.filter(kind="patient.invited", subject=patient.pseudonym).count() == 1


def test_an_invitation_ends(user: Any) -> None:
    patient, code = services.invite(name="Alice", by=STAFF)
    Patient.objects.update(invitation_expires=timezone.now() - timedelta(seconds=1))
    with pytest.raises(RefusedTransition):
        services.accept_invitation(code=code, user=user("alice"))
    again = services.invite_again(patient=patient, by=STAFF)
    assert services.find_invitation(again) == patient


def test_a_new_code_ends_the_old_one_and_comes_before_sign_up(user: Any) -> None:
    patient, code = services.invite(name="Alice", by=STAFF)
    newer = services.invite_again(patient=patient, by=STAFF)
    with pytest.raises(RefusedTransition):
        services.find_invitation(code)
    services.accept_invitation(code=newer, user=user("alice"))
    with pytest.raises(RefusedTransition):
        services.invite_again(patient=patient, by=STAFF)


def test_an_empty_code_invites_nobody(alice: Any) -> None:
    with pytest.raises(RefusedTransition):
        services.find_invitation("")


def test_an_account_is_one_patient(alice: Any) -> None:
    _, code = services.invite(name="Another", by=STAFF)
    with pytest.raises(RefusedTransition):
        services.accept_invitation(code=code, user=alice.user)


def test_nobody_vouches_for_themselves(charlie: Any, dana: Any) -> None:
    """A member of staff who took up an invitation could otherwise say yes in that patient's name."""
    with pytest.raises(RefusedTransition) as refused:
        services.proof_identity(patient=charlie, by=charlie.user, method="in_person")
    assert refused.value.code == "own_proof"
    charlie.refresh_from_db()
    assert charlie.proofed_at is None
    services.proof_identity(patient=charlie, by=dana, method="in_person")


def test_identity_is_proofed_once(charlie: Any, bob: Any, dana: Any) -> None:
    services.proof_identity(patient=charlie, by=bob, method="in_person")
    services.proof_identity(patient=charlie, by=dana, method="video")
    assert charlie.proofed_by == bob
    assert AuditRow.objects.filter(kind="patient.proofed").count() == 1
    with pytest.raises(InvalidInput):
        services.proof_identity(patient=charlie, by=bob, method="looked honest")


def test_a_record_belongs_to_one_patient_for_good(alice: Any, charlie: Any) -> None:
    patient = Patient.objects.create(name="New")
    services.link_record(patient=patient, record_id="new-1", by=STAFF)
    services.link_record(patient=patient, record_id="new-1", by=STAFF)
    with pytest.raises(RefusedTransition):
        services.link_record(patient=patient, record_id="new-2", by=STAFF)
    with pytest.raises(RefusedTransition):
        services.link_record(
            patient=Patient.objects.create(name="Newer"), record_id=alice.record_id, by=STAFF
        )
    with pytest.raises(InvalidInput):
        services.link_record(patient=Patient.objects.create(name="Newest"), record_id="../1", by=STAFF)
    assert AuditRow.objects.filter(kind="patient.linked").count() == 1
