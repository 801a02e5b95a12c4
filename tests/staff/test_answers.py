"""/staff/consents: an answer on paper or by phone, taken back by staff or undone by the patient."""

import hashlib
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from consent import scans
from consent.models import Consent, ConsentRequest, Patient, Scan
from ledger.audit.models import AuditRow
from ledger.contract.consents import compile_consent
from ledger.errors import EnvelopeError
from tests.questions import ask, commit, intents

pytestmark = pytest.mark.django_db

Member = Callable[..., Client]
PDF = b"%PDF-1.7\n" + b"a signed paper " * 20
YES = {
    "kind_Observation": "yes",
    "kind_Condition": "no",
    "kind_MedicationRequest": "no",
    "sensitive_PSY": "no",
}
NO = dict.fromkeys(YES, "no")


@pytest.fixture
def question(alice: Any, helix: Any) -> ConsentRequest:
    Patient.objects.filter(pk=alice.pk).update(birth_date=date(1960, 5, 4))
    return ask(helix, alice)


def step(client: Client, name: str, data: Any) -> Any:
    return client.post(reverse("staff_new_answer_step", args=[name]), data)


def fill(
    client: Client, question: ConsentRequest, given_by: str = "paper", decision: Any = YES, scan: bytes = PDF
) -> Any:
    step(client, "who", {"record_id": "alice-1", "birth_date": "1960-05-04"})
    step(client, "question", {"question": question.id})
    step(client, "how", {"given_by": given_by})
    step(client, "authority", {"authority": "patient"})
    step(client, "decision", {**decision, "duration": "until"})
    if given_by == "paper":
        step(client, "scan", {"scan": SimpleUploadedFile("alice.exe", scan)})
    step(client, "read-back", {"read_back": "on"})
    return step(client, "check", {})


def test_a_yes_on_paper(member: Member, question: ConsentRequest) -> None:
    bob = member("clinician")
    answer = fill(bob, question)
    consent = Consent.objects.get()
    assert answer["Location"] == reverse("staff_answer", args=[consent.id])
    assert (consent.kinds, consent.given_by, consent.authority) == (["Observation"], "paper", "patient")
    assert consent.recorded_by.username == "clinician"
    assert consent.scan.digest == hashlib.sha256(PDF).hexdigest()
    assert PDF[:20] not in bytes(consent.scan.sealed)
    assert scans.read(consent.scan) == PDF
    attachment = consent.fhir["sourceAttachment"]
    assert attachment["url"].startswith("ni:///sha-256;")
    assert consent.fhir["verification"][0]["verified"] is True
    compiled = compile_consent(consent.fhir, consent=consent.id, patient="ef" * 32)
    assert "not_understood" not in compiled["provision"]
    row = AuditRow.objects.get(kind="consent.granted")
    assert consent.scan.digest.encode() in bytes(row.line)
    assert b'"kind":"staff"' in bytes(row.line)
    for page in (answer["Location"], reverse("staff_answers")):
        assert "Alice Example" in bob.get(page).content.decode()
    # The same POST twice shows the same answer.
    assert step(bob, "check", {})["Location"] == answer["Location"]
    assert Consent.objects.count() == 1


def test_a_no_by_phone_is_recorded_too(member: Member, question: ConsentRequest) -> None:
    fill(member("clinician"), question, "phone", NO)
    consent = Consent.objects.get()
    assert (consent.status, consent.given_by, consent.scan) == ("rejected", "phone", None)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("who", {"record_id": "alice-1", "birth_date": "1961-05-04"}, "No patient has this number"),
        ("question", {"question": "0" * 64}, "Select a valid choice"),
        ("authority", {"authority": "guardian"}, "Look at the paper"),
        ("decision", {**YES, "duration": ""}, "Choose how long"),
        ("decision", {**NO, "sensitive_PSY": "yes"}, "needs a yes to one kind"),
        ("decision", {"kind_Observation": "yes", "duration": "until"}, "This field is required"),
        ("scan", {"scan": SimpleUploadedFile("a.pdf", b"<html>")}, "a PDF, JPEG or PNG"),
        ("scan", {"scan": SimpleUploadedFile("a.pdf", b"%PDF-" + b"0" * scans.MOST_BYTES)}, "at most 5 MB"),
        ("read-back", {}, "This field is required"),
    ],
)
def test_a_page_that_is_not_answered_right_goes_no_further(
    member: Member, question: ConsentRequest, name: str, data: Any, problem: str
) -> None:
    bob = member("clinician")
    fill_until(bob, question, name)
    page = step(bob, name, data)
    assert problem in page.content.decode()
    assert bob.get(reverse("staff_new_answer_step", args=["check"])).status_code == 302
    assert not Consent.objects.exists()


def test_what_needs_a_signature_takes_a_no_and_no_yes(member: Member, question: ConsentRequest) -> None:
    ConsentRequest.objects.update(signature_required=True)
    bob = member("clinician")
    fill_until(bob, question, "decision")
    page = step(bob, "decision", {**YES, "duration": "until"})
    assert "signs with a passkey" in page.content.decode()
    fill(bob, question, "phone", NO)
    assert Consent.objects.get().status == "rejected"


