"""Synthetic patients for the demonstration: seeded, the same bytes each time, nobody's records.

carebundle draws the clinical picture; what the risk model also asks for and carebundle leaves out
(race by the US Core extension, smoking status by LOINC 72166-2) is added here.
"""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import carebundle

SEED = 20_26
SMOKING = [
    ("266919005", "Never smoked tobacco"),
    ("8517006", "Ex-smoker"),
    ("77176002", "Smoker"),
]
RACES = [("2106-3", "White"), ("2054-5", "Black or African American")]


def write(
    folder: Path, *, count: int, reference_date: date, names: Sequence[str] = (), seed: int = SEED
) -> list[str]:
    """Write one NDJSON file for each resource type; return the ids of the Patient resources.

    The first patients are called `names`: those who sign in. Another `seed` draws other patients.
    """
    bundles = carebundle.generate_cohort(
        count=count, seed=seed, age_range=(45, 70), reference_date=reference_date
    )
    files = {
        kind: [json.loads(line) for line in text.splitlines()]
        for kind, text in carebundle.to_ndjson(bundles).items()
    }
    patients = files["Patient"]
    for patient, name in zip(patients, names, strict=False):
        patient["name"] = [{"use": "official", "given": [name], "family": "Example"}]
    for index, patient in enumerate(patients):
        patient.setdefault("extension", []).append(_race(*RACES[index % len(RACES)]))
        files["Observation"].append(
            _smoking_status(patient["id"], reference_date, *SMOKING[index % len(SMOKING)])
        )
    folder.mkdir(parents=True, exist_ok=True)
    for kind, resources in files.items():
        lines = (json.dumps(resource, ensure_ascii=False) for resource in resources)
        (folder / f"{kind}.ndjson").write_text("\n".join(lines) + "\n")
    return [patient["id"] for patient in patients]


def _race(code: str, display: str) -> dict[str, Any]:
    return {
        "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
        "extension": [
            {
                "url": "ombCategory",
                "valueCoding": {
                    "system": "urn:oid:2.16.840.1.113883.6.238",
                    "code": code,
                    "display": display,
                },
            },
            {"url": "text", "valueString": display},
        ],
    }


def _smoking_status(patient: str, on: date, code: str, display: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"smoking-{patient}",
        "meta": {
            "security": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"},
            ]
        },
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "social-history",
                    }
                ]
            }
        ],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": "72166-2", "display": "Tobacco smoking status"}]
        },
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": on.isoformat(),
        "valueCodeableConcept": {
            "coding": [{"system": "http://snomed.info/sct", "code": code, "display": display}]
        },
    }
