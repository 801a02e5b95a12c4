"""What is held against FHIR R4's definitions: each check with what breaks it, by element and code."""
# ruff: noqa: E501 (the table reads best with one rule on one line)

import copy
import json
import random
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import carebundle
import orjson
import pytest
from fhir.resources.R4B import get_fhir_model_class

from gateway.records.intake import Intake, Record
from gateway.records.invariants import INVARIANTS
from gateway.records.sources import Source
from gateway.records.structure import MAX_FAULTS, faults_of
from gateway.records.validation import validate
from tests.records.conftest import observation, patient

Body = dict[str, Any]
UCUM = "http://unitsofmeasure.org"


def resource(kind: str, **more: Any) -> Body:
    return {"resourceType": kind, "id": "r", **more}


def told(body: Body, addresses: dict[str, str] | None = None) -> list[tuple[str, str]]:
    return [(fault.code, fault.element) for fault in faults_of(body, addresses or {})]


def concept(system: str, code: str) -> Body:
    return {"coding": [{"system": system, "code": code}]}


def condition(**more: Any) -> Body:
    return resource("Condition", subject={"reference": "Patient/p"}, **more)


CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFIED = "http://terminology.hl7.org/CodeSystem/condition-ver-status"


# One element


@pytest.mark.parametrize(
    ("body", "element"),
    [
        (observation(status="done"), "Observation.status"),
        (observation(valueQuantity={"value": 1, "comparator": "~"}), "Observation.valueQuantity.comparator"),
        (patient(gender="w"), "Patient.gender"),
        (patient(telecom=[{"system": "telegram", "value": "1"}]), "Patient.telecom[0].system"),
        (patient(identifier=[{"use": "primary", "value": "1"}]), "Patient.identifier[0].use"),
        (resource("Consent", provision={"type": "allow"}), "Consent.provision.type"),
        (resource("Consent", provision={"provision": [{"type": "no"}]}), "Consent.provision.provision[0].type"),
        (resource("AuditEvent", outcome="9"), "AuditEvent.outcome"),
        (resource("AuditEvent", action="X"), "AuditEvent.action"),
        (resource("Encounter", status="done"), "Encounter.status"),
        (resource("DiagnosticReport", status="done"), "DiagnosticReport.status"),
        (resource("Coverage", status="amended"), "Coverage.status"),
        (condition(clinicalStatus=concept(CLINICAL, "over")), "Condition.clinicalStatus"),
        (condition(clinicalStatus=concept("http://hospital.example", "active")), "Condition.clinicalStatus"),
        (condition(verificationStatus={"text": "sure"}), "Condition.verificationStatus"),
        (resource("Claim", total={"value": 1, "currency": "euro"}), "Claim.total.currency"),
    ],
)  # fmt: skip
def test_a_code_outside_its_required_value_set(body: Body, element: str) -> None:
    assert ({("value_set", element), ("wrong_form", element)}) & set(told(body))


def test_a_code_within_its_required_value_set() -> None:
    for status in ("registered", "corrected", "cancelled", "entered-in-error", "unknown"):
        assert told(observation(status=status)) == []
    assert told(condition(clinicalStatus=concept(CLINICAL, "remission"))) == []


