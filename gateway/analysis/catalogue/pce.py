"""ACC/AHA Pooled Cohort Equations (2013): 10-year risk of a first hard ASCVD event.

Goff DC Jr, Lloyd-Jones DM, Bennett G, et al. 2013 ACC/AHA Guideline on the Assessment of
Cardiovascular Risk. Circulation 2014;129(25 suppl 2):S49-S73, doi:10.1161/01.cir.0000437741.48606.98,
Table A of Appendix 7.
"""
# ruff: noqa: E501 (the table of coefficients and the card read best with one entry on one line)

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from gateway.analysis.catalogue.evidence import (
    ATC,
    LOINC,
    RXNORM,
    SNOMED,
    Body,
    Evidence,
    Resource,
    age_at,
    codings,
    full_date,
)
from gateway.analysis.catalogue.model import Feature, Features, Input, Model, as_decimal
from gateway.analysis.catalogue.units import UCUM, UnknownUnit, convert

CHOLESTEROL_MOLAR_MASS = Decimal("386.65")  # g/mol, C27H46O: 1 mmol/L is 38.665 mg/dL


@dataclass(frozen=True)
class Equation:
    """Table A, one column: coefficients of the terms, mean of the sum, survival at ten years."""

    ln_age: float
    ln_age_squared: float
    ln_total: float
    ln_age_total: float
    ln_hdl: float
    ln_age_hdl: float
    ln_treated: float
    ln_age_treated: float
    ln_untreated: float
    ln_age_untreated: float
    smoker: float
    ln_age_smoker: float
    diabetes: float
    mean: float
    survival: float


# fmt: off
EQUATIONS: Mapping[tuple[str, bool], Equation] = {  # (sex, African American)
    ("female", False): Equation(-29.799, 4.884, 13.540, -3.114, -13.578, 3.149, 2.019, 0, 1.957, 0, 7.574, -1.665, 0.661, -29.18, 0.9665),
    ("female", True): Equation(17.114, 0, 0.940, 0, -18.920, 4.475, 29.291, -6.432, 27.820, -6.087, 0.691, 0, 0.874, 86.61, 0.9533),
    ("male", False): Equation(12.344, 0, 11.853, -2.664, -7.990, 1.769, 1.797, 0, 1.764, 0, 7.837, -1.795, 0.658, 61.18, 0.9144),
    ("male", True): Equation(2.469, 0, 0.302, 0, -0.307, 0, 1.916, 0, 1.809, 0, 0.549, 0, 0.645, 19.54, 0.8954),
}
# fmt: on

TOTAL_CHOLESTEROL = frozenset({"2093-3"})
HDL_CHOLESTEROL = frozenset({"2085-9"})
SYSTOLIC = frozenset({"8480-6"})
SMOKING_STATUS = frozenset({"72166-2"})

# Smoking status: SNOMED CT concepts and the answers of LOINC list LL2201-3.
SMOKES_NOW = {
    SNOMED: frozenset(
        {"449868002", "428041000124106", "428071000124103", "428061000124105", "77176002", "65568007"}
    ),
    LOINC: frozenset({"LA18976-3", "LA18977-1", "LA18979-7", "LA18981-3", "LA18982-1"}),
}
SMOKES_NOT = {
    SNOMED: frozenset({"8517006", "266919005", "8392000"}),
    LOINC: frozenset({"LA15920-4", "LA18978-9"}),
}

# Type 1, type 2 or unspecified diabetes mellitus, and the complications of it that records often code instead.
DIABETES = {
    SNOMED: frozenset(
        {
            "44054006", "46635009", "73211009", "313435000", "313436004", "127013003", "422034002",
            "368581000119106", "1551000119108", "1501000119109", "97331000119101", "60951000119105",
            "90781000119102", "157141000119108",
        }
    )
}  # fmt: skip
DIABETES_ICD10 = ("E10", "E11")

# The equations are for people who have not had ASCVD: these rule them out.
ASCVD = {
    SNOMED: frozenset(
        {
            "22298006", "399211009", "401303003", "401314000", "57054005", "53741008", "414545008",
            "230690007", "422504002", "275526006", "400047006", "399957001",
        }
    )
}  # fmt: skip
ASCVD_ICD10 = ("I20", "I21", "I22", "I23", "I24", "I25", "I63", "I70.2")

