"""One input at a time, as the records give it: a value with the resources it came from, or a reason.

Shared by the models. What cannot be read is a reason, never passed over for something older or guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from gateway.analysis.catalogue.codes import (
    ANTIHYPERTENSIVE_ATC,
    ANTIHYPERTENSIVES,
    BLACK,
    DIABETES,
    DIABETES_ICD10,
    HDL_CHOLESTEROL,
    RACE_SYSTEM,
    SMOKES_NOT,
    SMOKES_NOW,
    SMOKING_STATUS,
    SYSTOLIC,
    TOTAL_CHOLESTEROL,
    US_CORE_RACE,
    WHITE,
)
from gateway.analysis.catalogue.evidence import (
    ATC,
    LOINC,
    RXNORM,
    Body,
    Evidence,
    Resource,
    age_at,
    codings,
    full_date,
)
from gateway.analysis.catalogue.model import Feature, as_decimal
from gateway.analysis.catalogue.units import UCUM, UnknownUnit, convert

CHOLESTEROL_MOLAR_MASS = Decimal("386.65")  # g/mol, C27H46O: 1 mmol/L is 38.665 mg/dL
CREATININE_MOLAR_MASS = Decimal("113.12")  # g/mol, C4H7N3O: 88.4 umol/L are 1 mg/dL


@dataclass(frozen=True)
class Person:
    """What the Patient resource says. `excluded`: why no model may be used on this person at all."""

    age: Feature
    sex: Feature
    resource: Resource | None
    excluded: Mapping[str, tuple[str, ...]]


def person(evidence: Evidence, day: date) -> Person:
    """Age in completed years and administrative sex, `female` or `male`, at `day`."""
    patients = evidence.of_type("Patient")
    if len(patients) != 1:
        reason = "missing" if not patients else "ambiguous"
        age, sex = (Feature(None, reason=f"{name}.{reason}") for name in ("age", "sex"))
        return Person(age, sex, None, {})
    patient = patients[0]
    source = (patient.reference,)
    excluded: dict[str, tuple[str, ...]] = {}
    died = patient.body.get("deceasedDateTime")
    died_on = full_date(died)
    if patient.body.get("deceasedBoolean") is True or (
        died is not None and (died_on is None or died_on <= day)
    ):
        excluded["excluded.deceased"] = source
    born = full_date(patient.body.get("birthDate"))
    age = Feature(age_at(born, day), source) if born else Feature(None, source, "age.missing")
    gender = patient.body.get("gender")
    sex = Feature(gender, source) if gender in ("female", "male") else Feature(None, source, "sex.missing")
    return Person(age, sex, patient, excluded)


def race(patient: Resource) -> Feature:
    """The OMB categories of the US Core race extension. A category that is unknown or withheld is missing."""
    found = set()
    for extension in patient.body.get("extension") or []:
        if isinstance(extension, dict) and extension.get("url") == US_CORE_RACE:
            for part in extension.get("extension") or []:
                if isinstance(part, dict) and part.get("url") == "ombCategory":
                    found |= {
                        code
                        for system, code, _ in codings({"coding": [part.get("valueCoding")]})
                        if system == RACE_SYSTEM
                    }
    source = (patient.reference,)
    if not found:
        return Feature(None, source, "race.missing")
    if BLACK in found and len(found) > 1:
        return Feature(None, source, "race.ambiguous")
    if BLACK in found:
        return Feature("african_american", source)
    return Feature("white" if found == {WHITE} else "other", source)


def measured(
    evidence: Evidence,
    name: str,
    codes: frozenset[str],
    day: date,
    *,
    unit: str,
    molar_mass: Decimal | None = None,
) -> Feature:
    """The latest result that has a value, in `unit`. One that cannot be read does not yield to an older."""
    for resource, part in evidence.observations(LOINC, codes, until=day):
        quantity = part.get("valueQuantity")
        if not isinstance(quantity, dict) or "value" not in quantity:
            continue
        source = (resource.reference,)
        value = as_decimal(quantity["value"])
        if value is None:
            return Feature(None, source, f"{name}.malformed")
        if quantity.get("comparator"):
            return Feature(None, source, f"{name}.inexact")
        try:
            return Feature(convert(value, unit=_unit(quantity, unit), to=unit, molar_mass=molar_mass), source)
        except UnknownUnit:
            return Feature(None, source, f"{name}.unknown_unit")
    return Feature(None, reason=f"{name}.missing")


def _unit(quantity: Body, wanted: str) -> str:
    """The UCUM code; without one, the unit's text only where it is the very unit that is wanted."""
    if quantity.get("system") == UCUM and isinstance(quantity.get("code"), str):
        return str(quantity["code"])
    if "system" not in quantity and wanted in {quantity.get("unit"), quantity.get("code")}:
        return wanted
    raise UnknownUnit


