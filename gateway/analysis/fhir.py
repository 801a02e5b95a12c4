"""A score as FHIR R4: RiskAssessment (a probability) or Observation (a measure), Provenance; DetectedIssue
where it is past a threshold, and where there is no number, an OperationOutcome.

The result leaves to an AI client, so it names no record: the person is the job's subject, and a
resource is a pseudonym that the hospital can compute again and two jobs do not share.
Imported by the child: no Django.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from uuid import uuid4

from gateway.analysis.catalogue.model import Alert, Features, Model, Score
from gateway.analysis.catalogue.summary import Spread, Summary
from gateway.analysis.catalogue.units import UCUM

Fhir = dict[str, Any]

SYSTEM = "urn:consent-gateway"
AI_ASSERTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"


def resource_pseudonym(subject: str, digest: str) -> str:
    """HMAC-SHA256 (hex) of a resource's digest under the subject id (both 64 hex characters).

    Whoever has the record can check it; whoever has two results cannot tell that they used the same one.
    """
    return hmac.new(bytes.fromhex(subject), bytes.fromhex(digest), hashlib.sha256).hexdigest()


def result_bundle(
    *,
    model: Model,
    found: Features,
    score: Score,
    digests: Mapping[str, str],
    job: str,
    attempt: int,
    subject: str,
    index_date: date,
    now: datetime,
) -> Fhir:
    """The Bundle (type collection). `digests` gives the SHA-256 of each resource by `Type/id`.

    Its identifier is random: the log holds the Bundle's own digest, and nobody who can guess a result
    confirms the guess by it.
    """
    used = [
        {
            "type": reference.partition("/")[0],
            "identifier": {
                "system": f"{SYSTEM}:resource",
                "value": resource_pseudonym(subject, digests[reference]),
            },
        }
        for reference in found.sources
    ]
    result = _risk_assessment if model.measure is None else _observation
    made = [result(model, score, used, subject, index_date)]
    if (alert := model.alert(score)) is not None:
        made.append(_detected_issue(model, alert, subject, made[0]["resourceType"], now))
    provenance = _provenance(used, model=model, made=made, release=f"release/{job}/{attempt}", now=now)
    resources = [made[0], provenance, *made[1:]]
    if score.value is None:
        resources.append(_outcome(score))
    entries = [
        {"fullUrl": f"urn:consent-gateway:{subject}:{n}", "resource": r} for n, r in enumerate(resources)
    ]
    identifier = {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid4()}"}
    return {"resourceType": "Bundle", "identifier": identifier, "type": "collection", "entry": entries}


def summary_bundle(
    *, model: Summary, spread: Spread, job: str, attempt: int, index_date: date, now: datetime
) -> Fhir:
    """Numbers about many as a Bundle (type collection) of a MeasureReport and its Provenance.

    It names nobody and no record. Each count is a lower bound.
    """

    def counted(code: str, says: str, number: int) -> Fhir:
        system = "http://terminology.hl7.org/CodeSystem/measure-population"
        return {"code": {"coding": [{"system": system, "code": code}], "text": says}, "count": number}

    day = index_date.isoformat()
    group: Fhir = {
        "population": [
            counted("initial-population", "people, at least", spread.people),
            counted("measure-population", "people with a score, at least", spread.scored),
        ],
        "stratifier": [
            {
                "code": [{"text": model.of.card["title"]}],
                "stratum": [
                    {
                        "value": {"text": band.says},
                        "population": [counted("measure-population", "people, at least", number)],
                    }
                    for band, number in zip(model.bands, spread.bands, strict=True)
                ],
            }
        ],
    }
    if spread.mean is not None:
        unit = {"unit": model.unit, "system": UCUM, "code": model.unit}
        group["measureScore"] = {"value": float(spread.mean), **unit}
    report: Fhir = {
        "resourceType": "MeasureReport",
        "id": str(uuid4()),
        "meta": {"security": [AI_ASSERTED]},
        "status": "complete",
        "type": "summary",
        "measure": f"{SYSTEM}:model:{model.digest()}",
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "period": {"start": day, "end": day},
        "group": [group],
    }
    provenance = _provenance([], model=model, made=[report], release=f"release/{job}/{attempt}", now=now)
    entries = [
        {"fullUrl": f"urn:uuid:{report['id']}", "resource": report},
        {"fullUrl": f"urn:consent-gateway:{provenance['id']}", "resource": provenance},
    ]
    identifier = {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid4()}"}
    return {"resourceType": "Bundle", "identifier": identifier, "type": "collection", "entry": entries}


def _risk_assessment(model: Model, score: Score, used: list[Fhir], subject: str, index_date: date) -> Fhir:
    prediction: Fhir = {"outcome": {"text": model.card["outcome"]}}
    if score.value is not None:
        # RiskAssessment.prediction.probabilityDecimal is a percentage (R4, constraint ras-2: at most 100).
        prediction["probabilityDecimal"] = float(score.value)
    else:
        prediction["_probabilityDecimal"] = {"extension": [{"url": DATA_ABSENT, "valueCode": "unknown"}]}
        prediction["rationale"] = f"No number: {', '.join(score.reasons)}"
    assessment: Fhir = {
        "resourceType": "RiskAssessment",
        **_by_model(model, subject),
        "occurrenceDateTime": index_date.isoformat(),
        "prediction": [prediction],
    }
    return {**assessment, "basis": used} if used else assessment


def _observation(model: Model, score: Score, used: list[Fhir], subject: str, index_date: date) -> Fhir:
    assert model.measure is not None
    system, code = model.measure
    observation: Fhir = {
        "resourceType": "Observation",
        **_by_model(model, subject),
        "code": {"coding": [{"system": system, "code": code}], "text": model.card["title"]},
        "effectiveDateTime": index_date.isoformat(),
    }
    if score.value is not None:
        observation["valueQuantity"] = {
            "value": float(score.value),
            "unit": model.unit,
            "system": UCUM,
            "code": model.unit,
        }
    else:
        absent = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
        observation["dataAbsentReason"] = {
            "coding": [{"system": absent, "code": "unknown"}],
            "text": f"No number: {', '.join(score.reasons)}",
        }
    return {**observation, "derivedFrom": used} if used else observation


def _detected_issue(model: Model, alert: Alert, subject: str, about: str, now: datetime) -> Fhir:
    """That the result is past a published threshold: for a person to look at, never an order."""
    return {
        "resourceType": "DetectedIssue",
        "id": subject,
        "meta": {"security": [AI_ASSERTED]},
        "status": "final",
        "code": {"text": model.card["title"]},
        "severity": alert.severity,
        "patient": _person(subject),
        "identifiedDateTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "author": _device(model),
        "implicated": [{"reference": f"{about}/{subject}"}],
        "detail": f"{alert.says} ({alert.source})",
    }


def _person(subject: str) -> Fhir:
    return {"type": "Patient", "identifier": {"system": f"{SYSTEM}:subject", "value": subject}}


def _device(model: Model) -> Fhir:
    return {
        "type": "Device",
        "identifier": {"system": f"{SYSTEM}:model", "value": model.digest()},
        "display": f"{model.name} {model.version}",
    }


def _by_model(model: Model, subject: str) -> Fhir:
    """What a result says of itself, whichever resource it is: made by this model, about this subject."""
    return {
        "id": subject,
        "meta": {"security": [AI_ASSERTED]},
        "status": "final",
        "method": {
            "coding": [{"system": f"{SYSTEM}:model", "code": model.digest(), "version": model.version}],
            "text": model.card["title"],
        },
        "subject": _person(subject),
    }


def _provenance(used: list[Fhir], *, model: Model, made: list[Fhir], release: str, now: datetime) -> Fhir:
    subject = made[0]["id"]
    provenance: Fhir = {
        "resourceType": "Provenance",
        "id": hashlib.sha256(f"provenance {subject}".encode()).hexdigest(),
        "meta": {"security": [AI_ASSERTED]},
        "target": [{"reference": f"{each['resourceType']}/{each['id']}"} for each in made],
        "recorded": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        # The release under which the records were opened: a key of the ledger.
        "policy": [f"{SYSTEM}:{release}"],
        "agent": [
            {
                "type": {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                            "code": "performer",
                        }
                    ]
                },
                "who": _device(model),
            }
        ],
    }
    return (
        {**provenance, "entity": [{"role": "source", "what": each} for each in used]} if used else provenance
    )


def _outcome(score: Score) -> Fhir:
    """Why there is no number, one issue for each reason."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "information",
                "code": "incomplete" if reason.endswith(".missing") else "business-rule",
                "details": {"coding": [{"system": f"{SYSTEM}:reason", "code": reason}]},
            }
            for reason in score.reasons
        ],
    }
