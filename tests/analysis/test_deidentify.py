"""De-identification: the 18 identifiers of Safe Harbor, what else might carry one, and what stays."""

import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.analysis import deidentify as rules
from gateway.analysis.deidentify import RULES, WORDS, Identity, Withheld, deidentify

ALICE = Identity(b"k" * 32, "a" * 64, date(2026, 11, 28))
OTHER_RECIPIENT = Identity(b"x" * 32, "a" * 64, date(2026, 11, 28))

# The 18 of 45 CFR 164.514(b)(2)(i), each as it may stand in a record.
SAFE_HARBOR = {
    "A names": ["Alice", "Liddell", "alice-liddell"],
    "B geographic subdivisions": ["12 Rabbit Lane", "Wonderham", "Surrey-by-Sea", "02139-4307"],
    "C dates": ["1950-05-04", "2024-03-11T09:15:22Z", "2024-03-11", "May 4th 1950"],
    "D telephone": ["555-0100-17", "+15550100"],
    "E fax": ["555-0199-17"],
    "F email": ["alice@wonder.example"],
    "G social security": ["999-12-3456"],
    "H medical record": ["MRN-778899"],
    "I health plan": ["HPB-445566"],
    "J account": ["ACC-112233"],
    "K certificate or licence": ["S99-987654"],
    "L vehicle": ["1HGCM82633A004352", "PLATE-42X"],
    "M device": ["(01)10884521062856(21)SN-5511"],
    "N url": ["https://alice.wonder.example/home"],
    "O ip address": ["203.0.113.77"],
    "P biometric": ["finger-print-9f8e"],
    "Q photograph": ["iVBORw0KGgoAAAANSUhEUg=="],
    "R any other unique number": ["trial-subject-0042", "urn:uuid:5cbc121b-cd71-4428-b8b7-31e53eba8184"],
}
PLANTED = [(name, value) for name, values in SAFE_HARBOR.items() for value in values]


def patient(secret: str) -> dict[str, Any]:
    """A Patient with the secret wherever FHIR lets a string, a code, a number or a date stand."""
    return {
        "resourceType": "Patient",
        "id": secret,
        "meta": {"source": secret, "profile": [secret], "tag": [{"code": secret}], "lastUpdated": secret},
        "text": {"status": "generated", "div": f"<div>{secret}</div>"},
        "contained": [{"resourceType": "Organization", "id": "o", "name": secret}],
        "extension": [{"url": secret, "valueString": secret}],
        "identifier": [{"system": secret, "value": secret, "type": {"text": secret}}],
        "name": [{"text": secret, "family": secret, "given": [secret]}],
        "telecom": [{"system": "phone", "value": secret}],
        "gender": secret,
        "_gender": {"extension": [{"url": secret, "valueCode": secret}]},
        "birthDate": "1950-05-04",
        "_birthDate": {"extension": [{"url": "birthTime", "valueDateTime": secret}]},
        "address": [
            {
                "text": secret, "line": [secret], "city": secret, "district": secret, "state": secret,
                "postalCode": secret, "country": secret,
            }
        ],
        "maritalStatus": {"text": secret, "coding": [{"system": secret, "code": secret, "display": secret}]},
        "photo": [{"data": secret, "url": secret, "title": secret}],
        "contact": [{"name": {"text": secret}, "telecom": [{"value": secret}]}],
        "communication": [{"language": {"text": secret}}],
        "generalPractitioner": [{"display": secret, "reference": f"Practitioner/{secret}"}],
        "managingOrganization": {"display": secret},
        "link": [{"other": {"reference": f"Patient/{secret}"}, "type": "seealso"}],
        "deceasedDateTime": secret,
    }  # fmt: skip


def observation(secret: str) -> dict[str, Any]:
    known = {"system": "http://loinc.org", "code": secret, "display": secret}
    return {
        "resourceType": "Observation",
        "id": secret,
        "identifier": [{"value": secret}],
        "status": "final",
        "category": [
            {"coding": [{"system": f"{rules.HL7}observation-category", "code": secret}], "text": secret}
        ],
        "code": {"text": secret, "coding": [known, {"system": "http://hospital.example", "code": secret}]},
        "subject": {"reference": f"Patient/{secret}", "display": secret, "identifier": {"value": secret}},
        "encounter": {"reference": f"urn:uuid:{secret}"},
        "focus": [{"reference": secret}],
        "effectiveDateTime": "2024-03-11T09:15:22Z",
        "issued": "2024-03-11T09:15:22Z",
        "performer": [{"reference": f"Practitioner/{secret}", "display": secret}],
        "valueString": secret,
        "valueQuantity": {"value": 5, "unit": secret, "system": secret, "code": secret},
        "note": [{"text": secret, "authorString": secret}],
        "device": {"display": secret},
        "component": [{"code": {"text": secret}, "valueString": secret, "valueDateTime": secret}],
        "referenceRange": [{"text": secret, "low": {"value": 1, "unit": secret}}],
    }


