"""What a clinician reads of a resource."""

import json
from typing import Any

import pytest

from gateway.emergency.readable import Line, records_of


def read(*resources: dict[str, Any]) -> tuple[Line, ...]:
    return records_of([b"".join(json.dumps(each).encode() + b"\n" for each in resources)]).lines


def said(resource: dict[str, Any]) -> dict[str, str]:
    (line,) = read({"resourceType": "Observation", **resource})
    return {str(label): text for label, text in line.details}


@pytest.mark.parametrize(
    ("element", "text"),
    [
        ({"valueQuantity": {"value": 5.9, "unit": "mmol/L", "comparator": "<"}}, "<5.9 mmol/L"),
        ({"valueQuantity": {"value": 0, "code": "mg"}}, "0 mg"),
        ({"valueCodeableConcept": {"coding": [{"code": "260385009", "display": "Negative"}]}}, "Negative"),
        ({"valueCodeableConcept": {"coding": [{"code": "x"}], "text": "Trace"}}, "Trace"),
        ({"valueString": "cloudy"}, "cloudy"),
        ({"valueBoolean": False}, "no"),
        ({"valueRange": {"low": {"value": 1, "unit": "g"}, "high": {"value": 2, "unit": "g"}}}, "1 g – 2 g"),
        (
            {
                "valueRatio": {
                    "numerator": {"value": 1, "unit": "mg"},
                    "denominator": {"value": 2, "unit": "ml"},
                }
            },
            "1 mg / 2 ml",
        ),
        ({"valuePeriod": {"start": "2020-01-01", "end": "2020-01-03"}}, "2020-01-01 – 2020-01-03"),
    ],
)
def test_values(element: dict[str, Any], text: str) -> None:
    assert said(element)["Value"] == text


def test_parts_of_a_reading() -> None:
    pressure = {
        "code": {"text": "Blood pressure"},
        "component": [
            {"code": {"text": "Systolic"}, "valueQuantity": {"value": 120, "unit": "mm[Hg]"}},
            {"code": {"text": "Diastolic"}, "valueQuantity": {"value": 80, "unit": "mm[Hg]"}},
        ],
    }
    assert said(pressure)["Parts"] == "Systolic: 120 mmHg; Diastolic: 80 mmHg"


def test_a_name_as_people_write_it() -> None:
    (line,) = read(
        {
            "resourceType": "Patient",
            "name": [
                {"use": "official", "prefix": ["Dr."], "given": ["Cora", "Maria"], "family": "Example"},
                {"use": "maiden", "given": ["Cora"], "family": "Muster"},
            ],
        }
    )
    assert line.what == "Dr. Cora Maria Example; Cora Muster (maiden)"


def test_what_an_emergency_needs() -> None:
    (allergy,) = read(
        {
            "resourceType": "AllergyIntolerance",
            "code": {"text": "Penicillin"},
            "criticality": "high",
            "reaction": [{"manifestation": [{"text": "Anaphylaxis"}], "severity": "severe"}],
        }
    )
    assert allergy.what == "Penicillin"
    assert {str(label): text for label, text in allergy.details} == {
        "How serious": "high",
        "Reaction": "Anaphylaxis severe",
    }
    (medicine,) = read(
        {
            "resourceType": "MedicationRequest",
            "status": "active",
            "medicationCodeableConcept": {"text": "Warfarin 5 mg"},
            "authoredOn": "2025-02-03",
            "dosageInstruction": [{"text": "One at night"}],
        }
    )
    assert (medicine.what, str(medicine.when)) == ("Warfarin 5 mg", "2025-02-03")
    assert [text for _label, text in medicine.details] == ["One at night", "active"]


@pytest.mark.parametrize(
    ("resource", "details"),
    [
        ({"resourceType": "Observation", "status": "final"}, {}),
        ({"resourceType": "Observation", "status": "preliminary"}, {"Status": "not final yet"}),
        ({"resourceType": "Encounter", "status": "finished"}, {}),
        ({"resourceType": "MedicationRequest", "status": "completed"}, {"Status": "completed"}),
        ({"resourceType": "Thing", "status": "of-our-own"}, {"Status": "of-our-own"}),
        (
            {"resourceType": "Patient", "gender": "unknown", "birthDate": "1970-01-31"},
            {"Sex": "not known", "Born": "31 January 1970"},
        ),
        ({"resourceType": "Patient", "birthDate": "1970"}, {"Born": "1970"}),
    ],
)
def test_codes_are_words_and_what_says_nothing_is_left_out(
    resource: dict[str, Any], details: dict[str, str]
) -> None:
    (line,) = read(resource)
    assert {str(label): text for label, text in line.details} == details
    assert line.said == ""


def test_newest_first_and_what_has_no_time_before_all() -> None:
    lines = read(
        {"resourceType": "Condition", "id": "1", "code": {"text": "old"}, "recordedDate": "1999"},
        {"resourceType": "Condition", "id": "2", "code": {"text": "new"}, "recordedDate": "2024-05"},
        {"resourceType": "Condition", "id": "3", "code": {"text": "undated"}},
    )
    assert [line.what for line in lines] == ["undated", "new", "old"]
    assert [line.said for line in lines] == ["", "2024-05", "1999"]
    assert all(line.when is None for line in lines)


def test_the_newest_version_of_a_resource_alone() -> None:
    def version(number: str, text: str) -> dict[str, Any]:
        return {"resourceType": "Condition", "id": "1", "code": {"text": text}, "meta": {"versionId": number}}

    assert [line.what for line in read(version("10", "now"), version("9", "before"))] == ["now"]


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Observation"},
        {"resourceType": "Observation", "code": None, "valueQuantity": {}, "component": [[], {}, None]},
        {"resourceType": "Thing", "meta": None, "status": {"a": {"b": []}}, "period": []},
    ],
)
def test_the_odd_and_the_empty_are_named_at_least(resource: dict[str, Any]) -> None:
    (line,) = read(resource)
    assert line.what == resource["resourceType"]


def test_markup_is_text() -> None:
    (line,) = read({"resourceType": "Condition", "code": {"text": "<b>x</b>"}, "text": {"div": "<script>"}})
    assert line.what == "<b>x</b>"
    assert not line.details