@pytest.mark.parametrize(
    ("change", "code", "element"),
    [
        ({"id": "a_b"}, "wrong_form", "Observation.id"),
        ({"id": "x" * 65}, "wrong_form", "Observation.id"),
        ({"code": {"id": "a b", "text": "x"}}, "wrong_form", "Observation.code.id"),
        ({"effectiveDateTime": "2020-13-01"}, "wrong_form", "Observation.effectiveDateTime"),
        ({"effectiveDateTime": "2021-02-29"}, "wrong_form", "Observation.effectiveDateTime"),
        ({"effectiveDateTime": "2020-02-01T10:00:00"}, "wrong_form", "Observation.effectiveDateTime"),
        ({"effectiveDateTime": "2020-02-01T10:00Z"}, "wrong_form", "Observation.effectiveDateTime"),
        ({"effectiveDateTime": "2020-02-01T25:00:00Z"}, "wrong_form", "Observation.effectiveDateTime"),
        ({"effectiveDateTime": "0000"}, "wrong_form", "Observation.effectiveDateTime"),
        ({"issued": "2020-02-01"}, "wrong_form", "Observation.issued"),
        ({"implicitRules": "a b"}, "wrong_form", "Observation.implicitRules"),
        ({"language": " en"}, "wrong_form", "Observation.language"),
        ({"extension": [{"url": "x", "valueUuid": "urn:uuid:1"}]}, "wrong_form",
         "Observation.extension[0].valueUuid"),
        ({"extension": [{"url": "x", "valueOid": "1.2"}]}, "wrong_form", "Observation.extension[0].valueOid"),
        ({"extension": [{"url": "x", "valueBase64Binary": "a"}]}, "wrong_form",
         "Observation.extension[0].valueBase64Binary"),
        ({"extension": [{"url": "x", "valuePositiveInt": 0}]}, "wrong_form",
         "Observation.extension[0].valuePositiveInt"),
    ],
)  # fmt: skip
def test_ids_dates_and_other_forms(change: Body, code: str, element: str) -> None:
    assert told({**observation(), **change}) == [(code, element)]


@pytest.mark.parametrize("when", ["2020", "2020-02", "2020-02-29", "2020-02-29T23:59:60.123456789+14:00"])
def test_every_precision_of_a_date(when: str) -> None:
    assert told(observation(effectiveDateTime=when)) == []


@pytest.mark.parametrize(
    ("change", "element"),
    [
        ({"valueQuantity": {"value": "13.5"}}, "Observation.valueQuantity.value"),
        ({"valueQuantity": {"value": True}}, "Observation.valueQuantity.value"),
        ({"valueQuantity": None, "valueInteger": "7"}, "Observation.valueInteger"),
        ({"valueQuantity": None, "valueInteger": 7.0}, "Observation.valueInteger"),
        ({"valueQuantity": None, "valueBoolean": "true"}, "Observation.valueBoolean"),
        ({"valueQuantity": None, "valueString": 7}, "Observation.valueString"),
        ({"code": "2093-3"}, "Observation.code"),
        ({"note": ["text"]}, "Observation.note[0]"),
    ],
)
def test_numbers_given_as_strings_and_other_wrong_types(change: Body, element: str) -> None:
    changed = {name: value for name, value in {**observation(), **change}.items() if value is not None}
    assert told(changed) == [("wrong_type", element)]


@pytest.mark.parametrize(
    ("change", "element"),
    [
        ({"valueQuantity": {"value": 1, "unit": ""}}, "Observation.valueQuantity.unit"),
        ({"status": ""}, "Observation.status"),
        ({"language": ""}, "Observation.language"),
        ({"category": []}, "Observation.category"),
        ({"category": [None]}, "Observation.category[0]"),
        ({"method": {}}, "Observation.method"),
        ({"method": {"id": "m"}}, "Observation.method"),
        ({"method": None}, "Observation.method"),
    ],
)
def test_empty_strings_lists_and_objects(change: Body, element: str) -> None:
    assert told({**observation(), **change}) == [("empty", element)]


def test_a_null_stands_only_for_a_primitive_with_extensions() -> None:
    extensions = [{"url": "http://x.example", "valueCode": "unknown"}]
    good = patient(name=[{"given": ["Alice", None], "_given": [None, {"extension": extensions}]}])
    assert told(good) == []
    assert told(patient(name=[{"given": ["Alice", None]}])) == [("empty", "Patient.name[0].given[1]")]
    short = patient(name=[{"given": ["Alice", "B"], "_given": [{"extension": extensions}]}])
    assert told(short) == [("cardinality", "Patient.name[0]._given")]


