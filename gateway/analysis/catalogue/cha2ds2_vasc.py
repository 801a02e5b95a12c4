"""CHA2DS2-VASc: points for the risk of stroke in atrial fibrillation.

Lip GYH, Nieuwlaat R, Pisters R, Lane DA, Crijns HJGM. Refining clinical risk stratification for predicting
stroke and thromboembolism in atrial fibrillation using a novel risk factor-based approach: the Euro Heart
Survey on atrial fibrillation. Chest 2010;137:263-272, doi:10.1378/chest.09-1584, Table 2.
"""
# ruff: noqa: E501 (the card reads best with one entry on one line)

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from gateway.analysis.catalogue import findings
from gateway.analysis.catalogue.codes import (
    ATRIAL_FIBRILLATION,
    ATRIAL_FIBRILLATION_ICD10,
    HEART_FAILURE,
    HEART_FAILURE_ICD10,
    HYPERTENSION,
    HYPERTENSION_ICD10,
    STROKE,
    STROKE_ICD10,
    VASCULAR,
    VASCULAR_ICD10,
)
from gateway.analysis.catalogue.evidence import Evidence
from gateway.analysis.catalogue.model import Feature, Features, Input, Model

POINTS = {"heart_failure": 1, "hypertension": 1, "diabetes": 1, "stroke": 2, "vascular_disease": 1}


class CHA2DS2VASc(Model):
    """Points, 0 to 9."""

    name = "cha2ds2-vasc"
    version = "2010.1"
    unit = "{score}"
    measure = ("urn:consent-gateway:measure", "cha2ds2-vasc")
    reads = frozenset({"Patient", "Condition", "MedicationRequest", "Medication"})
    inputs = (
        Input("age", "age in completed years at the index date", unit="a", low=Decimal(18), high=Decimal(120)),
        Input("sex", "administrative sex", kind="code", choices=("female", "male")),
        Input("heart_failure", "congestive heart failure", kind="flag"),
        Input("hypertension", "high blood pressure, or treated for it", kind="flag"),
        Input("diabetes", "has diabetes mellitus", kind="flag"),
        Input("stroke", "has had a stroke, a transient ischaemic attack or an embolism", kind="flag"),
        Input("vascular_disease", "has had a myocardial infarction, or has peripheral artery disease or aortic plaque", kind="flag"),
    )  # fmt: skip
    card = {
        "title": "Points for the risk of stroke in atrial fibrillation (CHA2DS2-VASc)",
        "provider": "Published score; implemented by the Consent Gateway",
        "paper": "Lip GYH et al., Chest 2010;137:263-272, doi:10.1378/chest.09-1584",
        "outcome": "stroke or other thromboembolism in atrial fibrillation that is not treated with an anticoagulant",
        "intended_use": "Decision support for a clinician who weighs an anticoagulant for an adult with atrial fibrillation.",
        "tested_error": "A sum of points: every weight and every edge of age is tested.",
        "records": {
            "conditions": "Condition, SNOMED CT or ICD-10, confirmed; stroke and vascular disease count whether or not they are over",
            "hypertension": "Condition, or an antihypertensive in force",
            "sex": "Patient.gender, as a stand-in for sex at birth",
        },
        "limits": [
            "Only for people with atrial fibrillation or flutter: where the records show none there is no number.",
            "A drug given for another reason (a beta blocker for the rate itself) counts as treated hypertension.",
            "An absent diagnosis is taken as absent only where nothing of that kind was withheld.",
        ],
    }  # fmt: skip

    def compute(self, values: Mapping[str, Any]) -> Decimal:
        age = values["age"]
        points = sum(weight for name, weight in POINTS.items() if values[name])
        points += 2 if age >= 75 else 1 if age >= 65 else 0
        points += values["sex"] == "female"
        return Decimal(points)

    def features(self, evidence: Evidence, *, index_date: date) -> Features:
        person = findings.person(evidence, index_date)
        fibrillation = findings.diagnosed(
            evidence,
            "atrial_fibrillation",
            ATRIAL_FIBRILLATION,
            ATRIAL_FIBRILLATION_ICD10,
            index_date,
            ever=True,
        )
        excluded = dict(person.excluded)
        if fibrillation.value is not True:
            excluded[fibrillation.reason or "excluded.no_atrial_fibrillation"] = ()
        return Features(
            inputs={
                "age": person.age,
                "sex": person.sex,
                "heart_failure": findings.diagnosed(
                    evidence, "heart_failure", HEART_FAILURE, HEART_FAILURE_ICD10, index_date, ever=True
                ),
                "hypertension": _hypertension(evidence, index_date),
                "diabetes": findings.diabetes(evidence, index_date),
                "stroke": findings.diagnosed(
                    evidence, "stroke", STROKE, STROKE_ICD10, index_date, ever=True
                ),
                "vascular_disease": findings.diagnosed(
                    evidence, "vascular_disease", VASCULAR, VASCULAR_ICD10, index_date, ever=True
                ),
            },
            exclusions=excluded,
        )  # fmt: skip


def _hypertension(evidence: Evidence, day: date) -> Feature:
    known = findings.diagnosed(evidence, "hypertension", HYPERTENSION, HYPERTENSION_ICD10, day)
    return findings.either(known, findings.bp_treated(evidence, day))
