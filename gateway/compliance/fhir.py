"""The answers and the uses of one patient as FHIR R4: Consent, AuditEvent (IHE BALP 1.1) and Provenance.

An AuditEvent's id is the leaf hash of the log's row that it tells of (RFC 9162: SHA-256 of 0x00 and the
line), so each is found in the bundle's rows. What we do not keep, as a client's network address, says so.
"""

import base64
from collections.abc import Iterable, Iterator
from datetime import datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from consent.models import Consent, Patient, Representative
from consent.state import State, state_of
from gateway.compliance.uses import BLOCKED, DELIVERED, EMERGENCY, OWN_COPY, RELEASED, Step, Use
from ledger.contract import purposes
from ledger.contract.canonical import dumps
from ledger.contract.state import Json

URN = "urn:consent-gateway"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
SNOMED = "http://snomed.info/sct"
LIFECYCLE = f"{TERMINOLOGY}/iso-21089-lifecycle"
BALP = "https://profiles.ihe.net/ITI/BALP"
AUTHORIZED = f"{BALP}/StructureDefinition/IHE.BasicAudit.AuthZconsent"
DISCLOSED = f"{BALP}/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure.Source"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
AI_ASSERTED = {"system": f"{TERMINOLOGY}/v3-ObservationValue", "code": "AIAST"}

STATUS = {
    State.SHARING: "active",
    State.PARTLY: "active",
    State.PENDING: "proposed",
    State.HELD: "proposed",
    State.REFUSED: "rejected",
    State.NOT_SEALED: "rejected",
    State.MISTAKE: "entered-in-error",
}
# Kind of step -> its code in the record's life cycle (ISO 21089), where no profile of BALP is of its kind.
LIFE = {
    "result.read": "access",
    "result.accepted": "attest",
    "result.rejected": "deprecate",
    "result.withdrawn": "deprecate",
    "emergency.read": "access",
    "emergency.reviewed": "verify",
    OWN_COPY: "access",
}
OVERRIDES = {EMERGENCY: "110127", "emergency.ended": "110138"}  # emergency override started, stopped


def ndjson(resources: Iterable[Json]) -> Iterator[bytes]:
    for each in resources:
        yield dumps(each) + b"\n"


def consents(patient: Patient) -> Iterator[Json]:
    """Every answer as it was given, with the status that it has now."""
    for each in Consent.objects.filter(patient=patient).select_related("request").order_by("decided_at"):
        yield consent(each)


def consent(given: Consent) -> Json:
    return {**given.fhir, "status": STATUS.get(state_of(given), "inactive")}


def audit_events(patient: Patient, found: Iterable[Use]) -> Iterator[Json]:
    for use in found:
        for step in use.steps:
            yield _event(patient, use, step)


def provenances(patient: Patient, found: Iterable[Use]) -> Iterator[Json]:
    """One for each answer, by whom it was given; one for each result, by which model it was made."""
    for each in (
        Consent.objects.filter(patient=patient).select_related("representative").order_by("decided_at")
    ):
        yield _of_answer(patient, each)
    for use in found:
        if (at := use.at(DELIVERED)) is not None:
            yield _of_result(use, _instant(at))


# Audit events


def _event(patient: Patient, use: Use, step: Step) -> Json:
    if step.kind in {RELEASED, *BLOCKED}:
        return _authorization(patient, use, step)
    if step.kind == DELIVERED or (step.kind == OWN_COPY and step.details.get("code") == "opened"):
        return _disclosure(patient, use, step)
    if step.kind in OVERRIDES:
        kind = {"type": _dicom("110113"), "subtype": [_dicom(OVERRIDES[step.kind])]}
    else:
        kind = {"type": _coding(LIFECYCLE, LIFE[step.kind])}
    return {
        **_base(step, patient, use),
        **kind,
        "agent": [_actor(patient, step)],
        "entity": [_person(patient)],
    }


