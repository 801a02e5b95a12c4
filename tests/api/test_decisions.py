"""`POST /api/v1/decisions` and `/fhir/Consent`: what is in force is told, to its own client alone."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from consent import services
from consent.answers import How
from consent.models import Consent, ConsentRequest, Patient, Requester
from gateway.analysis import decisions
from ledger.contract import decision as contract
from ledger.contract.consents import compile_consent
from tests.representing import represent

pytestmark = pytest.mark.django_db
Call = Callable[..., Any]


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
def asked(consent: Consent, question: dict[str, Any]) -> dict[str, Any]:
    return {
        "request": consent.request_id,
        "model": question["model"],
        "purpose": "HRESCH",
        "use": ["HMB"],
        "resources": ["Observation"],
    }


def ask(call: Call, *asked: dict[str, Any]) -> list[dict[str, Any]]:
    answer = call("POST", "decisions", {"decisions": asked})
    assert answer.status_code == 200, answer.content
    return list(answer.json()["decisions"])


def test_what_is_in_force_is_permitted(call: Call, asked: dict[str, Any], consent: Consent) -> None:
    (answer,) = ask(call, asked)
    assert answer == {
        "request": consent.request_id,
        "decision": "permit",
        "reasons": ["permitted"],
        "consent": consent.pk,
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"purpose": "PUBHLTH"}, "purpose_not_permitted"),
        ({"model": "0" * 64}, "model_not_named"),
        ({"kind": "export", "model": None}, "action_not_permitted"),
        ({"resources": ["Condition"]}, "resource_not_covered"),
        ({"purpose": "FUN"}, "purpose_unknown"),
    ],
)
def test_why_ones_own_consent_does_not_reach(
    call: Call, asked: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    changed = {name: value for name, value in {**asked, **change}.items() if value is not None}
    (answer,) = ask(call, changed)
    assert (answer["decision"], answer["consent"]) == ("deny", None)
    assert reason in answer["reasons"]


def test_stopped_refused_waiting_anothers_and_unknown_are_one_answer(
    call: Call, asked: dict[str, Any], consent: Consent, charlie: Patient
) -> None:
    def answer() -> dict[str, Any]:
        (found,) = ask(call, asked)
        return found

    Consent.objects.update(stopped_at=timezone.now())
    stopped = answer()
    Consent.objects.update(stopped_at=None, expires_at=timezone.now() - timedelta(seconds=1))
    expired = answer()
    Consent.objects.update(ledger_state=Consent.LedgerState.NONE, status=Consent.Status.REJECTED)
    refused = answer()
    Consent.objects.all().delete()
    waiting = answer()
    ConsentRequest.objects.update(requester=Requester.objects.create(name="Other AI"))
    anothers = answer()
    (unknown,) = ask(call, {**asked, "request": "0" * 64})
    assert stopped == expired == refused == waiting == anothers == {**unknown, "request": asked["request"]}
    assert stopped["decision"] == "not_available"


def test_they_take_the_same_steps(call: Call, asked: dict[str, Any], consent: Consent) -> None:
    """The same queries in the same order: which one it is, no count of them tells."""

    def steps(request: str = consent.request_id) -> list[str]:
        with CaptureQueriesContext(connection) as taken:
            ask(call, {**asked, "request": request})
        return [re.sub("'[^']*'", "?", each["sql"]) for each in taken.captured_queries]

    steps()  # what is kept for the next time is kept
    Consent.objects.update(stopped_at=timezone.now())
    stopped = steps()
    assert any('FROM "consent_consent"' in each for each in stopped)
    Consent.objects.all().delete()
    assert steps() == stopped
    assert steps("0" * 64) == stopped
    ConsentRequest.objects.update(requester=Requester.objects.create(name="Other AI"))
    assert steps() == stopped


def test_what_is_not_there_costs_nothing(
    call: Call,
    asked: dict[str, Any],
    consent: Consent,
    alice: Patient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a stopped consent no rule is read, nor of another's: their number would tell in time."""
    elsewhere = ConsentRequest.objects.get()
    elsewhere.pk, elsewhere.requester = "f" * 64, Requester.objects.create(name="Other AI")
    elsewhere.save(force_insert=True)
    Consent.objects.create(
        request=elsewhere,
        patient=alice,
        fhir=consent.fhir,
        status="active",
        ledger_state=Consent.LedgerState.IN_FORCE,
        expires_at=timezone.now() + timedelta(days=9),
    )
    read: list[str] = []

    def compiled(fhir: Any, *, consent: str, patient: str) -> Any:
        read.append(consent)
        return compile_consent(fhir, consent=consent, patient=patient)

    monkeypatch.setattr(decisions, "compile_consent", compiled)
    ask(call, asked)
    assert len(read) == 2  # hers and the other's: a deny of another's counts
    read.clear()
    Consent.objects.filter(pk=consent.pk).update(stopped_at=timezone.now())
    (answer,) = ask(call, asked)
    assert (answer["decision"], read) == ("not_available", [])


