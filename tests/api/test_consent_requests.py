"""`POST /api/v1/consent-requests` and what a client learns of the answer."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from consent import referrals, services
from consent.models import Consent, ConsentRequest, Patient, Requester
from ledger.audit.log import Actor

pytestmark = pytest.mark.django_db

Call = Callable[..., Any]


def test_a_patient_is_asked(call: Call, question: dict[str, Any], alice: Patient, helix: Requester) -> None:
    answer = call("POST", "consent-requests", question)
    assert answer.status_code == 201
    body = answer.json()
    assert answer["Location"] == f"/api/v1/consent-requests/{body['id']}"
    assert body == {
        "id": body["id"],
        "available": False,
        "review": {"state": "passed", "reasons": []},
        "deletion_asked_at": None,
    }
    asked = ConsentRequest.objects.get()
    assert (asked.patient, asked.requester, asked.state) == (alice, helix, "pending")


def test_a_patient_is_asked_about_each_sensitive_kind_on_its_own(
    call: Call, client: Client, question: dict[str, Any], alice: Patient
) -> None:
    answer = call("POST", "consent-requests", {**question, "sensitive": ["PSY", "HIV", "PSY"]})
    assert answer.status_code == 201
    asked = ConsentRequest.objects.get()
    assert asked.sensitive == ["HIV", "PSY"]
    client.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(f"/requests/{asked.id}/choose").content.decode()
    assert 'name="sensitive" id="id_sensitive_1" value="PSY"' in page


def test_nothing_sensitive_is_asked_for_unless_it_is_named(call: Call, question: dict[str, Any]) -> None:
    call("POST", "consent-requests", question)
    assert ConsentRequest.objects.get().sensitive == []


def test_the_same_key_and_body_asks_once(call: Call, question: dict[str, Any]) -> None:
    first = call("POST", "consent-requests", question, Idempotency_Key="one")
    second = call("POST", "consent-requests", question, Idempotency_Key="one")
    assert first.json() == second.json()
    assert first.status_code == second.status_code == 201
    assert second["Location"] == first["Location"]
    assert ConsentRequest.objects.count() == 1


def test_the_same_key_with_another_body_is_refused(call: Call, question: dict[str, Any]) -> None:
    call("POST", "consent-requests", question, Idempotency_Key="one")
    answer = call("POST", "consent-requests", {**question, "use": []}, Idempotency_Key="one")
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("key", ["", "x" * 129, "new\tline", "ü"])
def test_a_key_is_needed(call: Call, question: dict[str, Any], key: str) -> None:
    answer = call("POST", "consent-requests", question, Idempotency_Key=key)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")
    assert not ConsentRequest.objects.exists()


def test_a_code_works_once_and_only_for_its_requester(
    call: Call, question: dict[str, Any], alice: Patient
) -> None:
    assert call("POST", "consent-requests", question).status_code == 201
    again = call("POST", "consent-requests", question)
    unknown = call("POST", "consent-requests", {**question, "referral_code": "0" * 26})
    others = referrals.issue(
        patient=alice, requester=Requester.objects.create(name="Other AI"), by=Actor.staff(1)
    )
    anothers = call("POST", "consent-requests", {**question, "referral_code": others})
    answers = [{**answer.json(), "request_id": ""} for answer in (again, unknown, anothers)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["code"] == "not_available"


def test_a_question_that_cannot_be_asked_leaves_the_code_unused(call: Call, question: dict[str, Any]) -> None:
    hard = " ".join(["word"] * 30) + "."
    refused = call("POST", "consent-requests", {**question, "what_for": hard})
    assert (refused.status_code, refused.json()["code"]) == (400, "hard_to_read")
    assert refused.json()["title"] == "The text is hard to read"
    assert call("POST", "consent-requests", question).status_code == 201


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("model", "not a digest"),
        ("kinds", []),
        ("kinds", ["Observation", 7]),
        ("use", "HMB"),
        ("sensitive", "PSY"),
        ("sensitive", ["psy"]),
        ("sensitive", ["R"]),
        ("sensitive", [None]),
        ("sensitive", ["PSY"] * 21),
        ("answer_by", "soon"),
        ("share_until", None),
        ("surprise", True),
    ],
)
def test_a_wrong_member_is_named(call: Call, question: dict[str, Any], member: str, value: Any) -> None:
    answer = call("POST", "consent-requests", {**question, member: value})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert member in answer.json()["errors"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"model": 1, "model": 2}',
        b'{"model": NaN}',
        b"[" * 100_000,
        b'{"model": "\\ud800"}',
        b'{"model": ' + b"9" * 1_000_000 + b"}",
        b'{"model": "' + b"x" * (2 << 20) + b'"}',
        b"\xff",
    ],
    ids=["cut", "duplicate", "nan", "deep", "surrogate", "digits", "large", "bytes"],
)
def test_a_malformed_body_is_refused(call: Call, body: bytes) -> None:
    answer = call("POST", "consent-requests", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_a_model_that_is_not_approved_cannot_ask(call: Call, question: dict[str, Any], pce: Any) -> None:
    pce.state = "suspended"
    pce.save()
    answer = call("POST", "consent-requests", question)
    assert (answer.status_code, answer.json()["code"]) == (400, "model_not_approved")


def test_waiting_refused_stopped_anothers_and_unknown_tell_nothing_apart(
    call: Call, question: dict[str, Any], alice: Patient
) -> None:
    id = call("POST", "consent-requests", question).json()["id"]
    waiting = call("GET", f"consent-requests/{id}").content
    services.refuse(request=ConsentRequest.objects.get(), patient=alice)
    assert call("GET", f"consent-requests/{id}").content == waiting
    ConsentRequest.objects.update(requester=Requester.objects.create(name="Other AI"))
    anothers = call("GET", f"consent-requests/{id}").json()
    unknown = call("GET", f"consent-requests/{'0' * 64}").json()
    assert anothers | {"request_id": ""} == unknown | {"request_id": ""}


def test_in_force_is_available(call: Call, question: dict[str, Any], alice: Patient) -> None:
    id = call("POST", "consent-requests", question).json()["id"]
    services.grant(
        request=ConsentRequest.objects.get(), patient=alice, kinds=["Observation"], duration="until"
    )
    assert call("GET", f"consent-requests/{id}").json()["available"] is False
    Consent.objects.update(ledger_state=Consent.LedgerState.IN_FORCE)
    assert call("GET", f"consent-requests/{id}").json()["available"] is True


def test_a_signature_can_be_required(call: Call, question: dict[str, Any]) -> None:
    answer = call("POST", "consent-requests", {**question, "signature_required": True})
    assert ConsentRequest.objects.get(pk=answer.json()["id"]).signature_required is True
