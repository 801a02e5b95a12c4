"""Small FHIR resources to read, for the tests of the models."""

from typing import Any

from gateway.analysis.catalogue.codes import US_CORE_RACE
from gateway.analysis.catalogue.evidence import LOINC, SNOMED, Evidence, Resource
from gateway.analysis.catalogue.model import Model
from gateway.analysis.catalogue.units import UCUM


def patient(**more: Any) -> dict[str, Any]:
    race = {
        "url": "ombCategory",
        "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3"},
    }
    return {
        "resourceType": "Patient",
        "id": "p",
        "gender": "female",
        "birthDate": "1970-06-01",
        "extension": [{"url": US_CORE_RACE, "extension": [race]}],
        **more,
    }


def measured(code: str, value: object, unit: str, day: str = "2026-01-01", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o-{code}-{day}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "effectiveDateTime": day,
        "valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit},
        **more,
    }


def smoking(code: str, system: str = SNOMED, day: str = "2026-01-01") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"smoking-{day}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "72166-2"}]},
        "effectiveDateTime": day,
        "valueCodeableConcept": {"coding": [{"system": system, "code": code}]},
    }


def condition(code: str, system: str = SNOMED, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": f"c-{code}",
        "code": {"coding": [{"system": system, "code": code}]},
        **more,
    }


def order(medication: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": "m",
        "status": "active",
        "intent": "order",
        "authoredOn": "2025-01-01",
        **({} if medication is None else {"medicationCodeableConcept": medication}),
        **more,
    }


def held(model: Model, *bodies: dict[str, Any], withheld: tuple[str, ...] = ()) -> Evidence:
    """What a child holds for this model; of the types in `withheld` something may have been kept back."""
    resources = tuple(Resource(f"{b['resourceType']}/{b['id']}", "00" * 32, b) for b in bodies)
    return Evidence(resources, model.reads - set(withheld))
