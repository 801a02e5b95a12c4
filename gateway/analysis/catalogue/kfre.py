"""Kidney Failure Risk Equation with four variables: risk of kidney failure that needs dialysis or a transplant.

Tangri N, Grams ME, Levey AS, et al. Multinational Assessment of Accuracy of Equations for Predicting Risk
of Kidney Failure. JAMA 2016;315:164-174, doi:10.1001/jama.2015.18202 (recalibrated baseline for North
America and elsewhere; the coefficients are those of JAMA 2011;305:1553-1559, doi:10.1001/jama.2011.451).
"""
# ruff: noqa: E501 (the card reads best with one entry on one line)

import math
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from gateway.analysis.catalogue import findings
from gateway.analysis.catalogue.ckd_epi import CKDEPI2021, creatinine
from gateway.analysis.catalogue.codes import ALBUMIN_CREATININE
from gateway.analysis.catalogue.evidence import Evidence, Resource
from gateway.analysis.catalogue.model import Feature, Features, Input, Model

# Baseline survival, by region and years.
BASELINE = {
    ("north_america", 2): 0.9750,
    ("north_america", 5): 0.9240,
    ("elsewhere", 2): 0.9832,
    ("elsewhere", 5): 0.9365,
}
NORTH_AMERICA = frozenset({"US", "USA", "CA", "CAN"})  # ISO 3166, as in Address.country


class KidneyFailureRisk(Model):
    """Probability in percent, rounded to 0.01, that kidney failure comes within `years` (2 or 5)."""

    version = "2016.1"
    unit = "%"
    rests_on = ("ckd_epi",)
    reads = frozenset({"Patient", "Observation"})
    inputs = (
        Input("age", "age in completed years at the index date", unit="a", low=Decimal(18), high=Decimal(110)),
        Input("sex", "administrative sex", kind="code", choices=("female", "male")),
        Input("egfr", "estimated glomerular filtration rate", unit="mL/min/{1.73_m2}", low=Decimal(5), high=Decimal("59.99")),
        Input("albumin_creatinine", "albumin to creatinine ratio in urine", unit="mg/g", low=Decimal(1), high=Decimal(25000)),
        Input("region", "whose baseline: where the person lives", kind="code", choices=("north_america", "elsewhere")),
    )  # fmt: skip

    def __init__(self, *, years: int) -> None:
        self.years = years
        self.name = f"kfre-{years}y"
        self.card = {
            "title": f"{years}-year risk of kidney failure (KFRE, four variables)",
            "provider": "Published equation; implemented by the Consent Gateway",
            "paper": "Tangri N et al., JAMA 2016;315:164-174, doi:10.1001/jama.2015.18202",
            "outcome": f"kidney failure that needs dialysis or a transplant, within {years} years",
            "intended_use": "Decision support for a clinician who plans the care of an adult with chronic kidney disease, stages G3 to G5.",
            "tested_error": "Agrees with the published equation, computed apart, to 0.01 percentage point.",
            "records": {
                "egfr": "by CKD-EPI 2021 from creatinine (LOINC 2160-0, 38483-4, 14682-9), latest up to the index date",
                "albumin_creatinine": "LOINC 9318-7, 14959-1 or 32294-1, latest up to the index date; mg/mmol by 113.12 g/mol",
                "region": "Patient.address.country, ISO 3166: US and CA are North America",
                "sex": "Patient.gender, as a stand-in for sex at birth",
            },
            "limits": [
                "For chronic kidney disease: one low rate does not show that it is chronic.",
                "Made with the CKD-EPI equation of 2009; with that of 2021 the rate, and so the risk, differs a little.",
                "Death from another cause is not counted against the risk, which overestimates it in the very old.",
            ],
        }  # fmt: skip

    def compute(self, values: Mapping[str, Any]) -> Decimal:
        """1 - S0 ** exp(sum of centred terms); the ratio in mg/g."""
        total = -0.2201 * (float(values["age"]) / 10 - 7.036)
        total += 0.2467 * ((values["sex"] == "male") - 0.5642)
        total += -0.5567 * (float(values["egfr"]) / 5 - 7.222)
        total += 0.4510 * (math.log(values["albumin_creatinine"]) - 5.137)
        risk = 1 - BASELINE[values["region"], self.years] ** math.exp(total)
        return Decimal(repr(100 * risk)).quantize(Decimal("0.01"))

    def features(self, evidence: Evidence, *, index_date: date) -> Features:
        person = findings.person(evidence, index_date)
        ratio = findings.measured(
            evidence,
            "albumin_creatinine",
            ALBUMIN_CREATININE,
            index_date,
            unit="mg/g",
            molar_mass=findings.CREATININE_MOLAR_MASS,
        )
        return Features(
            inputs={
                "age": person.age,
                "sex": person.sex,
                "egfr": _filtration(person, creatinine(evidence, index_date)),
                "albumin_creatinine": ratio,
                "region": _region(person.resource),
            },
            exclusions=person.excluded,
        )


def _filtration(person: findings.Person, found: Feature) -> Feature:
    """The rate by CKD-EPI 2021, with every resource that it rests on."""
    parts = {"age": person.age, "sex": person.sex, "creatinine": found}
    sources = findings.all_sources(list(parts.values()))
    if found.reason is not None:
        return Feature(None, sources, found.reason.replace("creatinine", "egfr"))
    score = CKDEPI2021().assess(Features(parts))
    return Feature(score.value, sources, None if score.value is not None else "egfr.missing")


def _region(patient: Resource | None) -> Feature:
    """By the countries of the addresses that are not old; several regions are ambiguous."""
    if patient is None:
        return Feature(None, reason="region.missing")
    addresses = patient.body.get("address")
    countries = {
        each["country"].strip().upper()
        for each in (addresses if isinstance(addresses, list) else [])
        if isinstance(each, dict) and isinstance(each.get("country"), str) and each.get("use") != "old"
    }
    regions = {"north_america" if country in NORTH_AMERICA else "elsewhere" for country in countries}
    source = (patient.reference,)
    if len(regions) != 1:
        return Feature(None, source, "region.ambiguous" if regions else "region.missing")
    return Feature(regions.pop(), source)
