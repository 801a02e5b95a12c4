"""Is this a FHIR R4 resource, and whose? Binds each resource to exactly one person, or to none by its type.

`structure.py` holds it against FHIR R4's definitions; whom it concerns is told by FHIR R4's patient
compartment. No Django, no database.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from gateway.records.strict_json import Parsed, Refused
from gateway.records.structure import faults_of, path_text

# FHIR R4, CompartmentDefinition/patient: the one element that says whose a resource is.
COMPARTMENT = {
    **dict.fromkeys(
        (
            "Account", "AdverseEvent", "CarePlan", "CareTeam", "ChargeItem", "ClinicalImpression",
            "Communication", "CommunicationRequest", "Composition", "Condition", "DeviceRequest",
            "DeviceUseStatement", "DiagnosticReport", "DocumentReference", "Encounter", "Flag", "Goal",
            "ImagingStudy", "Media", "MedicationAdministration", "MedicationDispense", "MedicationRequest",
            "MedicationStatement", "Observation", "Procedure", "QuestionnaireResponse", "RequestGroup",
            "RiskAssessment", "ServiceRequest", "Specimen",
        ),
        "subject",
    ),
    **dict.fromkeys(
        (
            "AllergyIntolerance", "BodyStructure", "Claim", "ClaimResponse", "CoverageEligibilityRequest",
            "CoverageEligibilityResponse", "DetectedIssue", "Device", "EpisodeOfCare", "ExplanationOfBenefit",
            "FamilyMemberHistory", "Immunization", "ImmunizationEvaluation", "ImmunizationRecommendation",
            "MolecularSequence", "NutritionOrder", "RelatedPerson", "SupplyDelivery", "VisionPrescription",
        ),
        "patient",
    ),
    "Coverage": "beneficiary",
}  # fmt: skip
# Of no patient: they belong to the custodian, and may name no patient at all.
SHARED = frozenset(
    {
        "Endpoint", "HealthcareService", "InsurancePlan", "Location", "Medication", "Organization",
        "OrganizationAffiliation", "Practitioner", "PractitionerRole", "Substance",
    }
)  # fmt: skip

FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")  # FHIR R4, datatype id
_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,40})"')
_PATIENT = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_SAYS_PATIENT = re.compile(r"(?:^|/)Patient(?:[/?]|$)")


def validate(resource: Mapping[str, Any], addresses: Mapping[str, str] | None = None) -> list[Refused]:
    """What is wrong with `resource`, element by element; empty when it is FHIR R4 as `structure` has it.

    `addresses` maps each fullUrl of the same Bundle to `Type/id`.
    """
    kind = resource.get("resourceType")
    if not isinstance(kind, str) or not (kind == "Patient" or kind in COMPARTMENT or kind in SHARED):
        return [Refused("type_not_taken", "is of a type that is not taken in", element="resourceType")]
    if not isinstance(resource.get("id"), str) or not FHIR_ID.fullmatch(resource["id"]):
        return [Refused("id_missing", "needs an id of FHIR's form", element=f"{kind}.id")]
    return faults_of(resource, addresses or {})


def kind_taken(raw: bytes) -> str:
    """The type that faulty bytes say they are of, where it is one that is taken in; else ""."""
    found = _TYPE.search(raw)
    kind = found[1].decode() if found else ""
    return kind if kind == "Patient" or kind in COMPARTMENT or kind in SHARED else ""


class People:
    """Who is meant by a reference. `bundle` maps each fullUrl of the same Bundle to `Type/id`."""

    def __init__(self, bundle: Mapping[str, str] | None = None) -> None:
        self.bundle = bundle or {}

    def owner(self, parsed: Parsed) -> str | None:
        """The id of the one Patient that a valid resource is about; None for a type of no patient.

        Raises Refused: no patient, one that cannot be told, another patient anywhere in it.
        """
        body = parsed.body
        kind = body["resourceType"]
        if kind == "Patient":
            owner: str | None = body["id"]
        elif kind in SHARED or (kind == "Device" and "patient" not in body):
            owner = None
        else:
            owner = self._named(body, kind)
        if "Patient" in parsed.nested:
            raise Refused("another_patient", "holds a Patient of its own", element=f"{kind}.contained")
        for reference in parsed.references:
            meant = self._patient(reference)
            if meant == "":
                _refuse(body, reference, "reference_unclear", "leads to what may be another patient")
            if meant not in (None, owner):
                _refuse(
                    body, reference, "another_patient", "names another patient than the resource is about"
                )
        return owner

    def _named(self, body: dict[str, Any], kind: str) -> str:
        element = COMPARTMENT[kind]
        value = body.get(element)
        reference = value.get("reference") if isinstance(value, dict) else None
        found = self._patient(reference) if isinstance(reference, str) else None
        if not found:
            raise Refused(
                "patient_unclear",
                "must name the patient by a reference to a Patient of this source",
                element=f"{kind}.{element}",
            )
        return found

    def _patient(self, reference: str) -> str | None:
        """The id of the Patient, "" for one that cannot be told, None for what is no Patient."""
        meant = self.bundle.get(reference, reference)
        if "Patient" not in meant and not meant.startswith("urn:"):
            return None
        if (match := _PATIENT.fullmatch(meant)) is not None:
            return match[1]
        # A urn that leads nowhere may be anyone; so may a Patient on another server, or by a search.
        return "" if meant.startswith("urn:") or _SAYS_PATIENT.search(meant) else None


def _refuse(body: dict[str, Any], reference: str, code: str, message: str) -> NoReturn:
    path = next((path for path, found in _paths(body) if found == reference), body["resourceType"])
    raise Refused(code, message, element=path)


def _paths(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), body)]
    while stack:
        steps, node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get("reference"), str):
                yield path_text(body["resourceType"], [*steps, "reference"]), node["reference"]
            stack += [((*steps, name), child) for name, child in node.items()]
        elif isinstance(node, list):
            stack += [((*steps, index), child) for index, child in enumerate(node)]