def _authorization(patient: Patient, use: Use, step: Step) -> Json:
    """BALP, AuthZconsent: a permit, or a denial with its reasons."""
    denied = step.kind in BLOCKED
    client = _requester(use)
    event = {
        **_base(step, patient, use, AUTHORIZED),
        "type": _dicom("110113"),
        "subtype": [_coding(f"{BALP}/CodeSystem/AuthZsubType", "AuthZ-Consent")],
        "action": "E",
        "outcome": "8" if denied else "0",
        "agent": [
            {
                "type": _concept(DICOM, "110150"),
                "who": client,
                "requestor": False,
                "network": _unknown(),
            },
            {
                "type": _concept(f"{TERMINOLOGY}/v3-ParticipationType", "IRCP"),
                "who": client,
                "requestor": True,
                **_purpose_of_use(use),
            },
            {"type": _concept(f"{TERMINOLOGY}/v3-RoleClass", "PROV"), "who": client, "requestor": False},
            {
                "type": _concept(f"{TERMINOLOGY}/extra-security-role-type", "authserver"),
                "who": _gateway(),
                "requestor": False,
            },
        ],
        "entity": [
            _person(patient),
            {"type": _coding("http://hl7.org/fhir/resource-types", "Consent"), "what": _consent(use)},
        ],
    }
    if denied:
        event["outcomeDesc"] = ", ".join(step.details.get("reasons", ())) or step.kind
    return event


def _disclosure(patient: Patient, use: Use, step: Step) -> Json:
    """BALP, PrivacyDisclosure.Source: a result or a copy left, with the patient's authority."""
    to_patient = step.kind == OWN_COPY
    whom = _patient(patient)
    host = urlsplit(settings.PUBLIC_URL).hostname or "localhost"
    return {
        **_base(step, patient, use, DISCLOSED),
        "type": _dicom("110106"),
        "subtype": [_coding(LIFECYCLE, "disclose")],
        "action": "R",
        "agent": [
            {
                "type": _concept(DICOM, "110153"),
                "who": _gateway(),
                "requestor": False,
                "network": {"address": host, "type": "1"},
            },
            {
                "type": _concept(DICOM, "110152"),
                "who": whom if to_patient else _requester(use),
                "requestor": not to_patient,
                "network": _unknown(),
            },
            {"type": _concept(SNOMED, "429577009"), "who": whom, "requestor": to_patient},
        ],
        "entity": [
            _person(patient),
            {
                "what": {"identifier": {"system": f"{URN}:use", "value": use.key}},
                "type": _coding(f"{TERMINOLOGY}/audit-entity-type", "2"),
                "role": _coding(f"{TERMINOLOGY}/object-role", "3"),
            },
        ],
    }


def _base(step: Step, patient: Patient, use: Use, profile: str = "") -> Json:
    purpose = "PATRQT" if step.kind == OWN_COPY else use.purpose
    return {
        "resourceType": "AuditEvent",
        "id": step.leaf_hash,
        **({"meta": {"profile": [profile]}} if profile else {}),
        "recorded": _instant(step.at),
        "outcome": "0",
        **({"purposeOfEvent": [_concept(purposes.SYSTEM, purpose)]} if purpose else {}),
        "source": {"observer": _gateway(), "type": [_coding(f"{TERMINOLOGY}/security-source-type", "4")]},
    }


def _actor(patient: Patient, step: Step) -> Json:
    """Whoever acted: by pseudonym, but for the patient and the client, who are known here."""
    kind, id = step.actor["kind"], step.actor["id"]
    who = {"identifier": {"system": f"{URN}:{kind}", "value": id}}
    return {"who": _patient(patient) if kind == "patient" else who, "requestor": kind != "system"}


def _person(patient: Patient) -> Json:
    return {
        "what": _patient(patient),
        "type": _coding(f"{TERMINOLOGY}/audit-entity-type", "1"),
        "role": _coding(f"{TERMINOLOGY}/object-role", "1"),
    }