@pytest.mark.parametrize(("what", "secret"), PLANTED, ids=[f"{what[:1]} {value}" for what, value in PLANTED])
@pytest.mark.parametrize("build", [patient, observation])
def test_none_of_the_eighteen_identifiers_leaves(build: Any, what: str, secret: str) -> None:
    left = json.dumps(deidentify(build(secret), ALICE))
    assert secret not in left
    assert "1950-05" not in left
    assert "2024-03-11" not in left


def test_whoever_is_older_than_89_has_no_year_of_birth() -> None:
    for born, left in (("1937-01-01", "1937"), ("1936-12-31", None), ("1900-02-02", None), ("2030", None)):
        kept = deidentify({"resourceType": "Patient", "birthDate": born}, ALICE)
        assert kept.get("birthDate") == left
    years = {"system": "http://unitsofmeasure.org", "code": "a"}
    for value, left in ((89, True), (90, False), (-1, False)):
        condition = {"resourceType": "Condition", "onsetAge": {"value": value, **years}}
        assert ("onsetAge" in deidentify(condition, ALICE)) is left


UCUM = "http://unitsofmeasure.org"


@pytest.mark.parametrize(
    ("value", "unit"), [(90, "a"), (1081, "mo"), (4_700, "wk"), (32_900, "d"), (3e9, "s")]
)
def test_an_age_above_89_is_told_by_no_measurement(value: float, unit: str) -> None:
    old = {"value": value, "unit": "years", "system": UCUM, "code": unit}
    for element in ("valueQuantity", "valueRange", "valueRatio"):
        said = {
            "valueQuantity": old,
            "valueRange": {"high": old},
            "valueRatio": {"numerator": old, "denominator": {"value": 1}},
        }[element]
        age = {
            "resourceType": "Observation",
            "status": "final",
            element: said,
            "component": [{element: said}],
        }
        left = deidentify(age, ALICE)
        assert element not in left
        assert "component" not in left
    young = {"resourceType": "Observation", "valueQuantity": {**old, "value": 12}}
    assert deidentify(young, ALICE)["valueQuantity"]["value"] == 12


@pytest.mark.parametrize("given", ["1936-12-31", "1936-11", "1936", "1930-05-04T10:00:00Z"])
def test_a_day_more_than_89_years_ago_is_withheld(given: str) -> None:
    """Whoever has one is older than that: the year itself would say so."""
    born = {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "http://loinc.org", "code": "21112-8"}]},
        "valueDateTime": given,
    }
    assert "valueDateTime" not in deidentify(born, ALICE)
    assert "onsetDateTime" not in deidentify({"resourceType": "Condition", "onsetDateTime": given}, ALICE)
    assert "onsetDateTime" in deidentify({"resourceType": "Condition", "onsetDateTime": "1940-01-01"}, ALICE)


def test_a_reference_names_a_type_of_fhir_and_nothing_else() -> None:
    for said in ("Liddell/12", "https://wonder.example/AliceLiddell/12", "Alice/12/_history/3"):
        left = deidentify({"resourceType": "Observation", "subject": {"reference": said}}, ALICE)
        assert "subject" not in left


@pytest.mark.parametrize(
    "said", ["Alice.Liddell", "{MRN-778899}", "555-0100-17", "a@b.example", "{score}Alice"]
)
def test_a_unit_is_one_of_ucum_and_no_words(said: str) -> None:
    value = {"value": 5, "system": UCUM, "code": said}
    assert "valueQuantity" not in deidentify({"resourceType": "Observation", "valueQuantity": value}, ALICE)
    code = {"coding": [{"system": UCUM, "code": said}]}
    assert "code" not in deidentify({"resourceType": "Observation", "code": code}, ALICE)


