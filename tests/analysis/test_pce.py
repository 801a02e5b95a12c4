"""The Pooled Cohort Equations: the paper's worked examples, every input's edges, and what records give."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from gateway.analysis.catalogue import find
from gateway.analysis.catalogue.codes import US_CORE_RACE
from gateway.analysis.catalogue.evidence import LOINC, RXNORM, SNOMED, Evidence
from gateway.analysis.catalogue.units import UCUM
from tests.analysis.bodies import condition, held, measured, order, patient, smoking

PCE = find("pce")
DAY = date(2026, 6, 1)
WORKED: dict[str, Any] = {
    "age": 55,
    "total_cholesterol": 213,
    "hdl_cholesterol": 50,
    "systolic_bp": 120,
    "bp_treated": False,
    "diabetes": False,
    "smoker": False,
}


# The equation


@pytest.mark.parametrize(
    ("sex", "race", "risk"),
    [
        ("male", "african_american", "6.1"),
        ("male", "white", "5.3"),
        ("female", "african_american", "3.0"),
        ("female", "white", "2.1"),
    ],
)
def test_the_papers_worked_examples(sex: str, race: str, risk: str) -> None:
    score = PCE.score({**WORKED, "sex": sex, "race": race})
    assert score.unit == "%"
    assert score.reasons == ()
    assert score.value is not None
    assert abs(score.value - Decimal(risk)) < Decimal("0.1")


@pytest.mark.parametrize("sex", ["male", "female"])
@pytest.mark.parametrize("race", ["african_american", "white"])
@pytest.mark.parametrize(
    "change", [{"bp_treated": True}, {"diabetes": True}, {"smoker": True}, {"systolic_bp": 150}]
)
def test_each_risk_factor_raises_the_risk(sex: str, race: str, change: dict[str, Any]) -> None:
    before = PCE.score({**WORKED, "sex": sex, "race": race}).value
    after = PCE.score({**WORKED, "sex": sex, "race": race, **change}).value
    assert before is not None
    assert after is not None
    assert after > before


def test_other_races_use_the_white_equation() -> None:
    assert PCE.score({**WORKED, "sex": "male", "race": "other"}) == PCE.score(
        {**WORKED, "sex": "male", "race": "white"}
    )


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("age", 40, 79),
        ("total_cholesterol", 130, 320),
        ("hdl_cholesterol", 20, 100),
        ("systolic_bp", 90, 200),
    ],
)
def test_the_edges_of_a_range_count_and_beyond_there_is_no_number(name: str, low: int, high: int) -> None:
    whole = {**WORKED, "sex": "female", "race": "white"}
    for value in (low, high):
        assert PCE.score({**whole, name: value}).value is not None
    for beyond in (low - 0.001, high + 0.001):
        score = PCE.score({**whole, name: beyond})
        assert (score.value, score.reasons) == (None, (f"{name}.out_of_range",))


@pytest.mark.parametrize(
    "odd", [True, "55", float("nan"), float("inf"), Decimal("NaN"), [], {}, 10**40, Decimal("1e-99")]
)
def test_what_is_not_a_number_gives_none(odd: object) -> None:
    score = PCE.score({**WORKED, "sex": "male", "race": "white", "age": odd})
    assert (score.value, score.reasons) == (None, ("age.malformed",))


def test_all_reasons_are_told_and_sorted() -> None:
    score = PCE.score({"age": 12, "sex": "x", "race": None, "smoker": 1, "shoe_size": 42})
    assert score.value is None
    assert list(score.reasons) == sorted(score.reasons)
    assert {
        "age.out_of_range",
        "sex.out_of_range",
        "race.missing",
        "smoker.malformed",
        "unknown_input",
    } <= set(score.reasons)


def test_decimals_and_floats_are_taken_as_written() -> None:
    whole = {**WORKED, "sex": "male", "race": "white"}
    assert PCE.score({**whole, "systolic_bp": 120.0}) == PCE.score({**whole, "systolic_bp": Decimal("120")})


def test_the_digest_is_stable_and_covers_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    before = PCE.digest()
    assert before == PCE.digest()
    assert find(before) is PCE
    monkeypatch.setattr(type(PCE), "card", {**PCE.card, "outcome": "something else"})
    assert PCE.digest() != before


# What the records give


WHOLE = [
    patient(),
    measured("2093-3", 213, "mg/dL"),
    measured("2085-9", 50, "mg/dL"),
    measured("8480-6", 120, "mm[Hg]"),
    smoking("266919005"),
]


def evidence(*bodies: dict[str, Any], withheld: tuple[str, ...] = ()) -> Evidence:
    return held(PCE, *bodies, withheld=withheld)


def assess(*bodies: dict[str, Any], withheld: tuple[str, ...] = ()) -> tuple[Decimal | None, tuple[str, ...]]:
    score = PCE.assess(PCE.features(evidence(*bodies, withheld=withheld), index_date=DAY))
    return score.value, score.reasons


def feature(name: str, *bodies: dict[str, Any], withheld: tuple[str, ...] = ()) -> Any:
    return PCE.features(evidence(*bodies, withheld=withheld), index_date=DAY).inputs[name]


def test_a_whole_record_gives_a_number_and_says_where_from() -> None:
    found = PCE.features(evidence(*WHOLE), index_date=DAY)
    assert PCE.assess(found) == PCE.score({**WORKED, "age": 56, "sex": "female", "race": "white"})
    assert found.inputs["total_cholesterol"].sources == ("Observation/o-2093-3-2026-01-01",)
    assert "Patient/p" in found.sources


def test_the_latest_result_up_to_the_index_date_counts() -> None:
    results = [
        measured("2093-3", v, "mg/dL", d)
        for v, d in ((200, "2025-12-31"), (210, "2026-06-01"), (220, "2026-06-02"))
    ]
    assert feature("total_cholesterol", *results).value == 210


@pytest.mark.parametrize(
    "status", ["entered-in-error", "cancelled", "preliminary", "registered", "unknown", None]
)
def test_a_result_that_is_not_final_does_not_count(status: str | None) -> None:
    assert (
        feature("total_cholesterol", measured("2093-3", 213, "mg/dL", status=status)).reason
        == "total_cholesterol.missing"
    )


@pytest.mark.parametrize("status", ["final", "amended", "corrected"])
def test_a_result_that_stands_counts(status: str) -> None:
    assert feature("total_cholesterol", measured("2093-3", 213, "mg/dL", status=status)).value == 213


def test_a_newer_version_of_a_result_replaces_the_older() -> None:
    older = measured("2093-3", 200, "mg/dL", meta={"lastUpdated": "2026-01-01T00:00:00Z"})
    newer = measured("2093-3", 230, "mg/dL", meta={"lastUpdated": "2026-02-01T00:00:00Z"})
    withdrawn = {**newer, "status": "entered-in-error", "meta": {"lastUpdated": "2026-03-01T00:00:00Z"}}
    assert feature("total_cholesterol", newer, older).value == 230
    assert feature("total_cholesterol", newer, withdrawn, older).reason == "total_cholesterol.missing"


@pytest.mark.parametrize("code", ["85354-9", "55284-4"])
def test_systolic_pressure_as_a_component(code: str) -> None:
    systolic = {
        "code": {"coding": [{"system": LOINC, "code": "8480-6"}]},
        "valueQuantity": {"value": 131, "system": UCUM, "code": "mm[Hg]"},
    }
    panel = measured(code, 0, "1", component=[systolic])
    del panel["valueQuantity"]
    assert feature("systolic_bp", panel).value == 131


@pytest.mark.parametrize(
    ("name", "code", "value", "unit", "expected"),
    [
        ("total_cholesterol", "2093-3", 5.5, "mmol/L", "212.6575"),
        ("total_cholesterol", "2093-3", 2.13, "g/L", "213"),
        ("hdl_cholesterol", "2085-9", 1.3, "mmol/L", "50.2645"),
        ("systolic_bp", "8480-6", 16, "kPa", "120.0099"),
    ],
)
def test_units_are_converted(name: str, code: str, value: float, unit: str, expected: str) -> None:
    found = feature(name, measured(code, value, unit)).value
    assert abs(found - Decimal(expected)) < Decimal("0.0002")


@pytest.mark.parametrize("unit", ["furlong", "", "kPa", "mg", "%", "Cel", "mg/dL;x", "{score}"])
def test_an_unknown_or_foreign_unit_gives_no_number(unit: str) -> None:
    assert (
        feature("total_cholesterol", measured("2093-3", 213, unit)).reason == "total_cholesterol.unknown_unit"
    )


def test_a_unit_that_is_not_ucum_counts_only_where_it_is_the_one_wanted() -> None:
    bare = measured("2093-3", 213, "mg/dL", valueQuantity={"value": 213, "unit": "mg/dL"})
    foreign = measured("2093-3", 213, "mg/dL", valueQuantity={"value": 5.5, "unit": "mmol/L"})
    assert feature("total_cholesterol", bare).value == 213
    assert feature("total_cholesterol", foreign).reason == "total_cholesterol.unknown_unit"


@pytest.mark.parametrize(
    ("quantity", "reason"),
    [
        ({"value": "213", "system": UCUM, "code": "mg/dL"}, "malformed"),
        ({"value": True, "system": UCUM, "code": "mg/dL"}, "malformed"),
        ({"value": 400, "comparator": ">", "system": UCUM, "code": "mg/dL"}, "inexact"),
    ],
)
def test_the_latest_value_that_cannot_be_read_is_not_passed_over(
    quantity: dict[str, Any], reason: str
) -> None:
    older = measured("2093-3", 213, "mg/dL", "2025-01-01")
    latest = measured("2093-3", 0, "mg/dL", "2026-01-01", valueQuantity=quantity)
    assert feature("total_cholesterol", older, latest).reason == f"total_cholesterol.{reason}"


def test_a_time_that_may_lie_after_the_index_date_does_not_count() -> None:
    for day in ("2026", "2026-06", "2026-06-02", "not a day", None):
        assert (
            feature(
                "total_cholesterol", measured("2093-3", 213, "mg/dL", day or "", effectiveDateTime=day)
            ).value
            is None
        )
    assert feature("total_cholesterol", measured("2093-3", 213, "mg/dL", "2025")).value == 213


@pytest.mark.parametrize(
    ("code", "system", "smokes"),
    [
        ("449868002", SNOMED, True),
        ("428041000124106", SNOMED, True),
        ("8517006", SNOMED, False),
        ("266919005", SNOMED, False),
        ("LA18976-3", LOINC, True),
        ("LA18978-9", LOINC, False),
    ],
)
def test_smoking_status(code: str, system: str, smokes: bool) -> None:
    assert feature("smoker", smoking(code, system)).value is smokes


def test_smoking_status_unknown_or_never_asked() -> None:
    assert feature("smoker", smoking("266927001")).reason == "smoker.unknown_code"
    assert feature("smoker").reason == "smoker.missing"


@pytest.mark.parametrize(
    ("code", "system"),
    [
        ("44054006", SNOMED),
        ("46635009", SNOMED),
        ("73211009", SNOMED),
        ("E11.9", "http://hl7.org/fhir/sid/icd-10-cm"),
        ("E10", "http://hl7.org/fhir/sid/icd-10"),
    ],
)
def test_diabetes_by_diagnosis(code: str, system: str) -> None:
    assert feature("diabetes", condition(code, system)).value is True


def test_what_is_not_a_standing_diagnosis_of_diabetes() -> None:
    status = {
        "coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "refuted"}
        ]
    }
    over = {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "resolved"}]
    }
    for other in (
        condition("15777000"),  # prediabetes
        condition("44054006", verificationStatus=status),
        condition("44054006", clinicalStatus=over),
        condition("44054006", onsetDateTime="2026-07-01"),
        condition("E11", "http://example.org/codes"),
    ):
        assert feature("diabetes", other).value is False


def test_absence_counts_only_where_nothing_was_withheld() -> None:
    assert feature("diabetes").value is False
    assert feature("diabetes", withheld=("Condition",)).reason == "diabetes.missing"
    assert feature("bp_treated").value is False
    assert feature("bp_treated", withheld=("MedicationRequest",)).reason == "bp_treated.missing"


@pytest.mark.parametrize(
    ("system", "code", "display", "treated"),
    [
        (RXNORM, "29046", "lisinopril", True),
        (RXNORM, "314076", "lisinopril 10 MG Oral Tablet", True),
        (RXNORM, "310798", "Hydrochlorothiazide 25 MG Oral Tablet", True),
        ("http://www.whocc.no/atc", "C09AA03", "lisinopril", True),
        ("http://www.whocc.no/atc", "C03CA01", "furosemide", False),
        (RXNORM, "617310", "atorvastatin 20 MG Oral Tablet", False),
    ],
)
def test_treatment_of_blood_pressure(system: str, code: str, display: str, treated: bool) -> None:
    medication = {"coding": [{"system": system, "code": code, "display": display}]}
    assert feature("bp_treated", order(medication)).value is treated
    assert feature("bp_treated", order(medication, status="stopped")).value is False
    assert feature("bp_treated", order(medication, authoredOn="2026-07-01")).value is False


def test_a_drug_that_cannot_be_told_leaves_no_number() -> None:
    for medication in ({"text": "water tablets"}, {"coding": [{"system": "urn:house", "code": "17"}]}, None):
        assert feature("bp_treated", order(medication)).reason == "bp_treated.unknown_code"


def test_a_referenced_drug_is_followed() -> None:
    lisinopril = {"coding": [{"system": RXNORM, "code": "29046"}]}
    drug = {"resourceType": "Medication", "id": "d", "code": lisinopril}
    assert (
        feature("bp_treated", order(None, medicationReference={"reference": "Medication/d"}), drug).value
        is True
    )
    inner = order(None, medicationReference={"reference": "#d"}, contained=[drug])
    assert feature("bp_treated", inner).value is True
    lost = order(None, medicationReference={"reference": "Medication/elsewhere"})
    assert feature("bp_treated", lost, drug).reason == "bp_treated.unknown_code"


def test_age_is_in_completed_years() -> None:
    assert feature("age", patient(birthDate="1970-06-01")).value == 56
    assert feature("age", patient(birthDate="1970-06-02")).value == 55
    for vague in ("1970", "1970-06", None, "yesterday"):
        assert feature("age", patient(birthDate=vague)).reason == "age.missing"


def test_sex_and_race_that_are_not_told() -> None:
    assert feature("sex", patient(gender="other")).reason == "sex.missing"
    assert feature("race", patient(extension=[])).reason == "race.missing"
    both = [
        {"url": "ombCategory", "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": code}}
        for code in ("2106-3", "2054-5")
    ]
    assert (
        feature("race", patient(extension=[{"url": US_CORE_RACE, "extension": both}])).reason
        == "race.ambiguous"
    )
    asian = [
        {"url": "ombCategory", "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2028-9"}}
    ]
    assert feature("race", patient(extension=[{"url": US_CORE_RACE, "extension": asian}])).value == "other"


def test_people_for_whom_the_model_is_not_meant_get_no_number() -> None:
    assert assess(*WHOLE, condition("22298006")) == (None, ("excluded.ascvd",))
    assert assess(*WHOLE, condition("I25.10", "http://hl7.org/fhir/sid/icd-10-cm")) == (
        None,
        ("excluded.ascvd",),
    )
    dead = [patient(deceasedDateTime="2026-02-01"), *WHOLE[1:]]
    assert assess(*dead) == (None, ("excluded.deceased",))


def test_missing_and_out_of_range_are_told_together() -> None:
    value, reasons = assess(patient(birthDate="2000-01-01"), *WHOLE[2:])
    assert value is None
    assert reasons == ("age.out_of_range", "total_cholesterol.missing")


def test_malformed_resources_do_not_break_it() -> None:
    odd: list[dict[str, Any]] = [
        {
            "resourceType": "Observation",
            "id": "1",
            "status": "final",
            "code": "2093-3",
            "effectiveDateTime": "2026",
        },
        {
            "resourceType": "Observation",
            "id": "2",
            "status": "final",
            "component": "x",
            "effectiveDateTime": 7,
        },
        {"resourceType": "Condition", "id": "3", "code": {"coding": ["x", {"code": 5}]}},
        {"resourceType": "MedicationRequest", "id": "4", "status": "active", "authoredOn": []},
        {"resourceType": "Patient", "id": "p", "extension": "x", "birthDate": 1970, "gender": []},
    ]
    value, reasons = assess(*odd)
    assert value is None
    assert "age.missing" in reasons
