"""The receipt of an answer, for the patient to keep: ISO/IEC TS 27560:2023, as JSON.

The fields are those of TS 27560 section 6 (header, PII processing, party identification, event, receipt
metadata), in snake_case; docs/portal.md lists them. What is ours besides stands under `consent_gateway`.
"""

import uuid
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from consent.answers import GivenBy
from consent.explanation import KINDS, PURPOSES, SENSITIVE
from consent.fhir import uri_of
from consent.models import Consent
from ledger.contract import purposes
from ledger.contract.canonical import dumps

Json = dict[str, Any]

SCHEMA = "ISO/IEC TS 27560:2023"
CUSTODIAN = "custodian"  # party_id of the hospital within a receipt
NOT_STATED = "not stated"  # a field that the standard asks for and the installation did not set

# Where a consent stands: terms of the W3C Data Privacy Vocabulary 2 (dpv:ConsentStatus).
REQUESTED, GIVEN, REFUSED = "ConsentRequested", "ConsentGiven", "ConsentRefused"
WITHDRAWN, EXPIRED, INVALIDATED = "ConsentWithdrawn", "ConsentExpired", "ConsentInvalidated"


def build_receipt(consent: Consent, *, now: datetime) -> Json:
    """The receipt of `consent` as it stands at `now`, in the active language.

    `receipt_id` is a UUID made from all that the receipt says, so the same receipt has the same id.
    Needs `consent.request` with requester, notice and patient.
    """
    record = {
        "schema_version": SCHEMA,
        "record_id": consent.pk,
        "pii_principal_id": consent.patient_id,
        "pii_processing": _processing(consent),
        "party_identification": _parties(consent),
        "event": _events(consent, now),
    }
    content = {
        "schema_version": SCHEMA,
        "language": get_language() or settings.LANGUAGE_CODE,
        "consent_record": record,
        "consent_gateway": _ours(consent),
    }
    return {"receipt_id": str(uuid.uuid5(uuid.NAMESPACE_OID, dumps(content).decode())), **content}


def _processing(consent: Consent) -> Json:
    asked = consent.request
    notice = consent.shown_notice
    return {
        "privacy_notice": {
            "uri": uri_of(notice.digest),
            "sha256": notice.digest,
            "title": notice.title,
            "version": notice.version,
        },
        "language": notice.language,
        "purposes": [
            {
                "purpose": asked.what_for,
                "purpose_type": {
                    "system": purposes.SYSTEM,
                    "code": asked.purpose,
                    "display": str(PURPOSES.get(asked.purpose, asked.purpose)),
                },
                "lawful_basis": "consent",
                "pii_information": [
                    *(_pii(code, str(KINDS[code].name), sensitive=False) for code in consent.kinds),
                    *(_pii(code, str(SENSITIVE[code].name), sensitive=True) for code in consent.sensitive),
                ],
                "pii_controllers": [CUSTODIAN],
                "collection_method": _("From the health records that the hospital keeps"),
                "processing_method": _("A computer program reads the records and makes a result"),
                "storage_locations": [_("At the hospital, locked")],
                "retention_period": _instant(consent.expires_at) or NOT_STATED,
                "jurisdiction": settings.JURISDICTION or NOT_STATED,
                "recipient_third_parties": [asked.requester.reference],
                "withdrawal_method": _("Press Stop sharing in My choices, or call the hospital"),
                "privacy_rights": [
                    _("See who used your records"),
                    _("Ask for a copy of your records"),
                    _("Ask the company to delete what it got"),
                ],
            }
        ],
    }


def _pii(code: str, name: str, *, sensitive: bool) -> Json:
    # Health data are a special category (GDPR article 9), each of them; nobody has to share any.
    return {
        "pii_type": name,
        "pii_attribute_id": code,
        "pii_optional": True,
        "sensitive_pii_category": sensitive,
        "special_pii_category": True,
    }


def _parties(consent: Consent) -> list[Json]:
    requester = consent.request.requester
    return [
        {
            "party_id": CUSTODIAN,
            "party_name": settings.CUSTODIAN,
            "party_role": "controller",
            "party_type": "organisation",
            "party_address": settings.CUSTODIAN_ADDRESS or NOT_STATED,
            "party_phone": settings.HELP_PHONE,
            "party_contact": settings.HELP_PHONE,
        },
        {
            "party_id": requester.reference,
            "party_name": requester.name,
            "party_role": "recipient third party",
            "party_type": "organisation",
            "party_address": NOT_STATED,
            "party_contact": requester.contact or NOT_STATED,
        },
    ]


def _events(consent: Consent, now: datetime) -> list[Json]:
    """What happened to the consent, in order; who acted is the patient, also where staff wrote it down."""
    said = REFUSED if consent.status == Consent.Status.REJECTED else GIVEN
    ended = consent.expires_at
    happened = [
        (
            consent.request.asked_at or consent.request.created_at,
            REQUESTED,
            consent.request.requester.reference,
        ),
        (consent.decided_at, said, consent.patient_id),
        (consent.stopped_at, WITHDRAWN, consent.patient_id),
        (consent.invalid_at, INVALIDATED, CUSTODIAN),
        (ended if ended and ended <= now and consent.stopped_at is None else None, EXPIRED, CUSTODIAN),
    ]
    return [
        {
            "event_time": _instant(at),
            "event_type": "ExplicitlyExpressedConsent",
            "event_state": state,
            "entity_id": entity,
            "validity_duration": _instant(consent.expires_at) if state == GIVEN else None,
        }
        for at, state, entity in happened
        if at is not None
    ]


def _ours(consent: Consent) -> Json:
    return {
        "ledger_key": f"consent/{consent.pk}",
        "ledger_state": consent.ledger_state,
        "sealed_at": _instant(consent.granted_at),
        "stop_sealed_at": _instant(consent.revoked_at),
        "model": consent.request.model,
        "duration": consent.duration,
        "given_by": GivenBy(consent.given_by).value,
        "signed_with_passkey": consent.signature is not None,
        "teach_back": consent.teach_back,
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