UNITS = """
    mg/dL mm[Hg] /min {score} 10*3/uL mL/min/{1.73_m2} kg/m2 % 1 Cel [in_i] [lb_av] mmol/L ug/L U/L [IU]/L
    m[IU]/L fL pg g/dL {#} {nominal} mmol/mol {T-score} [pH] mL/min L/min 10*6/uL meq/L mmol/mol{creat}
    """.split()  # noqa: SIM905


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_of_the_clinic_stays(unit: str) -> None:
    value = {"value": 5, "unit": unit, "system": UCUM, "code": unit}
    left = deidentify({"resourceType": "Observation", "valueQuantity": value}, ALICE)
    assert left["valueQuantity"]["code"] == unit


def test_of_an_address_the_state_and_country_stay() -> None:
    address = {"state": "MA", "country": "US", "city": "Boston", "postalCode": "02139", "line": ["1 A St"]}
    kept = deidentify({"resourceType": "Patient", "address": [address]}, ALICE)
    assert kept["address"] == [{"state": "MA", "country": "US"}]


@pytest.mark.parametrize("country", ["IT", "ITA", "CH"])
def test_elsewhere_a_state_may_be_a_small_place(country: str) -> None:
    """AG is a province of 400,000 in Italy, AI a canton of 16,000; neither is a state of the rule's."""
    for state in ("AG", "AI", "MI"):
        address = {"state": state, "country": country}
        kept = deidentify({"resourceType": "Patient", "address": [address]}, ALICE)
        assert kept["address"] == [{"country": country}]
    kept = deidentify({"resourceType": "Patient", "address": [{"state": "AG"}]}, ALICE)
    assert "address" not in kept


def test_dates_move_together_and_differently_for_another_recipient() -> None:
    def moved(identity: Identity) -> list[date]:
        kept = deidentify(
            {
                "resourceType": "Encounter",
                "period": {"start": "2024-03-01T10:00:00+02:00", "end": "2024-03-15"},
            },
            identity,
        )
        return [date.fromisoformat(kept["period"][name]) for name in ("start", "end")]

    start, end = moved(ALICE)
    assert end - start == timedelta(days=14)
    assert timedelta(days=1) <= date(2024, 3, 1) - start <= timedelta(days=365)
    assert moved(ALICE) == [start, end]
    assert moved(OTHER_RECIPIENT) != [start, end]
    assert moved(Identity(ALICE.key, "b" * 64, ALICE.today)) != [start, end]


@pytest.mark.parametrize(
    ("given", "form"),
    [("2024", r"\d{4}"), ("2024-03", r"\d{4}-\d\d"), ("2024-03-11", r"\d{4}-\d\d-\d\d")],
)
def test_a_date_is_no_more_exact_than_it_was(given: str, form: str) -> None:
    kept = deidentify({"resourceType": "Condition", "recordedDate": given}, ALICE)
    assert re.fullmatch(form, kept["recordedDate"])


@pytest.mark.parametrize("given", ["", "yesterday", "2024-13-01", "20240311", "0001-01-01", 7, None, {}])
def test_what_is_no_date_is_withheld(given: Any) -> None:
    assert "recordedDate" not in deidentify({"resourceType": "Condition", "recordedDate": given}, ALICE)


def test_pseudonyms_join_within_a_recipient_and_not_between_two() -> None:
    def ids(identity: Identity) -> tuple[str, str, str]:
        alice = deidentify({"resourceType": "Patient", "id": "p1"}, identity)["id"]
        seen = deidentify(
            {
                "resourceType": "Observation",
                "subject": {"reference": "urn:uuid:p1"},
                "encounter": {"reference": "http://hospital.example/fhir/Encounter/e1/_history/3"},
            },
            identity,
        )
        visit = deidentify({"resourceType": "Encounter", "id": "e1"}, identity)["id"]
        assert seen["subject"]["reference"] == f"Patient/{alice}"
        assert seen["encounter"]["reference"] == f"Encounter/{visit}"
        assert re.fullmatch(r"[A-Za-z0-9.-]{1,64}", alice)
        return alice, visit, alice.partition("-")[0]

    assert not set(ids(ALICE)) & set(ids(OTHER_RECIPIENT))
    assert ids(ALICE)[0].startswith(ALICE.pseudonym)