def fill_until(client: Client, question: ConsentRequest, name: str) -> None:
    pages = {
        "who": {"record_id": "alice-1", "birth_date": "1960-05-04"},
        "question": {"question": question.id},
        "how": {"given_by": "paper"},
        "authority": {"authority": "patient"},
        "decision": {**YES, "duration": "until"},
        "scan": {"scan": SimpleUploadedFile("a.pdf", PDF)},
    }
    for each, data in pages.items():
        if each == name:
            return
        step(client, each, data)


def test_no_name_and_no_kind_stands_in_a_url(member: Member, question: ConsentRequest) -> None:
    bob = member("clinician")
    fill_until(bob, question, "read-back")
    page = bob.get(reverse("staff_new_answer_step", args=["read-back"]))
    assert "Test results" in page.content.decode()
    assert "Observation" not in page.wsgi_request.get_full_path()


def test_an_earlier_page_changed_asks_the_later_ones_anew(member: Member, question: ConsentRequest) -> None:
    bob = member("clinician")
    fill_until(bob, question, "read-back")
    assert Scan.objects.count() == 1
    step(bob, "how", {"given_by": "phone"})
    assert not Scan.objects.exists()
    step(bob, "check", {})
    assert not Consent.objects.exists()


def test_the_scan_is_a_file_to_keep_and_each_opening_is_logged(
    member: Member, question: ConsentRequest
) -> None:
    bob = member("clinician")
    fill(bob, question)
    answer = bob.get(reverse("staff_scan", args=[Consent.objects.get().id]))
    assert answer.content == PDF
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == 'attachment; filename="scan.pdf"'
    assert AuditRow.objects.filter(kind="scan.opened").count() == 1
    assert member("auditor").get(reverse("staff_scan", args=[Consent.objects.get().id])).status_code == 403


def test_a_scan_that_was_tampered_with_is_not_shown(member: Member, question: ConsentRequest) -> None:
    fill(member("clinician"), question)
    scan = Scan.objects.get()
    sealed = bytearray(scan.sealed)
    sealed[20] ^= 1
    scan.sealed = bytes(sealed)
    with pytest.raises(EnvelopeError):
        scans.read(scan)


def test_erasing_the_patient_takes_the_scan(member: Member, question: ConsentRequest, alice: Any) -> None:
    fill(member("clinician"), question)
    Consent.objects.all().delete()
    Scan.objects.filter(patient=alice).delete()
    assert not Scan.objects.exists()


def test_to_withdraw_and_to_mark_as_a_mistake_are_two_acts(member: Member, question: ConsentRequest) -> None:
    bob, dana = member("clinician"), member("compliance")
    fill(bob, question)
    consent = Consent.objects.get()
    commit(consent)
    url = reverse("staff_withdraw", args=[consent.id])
    assert dana.post(url, {"given_by": "phone"}).status_code == 403
    assert bob.post(url, {"given_by": "pigeon"}).status_code == 400
    for _ in range(2):
        assert bob.post(url, {"given_by": "phone"}).status_code == 302
    consent.refresh_from_db()
    assert (consent.status, consent.ledger_state, consent.invalid_at) == ("inactive", "revoking", None)
    assert intents(consent)[-1][0] == "RevokeConsent"
    assert AuditRow.objects.filter(kind="consent.withdrawn").count() == 1
    mistake = reverse("staff_mark_invalid", args=[consent.id])
    assert bob.post(mistake).status_code == 403
    for _ in range(2):
        assert dana.post(mistake).status_code == 302
    assert AuditRow.objects.filter(kind="consent.entered_in_error").count() == 1
    consent.refresh_from_db()
    assert consent.status == "entered-in-error"
    commit(consent, "ConsentRevoked")
    assert consent.status == "entered-in-error"
    question.refresh_from_db()
    assert question.state == "pending"


def test_only_what_staff_wrote_down_can_be_a_mistake(member: Member, question: ConsentRequest) -> None:
    from consent import services

    consent = services.refuse(request=question, patient=question.patient)
    answer = member("compliance").post(reverse("staff_mark_invalid", args=[consent.id]))
    assert answer.status_code == 409


@pytest.mark.parametrize("decision", [YES, NO])
def test_the_patient_is_told_and_can_undo_it(
    member: Member, question: ConsentRequest, alice: Any, decision: Any
) -> None:
    fill(member("clinician"), question, "phone", decision)
    consent = Consent.objects.get()
    patient = Client()
    patient.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    assert "Staff wrote this down" in patient.get(reverse("choice", args=[consent.id])).content.decode()
    for _ in range(2):
        patient.post(reverse("undo", args=[consent.id]))
    consent.refresh_from_db()
    assert consent.status == "entered-in-error"
    assert AuditRow.objects.filter(kind="consent.entered_in_error").count() == 1
    page = patient.get(reverse("question", args=[question.id])).content.decode()
    assert "Yes, choose what to share" in page


def test_another_patients_answer_cannot_be_undone(
    member: Member, question: ConsentRequest, charlie: Any
) -> None:
    fill(member("clinician"), question, "phone", NO)
    client = Client()
    client.force_login(charlie.user, backend="django.contrib.auth.backends.ModelBackend")
    assert client.post(reverse("undo", args=[Consent.objects.get().id])).status_code == 404
    assert Consent.objects.get().invalid_at is None
