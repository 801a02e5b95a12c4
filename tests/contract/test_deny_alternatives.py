"""A deny names alternatives: what is not understood, or of another vocabulary, narrows none of them."""

from typing import Any

import pytest

from ledger.contract import duo, purposes
from ledger.contract.consents import AI_MODEL, compile_consent
from ledger.contract.decision import Decision, decide, permits
from ledger.contract.items import item_of

Json = dict[str, Any]

NOW = 1_700_000_000
SNOMED = "http://snomed.info/sct"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
RESEARCH = {"system": purposes.SYSTEM, "code": "HRESCH"}
MARKETING = {"system": purposes.SYSTEM, "code": "HMARKT"}
REQUEST: Json = {
    "action": "use",
    "model": "a" * 64,
    "purpose": "HRESCH",
    "recipient": "Organization/helix",
    "resources": [{"codes": None, "type": "Observation"}, {"codes": None, "type": "MedicationRequest"}],
    "use": ["GRU"],
    "version": 1,
}


def decided(exception: Json, request: Json = REQUEST, **consent: Any) -> Decision:
    """A consent that permits everything but `exception`."""
    fhir = {
        "resourceType": "Consent",
        "status": "active",
        "provision": {"type": "permit", "provision": [{"type": "deny", **exception}]},
        **consent,
    }
    return decide([compile_consent(fhir, consent="c" * 64, patient="p")], request, at=NOW)


def actor(role: str, name: str, system: str = PARTICIPATION) -> Json:
    return {"role": {"coding": [{"system": system, "code": role}]}, "reference": {"reference": name}}


def test_a_deny_that_is_understood_denies_what_it_names_and_no_more() -> None:
    assert decided({"purpose": [RESEARCH]}).decision == "deny"
    assert decided({"purpose": [MARKETING]}).decision == "permit"
    assert decided({"actor": [actor("IRCP", "Organization/helix")]}).decision == "deny"
    assert decided({"actor": [actor("IRCP", "Organization/other")]}).decision == "permit"


@pytest.mark.parametrize(
    "strange",
    [
        {"system": "http://hospital.example/purposes", "code": "research"},
        {"code": "research"},
        {"system": ["not a string"], "code": "research"},
        {"system": duo.SYSTEM, "code": "DUO:9999999"},
        {"display": "research"},
    ],
)
def test_a_purpose_that_is_not_understood_is_denied_beside_one_that_is(strange: Json) -> None:
    assert decided({"purpose": [MARKETING, strange]}).decision == "deny"


@pytest.mark.parametrize(
    "strange",
    [
        actor("AGNT", "Organization/helix"),
        actor("IRCP", "Organization/helix", system="http://hospital.example/roles"),
        {**actor("IRCP", "Organization/helix"), "modifierExtension": [{"url": "x"}]},
        {"reference": {"reference": "Organization/helix"}},
    ],
)
def test_an_actor_that_is_not_understood_is_denied_beside_one_that_is(strange: Json) -> None:
    assert decided({"actor": [actor("IRCP", "Organization/other"), strange]}).decision == "deny"


@pytest.mark.parametrize(
    ("purpose", "use", "outcome"),
    [
        ("HRESCH", ["GRU"], "deny"),  # the use is named
        ("HRESCH", ["HMB"], "deny"),  # and what lies under it
        ("HMARKT", ["NRES"], "deny"),  # the purpose is named
        ("HRESCH", ["CC"], "permit"),  # neither is
    ],
)
def test_purposes_of_use_and_duo_codes_are_alternatives_of_a_deny(
    purpose: str, use: list[str], outcome: str
) -> None:
    exception = {"purpose": [MARKETING, {"system": duo.SYSTEM, "code": "GRU"}]}
    assert decided(exception, {**REQUEST, "purpose": purpose, "use": use}).decision == outcome


def test_models_that_contradict_each_other_do_not_narrow_a_deny() -> None:
    bound = [[{"url": AI_MODEL, "valueString": digit * 64}] for digit in "bc"]
    fhir = {
        "resourceType": "Consent",
        "status": "active",
        "extension": bound[0],
        "provision": {"type": "deny", "extension": bound[1]},
    }
    denied = compile_consent(fhir, consent="c" * 64, patient="p")
    permitted = compile_consent(
        {"resourceType": "Consent", "status": "active", "provision": {"type": "permit"}},
        consent="d" * 64,
        patient="p",
    )
    assert decide([denied, permitted], REQUEST, at=NOW).decision == "deny"


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Observation", "code": {"text": "HIV antibody"}},
        {"resourceType": "Observation", "code": {"coding": [{"code": "local-77"}]}},
        {"resourceType": "MedicationRequest", "medicationReference": {"reference": "#med"}},
        {"resourceType": "MedicationRequest", "medication": {"reference": {"reference": "Medication/1"}}},
        {
            "resourceType": "Observation",
            "code": {"coding": [{"system": SNOMED, "code": "75367002"}]},
            "component": [{"code": {"text": "HIV antibody"}}],
        },
    ],
)
def test_a_category_does_not_stand_for_a_code_that_is_missing(resource: Json) -> None:
    coded = {**resource, "id": "1", "category": [{"coding": [{"system": "urn:example", "code": "lab"}]}]}
    verdict = decided({"code": [{"coding": [{"system": SNOMED, "code": "31676001"}]}]})
    assert permits(verdict.rules, item_of(coded, ["N"])) == (False, "denied_by_provision")


def test_a_resource_whose_codes_are_all_there_is_told_apart() -> None:
    verdict = decided({"code": [{"coding": [{"system": SNOMED, "code": "31676001"}]}]})
    glucose = {
        "resourceType": "Observation",
        "id": "1",
        "category": [{"text": "Laboratory"}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "2345-7"}], "text": "Glucose"},
    }
    assert permits(verdict.rules, item_of(glucose, ["N"])) == (True, "permitted")


@pytest.mark.parametrize("element", ["system", "code"])
@pytest.mark.parametrize("value", [["x"], {"x": 1}, 1, True, None])
def test_what_should_be_a_string_and_is_none_is_not_understood(element: str, value: Any) -> None:
    strange = {"system": purposes.SYSTEM, "code": "HMARKT", element: value}
    concept = {"coding": [strange]}
    assert decided({"purpose": [strange]}).decision == "deny"
    for exception in (
        {"actor": [{"role": concept, "reference": {"reference": "Organization/other"}}]},
        {"action": [concept]},
        {"securityLabel": [strange]},
        {"class": [strange]},
        {"code": [concept]},
        {"data": [{"meaning": value, "reference": {"reference": "Observation/1"}}]},
    ):
        decided(exception)  # it is read; none of these may be an error that nobody expects
    decided({}, policyRule=concept, scope=concept)