def test_a_type_without_rules_is_withheld() -> None:
    for kind in (
        "Practitioner",
        "Person",
        "RelatedPerson",
        "Binary",
        "Communication",
        "Bundle",
        "Nonsense",
        None,
    ):
        with pytest.raises(Withheld):
            deidentify({"resourceType": kind}, ALICE)


@pytest.mark.parametrize(
    "changed",
    [
        {"modifierExtension": [{"url": "x"}]},
        {"implicitRules": "https://x"},
        {"component": [{"modifierExtension": [{"url": "x"}]}]},
    ],
)
def test_what_means_something_else_than_it_seems_is_withheld(changed: dict[str, Any]) -> None:
    with pytest.raises(Withheld):
        deidentify({"resourceType": "Observation", "status": "final", **changed}, ALICE)


def test_every_element_with_rules_is_one_of_fhir() -> None:
    for kind, elements in RULES.items():
        known = {field.alias or name for name, field in get_fhir_model_class(kind).model_fields.items()}
        assert set(elements) <= known, kind


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name not in ("resourceType", "system", "display"):
                yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


_SHIFTED = re.compile(r"\d{4}(-\d\d(-\d\d(T00:00:00Z)?)?)?")
_PSEUDONYM = re.compile(r"([A-Z][A-Za-z]+/)?[0-9a-f]{20}-[0-9a-f]{40}")


def is_of_a_kind(text: str) -> bool:
    """What a string that leaves can be: a date, a pseudonym, a word of FHIR's, a code by its form."""
    codes = [*rules.TERMINOLOGIES.values(), re.compile("[A-Z]{2,3}")]
    return bool(
        _SHIFTED.fullmatch(text)
        or _PSEUDONYM.fullmatch(text)
        or text in WORDS
        or any(text in listed for listed in rules.CODES_OF_HL7.values())
        or text in ("PSEUDED", "<", "<=", ">", ">=")
        or any(form.fullmatch(text) for form in codes)
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.dates().map(str),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["coding", "system", "code", "value", "reference", "start", "low", "state", "text"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(RULES)).flatmap(
    lambda kind: st.fixed_dictionaries(
        {"resourceType": st.just(kind)}, optional=dict.fromkeys(RULES[kind], json_values)
    )
))  # fmt: skip
def test_whatever_comes_in_only_known_kinds_of_string_leave(resource: dict[str, Any]) -> None:
    for text in strings(deidentify(resource, ALICE)):
        assert is_of_a_kind(text), text


def sample(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "synthea-2019-bundles").glob("*.json"))[:6]:
        for entry in json.loads(path.read_text())["entry"]:
            yield entry["resource"]
    for path in sorted((folder / "carebundle-bulk").glob("*.ndjson")):
        for line in path.read_text().splitlines()[:60]:
            yield json.loads(line)


def test_of_whole_records_only_known_kinds_of_string_leave(sample_data: Path) -> None:
    kept = 0
    for resource in sample(sample_data):
        try:
            left = deidentify(resource, ALICE)
        except Withheld:
            continue
        kept += 1
        assert all(is_of_a_kind(text) for text in strings(left)), left
        if resource["resourceType"] in ("Observation", "Condition"):
            assert left["code"]["coding"], "a coded record stays useful"
    assert kept > 500


# Of elements that the other catalogue takes out we keep what cannot say who: moved dates, ages up to 89,
# public codes and measurements.
KEPT_IN_PART = (rules.day, rules.period, rules.age, rules.instant, rules.concept, rules.quantity)


def test_what_another_catalogue_takes_out_stays_in_no_other_form(sample_data: Path) -> None:
    catalogue = json.loads((sample_data / "specs" / "ms-anonymizer-safe-harbor-r4.json").read_text())
    redacted = [rule["path"] for rule in catalogue["fhirPathRules"] if rule["method"] == "redact"]
    named = [path.split(".") for path in redacted if re.fullmatch(r"[A-Z]\w+(\.\w+)+", path)]
    assert len(named) > 30
    for kind, element, *deeper in named:
        for name, rule in RULES.get(kind, {}).items():
            if name == element or (not deeper and re.fullmatch(f"{element}[A-Z]\\w*", name)):
                is_part = rule in KEPT_IN_PART or isinstance(rule, dict)
                assert is_part or rule in (rules.number, rules.truth, rules.ranged, rules.ratio), (kind, name)
