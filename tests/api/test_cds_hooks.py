"""`/cds-services`: the decision in the form of CDS Hooks, the same as `/api/v1/decisions` gives."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from consent import services
from consent.models import Consent, ConsentRequest, Patient

pytestmark = pytest.mark.django_db
Call = Callable[..., Any]
SYSTEM = "http://localhost:8000/api/v1/consent-requests"
PATH = "/cds-services/patient-consent-consult"


@pytest.fixture
def consent(call: Call, question: dict[str, Any], alice: Patient) -> Consent:
    call("POST", "consent-requests", question)
    given = services.grant(
        request=ConsentRequest.objects.get(), patient=alice, kinds=["Observation"], duration="until"
    )
    Consent.objects.update(ledger_state=Consent.LedgerState.IN_FORCE)
    given.refresh_from_db()
    return given


@pytest.fixture
def body(consent: Consent, question: dict[str, Any]) -> dict[str, Any]:
    return {
        "hook": "patient-consent-consult",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {
            "patientId": [{"system": SYSTEM, "value": consent.request_id}],
            "purposeOfUse": "HRESCH",
            "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}],
        },
        "extension": {"model": question["model"], "use": ["HMB"]},
    }


@pytest.fixture
def consult(application: Any, token_for: Callable[..., str]) -> Call:
    def post(body: Any, scope: str = "consents") -> Any:
        headers = {"Authorization": f"Bearer {token_for(application, scope=scope)}"}
        return Client().post(PATH, json.dumps(body), content_type="application/json", headers=headers)

    return post


def decision(answer: Any) -> str:
    assert answer.status_code == 200, answer.content
    (card,) = answer.json()["cards"]
    assert card["summary"]
    assert card["indicator"] in ("info", "warning", "critical")
    assert card["source"]["label"]
    assert len(card["summary"]) < 140
    return str(card["extension"]["decision"])


def test_discovery_takes_no_token() -> None:
    (service,) = Client().get("/cds-services").json()["services"]
    assert {"hook", "id", "title", "description"} <= service.keys()
    assert PATH.endswith(service["id"])


def test_what_is_in_force_is_permitted(consult: Call, body: dict[str, Any], consent: Consent) -> None:
    answer = consult(body)
    assert decision(answer) == "CONSENT_PERMIT"
    told = answer.json()["cards"][0]["extension"]
    assert told["basedOn"] == [{"reference": f"http://localhost:8000/fhir/Consent/{consent.pk}"}]


def test_why_ones_own_consent_does_not_reach_is_told(consult: Call, body: dict[str, Any]) -> None:
    body["context"]["purposeOfUse"] = "HMARKT"
    answer = consult(body)
    assert decision(answer) == "CONSENT_DENY"
    assert answer.json()["cards"][0]["extension"]["reasons"] == ["purpose_not_permitted"]


def test_a_copy_is_asked_about_without_a_model(consult: Call, body: dict[str, Any]) -> None:
    del body["extension"]["model"]
    assert decision(consult(body)) == "CONSENT_DENY"


@pytest.mark.parametrize("system", [SYSTEM, "http://hl7.org/fhir/sid/us-ssn"])
def test_refused_stopped_and_unknown_are_one_card(
    consult: Call, body: dict[str, Any], consent: Consent, system: str
) -> None:
    seen = []
    body["context"]["patientId"] = [{"system": system, "value": "0" * 64}]
    seen.append(consult(body))
    body["context"]["patientId"] = [{"system": SYSTEM, "value": consent.request_id}]
    Consent.objects.update(ledger_state="revoked")
    seen.append(consult(body))
    assert {decision(each) for each in seen} == {"NO_CONSENT"}
    for each in seen:
        del (card := each.json()["cards"][0])["extension"]["dateTime"]
        assert card["extension"] == {
            "decision": "NO_CONSENT",
            "reasons": [],
            "basedOn": [],
            "obligations": [],
        }


def test_it_says_what_decisions_says(
    consult: Call, call: Call, body: dict[str, Any], consent: Consent
) -> None:
    names = {"permit": "CONSENT_PERMIT", "deny": "CONSENT_DENY", "not_available": "NO_CONSENT"}
    for purpose in ("HRESCH", "TREAT", "HMARKT"):
        body["context"]["purposeOfUse"] = purpose
        asked = {"request": consent.request_id, "purpose": purpose, "resources": ["Observation"]}
        more = {**asked, **body["extension"]}
        (answer,) = call("POST", "decisions", {"decisions": [more]}).json()["decisions"]
        assert names[answer["decision"]] == decision(consult(body))


@pytest.mark.parametrize(
    "change",
    [
        {"hook": "order-sign"},
        {"context": {}},
        {"hookInstance": ""},
        {"extension": {"model": "x"}},
    ],
)
def test_what_is_no_such_call_is_refused(consult: Call, body: dict[str, Any], change: dict[str, Any]) -> None:
    answer = consult({**body, **change})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


def test_members_that_are_not_known_are_passed_over(consult: Call, body: dict[str, Any]) -> None:
    assert decision(consult({**body, "prefetch": {}, "fhirServer": "https://x.example"})) == "CONSENT_PERMIT"


def test_a_token_is_needed(consult: Call, body: dict[str, Any]) -> None:
    assert Client().post(PATH, "{}", content_type="application/json").status_code == 401
    assert consult(body, "jobs").status_code == 403
