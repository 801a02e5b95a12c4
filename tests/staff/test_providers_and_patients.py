"""/staff/requesters and /staff/patients: what the services did, and what was refused."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from consent import referrals, services
from consent.models import Patient, Requester
from gateway.accounts.models import AIClient
from gateway.analysis.catalogue import find
from gateway.analysis.models import AIModel, ModelRegistration
from ledger.audit.models import AuditRow
from ledger.models import LedgerTransaction
from tests.signing import key_set, new_key

pytestmark = pytest.mark.django_db

Member = Callable[..., Client]


def test_a_provider_is_registered_once(member: Member) -> None:
    amal, fields = (
        member("administrator"),
        {"name": "Helix AI", "contact": "a@b.example", "purposes": ["TREAT"]},
    )
    answer = amal.post(reverse("staff_new_requester"), fields)
    made = Requester.objects.get()
    assert answer["Location"] == reverse("staff_requester", args=[made.pk])
    assert "already" in amal.post(reverse("staff_new_requester"), fields).content.decode()
    assert Requester.objects.count() == 1
    assert "To care for the patient" in amal.get(answer["Location"]).content.decode()


def test_suspending_a_provider_suspends_its_models_on_the_ledger(
    member: Member, helix: Any, model: AIModel
) -> None:
    amal, url = member("administrator"), reverse("staff_suspend_requester", args=[helix.pk])
    assert amal.post(url).status_code == 302
    assert amal.post(url).status_code == 409
    model.refresh_from_db()
    assert model.state == "suspended"
    assert LedgerTransaction.objects.get().args["state"] == "suspended"
    assert AuditRow.objects.filter(kind="requester.suspended").count() == 1
    amal.post(reverse("staff_resume_requester", args=[helix.pk]))
    helix.refresh_from_db()
    assert helix.suspended_at is None


def test_a_client_comes_with_its_public_keys_and_gets_others(member: Member, helix: Any) -> None:
    amal, url = member("administrator"), reverse("staff_new_client", args=[helix.pk])
    first, second = (key_file(key_set(new_key(kid))) for kid in ("one", "two"))
    amal.post(url, {"jwks": first})
    client = AIClient.objects.get()
    assert (client.requester, client.jwks["keys"][0]["kid"]) == (helix, "one")
    page = amal.get(reverse("staff_requester", args=[helix.pk])).content.decode()
    assert client.application.client_id in page
    keys = reverse("staff_client_keys", args=[helix.pk, client.application.client_id])
    assert keys in page
    amal.post(keys, {"jwks": second})
    client.refresh_from_db()
    assert client.jwks["keys"][0]["kid"] == "two"
    amal.post(keys, {"jwks_url": "https://helix.example/keys.json"})
    client.refresh_from_db()
    assert (client.jwks, client.jwks_url) == (None, "https://helix.example/keys.json")
    kinds = AuditRow.objects.filter(kind__startswith="client.").order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["client.registered", "client.keys_changed", "client.keys_changed"]
    assert keys not in member("reviewer").get(reverse("staff_requester", args=[helix.pk])).content.decode()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "Give a key set, or the address of one"),
        ({"jwks_url": "http://helix.example/keys.json"}, "https://"),
        ({"jwks": b"no json"}, "no key set"),
        ({"jwks": b'{"keys": []}'}, "1 to 20 keys"),
        ({"jwks": b" " * 70_000}, "no key set"),
        ({"jwks": "private"}, "private"),
        ({"jwks": "both", "jwks_url": "https://helix.example/keys.json"}, "Give a key set"),
    ],
)
def test_keys_that_are_none_are_refused(member: Member, helix: Any, fields: Any, problem: str) -> None:
    key = new_key()
    files = {"private": {"keys": [dict(key.as_dict(private=True))]}, "both": key_set(key)}
    if (named := fields.get("jwks")) in files:
        fields = {**fields, "jwks": key_file(files[named])}
    elif named is not None:
        fields = {"jwks": SimpleUploadedFile("keys.json", named)}
    answer = member("administrator").post(reverse("staff_new_client", args=[helix.pk]), fields)
    assert answer.status_code == 400
    assert problem in answer.content.decode()
    assert not AIClient.objects.exists()


def key_file(keys: Any) -> SimpleUploadedFile:
    return SimpleUploadedFile("keys.json", json.dumps(keys).encode())


def test_a_model_of_the_catalogue_takes_two_people(member: Member, helix: Any) -> None:
    amal, framingham = member("administrator"), find("framingham")
    propose = reverse("staff_propose_model", args=[helix.pk])
    for _twice in range(2):  # a double click is one proposal
        page = amal.post(propose, {"model": "framingham"}, follow=True).content.decode()
    found = ModelRegistration.objects.get()
    assert reverse("staff_model", args=[found.pk]) in page
    assert f'value="{framingham.name}"' not in page
    approve = reverse("staff_approve_model", args=[found.pk])
    assert amal.post(approve).status_code == 409
    assert not AIModel.objects.exists()
    assert not LedgerTransaction.objects.exists()

    rita = member("reviewer")
    assert "None: it was proposed here" in rita.get(reverse("staff_model", args=[found.pk])).content.decode()
    rita.post(approve)
    sent = LedgerTransaction.objects.get().args
    assert (sent["model"], sent["state"]) == (framingham.digest(), "approved")
    acts = AuditRow.objects.filter(kind__startswith="registration.").order_by("pk")
    assert [row.kind for row in acts] == ["registration.made", *["registration.approved"] * 2]
    assert amal.post(propose, {"model": "framingham"}).status_code == 409


def test_a_suspended_model_comes_back_by_two_people(member: Member, helix: Any, model: AIModel) -> None:
    amal, rita = member("administrator"), member("reviewer")
    amal.post(reverse("staff_suspend_model", args=[helix.pk, model.digest]))
    amal.post(reverse("staff_propose_model", args=[helix.pk]), {"model": model.digest})
    model.refresh_from_db()
    assert model.state == "suspended"
    rita.post(reverse("staff_approve_model", args=[ModelRegistration.objects.get().pk]))
    model.refresh_from_db()
    assert model.state == "registering"


def test_nobody_proposes_for_who_is_suspended_nor_anothers_model(
    member: Member, helix: Any, model: AIModel
) -> None:
    amal, other = member("administrator"), Requester.objects.create(name="Other")
    propose = reverse("staff_propose_model", args=[other.pk])
    assert amal.post(propose, {"model": model.digest}).status_code == 409
    amal.post(reverse("staff_suspend_requester", args=[other.pk]))
    assert amal.post(propose, {"model": "framingham"}).status_code == 409
    assert amal.post(propose, {"model": "no such"}).status_code == 404
    assert not ModelRegistration.objects.exists()


def test_a_test_is_recorded_by_a_reviewer_only(member: Member, helix: Any, model: AIModel) -> None:
    url, prefix = reverse("staff_test_model", args=[helix.pk, model.digest]), model.digest[:8]
    fields = {f"{prefix}-people": "200", f"{prefix}-wrong": "15"}
    assert member("administrator").post(url, fields).status_code == 403
    rita = member("reviewer")
    assert rita.post(url, {**fields, f"{prefix}-wrong": "201"}).status_code == 400
    assert rita.post(url, {f"{prefix}-people": "5", f"{prefix}-wrong": "1"}).status_code == 400
    assert rita.post(url, fields).status_code == 302
    model.refresh_from_db()
    assert (model.tested_people, model.tested_wrong) == (200, 15)


def test_finding_inviting_identifying_and_linking(member: Member) -> None:
    bob = member("clinician")
    answer = bob.post(reverse("staff_new_patient"), {"name": "Ada Byron", "birth_date": "1960-12-10"})
    code = re.search(r"/invitation/([\w-]+)", answer.content.decode())
    ada = Patient.objects.get()
    assert code is not None
    assert services.find_invitation(code[1]) == ada
    assert "no-store" in answer["Cache-Control"]
    found = bob.post(reverse("staff_patients"), {"wanted": "byron"})
    assert reverse("staff_patient", args=[ada.pk]) in found.content.decode()
    assert found.wsgi_request.get_full_path() == "/staff/patients"
    for _ in range(2):
        assert bob.post(reverse("staff_proof", args=[ada.pk]), {"method": "in_person"}).status_code == 302
        assert bob.post(reverse("staff_link", args=[ada.pk]), {"record_id": "ada-1"}).status_code == 302
    assert bob.post(reverse("staff_proof", args=[ada.pk]), {"method": "x"}).status_code == 400
    assert bob.post(reverse("staff_link", args=[ada.pk]), {"record_id": "ada-2"}).status_code == 409
    ada.refresh_from_db()
    assert (ada.record_id, ada.proofed_by.username) == ("ada-1", "clinician")
    assert AuditRow.objects.filter(kind="patient.proofed").count() == 1


def test_a_referral_code_works_for_that_provider(member: Member, alice: Any, helix: Any) -> None:
    bob = member("clinician")
    answer = bob.post(reverse("staff_referral", args=[alice.pk]), {"requester": str(helix.pk)})
    code = re.search(r"<code[^>]*>([0-9a-f]{26})</code>", answer.content.decode())
    assert code is not None
    assert referrals.redeem(code=code[1], requester=helix) == alice
    assert bob.post(reverse("staff_referral", args=[alice.pk]), {"requester": "x"}).status_code == 404


def test_the_admin_site_puts_no_name_into_a_url() -> None:
    assert not admin.site._registry[Patient].search_fields
