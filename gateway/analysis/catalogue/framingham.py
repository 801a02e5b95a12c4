"""Framingham general cardiovascular disease (2008): 10-year risk of a first cardiovascular event.

D'Agostino RB Sr, Vasan RS, Pencina MJ, et al. General Cardiovascular Risk Profile for Use in Primary
Care: The Framingham Heart Study. Circulation 2008;117:743-753, doi:10.1161/CIRCULATIONAHA.107.699579,
Table 2 (the model with lipids).
"""
# ruff: noqa: E501 (the table of coefficients and the card read best with one entry on one line)

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from gateway.analysis.catalogue import findings
from gateway.analysis.catalogue.codes import (
    ASCVD,
    ASCVD_ICD10,
    HAEMORRHAGIC_STROKE_ICD10,
    HEART_FAILURE,
    HEART_FAILURE_ICD10,
    STROKE,
    STROKE_ICD10,
)
from gateway.analysis.catalogue.evidence import Evidence
from gateway.analysis.catalogue.model import Alert, Features, Input, Model


@dataclass(frozen=True)
class Equation:
    """One sex of Table 2: coefficients of the terms, mean of the sum, survival at ten years."""

    ln_age: float
    ln_total: float
    ln_hdl: float
    ln_untreated: float
    ln_treated: float
    smoker: float
    diabetes: float
    mean: float
    survival: float


EQUATIONS = {
    "female": Equation(2.32888, 1.20904, -0.70833, 2.76157, 2.82263, 0.52873, 0.69154, 26.1931, 0.95012),
    "male": Equation(3.06117, 1.12370, -0.93263, 1.93303, 1.99881, 0.65451, 0.57367, 23.9802, 0.88936),
}


class FraminghamGeneralCVD(Model):
    """Probability in percent, rounded to 0.01."""

    name = "framingham"
    version = "2008.1"
    unit = "%"
    reads = frozenset({"Patient", "Observation", "Condition", "MedicationRequest", "Medication"})
    inputs = (
        Input("age", "age in completed years at the index date", unit="a", low=Decimal(30), high=Decimal(74)),
        Input("sex", "administrative sex", kind="code", choices=("female", "male")),
        Input("total_cholesterol", "total cholesterol in serum or plasma", unit="mg/dL", low=Decimal(100), high=Decimal(405)),
        Input("hdl_cholesterol", "HDL cholesterol in serum or plasma", unit="mg/dL", low=Decimal(10), high=Decimal(100)),
        Input("systolic_bp", "systolic blood pressure", unit="mm[Hg]", low=Decimal(90), high=Decimal(200)),
        Input("bp_treated", "takes medication for high blood pressure", kind="flag"),
        Input("diabetes", "has diabetes mellitus", kind="flag"),
        Input("smoker", "smokes now", kind="flag"),
    )  # fmt: skip
    alerts = (
        Alert(Decimal(20), "moderate", "A 10-year risk of 20 % or more is high.", "D'Agostino 2008, p. 749"),
    )
    card = {
        "title": "10-year risk of a first cardiovascular event (Framingham general CVD, 2008)",
        "provider": "Published equation; implemented by the Consent Gateway",
        "paper": "D'Agostino RB Sr et al., Circulation 2008;117:743-753, doi:10.1161/CIRCULATIONAHA.107.699579",
        "outcome": "coronary death, myocardial infarction, coronary insufficiency, angina, stroke, transient ischaemic attack, peripheral artery disease or heart failure, within 10 years",
        "intended_use": "Decision support for a clinician who discusses prevention with an adult of 30 to 74 years without cardiovascular disease.",
        "tested_error": "Both worked examples of the paper are met within 0.1 percentage point; values are rounded to 0.01.",
        "records": findings.CARDIOVASCULAR_RECORDS,
        "limits": [
            "Not for people with cardiovascular disease; those whose records show it are excluded, others cannot be recognised.",
            "Derived from one town in the United States whose people were nearly all white; elsewhere it may over- or underestimate.",
            "A drug given for another reason (a beta blocker for migraine) counts as treatment of blood pressure.",
            "An absent diagnosis or order is taken as absent only where nothing of that kind was withheld.",
            "The ranges of cholesterol and blood pressure are this implementation's: outside them there is no number.",
        ],
    }  # fmt: skip

    def compute(self, values: Mapping[str, Any]) -> Decimal:
        """1 - S0 ** exp(sum of terms - mean), Table 2."""
        e = EQUATIONS[values["sex"]]
        total = e.ln_age * math.log(values["age"])
        total += e.ln_total * math.log(values["total_cholesterol"])
        total += e.ln_hdl * math.log(values["hdl_cholesterol"])
        total += (e.ln_treated if values["bp_treated"] else e.ln_untreated) * math.log(values["systolic_bp"])
        total += e.smoker * values["smoker"] + e.diabetes * values["diabetes"]
        risk = 1 - e.survival ** math.exp(total - e.mean)
        return Decimal(repr(100 * risk)).quantize(Decimal("0.01"))

    def features(self, evidence: Evidence, *, index_date: date) -> Features:
        person = findings.person(evidence, index_date)
        history = (
            (ASCVD, ASCVD_ICD10),
            (STROKE, STROKE_ICD10 + HAEMORRHAGIC_STROKE_ICD10),
            (HEART_FAILURE, HEART_FAILURE_ICD10),
        )
        found = [evidence.diagnoses(codes, icd10, until=index_date, ever=True) for codes, icd10 in history]
        cvd = tuple(dict.fromkeys(each.reference for conditions in found for each in conditions))
        inputs = {"age": person.age, "sex": person.sex, **findings.cardiovascular(evidence, index_date)}
        return Features(
            inputs=inputs, exclusions={**person.excluded, **({"excluded.cvd": cvd} if cvd else {})}
        )