def diagnosed(
    evidence: Evidence,
    name: str,
    codes: Mapping[str, frozenset[str]],
    icd10: tuple[str, ...],
    day: date,
    *,
    ever: bool = False,
) -> Feature:
    """Whether there is such a diagnosis. No is only said where no condition was withheld.

    `ever` counts what is over too: an event that happened stays part of the history.
    """
    if found := evidence.diagnoses(codes, icd10, until=day, ever=ever):
        return Feature(True, tuple(each.reference for each in found))
    if "Condition" not in evidence.complete:
        return Feature(None, reason=f"{name}.missing")
    return Feature(False)


def diabetes(evidence: Evidence, day: date) -> Feature:
    return diagnosed(evidence, "diabetes", DIABETES, DIABETES_ICD10, day)


def either(*features: Feature) -> Feature:
    """Whether any of these flags is true: a yes counts, whatever is unknown; a no needs all to be known."""
    told = [feature for feature in features if feature.value is True]
    if told:
        return Feature(True, tuple(source for feature in told for source in feature.sources))
    unknown = next((feature for feature in features if feature.reason is not None), None)
    return unknown if unknown is not None else Feature(False)


def excluding(
    evidence: Evidence,
    reason: str,
    codes: Mapping[str, frozenset[str]],
    icd10: tuple[str, ...],
    day: date,
) -> dict[str, tuple[str, ...]]:
    """`{reason: sources}` where the history has one of these diagnoses: then the model gives no number."""
    found = evidence.diagnoses(codes, icd10, until=day, ever=True)
    return {reason: tuple(each.reference for each in found)} if found else {}


def smoker(evidence: Evidence, day: date) -> Feature:
    """The latest answer to the smoking status. A former smoker is not a smoker."""
    for resource, part in evidence.observations(LOINC, SMOKING_STATUS, until=day):
        answer = list(codings(part.get("valueCodeableConcept")))
        if not answer:
            continue
        now, not_now = (
            any(code in known.get(system, frozenset()) for system, code, _ in answer)
            for known in (SMOKES_NOW, SMOKES_NOT)
        )
        if now == not_now:
            return Feature(
                None, (resource.reference,), "smoker.unknown_code" if not now else "smoker.ambiguous"
            )
        return Feature(now, (resource.reference,))
    return Feature(None, reason="smoker.missing")


def bp_treated(evidence: Evidence, day: date) -> Feature:
    """True by any antihypertensive in force; an order whose drug is not known leaves a "no" open."""
    treating, unknown = [], []
    for resource, medication in evidence.orders_in_force(until=day):
        lowers = _lowers_blood_pressure(medication)
        if lowers:
            treating.append(resource.reference)
        elif lowers is None:
            unknown.append(resource.reference)
    if treating:
        return Feature(True, tuple(treating))
    if unknown:
        return Feature(None, tuple(unknown), "bp_treated.unknown_code")
    if "MedicationRequest" not in evidence.complete:
        return Feature(None, reason="bp_treated.missing")
    return Feature(False)


def _lowers_blood_pressure(medication: Body | None) -> bool | None:
    """None where the medication has no code that tells."""
    told = False
    for system, code, display in codings(medication):
        if system == ATC:
            told = True
            if code.upper().startswith(ANTIHYPERTENSIVE_ATC):
                return True
        if system == RXNORM:
            told = told or bool(display)
            name = display.lower()
            if code in ANTIHYPERTENSIVES or any(each in name for each in ANTIHYPERTENSIVES.values()):
                return True
    return False if told else None


def cardiovascular(evidence: Evidence, day: date) -> dict[str, Feature]:
    """What the equations of cardiovascular risk ask for, besides the person."""
    measures = (
        ("total_cholesterol", TOTAL_CHOLESTEROL, "mg/dL", CHOLESTEROL_MOLAR_MASS),
        ("hdl_cholesterol", HDL_CHOLESTEROL, "mg/dL", CHOLESTEROL_MOLAR_MASS),
        ("systolic_bp", SYSTOLIC, "mm[Hg]", None),
    )
    return {
        **{
            name: measured(evidence, name, codes, day, unit=unit, molar_mass=molar_mass)
            for name, codes, unit, molar_mass in measures
        },
        "bp_treated": bp_treated(evidence, day),
        "diabetes": diabetes(evidence, day),
        "smoker": smoker(evidence, day),
    }


# How a model that uses `cardiovascular` says on its card where those inputs come from.
CARDIOVASCULAR_RECORDS = {
    "cholesterol": "LOINC 2093-3 and 2085-9, final, amended or corrected, latest up to the index date; "
    "mmol/L by 386.65 g/mol",
    "systolic_bp": "LOINC 8480-6, alone or as a component; other units by UCUM",
    "smoking": "LOINC 72166-2 answered in SNOMED CT or LOINC; a former smoker is not a smoker",
    "diabetes": "Condition, SNOMED CT or ICD-10 E10, E11, confirmed and not resolved",
    "bp_treated": "active MedicationRequest by RxNorm ingredient code, ATC class, or ingredient in the name "
    "of an RxNorm coding",
    "sex": "Patient.gender, as a stand-in for sex at birth",
}


def all_sources(features: Sequence[Feature]) -> tuple[str, ...]:
    """Every resource that these features came from, once, in their order."""
    return tuple(dict.fromkeys(source for feature in features for source in feature.sources))
