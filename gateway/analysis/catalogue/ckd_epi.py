"""CKD-EPI creatinine equation (2021): the estimated glomerular filtration rate, without race.

Inker LA, Eneanya ND, Coresh J, et al. New Creatinine- and Cystatin C-Based Equations to Estimate GFR
without Race. N Engl J Med 2021;385:1737-1749, doi:10.1056/NEJMoa2102953.
"""
# ruff: noqa: E501 (the card reads best with one entry on one line)

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from gateway.analysis.catalogue import findings
from gateway.analysis.catalogue.codes import CREATININE
from gateway.analysis.catalogue.evidence import LOINC, Evidence
from gateway.analysis.catalogue.model import Alert, Feature, Features, Input, Model

KAPPA = {"female": 0.7, "male": 0.9}
ALPHA = {"female": -0.241, "male": -0.302}


class CKDEPI2021(Model):
    """mL/min/1.73 m2, rounded to 0.1."""

    name = "ckd-epi"
    version = "2021.1"
    unit = "mL/min/{1.73_m2}"
    # LOINC: glomerular filtration rate by the creatinine-based CKD-EPI 2021 formula.
    measure = (LOINC, "98979-8")
    reads = frozenset({"Patient", "Observation"})
    inputs = (
        Input("age", "age in completed years at the index date", unit="a", low=Decimal(18), high=Decimal(110)),
        Input("sex", "administrative sex", kind="code", choices=("female", "male")),
        Input("creatinine", "creatinine in serum, plasma or blood, standardised", unit="mg/dL", low=Decimal("0.1"), high=Decimal(25)),
    )  # fmt: skip
    alerts = (
        Alert(Decimal(15), "high", "Below 15: kidney failure (G5).", "KDIGO 2012", below=True),
        Alert(Decimal(30), "moderate", "Below 30: severely decreased (G4).", "KDIGO 2012", below=True),
    )
    card = {
        "title": "Estimated glomerular filtration rate (CKD-EPI creatinine, 2021)",
        "provider": "Published equation; implemented by the Consent Gateway",
        "paper": "Inker LA et al., N Engl J Med 2021;385:1737-1749, doi:10.1056/NEJMoa2102953",
        "outcome": "glomerular filtration rate for a body surface of 1.73 m2",
        "intended_use": "An estimate of kidney function in an adult whose creatinine is steady.",
        "tested_error": "Agrees with published values of the equation to the last digit that they give; values are rounded to 0.1.",
        "records": {
            "creatinine": "LOINC 2160-0, 38483-4 or 14682-9, final, amended or corrected, latest up to the index date; umol/L by 113.12 g/mol",
            "sex": "Patient.gender, as a stand-in for sex at birth",
        },
        "limits": [
            "Not for people whose creatinine is changing fast, on dialysis, or of unusual muscle mass; the records do not tell.",
            "In the paper 85 to 90 of 100 estimates lay within 30 % of the measured rate.",
        ],
    }  # fmt: skip

    def compute(self, values: Mapping[str, Any]) -> Decimal:
        """142 * min(Scr/kappa, 1) ** alpha * max(Scr/kappa, 1) ** -1.200 * 0.9938 ** age (* 1.012)."""
        sex = values["sex"]
        share = float(values["creatinine"]) / KAPPA[sex]
        rate = 142 * min(share, 1) ** ALPHA[sex] * max(share, 1) ** -1.200 * 0.9938 ** int(values["age"])
        if sex == "female":
            rate *= 1.012
        return Decimal(repr(rate)).quantize(Decimal("0.1"))

    def features(self, evidence: Evidence, *, index_date: date) -> Features:
        person = findings.person(evidence, index_date)
        inputs = {"age": person.age, "sex": person.sex, "creatinine": creatinine(evidence, index_date)}
        return Features(inputs=inputs, exclusions=person.excluded)


def creatinine(evidence: Evidence, day: date) -> Feature:
    return findings.measured(
        evidence, "creatinine", CREATININE, day, unit="mg/dL", molar_mass=findings.CREATININE_MOLAR_MASS
    )
