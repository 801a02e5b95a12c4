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

from gateway.analysis.catalogue import findings
from gateway.analysis.catalogue.codes import ASCVD, ASCVD_ICD10
from gateway.analysis.catalogue.evidence import Evidence
from gateway.analysis.catalogue.model import Alert, Feature, Features, Input, Model


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
        **findings.CARDIOVASCULAR_RECORDS,
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
    alerts = (
        Alert(
            Decimal(20),
            "moderate",
            "A 10-year risk of 20 % or more is high.",
            "Arnett 2019, doi:10.1161/CIR.0000000000000678",
        ),
    )

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
        person = findings.person(evidence, index_date)
        race = findings.race(person.resource) if person.resource else Feature(None, reason="race.missing")
        common = findings.cardiovascular(evidence, index_date)
        return Features(
            inputs={"age": person.age, "sex": person.sex, "race": race, **common},
            exclusions={
                **person.excluded,
                **findings.excluding(evidence, "excluded.ascvd", ASCVD, ASCVD_ICD10, index_date),
            },
        )
