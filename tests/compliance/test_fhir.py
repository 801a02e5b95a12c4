"""FHIR R4 by fhir.resources, IHE BALP's constraints and value sets by our own check of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from gateway.compliance import fhir, uses
from ledger.audit.merkle import leaf_hash
from ledger.audit.models import AuditRow
from ledger.contract import purposes
from tests.compliance.conftest import Year
from tests.questions import ask, commit, grant, in_force

pytestmark = pytest.mark.django_db

Json = dict[str, Any]

# FHIR R4 value sets with a required binding, and those of BALP's profiles.
OUTCOMES = {"0", "4", "8", "12"}
ACTIONS = {"C", "R", "U", "D", "E"}
NETWORKS = {"1", "2", "3", "4", "5"}
STATUSES = {"draft", "proposed", "active", "rejected", "inactive", "entered-in-error"}
LIFECYCLE = {
    "access", "hold", "amend", "archive", "attest", "decrypt", "deidentify", "deprecate", "destroy",
    "disclose", "encrypt", "extract", "link", "merge", "originate", "pseudonymize", "reactivate", "receive",
    "reidentify",
    "unhold", "report", "restore", "transform", "transmit", "unlink", "unmerge", "verify",
}  # fmt: skip
OF_SYSTEM = {
    "http://dicom.nema.org/resources/ontology/DCM": {
        "110106", "110113", "110127", "110138", "110150", "110152", "110153",
    },
    "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle": LIFECYCLE,
    "http://terminology.hl7.org/CodeSystem/audit-entity-type": {"1", "2", "3", "4"},
    "http://terminology.hl7.org/CodeSystem/object-role": {str(n) for n in range(1, 25)},
    "http://terminology.hl7.org/CodeSystem/security-source-type": {str(n) for n in range(1, 10)},
    "http://terminology.hl7.org/CodeSystem/v3-ActReason": purposes.KNOWN,
    "http://terminology.hl7.org/CodeSystem/v3-ParticipationType": {"IRCP"},
    "http://terminology.hl7.org/CodeSystem/v3-RoleClass": {"PROV"},
    "http://terminology.hl7.org/CodeSystem/extra-security-role-type": {"authserver"},
    "http://terminology.hl7.org/CodeSystem/provenance-participant-type": {"author", "performer", "custodian"},
    "http://terminology.hl7.org/CodeSystem/v3-ObservationValue": {"AIAST"},
    "http://hl7.org/fhir/resource-types": {"Consent"},
    "http://snomed.info/sct": {"429577009"},
    "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType": {"AuthZ-Consent", "AuthZ-Role"},
    "urn:iso-astm:E1762-95:2013": {"1.2.840.10065.1.12.1.7"},
}  # fmt: skip


def codings(value: Any) -> list[Json]:
    if isinstance(value, dict):
        own = [value] if {"system", "code"} <= value.keys() else []
        return own + [each for inner in value.values() for each in codings(inner)]
    return [each for inner in value for each in codings(inner)] if isinstance(value, list) else []


def check(resource: Json) -> None:
    get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    if resource["resourceType"] == "Consent":
        assert resource["status"] in STATUSES
        return
    for coding in codings(resource):
        assert coding["code"] in OF_SYSTEM[coding["system"]], coding
    if resource["resourceType"] == "AuditEvent":
        assert resource["outcome"] in OUTCOMES
        assert resource.get("action", "E") in ACTIONS
        for agent in resource["agent"]:
            assert agent.get("network", {}).get("type", "1") in NETWORKS
        for profile in resource.get("meta", {}).get("profile", ()):
            PROFILES[profile](resource)


def agent_of(event: Json, code: str) -> Json:
    """The one agent of this type: a slice of 1..1."""
    (found,) = [each for each in event["agent"] if code in {one["code"] for one in each["type"]["coding"]}]
    assert found["who"]
    return found  # type: ignore[no-any-return]


def check_patient(event: Json) -> None:
    (person,) = [each for each in event["entity"] if each["type"]["code"] == "1"]
    assert person["role"]["code"] == "1"
    assert person["what"]["reference"].startswith("Patient/")


def check_authorized(event: Json) -> None:
    """IHE.BasicAudit.AuthZconsent."""
    assert event["type"]["code"] == "110113"
    assert {each["code"] for each in event["subtype"]} <= {"AuthZ-Consent", "AuthZ-Role"}
    assert event["action"] == "E"
    assert agent_of(event, "110150")["network"]
    assert agent_of(event, "IRCP")["requestor"] is True
    assert agent_of(event, "PROV")["requestor"] is False
    authorizer = agent_of(event, "authserver")
    assert authorizer["who"] == event["source"]["observer"]  # val-audit-source
    assert authorizer["requestor"] is False
    check_patient(event)
    assert [each["type"]["code"] for each in event["entity"]] == ["1", "Consent"]  # slicing is closed
    if event["outcome"] != "0":
        assert event["outcomeDesc"]


def check_disclosed(event: Json) -> None:
    """IHE.BasicAudit.PrivacyDisclosure.Source."""
    assert event["type"]["code"] == "110106"
    assert "disclose" in {each["code"] for each in event["subtype"]}
    assert event["action"] == "R"
    source = agent_of(event, "110153")
    assert source["who"] == event["source"]["observer"]  # val-audit-source
    assert source["network"]
    assert agent_of(event, "110152")["network"]
    assert agent_of(event, "429577009")["who"]["reference"].startswith("Patient/")
    check_patient(event)
    assert len(event["entity"]) >= 2


PROFILES: dict[str, Callable[[Json], None]] = {
    fhir.AUTHORIZED: check_authorized,
    fhir.DISCLOSED: check_disclosed,
}


def test_every_step_of_every_use_is_an_audit_event(year: Year) -> None:
    found = uses.uses_of(year.patient)
    events = list(fhir.audit_events(year.patient, found))
    for event in events:
        check(event)
    steps = AuditRow.objects.filter(subject=year.patient.pseudonym, kind__in=uses.STEPS)
    assert {event["id"] for event in events} == {leaf_hash(bytes(row.line)).hex() for row in steps}
    profiles = [profile for event in events for profile in event.get("meta", {}).get("profile", ())]
    assert profiles.count(fhir.AUTHORIZED) == 4  # three releases, one denial
    assert profiles.count(fhir.DISCLOSED) == 3  # a result, a copy, her own copy
    denied = [event for event in events if event["outcome"] == "8"]
    assert [event["outcomeDesc"] for event in denied] == ["consent.revoked"]
    overrides = {event["subtype"][0]["code"] for event in events if event.get("subtype")}
    assert {"110127", "110138"} <= overrides


def test_consents_have_the_status_of_today(year: Year) -> None:
    refused = grant(ask(year.requester, year.patient))
    assert refused.status == "proposed"
    stopped = in_force(ask(year.requester, year.patient))
    commit(stopped, "ConsentRevoked")
    found = {each["id"]: each for each in fhir.consents(year.patient)}
    for each in found.values():
        check(each)
    assert found[year.consent.pk]["status"] == "active"
    assert found[refused.pk]["status"] == "proposed"
    assert found[stopped.pk]["status"] == "inactive"


def test_each_result_has_its_model_and_each_answer_its_author(year: Year) -> None:
    found = list(fhir.provenances(year.patient, uses.uses_of(year.patient)))
    for each in found:
        check(each)
    answers = [each for each in found if each["id"].startswith("answer-")]
    results = {each["target"][0]["identifier"]["value"]: each for each in found if each not in answers}
    assert {each["target"][0]["reference"] for each in answers} == {
        f"Consent/{consent.pk}" for consent in year.patient.consents.all()
    }
    assert set(results) == {year.uses["result"], year.uses["copy"]}
    made = results[year.uses["result"]]
    assert made["agent"][0]["who"]["identifier"]["value"] == year.model.digest
    assert made["meta"]["security"] == [fhir.AI_ASSERTED]
    assert made["entity"][0]["what"]["reference"] == f"Consent/{year.consent.pk}"
    assert "meta" not in results[year.uses["copy"]]


def test_ndjson_is_one_resource_a_line(year: Year) -> None:
    data = b"".join(fhir.ndjson(fhir.consents(year.patient)))
    lines = data.decode().splitlines()
    assert [json.loads(line)["resourceType"] for line in lines] == ["Consent"] * 2


def test_an_answer_that_was_signed_carries_its_signature(year: Year) -> None:
    year.consent.signature = {"origin": "http://localhost:8000"}
    year.consent.save()
    (signed,) = [each for each in fhir.provenances(year.patient, []) if "signature" in each]
    check(signed)
