"""The patient's answer as a FHIR R4 Consent: what is kept, committed to and decided on.

One root provision of type permit (IHE PCF), no nesting, and nothing that says who the patient is but
a reference that means something only here. The contract compiles it: ledger/contract/consents.py.
"""

import base64
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from consent.answers import IN_PORTAL, Authority, Drafted, How
from consent.models import ConsentRequest
from ledger.contract import duo, purposes
from ledger.contract.consents import AI_MODEL
from ledger.contract.labels import CONFIDENTIALITY, SENSITIVITY

Json = dict[str, Any]

TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
PARTICIPATION = f"{TERMINOLOGY}/v3-ParticipationType"
CONSENT_SCOPE = f"{TERMINOLOGY}/consentscope"
CONSENT_ACTION = f"{TERMINOLOGY}/consentaction"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
LOINC = "http://loinc.org"
ROLE_CODES = f"{TERMINOLOGY}/v3-RoleCode"
# What a representative is to the patient: v3-RoleCode.
RELATIONSHIPS = {"parent": "PRN", "guardian": "GUARD", "attorney": "POWATT"}


def build_consent(
    *,
    drafted: Drafted,
    request: ConsentRequest,
    kinds: Sequence[str],
    sensitive: Sequence[str],
    ends: datetime,
    how: How = IN_PORTAL,
) -> Json:
    """FHIR R4 Consent (status active) that permits what was chosen, and nothing else.

    The provision holds for the requester as information recipient (IRCP), for the purpose and the uses of
    the question, to use the records with the AI model of this digest or to disclose a copy of them, from its
    own moment to `ends`, for the resource types `kinds`. Records labelled with a sensitivity code are covered
    only where that code is in `sensitive`. `verification` says whether the patient signs it with a passkey;
    the signature itself stands beside it.
    """
    provision = {
        "type": "permit",
        **({"extension": [{"url": AI_MODEL, "valueString": request.model}]} if request.model else {}),
        "period": {"start": _instant(drafted.at), "end": _instant(ends)},
        "actor": [
            {
                "role": {"coding": [_coding(PARTICIPATION, "IRCP")]},
                "reference": {"reference": request.requester.reference},
            }
        ],
        "action": [{"coding": [_coding(CONSENT_ACTION, request.action)]}],
        "securityLabel": _labels(sensitive),
        "purpose": [
            _coding(purposes.SYSTEM, request.purpose),
            *(_coding(duo.SYSTEM, code) for code in request.use),
        ],
        "class": [_coding(RESOURCE_TYPES, kind) for kind in sorted(set(kinds))],
    }
    frame = _frame(drafted.consent, request, drafted.at, how)
    if how.staff is None:
        frame["verification"] = [_signed(request, drafted)]
    return {**frame, "status": "active", "provision": provision}


def build_refusal(*, consent_id: str, request: ConsentRequest, at: datetime, how: How = IN_PORTAL) -> Json:
    """FHIR R4 Consent (status rejected) that denies everything that was asked."""
    return {**_frame(consent_id, request, at, how), "status": "rejected", "provision": {"type": "deny"}}


def _frame(consent_id: str, request: ConsentRequest, at: datetime, how: How) -> Json:
    """What every Consent of ours has: scope, category, whose, when, what was read, who keeps the records."""
    return {
        "resourceType": "Consent",
        "id": consent_id,
        "scope": {"coding": [_coding(CONSENT_SCOPE, "patient-privacy")]},
        "category": [{"coding": [_coding(LOINC, "59284-0")]}],
        "patient": {"reference": f"Patient/{request.patient_id}"},
        "dateTime": _instant(at),
        "performer": [_performer(request, how)],
        "organization": [{"display": settings.CUSTODIAN}],
        "policy": [{"uri": uri_of((how.notice or request.notice).digest)}],
        **_related_person(request, how),
        **_written_down(request, at, how),
    }


def _performer(request: ConsentRequest, how: How) -> Json:
    """Who agreed: the patient, or a related person by what they are to her; their name stays on the paper."""
    if how.authority == Authority.PATIENT:
        return {"reference": f"Patient/{request.patient_id}"}
    named = {} if how.representative is None else {"reference": "#performer"}
    return {**named, "type": "RelatedPerson", "display": str(how.authority)}


def _related_person(request: ConsentRequest, how: How) -> Json:
    """Who acted for the patient: what they are to her, and their name in the audit log; no other."""
    if how.representative is None:
        return {}
    person = {
        "resourceType": "RelatedPerson",
        "id": "performer",
        "identifier": [{"value": how.representative.pseudonym}],
        "patient": {"reference": f"Patient/{request.patient_id}"},
        "relationship": [{"coding": [_coding(ROLE_CODES, RELATIONSHIPS[str(how.authority)])]}],
    }
    return {"contained": [person]}


def _signed(request: ConsentRequest, drafted: Drafted) -> Json:
    if not drafted.signed:
        return {"verified": False}
    signer = {"reference": f"Patient/{request.patient_id}"}
    return {"verified": True, "verifiedWith": signer, "verificationDate": _instant(drafted.at)}


def _written_down(request: ConsentRequest, at: datetime, how: How) -> Json:
    """For an answer on paper or by phone: it was read back to the person, and the paper by its SHA-256."""
    if how.staff is None:
        return {}
    found: Json = {
        "verification": [
            {"verified": True, "verifiedWith": _performer(request, how), "verificationDate": _instant(at)}
        ]
    }
    if how.scan is not None:
        found["sourceAttachment"] = {
            "contentType": how.scan.media_type,
            "url": uri_of(how.scan.digest),
            "size": how.scan.size,
            "creation": _instant(at),
        }
    return found


def uri_of(digest: str) -> str:
    """A notice or a scan by its SHA-256 (hex), as a URI: RFC 6920 section 3."""
    return "ni:///sha-256;" + base64.urlsafe_b64encode(bytes.fromhex(digest)).rstrip(b"=").decode()


def _labels(sensitive: Iterable[str]) -> list[Json]:
    """Normal records, and those whose every sensitivity was ticked.

    R is never named: it would also reach what is restricted for a reason that nobody asked about.
    """
    return [
        _coding(CONFIDENTIALITY, "N"),
        *(_coding(SENSITIVITY, code) for code in sorted(set(sensitive))),
    ]


def _coding(system: str, code: str) -> Json:
    return {"system": system, "code": code}


def _instant(at: datetime) -> str:
    """FHIR dateTime to the second, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