@pytest.mark.parametrize(
    ("change", "code", "element"),
    [
        ({"status": None}, "required", "Observation.status"),
        ({"status": ["final"]}, "cardinality", "Observation.status"),
        ({"code": [{"text": "x"}]}, "cardinality", "Observation.code"),
        ({"category": {"text": "x"}}, "cardinality", "Observation.category"),
        ({"colour": "red"}, "unknown_element", "Observation.colour"),
        ({"code": {"text": "x", "colour": "red"}}, "unknown_element", "Observation.code.colour"),
        ({"contained": [{"resourceType": "Frob", "id": "x"}]}, "value_set",
         "Observation.contained[0].resourceType"),
        ({"contained": ["x"]}, "wrong_type", "Observation.contained[0]"),
    ],
)  # fmt: skip
def test_names_and_how_many(change: Body, code: str, element: str) -> None:
    changed = {name: value for name, value in {**observation(), **change}.items() if value is not None}
    assert told(changed) == [(code, element)]


def test_a_required_primitive_may_have_only_its_reason_to_be_absent() -> None:
    absent = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
                             "valueCode": "unknown"}]}  # fmt: skip
    body = observation(_status=absent)
    del body["status"]
    assert told(body) == []


def test_two_values_of_one_choice() -> None:
    assert told(observation(valueString="13")) == [("two_values", "Observation.valueString")]
    assert told(patient(deceasedBoolean=True, deceasedDateTime="2020")) == [
        ("two_values", "Patient.deceasedDateTime")
    ]
    told_twice = observation(_valueString={"extension": [{"url": "http://x.example", "valueCode": "a"}]})
    assert told(told_twice) == [("two_values", "Observation._valueString")]


def test_a_choice_that_is_required() -> None:
    order = resource("MedicationRequest", status="active", intent="order", subject={"reference": "Patient/p"})
    assert told(order) == [("required", "MedicationRequest.medication[x]")]


# References


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"encounter": {"reference": "Patient/alice-1"}}, "wrong_reference"),
        ({"encounter": {"reference": "https://x.example/fhir/Organization/1/_history/2"}}, "wrong_reference"),
        ({"encounter": {"reference": "urn:uuid:p"}}, "wrong_reference"),
        ({"encounter": {"reference": "Practitioner?identifier=7"}}, "wrong_reference"),
        ({"encounter": {"reference": "Encounter/1", "type": "Patient"}}, "wrong_reference"),
        ({"encounter": {"reference": "#e"}}, "ref-1"),
        ({"encounter": {"reference": "#o"}, "contained": [resource("Organization", name="x") | {"id": "o"}]},
         "wrong_reference"),
    ],
)  # fmt: skip
def test_a_reference_to_the_wrong_type(change: Body, code: str) -> None:
    found = told({**observation(), **change}, {"urn:uuid:p": "Practitioner/1"})
    assert found == [(code, "Observation.encounter")]


def test_a_reference_to_the_right_type() -> None:
    for reference in ("Encounter/1", "https://x.example/Encounter/1", "urn:uuid:e", "Encounter?identifier=7"):
        body = observation(encounter={"reference": reference, "type": "Encounter"})
        assert told(body, {"urn:uuid:e": "Encounter/1"}) == []
    assert told(observation(focus=[{"reference": "Anything/1"}])) == []


# Narrative


