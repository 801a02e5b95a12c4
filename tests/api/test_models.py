"""`/api/v1/models`: a client registers a version, two people approve it, and only then a job takes it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from consent.models import Requester
from gateway.analysis import registrations, services
from gateway.analysis.catalogue import find
from gateway.analysis.models import AIModel, ModelRegistration
from ledger.audit.models import AuditRow
from ledger.client import Event
from ledger.errors import RefusedTransition
from tests.staff.conftest import member

__all__ = ["member"]  # a fixture

pytestmark = pytest.mark.django_db

Call = Callable[..., Any]
CKD = find("ckd-epi")


@pytest.fixture
def body() -> dict[str, Any]:
    return {
        "digest": CKD.digest(),
        "name": CKD.name,
        "version": CKD.version,
        "card": {"intended_use": "How well the kidneys work.", "reads": ["Observation", "Patient"]},
        "tested": {"people": 1200, "wrong": 96},
    }


def heard(digest: str) -> None:
    """The ledger has it."""
    payload = {"model": digest, "state": "approved"}
    services.record_model_registered(Event(1, 0, "00" * 32, "ModelRegistered", payload))


def test_from_the_registration_to_a_job(
    call: Call, body: dict[str, Any], member: Callable[..., Client], user: Any
) -> None:
    answer = call("POST", "models", body)
    assert answer.status_code == 201, answer.content
    assert answer["Location"] == f"/api/v1/models/{body['digest']}"
    told = answer.json()
    assert (told["state"], told["tested"], told["tested_here"]) == ("waiting", body["tested"], None)

    job = {"model": body["digest"], "purpose": "TREAT", "requests": ["0" * 64]}
    reviewer = member("reviewer")
    for _ in range(2):  # nobody approved it; one person did
        refused = call("POST", "jobs", job)
        assert (refused.status_code, refused.json()["code"]) == (400, "model_not_approved")
        assert state_of(call, body) == "waiting"
        registration = ModelRegistration.objects.get()
        if registration.state == "waiting":
            page = reviewer.post(reverse("staff_approve_model", args=[registration.pk]), follow=True)
            assert "You gave the first approval" in page.content.decode()
    again = reviewer.post(reverse("staff_approve_model", args=[registration.pk]))
    assert again.status_code == 409
    member("administrator").post(reverse("staff_approve_model", args=[registration.pk]))
    assert state_of(call, body) == "approving"
    assert call("POST", "jobs", job).json()["code"] == "model_not_approved"
    heard(body["digest"])
    assert state_of(call, body) == "approved"
    assert call("POST", "jobs", job).status_code == 202
    model = AIModel.objects.get(digest=body["digest"])
    services.record_test(model=model, people=400, wrong=20, by=registrations.Actor.system("command"))
    services.suspend_model(model=model, by=registrations.Actor.system("command"))
    told = call("GET", f"models/{body['digest']}").json()
    assert (told["state"], told["tested_here"]) == ("suspended", {"people": 400, "wrong": 20})
    kinds = AuditRow.objects.filter(kind__startswith="registration.").order_by("pk")
    assert [each.kind for each in kinds] == ["registration.made", *["registration.approved"] * 2]


def state_of(call: Call, body: dict[str, Any]) -> str:
    found = call("GET", f"models/{body['digest']}").json()
    assert [each["state"] for each in call("GET", "models").json()["models"]] == [found["state"]]
    return str(found["state"])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"digest": "x"}, "invalid_input"),
        ({"name": ""}, "invalid_input"),
        ({"card": {}}, "card"),
        ({"card": {"text": "x" * 30_000}}, "card"),
        ({"tested": {"people": 99, "wrong": 1}}, "tested"),
        ({"tested": {"people": 200, "wrong": 201}}, "tested"),
        ({"tested": {"people": 200}}, "invalid_input"),
        ({"state": "approved"}, "invalid_input"),
    ],
)
def test_what_is_no_registration_is_refused(
    call: Call, body: dict[str, Any], changes: dict[str, Any], code: str
) -> None:
    answer = call("POST", "models", {**body, **changes})
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert not ModelRegistration.objects.exists()


def test_whatever_the_language_programs_read_english(call: Call, body: dict[str, Any]) -> None:
    wrong = {**body, "tested": {"people": 200, "wrong": 201}}
    told = [call("POST", "models", wrong, Accept_Language=each).json() for each in ("en", "es")]
    assert told[0]["detail"] == told[1]["detail"] != ""
    told = [
        call("POST", "models", {**body, "name": ""}, Accept_Language=each).json() for each in ("en", "es")
    ]
    assert told[0]["errors"] == told[1]["errors"] != {}


def test_the_same_again_is_the_same_and_another_card_waits_its_turn(call: Call, body: dict[str, Any]) -> None:
    assert call("POST", "models", body).json() == call("POST", "models", body).json()
    answer = call("POST", "models", {**body, "version": "2"})
    assert (answer.status_code, answer.json()["code"]) == (409, "registered_already")
    assert ModelRegistration.objects.count() == 1


def test_what_was_refused_says_why_and_may_come_again(
    call: Call, body: dict[str, Any], member: Callable[..., Client]
) -> None:
    call("POST", "models", body)
    first = ModelRegistration.objects.get()
    client = member("reviewer")
    assert client.post(reverse("staff_refuse_model", args=[first.pk])).status_code == 400
    client.post(reverse("staff_refuse_model", args=[first.pk]), {"reasons": ["test_too_small"]})
    told = call("GET", f"models/{body['digest']}").json()
    assert (told["state"], [each["code"] for each in told["reasons"]]) == ("refused", ["test_too_small"])
    assert call("POST", "models", {**body, "version": "2"}).json()["state"] == "waiting"


def test_code_that_the_hospital_does_not_have_is_approved_by_nobody(
    call: Call, body: dict[str, Any], member: Callable[..., Client], user: Any
) -> None:
    call("POST", "models", {**body, "digest": "1" * 64})
    row = ModelRegistration.objects.get()
    page = member("reviewer").get(reverse("staff_model", args=[row.pk])).content.decode()
    assert "The catalogue has no code of this digest." in page
    with pytest.raises(RefusedTransition) as error:
        registrations.approve(registration=row, by=user("rita-1"))
    assert error.value.code == "code_missing"


def test_what_another_registered_is_not_there_and_says_nothing(
    call: Call, body: dict[str, Any], pce: AIModel
) -> None:
    other = Requester.objects.create(name="Other AI")
    AIModel.objects.filter(pk=pce.pk).update(provider=other)
    assert call("GET", f"models/{pce.digest}").status_code == 404
    assert call("GET", "models").json() == {"models": []}
    mine = call("POST", "models", {**body, "digest": pce.digest})
    assert (mine.status_code, mine.json()["state"]) == (201, "waiting")
    job = {"model": pce.digest, "purpose": "TREAT", "requests": ["0" * 64]}
    assert call("POST", "jobs", job).json()["code"] == "model_not_approved"


def test_so_many_may_wait(call: Call, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrations, "MOST_OPEN", 1)
    call("POST", "models", body)
    answer = call("POST", "models", {**body, "digest": "1" * 64})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_models")


def test_who_may_look_may_not_approve(
    call: Call, body: dict[str, Any], member: Callable[..., Client]
) -> None:
    call("POST", "models", body)
    row = ModelRegistration.objects.get()
    client = member("compliance")
    page = client.get(reverse("staff_model", args=[row.pk])).content.decode()
    assert "How well the kidneys work." in page
    assert "Give the first approval" not in page
    assert client.post(reverse("staff_approve_model", args=[row.pk])).status_code == 403
    assert "ckd-epi" in client.get(reverse("staff_models")).content.decode()
