"""The models beside PCE: worked examples of their papers, every edge, and what records give."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from fhir.resources.R4B.observation import Observation

from gateway.analysis.catalogue import MODELS, find
from gateway.analysis.catalogue.evidence import LOINC, SNOMED
from gateway.analysis.catalogue.model import Model, Score
from gateway.analysis.fhir import result_bundle
from gateway.records.structure import faults_of
from tests.analysis.bodies import condition, held, measured, order, patient, smoking

DAY = date(2026, 6, 1)
PCE, FRAMINGHAM, CKD_EPI, CHADS, NEWS2 = (
    find(name) for name in ("pce", "framingham", "ckd-epi", "cha2ds2-vasc", "news2")
)


def value(name: str, **given: Any) -> Decimal:
    score = find(name).score(given)
    assert score.reasons == ()
    assert score.value is not None
    return score.value


def assess(model: Model, *bodies: dict[str, Any], withheld: tuple[str, ...] = ()) -> Score:
    return model.assess(model.features(held(model, *bodies, withheld=withheld), index_date=DAY))


def test_names_and_digests_are_their_own() -> None:
    assert len({model.name for model in MODELS}) == len({model.digest() for model in MODELS}) == len(MODELS)
    assert all(find(model.digest()) is model for model in MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_each_card_says_what_a_reader_needs(model: Model) -> None:
    card = model.describe()
    for part in ("title", "paper", "outcome", "intended_use", "tested_error", "records", "limits", "inputs"):
        assert card[part], part
    assert "doi:" in card["paper"] or "London" in card["paper"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_an_empty_record_gives_reasons_and_no_number(model: Model) -> None:
    score = assess(model)
    assert score.value is None
    assert "age.missing" in score.reasons


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_dead_are_not_scored(model: Model) -> None:
    score = assess(model, patient(deceasedDateTime="2026-05-01"))
    assert (score.value, "excluded.deceased" in score.reasons) == (None, True)


# Framingham general CVD, 2008

WOMAN = {
    "age": 61, "sex": "female", "total_cholesterol": 180, "hdl_cholesterol": 47, "systolic_bp": 124,
    "bp_treated": False, "diabetes": False, "smoker": True,
}  # fmt: skip
MAN = {
    "age": 53, "sex": "male", "total_cholesterol": 161, "hdl_cholesterol": 55, "systolic_bp": 125,
    "bp_treated": True, "diabetes": True, "smoker": False,
}  # fmt: skip


@pytest.mark.parametrize(("given", "risk"), [(WOMAN, "10.48"), (MAN, "15.62")], ids=["woman", "man"])
def test_framingham_gives_the_papers_worked_examples(given: dict[str, Any], risk: str) -> None:
    assert value("framingham", **given) == Decimal(risk)


@pytest.mark.parametrize(
    "codes", [("22298006", SNOMED), ("84114007", SNOMED), ("I50.9", "http://hl7.org/fhir/sid/icd-10")]
)
def test_framingham_leaves_out_who_has_had_a_cardiovascular_event(codes: tuple[str, str]) -> None:
    over = {"clinicalStatus": {"coding": [{"system": "x", "code": "resolved"}]}}
    score = assess(FRAMINGHAM, patient(), condition(*codes, **over))
    assert "excluded.cvd" in score.reasons


def test_framingham_reads_a_whole_record() -> None:
    record = [
        patient(),
        measured("2093-3", 180, "mg/dL"),
        measured("2085-9", 47, "mg/dL"),
        measured("8480-6", 124, "mm[Hg]"),
        smoking("77176002"),
    ]
    assert assess(FRAMINGHAM, *record) == FRAMINGHAM.score({**WOMAN, "age": 56})


# CKD-EPI, 2021


@pytest.mark.parametrize(
    ("sex", "age", "creatinine", "rate"),
    [
        ("male", 55, "1.2", "71.4"),  # the National Kidney Foundation's calculator: 71
        ("female", 50, "1.0", "68.6"),
        ("male", 50, "1.0", "91.7"),
        ("female", 20, "0.7", "126.9"),  # at kappa both powers are one: 142 * 0.9938 ** 20 * 1.012
        ("male", 70, "0.9", "91.9"),  # 142 * 0.9938 ** 70
    ],
)
def test_ckd_epi_gives_published_values(sex: str, age: int, creatinine: str, rate: str) -> None:
    assert value("ckd-epi", sex=sex, age=age, creatinine=Decimal(creatinine)) == Decimal(rate)


def test_ckd_epi_reads_micromoles() -> None:
    person, given = patient(gender="male"), {"sex": "male", "age": 56}
    told = assess(CKD_EPI, person, measured("14682-9", "106.08", "umol/L") | {
        "valueQuantity": {"value": 106.08, "system": "http://unitsofmeasure.org", "code": "umol/L"}
    })  # fmt: skip
    assert told == CKD_EPI.score({**given, "creatinine": Decimal("1.2")})


# KFRE, four variables


@pytest.mark.parametrize(
    ("years", "region", "risk"),
    [
        # 1 - S0 ** exp(1.5018): the centred sum for a man of 60, rate 30, ratio 500 mg/g
        (5, "north_america", "29.88"),
        (2, "north_america", "10.75"),
        (5, "elsewhere", "25.51"),
        (2, "elsewhere", "7.33"),
    ],
)
def test_kfre_by_region_and_years(years: int, region: str, risk: str) -> None:
    given = {"age": 60, "sex": "male", "egfr": 30, "albumin_creatinine": 500, "region": region}
    assert abs(value(f"kfre-{years}y", **given) - Decimal(risk)) <= Decimal("0.01")


def test_kfre_is_for_low_rates() -> None:
    given = {"age": 60, "sex": "male", "egfr": 60, "albumin_creatinine": 500, "region": "elsewhere"}
    assert find("kfre-5y").score(given).reasons == ("egfr.out_of_range",)


def test_kfre_reads_rate_ratio_and_region_from_the_record() -> None:
    kfre = find("kfre-5y")
    record = [
        patient(gender="male", address=[{"country": "ES"}]),
        measured("2160-0", 3, "mg/dL"),
        measured("32294-1", 50, "mg/mmol"),
    ]
    found = kfre.features(held(kfre, *record), index_date=DAY)
    rate = CKD_EPI.score({"age": 56, "sex": "male", "creatinine": 3}).value
    assert found.inputs["egfr"].value == rate
    assert set(found.inputs["egfr"].sources) == {"Patient/p", "Observation/o-2160-0-2026-01-01"}
    assert found.inputs["region"].value == "elsewhere"
    assert found.inputs["albumin_creatinine"].value == Decimal("442.008487")  # 50 mg over 0.11312 g
    assert kfre.assess(found).value is not None


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ([], "region.missing"),
        ([{"city": "X"}], "region.missing"),
        ([{"country": "US"}, {"country": "FR"}], "region.ambiguous"),
    ],
)
def test_kfre_does_not_guess_where_a_person_lives(address: list[Any], told: str) -> None:
    assert told in assess(find("kfre-2y"), patient(address=address)).reasons


def test_the_digest_of_kfre_covers_the_equation_that_it_rests_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kfre = find("kfre-5y")
    before = kfre.digest()
    monkeypatch.setattr(type(kfre), "rests_on", ())
    assert kfre.digest() != before


# CHA2DS2-VASc

NOTHING = {
    "age": 50, "sex": "male", "heart_failure": False, "hypertension": False, "diabetes": False,
    "stroke": False, "vascular_disease": False,
}  # fmt: skip
FIBRILLATION = condition("49436004")


@pytest.mark.parametrize(
    ("change", "points"),
    [
        ({}, 0), ({"heart_failure": True}, 1), ({"hypertension": True}, 1), ({"diabetes": True}, 1),
        ({"stroke": True}, 2), ({"vascular_disease": True}, 1), ({"sex": "female"}, 1),
        ({"age": 64}, 0), ({"age": 65}, 1), ({"age": 74}, 1), ({"age": 75}, 2),
        ({"age": 80, "sex": "female", "heart_failure": True, "hypertension": True, "diabetes": True,
          "stroke": True, "vascular_disease": True}, 9),
    ],
)  # fmt: skip
def test_cha2ds2_vasc_points(change: dict[str, Any], points: int) -> None:
    assert value("cha2ds2-vasc", **{**NOTHING, **change}) == points


def test_cha2ds2_vasc_is_for_atrial_fibrillation() -> None:
    assert assess(CHADS, patient()).reasons == ("excluded.no_atrial_fibrillation",)
    assert assess(CHADS, patient(), FIBRILLATION).value == 1  # a woman of 56
    withheld = assess(CHADS, patient(), withheld=("Condition",))
    assert {"atrial_fibrillation.missing", "stroke.missing"} <= set(withheld.reasons)


def test_cha2ds2_vasc_counts_an_old_stroke_and_a_drug_for_blood_pressure() -> None:
    stroke = condition("230690007", clinicalStatus={"coding": [{"system": "x", "code": "resolved"}]})
    rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
    drug = order({"coding": [{"system": rxnorm, "code": "29046"}]})
    assert assess(CHADS, patient(), FIBRILLATION, stroke).value == 3
    assert assess(CHADS, patient(), FIBRILLATION, drug).value == 2


# NEWS2

WELL = {
    "age": 50, "respiration_rate": 16, "oxygen_saturation": 97, "hypercapnic": False, "on_oxygen": False,
    "systolic_bp": 120, "pulse": 70, "alert": True, "temperature": 37,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "edges"),
    [
        ("respiration_rate", {8: 3, 9: 1, 11: 1, 12: 0, 20: 0, 21: 2, 24: 2, 25: 3}),
        ("oxygen_saturation", {91: 3, 92: 2, 93: 2, 94: 1, 95: 1, 96: 0}),
        ("systolic_bp", {90: 3, 91: 2, 100: 2, 101: 1, 110: 1, 111: 0, 219: 0, 220: 3}),
        ("pulse", {40: 3, 41: 1, 50: 1, 51: 0, 90: 0, 91: 1, 110: 1, 111: 2, 130: 2, 131: 3}),
        ("temperature", {35.0: 3, 35.1: 1, 36.0: 1, 36.1: 0, 38.0: 0, 38.1: 1, 39.0: 1, 39.1: 2}),
        ("on_oxygen", {False: 0, True: 2}),
        ("alert", {True: 0, False: 3}),
    ],
)
def test_news2_at_both_edges_of_every_step(name: str, edges: dict[Any, int]) -> None:
    assert {given: value("news2", **{**WELL, name: given}) for given in edges} == edges


@pytest.mark.parametrize(
    ("on_oxygen", "edges"),
    [
        (False, {83: 3, 84: 2, 85: 2, 86: 1, 87: 1, 88: 0, 92: 0, 93: 0, 100: 0}),
        (True, {83: 5, 84: 4, 85: 4, 86: 3, 87: 3, 88: 2, 92: 2, 93: 3, 94: 3, 95: 4, 96: 4, 97: 5}),
    ],
)
def test_news2_on_scale_two(on_oxygen: bool, edges: dict[int, int]) -> None:
    given = {**WELL, "hypercapnic": True, "on_oxygen": on_oxygen}
    assert {s: value("news2", **{**given, "oxygen_saturation": s}) for s in edges} == edges


def vital_signs(at: str = "2026-05-01T10:00:00Z") -> list[dict[str, Any]]:
    answer = {"valueCodeableConcept": {"coding": [{"system": LOINC, "code": "LA9340-6"}]}}
    avpu = measured("67775-7", 0, "", at, **answer)
    del avpu["valueQuantity"]
    return [
        measured("9279-1", 22, "/min", at),
        measured("59408-5", 93, "%", at),
        measured("3151-8", 2, "L/min", at),
        measured("8480-6", 105, "mm[Hg]", at),
        measured("8867-4", 115, "/min", at),
        measured("8310-5", 101.3, "[degF]", at),
        avpu,
    ]


def test_news2_reads_one_moment_and_converts_fahrenheit() -> None:
    # 2 + 2 + 2 (oxygen) + 1 + 2 + 0 (alert) + 1 (38.5 degrees Celsius)
    assert assess(NEWS2, patient(), *vital_signs()).value == 10


def test_news2_does_not_mix_days() -> None:
    now, old = vital_signs(), measured("8867-4", 60, "/min", "2026-04-30T10:00:00Z")
    without_pulse = [each for each in now if "8867-4" not in each["id"]]
    assert assess(NEWS2, patient(), *without_pulse, old).reasons == ("pulse.missing",)


def test_news2_needs_to_know_of_oxygen_and_confusion() -> None:
    without = [each for each in vital_signs() if "3151-8" not in each["id"]]
    assert assess(NEWS2, patient(), *without).reasons == ("on_oxygen.missing",)
    confused = assess(NEWS2, patient(), *vital_signs(), condition("130987000"))
    assert confused.value == 13
    assert assess(NEWS2, patient(), *vital_signs(), withheld=("Condition",)).reasons == ("alert.missing",)


# The result


@pytest.mark.parametrize("record", [vital_signs(), []], ids=["a number", "none"])
def test_a_measure_leaves_as_a_valid_observation(record: list[dict[str, Any]]) -> None:
    evidence = held(NEWS2, patient(), *record)
    found = NEWS2.features(evidence, index_date=DAY)
    bundle = result_bundle(
        model=NEWS2,
        found=found,
        score=NEWS2.assess(found),
        digests=evidence.digests(),
        job="aa" * 32,
        attempt=1,
        subject="bb" * 32,
        index_date=DAY,
        now=datetime(2026, 6, 1, tzinfo=UTC),
    )
    resources = {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}
    observation, provenance = resources["Observation"], resources["Provenance"]
    Observation.model_validate(observation)
    made = ["Observation", "DetectedIssue"] if record else ["Observation"]  # 10 is past NEWS2's threshold
    assert provenance["target"] == [{"reference": f"{kind}/{'bb' * 32}"} for kind in made]
    assert observation["meta"]["security"][0]["code"] == "AIAST"
    if record:
        assert observation["valueQuantity"]["value"] == 10
    else:
        assert "valueQuantity" not in observation
        assert "pulse.missing" in observation["dataAbsentReason"]["text"]


@pytest.mark.parametrize(
    ("model", "value", "severity"),
    [
        (PCE, "19.99", None),
        (PCE, "20", "moderate"),
        (NEWS2, "4", None),
        (NEWS2, "5", "moderate"),
        (NEWS2, "7", "high"),
        (CKD_EPI, "30", None),
        (CKD_EPI, "29.9", "moderate"),
        (CKD_EPI, "14.9", "high"),
        (CKD_EPI, None, None),
    ],
)
def test_a_result_past_its_threshold_is_an_issue(
    model: Model, value: str | None, severity: str | None
) -> None:
    alert = model.alert(Score(None if value is None else Decimal(value), model.unit))
    assert (alert.severity if alert else None) == severity


def test_an_issue_leaves_as_a_detected_issue_and_all_of_the_result_is_valid() -> None:
    """By the rules that records are taken in by (docs/validation.md)."""
    evidence = held(NEWS2, patient(), *vital_signs())
    found = NEWS2.features(evidence, index_date=DAY)
    subject = "bb" * 32
    bundle = result_bundle(
        model=NEWS2, found=found, score=NEWS2.assess(found), digests=evidence.digests(), job="aa" * 32,
        attempt=1, subject=subject, index_date=DAY, now=datetime(2026, 6, 1, tzinfo=UTC),
    )  # fmt: skip
    made = {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}
    issue = made["DetectedIssue"]
    assert (issue["severity"], issue["status"]) == ("high", "final")
    assert issue["implicated"] == [{"reference": f"Observation/{subject}"}]
    assert {"reference": f"DetectedIssue/{subject}"} in made["Provenance"]["target"]
    assert [fault for each in made.values() for fault in faults_of(each, {})] == []