# Antihypertensives by RxNorm ingredient, and by ATC class (loop diuretics, C03C, are left out).
ANTIHYPERTENSIVES = {
    "149": "acebutolol", "325646": "aliskiren", "17767": "amlodipine", "1202": "atenolol",
    "1091643": "azilsartan", "18867": "benazepril", "1520": "betaxolol", "19484": "bisoprolol",
    "214354": "candesartan", "1998": "captopril", "20352": "carvedilol", "2409": "chlorthalidone",
    "2599": "clonidine", "3443": "diltiazem", "49276": "doxazosin", "3827": "enalapril",
    "298869": "eplerenone", "83515": "eprosartan", "4316": "felodipine", "50166": "fosinopril",
    "40114": "guanfacine", "5470": "hydralazine", "5487": "hydrochlorothiazide", "5764": "indapamide",
    "83818": "irbesartan", "33910": "isradipine", "6185": "labetalol", "29046": "lisinopril",
    "52175": "losartan", "6876": "methyldopa", "6916": "metolazone", "6918": "metoprolol",
    "6984": "minoxidil", "30131": "moexipril", "7226": "nadolol", "31555": "nebivolol",
    "7396": "nicardipine", "7417": "nifedipine", "7435": "nisoldipine", "321064": "olmesartan",
    "54552": "perindopril", "8332": "pindolol", "8629": "prazosin", "8787": "propranolol",
    "35208": "quinapril", "35296": "ramipril", "9997": "spironolactone", "73494": "telmisartan",
    "37798": "terazosin", "38454": "trandolapril", "10763": "triamterene", "69749": "valsartan",
    "11170": "verapamil",
}  # fmt: skip
ANTIHYPERTENSIVE_ATC = ("C02", "C03A", "C03B", "C03D", "C03E", "C07", "C08", "C09")

US_CORE_RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
RACE_SYSTEM = "urn:oid:2.16.840.1.113883.6.238"
BLACK, WHITE = "2054-5", "2106-3"

INPUTS = (
    Input("age", "age in completed years at the index date", unit="a", low=Decimal(40), high=Decimal(79)),
    Input("sex", "administrative sex", kind="code", choices=("female", "male")),
    Input(
        "race",
        "the cohort's equation; other uses the White one",
        kind="code",
        choices=("african_american", "white", "other"),
    ),
    Input(
        "total_cholesterol",
        "total cholesterol in serum or plasma",
        unit="mg/dL",
        low=Decimal(130),
        high=Decimal(320),
    ),
    Input(
        "hdl_cholesterol",
        "HDL cholesterol in serum or plasma",
        unit="mg/dL",
        low=Decimal(20),
        high=Decimal(100),
    ),
    Input("systolic_bp", "systolic blood pressure", unit="mm[Hg]", low=Decimal(90), high=Decimal(200)),
    Input("bp_treated", "takes medication for high blood pressure", kind="flag"),
    Input("diabetes", "has diabetes mellitus", kind="flag"),
    Input("smoker", "smokes now", kind="flag"),
)

CARD = {
    "title": "10-year risk of a first hard atherosclerotic cardiovascular event (Pooled Cohort Equations)",
    "provider": "Published equation; implemented by the Consent Gateway",
    "paper": "Goff DC Jr et al., Circulation 2014;129(25 suppl 2):S49-S73, doi:10.1161/01.cir.0000437741.48606.98",
    "outcome": "non-fatal myocardial infarction, death of coronary heart disease, fatal or non-fatal stroke, within 10 years",
    "intended_use": "Decision support for a clinician who discusses prevention with an adult of 40 to 79 years without ASCVD.",
    "tested_error": "The four worked examples of the paper are met within 0.1 percentage point (the paper rounds the sum of terms); values are rounded to 0.01.",
    "records": {
        "cholesterol": "LOINC 2093-3 and 2085-9, final, amended or corrected, latest up to the index date; mmol/L by 386.65 g/mol",
        "systolic_bp": "LOINC 8480-6, alone or as a component; other units by UCUM",
        "smoking": "LOINC 72166-2 answered in SNOMED CT or LOINC; a former smoker is not a smoker",
        "diabetes": "Condition, SNOMED CT or ICD-10 E10, E11, confirmed and not resolved",
        "bp_treated": "active MedicationRequest by RxNorm ingredient code, ATC class, or ingredient in the name of an RxNorm coding",
        "sex": "Patient.gender, as a stand-in for sex at birth",
        "race": "US Core race; White and African American together is ambiguous and gives no number",
    },
    "limits": [
        "Not for people with ASCVD; those whose records show it are excluded, others cannot be recognised.",
        "Derived from White and African American people in the United States; for others the White equation is used and may over- or underestimate.",
        "Known to overestimate in several contemporary cohorts.",
        "A drug given for another reason (a beta blocker for migraine) counts as treatment of blood pressure.",
        "A brand name that does not contain its ingredient is not recognised as an antihypertensive.",
        "An absent diagnosis or order is taken as absent only where nothing of that kind was withheld.",
        "Ranges of cholesterol and blood pressure are those of the ACC risk estimator; outside them there is no number.",
    ],
}  # fmt: skip