def test_anothers_deny_wins_and_tells_nothing(
    call: Call, asked: dict[str, Any], consent: Consent, alice: Patient
) -> None:
    elsewhere = ConsentRequest.objects.get()
    elsewhere.pk, elsewhere.requester = "f" * 64, Requester.objects.create(name="Other AI")
    elsewhere.save(force_insert=True)
    said_no = {**consent.fhir, "provision": {"type": "deny"}}
    Consent.objects.create(
        request=elsewhere,
        patient=alice,
        fhir=said_no,
        status="active",
        ledger_state=Consent.LedgerState.IN_FORCE,
        expires_at=timezone.now() + timedelta(days=9),
    )
    (answer,) = ask(call, asked)
    assert (answer["decision"], answer["reasons"]) == ("not_available", [])


def test_reasons_say_nothing_of_what_others_were_given(
    call: Call, asked: dict[str, Any], consent: Consent, alice: Patient
) -> None:
    question = {**asked, "purpose": "PUBHLTH"}
    before = ask(call, question)
    elsewhere = ConsentRequest.objects.get()
    elsewhere.pk, elsewhere.requester = "f" * 64, Requester.objects.create(name="Other AI")
    elsewhere.save(force_insert=True)
    given = json.loads(json.dumps(consent.fhir))
    given["provision"]["actor"][0]["reference"]["reference"] = elsewhere.requester.reference
    Consent.objects.create(
        request=elsewhere,
        patient=alice,
        fhir=given,
        status="active",
        ledger_state=Consent.LedgerState.IN_FORCE,
        expires_at=timezone.now() + timedelta(days=9),
    )
    assert ask(call, question) == before


def test_a_thousand_are_answered_in_their_order_in_few_queries(
    call: Call, asked: dict[str, Any], django_assert_max_num_queries: Any
) -> None:
    many = [{**asked, "request": asked["request"] if n % 2 else f"{n:064x}"} for n in range(1000)]
    with django_assert_max_num_queries(15):
        answers = ask(call, *many)
    assert [each["request"] for each in answers] == [each["request"] for each in many]
    assert [each["decision"] for each in answers] == ["not_available", "permit"] * 500
    assert call("POST", "decisions", {"decisions": [*many, asked]}).status_code == 400


def test_it_decides_as_the_contract_does(
    call: Call, asked: dict[str, Any], consent: Consent, helix: Requester
) -> None:
    compiled = compile_consent(consent.fhir, consent=consent.pk, patient=consent.patient_id)
    for kind in ("Observation", "Condition", "Patient", "ImagingStudy"):
        for purpose in ("HRESCH", "TREAT", "HMARKT"):
            question = {**asked, "resources": [kind], "purpose": purpose}
            (answer,) = ask(call, question)
            request = decisions._request(helix, {"kind": "analyse", **question})
            by_contract = contract.decide([compiled], request, at=int(timezone.now().timestamp()))
            assert answer["decision"] == by_contract.decision
            assert answer["reasons"] == list(by_contract.reasons)


# /fhir/Consent


def test_ones_own_grants_in_force_are_shown_without_the_patient(
    fhir: Any, consent: Consent, alice: Patient
) -> None:
    from fhir.resources.R4B.consent import Consent as FHIRConsent

    answer = fhir("/fhir/Consent")
    (entry,) = answer.json()["entry"]
    found = entry["resource"]
    FHIRConsent.model_validate(found)
    assert (found["id"], found["identifier"][0]["value"]) == (consent.pk, consent.request_id)
    assert alice.pk not in json.dumps(found)
    assert fhir(f"/fhir/Consent/{consent.pk}").json() == found
    assert fhir(f"/fhir/Consent?identifier={consent.request_id}").json()["entry"]
    assert "entry" not in fhir("/fhir/Consent?identifier=x").json()
    assert fhir("/fhir/Consent?patient=x").status_code == 400
    assert fhir("/fhir/Consent", "system/Patient.rs").status_code == 403


def test_a_grant_by_who_acts_for_the_patient_names_neither(
    fhir: Any, consent: Consent, alice: Patient, user: Callable[..., Any]
) -> None:
    row = represent(alice, user("ana"))
    Consent.objects.all().delete()
    ConsentRequest.objects.update(state=ConsentRequest.State.PENDING)
    hers = services.grant(
        request=ConsentRequest.objects.get(),
        patient=alice,
        kinds=["Observation"],
        duration="until",
        how=How.by(row),
    )
    Consent.objects.update(ledger_state=Consent.LedgerState.IN_FORCE)
    found = json.dumps(fhir(f"/fhir/Consent/{hers.pk}").json())
    assert '"permit"' in found
    for secret in (alice.pk, row.pseudonym, "RelatedPerson", "POWATT", "attorney"):
        assert secret not in found


def test_what_is_not_in_force_is_not_there(fhir: Any, consent: Consent) -> None:
    Consent.objects.update(stopped_at=timezone.now())
    stopped = fhir(f"/fhir/Consent/{consent.pk}").json()
    unknown = fhir(f"/fhir/Consent/{'0' * 64}").json()
    for each in (stopped, unknown):
        each["issue"][0].pop("diagnostics")
    assert stopped == unknown
    assert "entry" not in fhir("/fhir/Consent").json()
