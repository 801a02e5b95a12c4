"""National Early Warning Score 2 (2017): how ill an adult is now, by seven vital signs.

Royal College of Physicians. National Early Warning Score (NEWS) 2: Standardising the assessment of
acute-illness severity in the NHS. London: RCP, 2017. Chart 1.
"""
# ruff: noqa: E501 (the card reads best with one entry on one line)

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from gateway.analysis.catalogue import findings
from gateway.analysis.catalogue.codes import (
    ALERT,
    CONFUSION,
    INHALED_OXYGEN_FLOW,
    INHALED_OXYGEN_SHARE,
    NOT_ALERT,
    OXYGEN_SATURATION,
    PULSE,
    RESPIRATION,
    RESPONSIVENESS,
    SYSTOLIC,
    TEMPERATURE,
)
from gateway.analysis.catalogue.evidence import LOINC, Evidence, Resource, codings, observed_at
from gateway.analysis.catalogue.model import Alert, Feature, Features, Input, Model

ROOM_AIR = Decimal(21)  # percent of oxygen
TOGETHER = timedelta(hours=1)

# Chart 1 as steps: (up to and including, points); above the last step the points are `beyond`.
Steps = Sequence[tuple[Decimal, int]]


def _steps(*pairs: tuple[str, int]) -> Steps:
    return [(Decimal(edge), points) for edge, points in pairs]


RESPIRATION_POINTS = _steps(("8", 3), ("11", 1), ("20", 0), ("24", 2)), 3
SATURATION_POINTS = _steps(("91", 3), ("93", 2), ("95", 1)), 0
SATURATION_2_AIR = _steps(("83", 3), ("85", 2), ("87", 1)), 0
SATURATION_2_OXYGEN = _steps(("83", 3), ("85", 2), ("87", 1), ("92", 0), ("94", 1), ("96", 2)), 3
SYSTOLIC_POINTS = _steps(("90", 3), ("100", 2), ("110", 1), ("219", 0)), 3
PULSE_POINTS = _steps(("40", 3), ("50", 1), ("90", 0), ("110", 1), ("130", 2)), 3
TEMPERATURE_POINTS = _steps(("35.0", 3), ("36.0", 1), ("38.0", 0), ("39.0", 1)), 2


class NEWS2(Model):
    """Points, 0 to 20."""

    name = "news2"
    version = "2017.1"
    unit = "{score}"
    measure = ("urn:consent-gateway:measure", "news2")
    reads = frozenset({"Patient", "Observation", "Condition"})
    inputs = (
        Input("age", "age in completed years at the index date", unit="a", low=Decimal(16), high=Decimal(120)),
        Input("respiration_rate", "breaths", unit="/min", low=Decimal(1), high=Decimal(80)),
        Input("oxygen_saturation", "oxygen saturation", unit="%", low=Decimal(30), high=Decimal(100)),
        Input("hypercapnic", "saturation is aimed at 88 to 92 % (scale 2), as prescribed", kind="flag"),
        Input("on_oxygen", "breathes supplementary oxygen", kind="flag"),
        Input("systolic_bp", "systolic blood pressure", unit="mm[Hg]", low=Decimal(20), high=Decimal(350)),
        Input("pulse", "heart beats", unit="/min", low=Decimal(10), high=Decimal(300)),
        Input("alert", "awake and not newly confused", kind="flag"),
        Input("temperature", "body temperature", unit="Cel", low=Decimal(20), high=Decimal(45)),
    )  # fmt: skip
    alerts = (
        Alert(Decimal(7), "high", "7 points or more: emergency assessment.", "RCP 2017, NEWS2"),
        Alert(Decimal(5), "moderate", "5 points or more: urgent assessment.", "RCP 2017, NEWS2"),
    )
    card = {
        "title": "National Early Warning Score 2 (2017)",
        "provider": "Published score; implemented by the Consent Gateway",
        "paper": "Royal College of Physicians, National Early Warning Score (NEWS) 2, London 2017",
        "outcome": "acute illness now: 5 or more asks for an urgent review, 7 or more for an emergency one",
        "intended_use": "A look back over recorded vital signs of an adult. Not a monitor at the bedside.",
        "tested_error": "A sum of points: every step of the chart is tested at both of its edges.",
        "records": {
            "vital_signs": "the latest of each up to the index date, none more than an hour from the latest respiration rate",
            "respiration_rate": "LOINC 9279-1", "pulse": "LOINC 8867-4", "systolic_bp": "LOINC 8480-6",
            "oxygen_saturation": "LOINC 59408-5 or 2708-6", "temperature": "LOINC 8310-5 or 8331-1; Fahrenheit by UCUM",
            "on_oxygen": "LOINC 3151-8 above 0 L/min or 3150-6 above 21 %; without either there is no number",
            "alert": "LOINC 67775-7; acute confusion or delirium among the conditions counts as not alert",
            "hypercapnic": "never told by the records: scale 1 is used, as the chart has it without a prescription",
        },
        "limits": [
            "Not for children under 16 or in pregnancy; the records do not always tell the second.",
            "A person for whom scale 2 is prescribed scores too high on oxygen here.",
        ],
    }  # fmt: skip

    def compute(self, values: Mapping[str, Any]) -> Decimal:
        """The sum of the seven parts of chart 1. Numbers between two steps count by the lower step's end."""
        points = _points(values["respiration_rate"], *RESPIRATION_POINTS)
        points += _points(values["oxygen_saturation"], *_saturation(values))
        points += 2 if values["on_oxygen"] else 0
        points += _points(values["systolic_bp"], *SYSTOLIC_POINTS)
        points += _points(values["pulse"], *PULSE_POINTS)
        points += 0 if values["alert"] else 3
        points += _points(values["temperature"], *TEMPERATURE_POINTS, places="0.1")
        return Decimal(points)

    def features(self, evidence: Evidence, *, index_date: date) -> Features:
        person = findings.person(evidence, index_date)
        together = _together(evidence, index_date)

        def measured(name: str, codes: frozenset[str], unit: str) -> Feature:
            return findings.measured(together, name, codes, index_date, unit=unit)

        return Features(
            inputs={
                "age": person.age,
                "respiration_rate": measured("respiration_rate", RESPIRATION, "/min"),
                "oxygen_saturation": measured("oxygen_saturation", OXYGEN_SATURATION, "%"),
                "hypercapnic": Feature(False),
                "on_oxygen": _on_oxygen(together, index_date),
                "systolic_bp": measured("systolic_bp", SYSTOLIC, "mm[Hg]"),
                "pulse": measured("pulse", PULSE, "/min"),
                "alert": _alert(together, index_date),
                "temperature": measured("temperature", TEMPERATURE, "Cel"),
            },
            exclusions=person.excluded,
        )