class PooledCohortEquations(Model):
    """Probability in percent, rounded to 0.01."""

    name = "pce"
    version = "2013.1"
    unit = "%"
    reads = frozenset({"Patient", "Observation", "Condition", "MedicationRequest", "Medication"})
    inputs = INPUTS
    card = CARD

    def compute(self, values: Mapping[str, Any]) -> Decimal:
        """1 - S0 ** exp(sum of terms - mean), Table A."""
        e = EQUATIONS[values["sex"], values["race"] == "african_american"]
        ln_age, ln_total, ln_hdl, ln_systolic = (
            math.log(values[name]) for name in ("age", "total_cholesterol", "hdl_cholesterol", "systolic_bp")
        )
        total = e.ln_age * ln_age + e.ln_age_squared * ln_age**2
        total += (e.ln_total + e.ln_age_total * ln_age) * ln_total
        total += (e.ln_hdl + e.ln_age_hdl * ln_age) * ln_hdl
        if values["bp_treated"]:
            total += (e.ln_treated + e.ln_age_treated * ln_age) * ln_systolic
        else:
            total += (e.ln_untreated + e.ln_age_untreated * ln_age) * ln_systolic
        if values["smoker"]:
            total += e.smoker + e.ln_age_smoker * ln_age
        if values["diabetes"]:
            total += e.diabetes
        risk = 1 - e.survival ** math.exp(total - e.mean)
        return Decimal(repr(100 * risk)).quantize(Decimal("0.01"))

    def features(self, evidence: Evidence, *, index_date: date) -> Features:
        person, excluded = _person(evidence, index_date)
        if ascvd := evidence.diagnoses(ASCVD, ASCVD_ICD10, until=index_date):
            excluded["excluded.ascvd"] = tuple(each.reference for each in ascvd)
        measured = {
            name: _measured(evidence, name, codes, index_date, unit=unit, molar_mass=molar_mass)
            for name, codes, unit, molar_mass in (
                ("total_cholesterol", TOTAL_CHOLESTEROL, "mg/dL", CHOLESTEROL_MOLAR_MASS),
                ("hdl_cholesterol", HDL_CHOLESTEROL, "mg/dL", CHOLESTEROL_MOLAR_MASS),
                ("systolic_bp", SYSTOLIC, "mm[Hg]", None),
            )
        }
        return Features(
            inputs={
                **person,
                **measured,
                "bp_treated": _bp_treated(evidence, index_date),
                "diabetes": _diabetes(evidence, index_date),
                "smoker": _smoker(evidence, index_date),
            },
            exclusions=excluded,
        )


def _person(evidence: Evidence, day: date) -> tuple[dict[str, Feature], dict[str, tuple[str, ...]]]:
    """Age, sex and race of the Patient resource, and whether the model may be used on this person."""
    patients = evidence.of_type("Patient")
    if len(patients) != 1:
        reason = "missing" if not patients else "ambiguous"
        return {name: Feature(None, reason=f"{name}.{reason}") for name in ("age", "sex", "race")}, {}
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
    return {"age": age, "sex": sex, "race": _race(patient)}, excluded


def _race(patient: Resource) -> Feature:
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


def _measured(
    evidence: Evidence, name: str, codes: frozenset[str], day: date, *, unit: str, molar_mass: Decimal | None
) -> Feature:
    """The latest result that has a value, in `unit`. A value that cannot be read is not passed over for an older one."""
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


def _smoker(evidence: Evidence, day: date) -> Feature:
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


def _diabetes(evidence: Evidence, day: date) -> Feature:
    found = evidence.diagnoses(DIABETES, DIABETES_ICD10, until=day)
    if found:
        return Feature(True, tuple(each.reference for each in found))
    if "Condition" not in evidence.complete:
        return Feature(None, reason="diabetes.missing")
    return Feature(False)


def _bp_treated(evidence: Evidence, day: date) -> Feature:
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
