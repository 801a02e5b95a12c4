"""Labels by rule: sensitive codes, the source's own word, and what the rules cannot tell."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from gateway.labels import versions
from gateway.labels.labelling import FOLLOWS, Labels, label, noted
from gateway.labels.rules import (
    ACT_CODE,
    CONFIDENTIALITY,
    COVERED,
    CVX,
    ICD_10,
    LOINC,
    RULES,
    RXNORM,
    SNOMED,
    STATEMENTS,
    VERSION,
)
from gateway.labels.versions import Difference, between
from ledger.contract.labels import KNOWN


def concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def condition(system: str, code: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Condition", "id": "c", "code": concept(system, code), **more}


def security(*codings: tuple[str, str]) -> dict[str, Any]:
    return {"security": [{"system": system, "code": code} for system, code in codings]}


def codes(resource: dict[str, Any], **known: Labels | None) -> list[str] | None:
    found = label(resource, {name.replace("_", "/"): labels for name, labels in known.items()})
    return None if found is None else list(found.codes)


@pytest.mark.parametrize(
    ("system", "code", "expected"),
    [
        (ICD_10, "I10", ["N"]),
        (ICD_10, "F10.20", ["ETH", "ETHUD", "R"]),
        ("http://hl7.org/fhir/sid/icd-10-cm", "F11.20", ["ETH", "OPIOIDUD", "R"]),
        ("http://hl7.org/fhir/sid/icd-10-cm", "f329", ["PSY", "R"]),
        (ICD_10, "F17.210", ["N"]),
        (ICD_10, "B20", ["HIV", "R"]),
        (ICD_10, "A53.9", ["R", "SEX", "STD"]),
        (ICD_10, "T74.11XA", ["R", "SDV"]),
        (ICD_10, "E84.0", ["GDIS", "R"]),
        (SNOMED, "370143000", ["PSY", "R"]),
        (SNOMED, "38341003", ["N"]),
        ("urn:oid:2.16.840.1.113883.6.96", "86406008", ["HIV", "R"]),
    ],
)
def test_a_code_puts_its_labels_on(system: str, code: str, expected: list[str]) -> None:
    assert codes(condition(system, code)) == expected


def test_the_basis_is_told() -> None:
    found = label(condition(ICD_10, "F11.20"))
    assert found is not None
    assert found.basis == ("opioid-icd",)
    plain = label(condition(ICD_10, "I10"))
    assert plain is not None
    assert plain.basis == ("no-rule",)


def test_a_sensitive_code_counts_wherever_it_stands() -> None:
    resource = condition(ICD_10, "I10", evidence=[{"code": [concept(SNOMED, "7200002")]}])
    assert codes(resource) == ["ETH", "ETHUD", "R"]
    test = {
        "resourceType": "Observation",
        "code": concept(LOINC, "24357-6"),
        "component": [{"code": concept(LOINC, "7917-8")}],
    }
    assert codes(test) == ["HIV", "R"]


def test_what_the_source_says_is_never_lowered() -> None:
    assert codes(condition(ICD_10, "I10", meta=security((CONFIDENTIALITY, "V")))) == ["V"]
    assert codes(condition(ICD_10, "I10", meta=security((ACT_CODE, "HIV")))) == ["HIV", "R"]
    assert codes(condition(ICD_10, "F32.9", meta=security((CONFIDENTIALITY, "N")))) == ["PSY", "R"]
    assert codes(condition(ICD_10, "I10", meta=security((CONFIDENTIALITY, "L")))) == ["N"]


def test_a_confidentiality_that_nobody_knows_is_no_label() -> None:
    assert codes(condition(ICD_10, "I10", meta=security((CONFIDENTIALITY, "Q")))) is None


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Basic", "code": concept(SNOMED, "38341003")},
        {"resourceType": "QuestionnaireResponse"},
        {"resourceType": ["Condition"], "code": concept(ICD_10, "I10")},
        {},
        {"resourceType": "Condition", "code": {"text": "drinks too much"}},
        {"resourceType": "Condition", "code": concept("http://hospital.example/codes", "77")},
        {"resourceType": "Condition", "category": [concept(SNOMED, "55607006")]},
        {"resourceType": "MedicationRequest", "medicationReference": {"reference": "Medication/m"}},
        {"resourceType": "Claim", "diagnosis": [{"diagnosisReference": {"reference": "Condition/c"}}]},
        {"resourceType": "Claim", "diagnosis": [{"diagnosisReference": {"identifier": {"value": "1"}}}]},
    ],
)
def test_where_the_rules_cannot_tell_there_is_no_label(resource: dict[str, Any]) -> None:
    assert label(resource) is None


def test_a_type_that_says_nothing_clinical_is_normal() -> None:
    assert codes({"resourceType": "Organization", "name": "Riverside"}) == ["N"]
    assert codes({"resourceType": "Immunization", "vaccineCode": concept(CVX, "140")}) == ["N"]


def test_labels_follow_a_reference() -> None:
    depressed, plain = label(condition(ICD_10, "F32.9")), label(condition(ICD_10, "I10"))
    claim = {
        "resourceType": "Claim",
        "diagnosis": [
            {"diagnosisReference": {"reference": "Condition/a"}},
            {"diagnosisReference": {"reference": "Condition/b"}},
        ],
    }
    assert codes(claim, Condition_a=depressed, Condition_b=plain) == ["PSY", "R"]
    assert codes(claim, Condition_a=plain, Condition_b=plain) == ["N"]
    assert codes(claim, Condition_a=plain) is None
    assert codes(claim, Condition_a=plain, Condition_b=None) is None


def test_a_contained_medication_is_followed() -> None:
    def request(code: str) -> dict[str, Any]:
        medication = {"resourceType": "Medication", "id": "m", "code": concept(RXNORM, code)}
        return {
            "resourceType": "MedicationRequest",
            "contained": [medication],
            "medicationReference": {"reference": "#m"},
        }

    assert codes(request("1819")) == ["ETH", "OPIOIDUD", "R"]
    assert codes(request("314076")) == ["N"]
    assert codes({**request("314076"), "contained": []}) is None


def test_each_rule_names_its_basis_and_a_covered_terminology() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule.system in COVERED
        assert rule.basis
        assert rule.codes.split()
        assert set(rule.sensitivity) <= KNOWN
    wanted = {"ETH", "ETHUD", "OPIOIDUD", "PSY", "SDV", "HIV", "SEX", "GDIS"}
    assert wanted <= {label for rule in RULES for label in rule.sensitivity}


def test_the_document_lists_every_rule_and_type() -> None:
    text = (Path(__file__).parents[2] / "docs" / "labels.md").read_text()
    for rule in RULES:
        assert f"| `{rule.name}` | {' '.join(rule.sensitivity)} | {len(rule.codes.split())} |" in text
    for kind, statement in STATEMENTS.items():
        assert f"| {kind} | {statement} |" in text
    assert f"Rules {VERSION}" in text


def test_the_command_says_what_labels_a_file_gets_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.ndjson"
    subject = {"subject": {"reference": "Patient/p"}}
    lines = [condition(ICD_10, "F32.9", **subject), condition("http://hospital.example", "7", **subject)]
    path.write_text("\n".join(map(json.dumps, lines)))
    call_command("labels", str(path))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{path}:1 Condition: PSY R (psychiatry-icd; rules {VERSION})"
    assert said[1] == f"{path}:2 Condition: unlabelled (the rules cannot tell: withheld; rules {VERSION})"
    call_command("labels", str(path), "--json")
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (first["labels"], first["basis"], first["rules"]) == (["PSY", "R"], ["psychiatry-icd"], VERSION)
    call_command("labels", "--json")
    assert json.loads(capsys.readouterr().out)["types"]["Organization"] == "says nothing clinical: N"


# Versions


def test_the_tables_of_each_version_are_kept() -> None:
    """A row that changes without another VERSION fails here: records would keep labels of no known rules."""
    kept = json.loads((versions.HISTORY / f"{VERSION}.json").read_text())
    assert kept == json.loads(json.dumps(versions.tables()))
    assert versions.difference(VERSION) == Difference()


def table(**changed: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(versions.tables())), **changed}


@pytest.mark.parametrize(
    ("system", "code", "concerned", "spared"),
    [
        (LOINC, "7917-8", ["loinc|7917-8"], ["loinc|79178", "sct|7917-8", "icd|7917"]),
        (ICD_10, "B20", ["icd|B20", "icd|B201"], ["icd|B2", "icd|B21", "loinc|B20"]),
    ],
)
def test_a_code_that_came_or_went_concerns_what_carries_it(
    system: str, code: str, concerned: list[str], spared: list[str]
) -> None:
    without = table()
    for rule in without["rules"]:
        if rule["system"] == system:
            rule["codes"].remove(code) if code in rule["codes"] else None
    for pair in ((without, table()), (table(), without)):
        found = between(*pair)
        assert all(found.concerns("Observation", [one]) for one in concerned)
        assert not any(found.concerns("Observation", [one]) for one in spared)
        assert not found.concerns("Observation", ())
        assert found.concerns("Observation", None)  # its codes were not noted


def test_a_code_under_another_sensitivity_and_a_type_told_otherwise() -> None:
    other = table()
    other["rules"][0]["sensitivity"] = ["PSY"]
    code = other["rules"][0]["codes"][0]
    assert between(other, table()).concerns("Condition", [f"icd|{code}"])
    other = table(types={**table()["types"], "Device": "needs a known code in model"})
    found = between(other, table())
    assert found.concerns("Device", ())
    assert found.concerns("Claim", ())  # may contain one
    assert not found.concerns("Condition", ["icd|F20"])


@pytest.mark.parametrize("name", ["method", "covered", "aliases"])
def test_where_it_cannot_be_told_all_is_concerned(name: str) -> None:
    assert between(table(**{name: {}}), table()).concerns("Patient", ())
    assert versions.difference("../2026.1").concerns("Patient", ())


def test_codes_are_noted_by_their_terminologys_one_name() -> None:
    resource = condition("http://hl7.org/fhir/sid/icd-10-cm", "f32.9", note=concept("http://x.example", "1"))
    assert noted(resource) == ("icd|F329",)
    encounter = {"resourceType": "Encounter", "reasonReference": [{"reference": "Condition/1"}]}
    assert noted(encounter) == (FOLLOWS,)
    assert noted({"resourceType": "Encounter", "partOf": {"reference": "Encounter/1"}}) == ()