def _points(value: Decimal, steps: Steps, beyond: int, places: str = "1") -> int:
    """By the step that `value`, rounded as the chart is written, falls in."""
    rounded = value.quantize(Decimal(places))
    return next((points for edge, points in steps if rounded <= edge), beyond)


def _saturation(values: Mapping[str, Any]) -> tuple[Steps, int]:
    if not values["hypercapnic"]:
        return SATURATION_POINTS
    return SATURATION_2_OXYGEN if values["on_oxygen"] else SATURATION_2_AIR


def _together(evidence: Evidence, day: date) -> Evidence:
    """What was observed within an hour of the latest respiration rate: one moment, not a mixture of days."""
    rates = evidence.observations(LOINC, RESPIRATION, until=day)
    moment = observed_at(rates[0][0]) if rates else None
    if moment is None:
        return evidence

    def near(resource: Resource) -> bool:
        at = observed_at(resource)
        return at is not None and abs(at - moment) <= TOGETHER

    kept = tuple(
        each for each in evidence.resources if each.body.get("resourceType") != "Observation" or near(each)
    )
    return Evidence(kept, evidence.complete)


def _on_oxygen(evidence: Evidence, day: date) -> Feature:
    flow = findings.measured(evidence, "on_oxygen", INHALED_OXYGEN_FLOW, day, unit="L/min")
    share = findings.measured(evidence, "on_oxygen", INHALED_OXYGEN_SHARE, day, unit="%")
    for found, least in ((flow, Decimal(0)), (share, ROOM_AIR)):
        if isinstance(found.value, Decimal):
            return Feature(found.value > least, found.sources)
    return flow if flow.sources else share


def _alert(evidence: Evidence, day: date) -> Feature:
    """False by the AVPU answer or by a new confusion; yes needs the answer and all conditions in sight."""
    confused = findings.diagnosed(evidence, "alert", CONFUSION, (), day)
    if confused.value is True:
        return Feature(False, confused.sources)
    for resource, part in evidence.observations(LOINC, RESPONSIVENESS, until=day):
        codes = {code for system, code, _ in codings(part.get("valueCodeableConcept")) if system == LOINC}
        if not codes:
            continue
        source = (resource.reference,)
        if codes & NOT_ALERT:
            return Feature(False, source)
        if not codes & ALERT:
            return Feature(None, source, "alert.unknown_code")
        return Feature(True, source) if confused.reason is None else Feature(None, source, confused.reason)
    return Feature(None, reason="alert.missing")