def narrated(inner: str, outer: str = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>') -> Body:
    return observation(text={"status": "generated", "div": outer.format(inner)})


@pytest.mark.parametrize(
    "inner",
    [
        "<script>alert(1)</script>",
        '<p onclick="alert(1)">x</p>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href=" java&#10;script:alert(1)">x</a>',
        '<a href="data:text/html,x">x</a>',
        '<img src="data:image/svg+xml;base64,AA=="/>',
        '<p style="background: url(https://x.example)">x</p>',
        "<form><input/></form>",
        '<iframe src="https://x.example"/>',
        '<object data="x"/>',
        '<link rel="stylesheet" href="x"/>',
        "<?php x ?>x",
        "<p>unclosed",
        "&nbsp;",
        "  ",
    ],
)
def test_a_narrative_with_script_or_what_acts(inner: str) -> None:
    assert told(narrated(inner)) == [("narrative", "Observation.text.div")]


@pytest.mark.parametrize(
    "outer", ["<p>x</p>", "<div>x</div>", "x", '<!DOCTYPE d [<!ENTITY a "x">]><div>&a;</div>']
)
def test_a_narrative_that_is_no_div_of_xhtml(outer: str) -> None:
    assert told(observation(text={"status": "generated", "div": outer})) == [
        ("narrative", "Observation.text.div")
    ]


def test_a_narrative_of_text_tables_and_pictures() -> None:
    rich = (
        '<p style="color: red">13 &lt; 14 &#160; <b>x</b><a href="#a">a</a><a href="Patient/1">b</a></p>'
        '<table class="grid"><tr><td colspan="2">x</td></tr></table><img src="data:image/png;base64,AA=="/>'
    )
    assert told(narrated(rich)) == []


# Across elements: one case that breaks each, and nothing else; what mends it stands beside it.

PART = {"code": {"text": "x"}}
RANGE = {"low": {"value": 1}, "high": {"value": 2}}
BROKEN: dict[str, tuple[Body, Body]] = {
    "ext-1": (observation(extension=[{"url": "http://x.example"}]),
              observation(extension=[{"url": "http://x.example", "valueCode": "x"}])),
    "qty-3": (observation(valueQuantity={"value": 1, "code": "g"}),
              observation(valueQuantity={"value": 1, "code": "g", "system": UCUM})),
    "age-1": (condition(onsetAge={"value": -3, "code": "a", "system": UCUM}),
              condition(onsetAge={"value": 3, "code": "a", "system": UCUM})),
    "drt-1": (observation(extension=[{"url": "x", "valueDuration": {"value": 1, "code": "h", "system": "x"}}]),
              observation(extension=[{"url": "x", "valueDuration": {"value": 1, "code": "h", "system": UCUM}}])),
    "per-1": (observation(effectivePeriod={"start": "2020-02-01T10:00:00Z", "end": "2020-02-01T10:59:00+01:00"}),
              observation(effectivePeriod={"start": "2020-02-01", "end": "2020-02"})),
    "rng-2": (observation(component=[{**PART, "valueRange": {"low": {"value": 3}, "high": {"value": 2}}}]),
              observation(component=[{**PART, "valueRange": RANGE}])),
    "rat-1": (observation(component=[{**PART, "valueRatio": {"numerator": {"value": 3}}}]),
              observation(component=[{**PART, "valueRatio": {"numerator": {"value": 3},
                                                             "denominator": {"value": 2}}}])),
    "cpt-2": (patient(telecom=[{"value": "1"}]), patient(telecom=[{"value": "1", "system": "phone"}])),
    "att-1": (patient(photo=[{"data": "AAAA"}]), patient(photo=[{"data": "AAAA", "contentType": "image/png"}])),
    **{key: (observation(effectiveTiming={"repeat": bad}), observation(effectiveTiming={"repeat": good}))
       for key, bad, good in (
           ("tim-1", {"duration": 1}, {"duration": 1, "durationUnit": "h"}),
           ("tim-2", {"period": 1}, {"period": 1, "periodUnit": "d"}),
           ("tim-4", {"duration": -1, "durationUnit": "h"}, {"duration": 0, "durationUnit": "h"}),
           ("tim-5", {"period": -1, "periodUnit": "h"}, {"period": 0, "periodUnit": "h"}),
           ("tim-6", {"periodMax": 1}, {"periodMax": 2, "period": 1, "periodUnit": "h"}),
           ("tim-7", {"durationMax": 1}, {"durationMax": 2, "duration": 1, "durationUnit": "h"}),
           ("tim-8", {"countMax": 1}, {"countMax": 2, "count": 1}),
           ("tim-9", {"offset": 5, "when": ["C"]}, {"offset": 5, "when": ["AC"]}),
           ("tim-10", {"timeOfDay": ["10:00:00"], "when": ["C"]}, {"when": ["C"]}),
       )},
    "ait-1": (resource("AllergyIntolerance", patient={"reference": "Patient/p"}),
              resource("AllergyIntolerance", patient={"reference": "Patient/p"}, clinicalStatus=concept(
                  "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active"))),
    "ait-2": (resource("AllergyIntolerance", patient={"reference": "Patient/p"}, clinicalStatus=concept(
                  "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active"),
                  verificationStatus=concept(
                  "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification", "entered-in-error")),
              resource("AllergyIntolerance", patient={"reference": "Patient/p"}, verificationStatus=concept(
                  "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification", "entered-in-error"))),
    "con-1": (condition(stage=[{"type": {"text": "x"}}]), condition(stage=[{"summary": {"text": "x"}}])),
    "con-2": (condition(evidence=[{"extension": [{"url": "x", "valueCode": "x"}]}]),
              condition(evidence=[{"code": [{"text": "x"}]}])),
    "con-4": (condition(abatementDateTime="2020", clinicalStatus=concept(CLINICAL, "active")),
              condition(abatementDateTime="2020", clinicalStatus=concept(CLINICAL, "resolved"))),
    "con-5": (condition(verificationStatus=concept(VERIFIED, "entered-in-error"),
                        clinicalStatus=concept(CLINICAL, "active")),
              condition(verificationStatus=concept(VERIFIED, "entered-in-error"))),
    "obs-3": (observation(referenceRange=[{"type": {"text": "x"}}]), observation(referenceRange=[RANGE])),
    "obs-6": (observation(dataAbsentReason={"text": "x"}), observation()),
    "obs-7": (observation(component=[{"code": observation()["code"]}]), observation(component=[PART])),
    "org-1": (resource("Organization", active=True), resource("Organization", name="x")),
    "org-2": (resource("Organization", name="x", telecom=[{"use": "home", "system": "url", "value": "x"}]),
              resource("Organization", name="x", telecom=[{"use": "work", "system": "url", "value": "x"}])),
    "org-3": (resource("Organization", name="x", address=[{"use": "home", "city": "x"}]),
              resource("Organization", name="x", address=[{"use": "work", "city": "x"}])),
    "pat-1": (patient(contact=[{"gender": "female"}]), patient(contact=[{"name": {"text": "x"}}])),
    "fhs-1": (resource("FamilyMemberHistory", status="partial", patient={"reference": "Patient/p"},
                       relationship={"text": "x"}, ageString="3", bornString="1"),
              resource("FamilyMemberHistory", status="partial", patient={"reference": "Patient/p"},
                       relationship={"text": "x"}, ageString="3")),
    "fhs-2": (resource("FamilyMemberHistory", status="partial", patient={"reference": "Patient/p"},
                       relationship={"text": "x"}, estimatedAge=True),
              resource("FamilyMemberHistory", status="partial", patient={"reference": "Patient/p"},
                       relationship={"text": "x"}, estimatedAge=True, ageString="3")),
    "gol-1": (resource("Goal", lifecycleStatus="active", description={"text": "x"},
                       subject={"reference": "Patient/p"}, target=[{"detailString": "x"}]),
              resource("Goal", lifecycleStatus="active", description={"text": "x"},
                       subject={"reference": "Patient/p"}, target=[{"measure": {"text": "x"},
                                                                    "detailString": "x"}])),
    "imm-1": (resource("Immunization", status="completed", vaccineCode={"text": "x"}, occurrenceString="x",
                       patient={"reference": "Patient/p"}, education=[{"publicationDate": "2020"}]),
              resource("Immunization", status="completed", vaccineCode={"text": "x"}, occurrenceString="x",
                       patient={"reference": "Patient/p"}, education=[{"documentType": "x"}])),
    "mad-1": (resource("MedicationAdministration", status="completed", effectiveDateTime="2020",
                       medicationCodeableConcept={"text": "x"}, subject={"reference": "Patient/p"},
                       dosage={"text": "x"}),
              resource("MedicationAdministration", status="completed", effectiveDateTime="2020",
                       medicationCodeableConcept={"text": "x"}, subject={"reference": "Patient/p"},
                       dosage={"dose": {"value": 1}})),
    "mdd-1": (resource("MedicationDispense", status="completed", medicationCodeableConcept={"text": "x"},
                       whenPrepared="2020-02-02", whenHandedOver="2020-02-01"),
              resource("MedicationDispense", status="completed", medicationCodeableConcept={"text": "x"},
                       whenPrepared="2020-02-02", whenHandedOver="2020-02-02")),
    "cpl-3": (resource("CarePlan", status="active", intent="plan", subject={"reference": "Patient/p"},
                       activity=[{"reference": {"reference": "Task/1"}, "detail": {"status": "scheduled"}}]),
              resource("CarePlan", status="active", intent="plan", subject={"reference": "Patient/p"},
                       activity=[{"detail": {"status": "scheduled"}}])),
    "cmp-1": (resource("Composition", status="final", type={"text": "x"}, date="2020", title="x",
                       author=[{"display": "x"}], section=[{"title": "x"}]),
              resource("Composition", status="final", type={"text": "x"}, date="2020", title="x",
                       author=[{"display": "x"}], section=[{"entry": [{"display": "x"}]}])),
    "cmp-2": (resource("Composition", status="final", type={"text": "x"}, date="2020", title="x",
                       author=[{"display": "x"}],
                       section=[{"entry": [{"display": "x"}], "emptyReason": {"text": "x"}}]),
              resource("Composition", status="final", type={"text": "x"}, date="2020", title="x",
                       author=[{"display": "x"}], section=[{"entry": [{"display": "x"}]}])),
    "qrs-1": (resource("QuestionnaireResponse", status="completed",
                       item=[{"linkId": "1", "answer": [{"valueBoolean": True}], "item": [{"linkId": "2"}]}]),
              resource("QuestionnaireResponse", status="completed",
                       item=[{"linkId": "1", "item": [{"linkId": "2"}]}])),
    "ras-2": (resource("RiskAssessment", status="final", subject={"reference": "Patient/p"},
                       prediction=[{"probabilityDecimal": 100.1}]),
              resource("RiskAssessment", status="final", subject={"reference": "Patient/p"},
                       prediction=[{"probabilityDecimal": 100}])),
    "prr-1": (resource("ServiceRequest", status="active", intent="order", subject={"reference": "Patient/p"},
                       orderDetail=[{"text": "x"}]),
              resource("ServiceRequest", status="active", intent="order", subject={"reference": "Patient/p"},
                       orderDetail=[{"text": "x"}], code={"text": "x"})),
    "ppc-1": (resource("Consent", status="active", scope={"text": "x"}, category=[{"text": "x"}]),
              resource("Consent", status="active", scope={"text": "x"}, category=[{"text": "x"}],
                       policyRule={"text": "x"})),
    "sev-1": (resource("AuditEvent", type={"code": "x"}, recorded="2020-02-01T10:00:00Z",
                       agent=[{"requestor": True}], source={"observer": {"display": "x"}},
                       entity=[{"name": "x", "query": "AAAA"}]),
              resource("AuditEvent", type={"code": "x"}, recorded="2020-02-01T10:00:00Z",
                       agent=[{"requestor": True}], source={"observer": {"display": "x"}},
                       entity=[{"name": "x"}])),
}  # fmt: skip


@pytest.mark.parametrize("key", sorted({rule.key for rule in INVARIANTS}))
def test_an_invariant(key: str) -> None:
    broken, mended = BROKEN[key]
    assert [code for code, _ in told(broken)] == [key]
    assert told(mended) == []


@pytest.mark.parametrize(
    ("key", "inner", "where"),
    [
        ("dom-2", {"contained": [resource("Organization", name="x")]}, "Observation.contained[0]"),
        ("dom-3", {"id": "elsewhere"}, "Observation.contained[0]"),
        ("dom-4", {"meta": {"versionId": "1"}}, "Observation.contained[0]"),
        ("dom-5", {"meta": {"security": [{"code": "R"}]}}, "Observation.contained[0]"),
    ],
)
def test_what_is_contained(key: str, inner: Body, where: str) -> None:
    held = resource("Specimen", status="available") | {"id": "s"}
    by_name = {"specimen": {"reference": "#s"}}
    assert told(observation(contained=[held], **by_name)) == []
    spoiled = observation(contained=[held | inner], **({} if key == "dom-3" else by_name))
    assert (key, where) in told(spoiled)


# All of it


def test_a_report_names_elements_and_no_value_and_is_bounded() -> None:
    secret = "Alice Example"
    body = observation(status=secret, note=[{"text": 5, secret: secret}] * 30)
    faults = faults_of(body, {})
    assert len(faults) == MAX_FAULTS
    assert all(secret not in f"{fault.element} {fault}" for fault in faults)
    assert ("unknown_element", "Observation.note[0].?") in told(body)


def generated() -> list[bytes]:
    bundles = carebundle.generate_cohort(
        count=3, seed=11, age_range=(45, 70), reference_date=date(2026, 1, 1)
    )
    return [line for text in carebundle.to_ndjson(bundles).values() for line in text.encode().splitlines()]


ODD = (5, -1, 1.5, "", " ", "x y  z", "2020-13-01", True, None, [], {}, [None], ["x"], {"a": 1}, "final")


def altered(body: Body, chance: random.Random) -> Body:
    """The resource with one place of it changed: gone, odd, in a list, out of one, as text, renamed."""
    changed = copy.deepcopy(body)
    node, key = chance.choice([(node, key) for node, key in places(changed) if key != "resourceType"])
    how = chance.randrange(5)
    if how == 0:
        del node[key]
    elif how == 1:
        node[key] = chance.choice(ODD)
    elif how == 2:
        node[key] = [node[key]]
    elif how == 3:
        node[key] = node[key][0] if isinstance(node[key], list) else str(node[key])
    elif isinstance(node, dict):
        node[f"x{key}"] = node[key]
    return changed


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


def test_nothing_that_fhir_resources_refuses_is_let_through() -> None:
    """The library's own models, as a second opinion on 1,500 altered resources."""
    chance, lines = random.Random(20261128), generated()
    refused = 0
    for _ in range(1_500):
        body = altered(orjson.loads(chance.choice(lines)), chance)
        ours = validate(body)
        try:
            get_fhir_model_class(body["resourceType"]).model_validate(body)
        except (ValueError, TypeError, AssertionError):
            refused += 1
            assert ours, json.dumps(body)
    assert refused > 500


def test_the_samples_are_taken_whole(sample_data: Path) -> None:
    intake, found = Intake(), []
    for folder in ("carebundle-bulk", "synthea-2019-bundles"):
        for path in sorted((sample_data / folder).iterdir()):
            with Source(path) as source:
                found += list(intake.records(source))
    assert len(found) == 4_406
    assert [one for one in found if not isinstance(one, Record)] == []


def test_hl7s_examples_have_no_fault(sample_data: Path) -> None:
    examples = sorted((sample_data / "hl7-r4-examples").iterdir())
    assert len(examples) == 26
    for path in examples:
        assert told(orjson.loads(path.read_bytes())) == [], path.name