def _consent(use: Use) -> Json:
    if use.consent is not None:
        return {"reference": f"Consent/{use.consent.pk}"}
    return {"type": "Consent", "display": "no consent in force"}


def _purpose_of_use(use: Use) -> Json:
    return {"purposeOfUse": [_concept(purposes.SYSTEM, use.purpose)]} if use.purpose else {}


# Provenance


def _of_answer(patient: Patient, consent: Consent) -> Json:
    acted = consent.representative
    who = _patient(patient) if acted is None else _representative(acted)
    agent: Json = {"type": _concept(f"{TERMINOLOGY}/provenance-participant-type", "author"), "who": who}
    if acted is not None:
        agent["onBehalfOf"] = _patient(patient)
    found: Json = {
        "resourceType": "Provenance",
        "id": f"answer-{consent.pk[:32]}",
        "target": [{"reference": f"Consent/{consent.pk}"}],
        "recorded": _instant(consent.decided_at),
        "agent": [agent],
    }
    if consent.signature:
        found["signature"] = [
            {
                "type": [_coding("urn:iso-astm:E1762-95:2013", "1.2.840.10065.1.12.1.7")],  # consent
                "when": _instant(consent.decided_at),
                "who": who,
                "sigFormat": "application/json",
                "data": base64.b64encode(dumps(consent.signature)).decode(),
            }
        ]
    return found


def _of_result(use: Use, recorded: str) -> Json:
    """The result is named by the subject's id, under which the client reads it."""
    told = use.told
    participant = f"{TERMINOLOGY}/provenance-participant-type"
    made_by = (
        {"type": "Device", "identifier": {"system": f"{URN}:model", "value": told["model"]}}
        if told.get("model")
        else _gateway()
    )
    result: Json = {
        "resourceType": "Provenance",
        "id": f"result-{use.key[:32]}",
        "meta": {"security": [AI_ASSERTED]},
        "target": [{"identifier": {"system": f"{URN}:subject", "value": use.key}}],
        "recorded": recorded,
        # The release under which the records were opened: a key of the ledger.
        "policy": [f"{URN}:release/{use.leg}/{told.get('attempt', '')}"],
        "agent": [
            {"type": _concept(participant, "performer"), "who": made_by},
            {"type": _concept(participant, "custodian"), "who": {"display": settings.CUSTODIAN}},
        ],
    }
    if use.consent is not None:
        result["entity"] = [{"role": "source", "what": {"reference": f"Consent/{use.consent.pk}"}}]
    if use.exports:
        del result["meta"]  # a copy of records, and nothing that a model asserts
    return result


# The parts


def _gateway() -> Json:
    """The gateway itself: the observer of every event."""
    return {
        "type": "Device",
        "identifier": {"system": f"{URN}:gateway", "value": settings.PUBLIC_URL},
        "display": settings.CUSTODIAN,
    }


def _patient(patient: Patient) -> Json:
    return {"reference": f"Patient/{patient.pk}"}


def _representative(person: Representative) -> Json:
    return {
        "type": "RelatedPerson",
        "identifier": {"system": f"{URN}:representative", "value": person.pseudonym},
    }


def _requester(use: Use) -> Json:
    if use.requester is None:
        return {"type": "Organization", "display": "unknown"}
    return {
        "type": "Organization",
        "identifier": {"system": f"{URN}:requester", "value": str(use.requester.pk)},
        "display": use.requester.name,
    }


def _unknown() -> Json:
    return {"extension": [{"url": ABSENT, "valueCode": "unknown"}]}


def _dicom(code: str) -> Json:
    return _coding(DICOM, code)


def _coding(system: str, code: str) -> Json:
    return {"system": system, "code": code}


def _concept(system: str, code: str) -> Json:
    return {"coding": [_coding(system, code)]}


def _instant(at: datetime) -> str:
    return at.astimezone(timezone.get_default_timezone()).isoformat(timespec="seconds")
