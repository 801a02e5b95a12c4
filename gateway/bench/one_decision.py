"""One decision of the contract, with its explanation."""

import importlib
from typing import Any

from gateway.bench import NotInstalled, Row
from ledger.contract.consents import compile_consent
from ledger.contract.decision import Asking, compiled, decide

AT = 1_800_000_000  # 2027-01-15
TIMES = 2_000
TYPES = ("Observation", "Condition", "MedicationRequest", "Patient")
RECIPIENT, OTHER = "Organization/6f1d6c1e-3b5e-4a53-9a57-0c7d6f0f1a2b", "Organization/other"

REQUEST: dict[str, Any] = {
    "action": "use",
    "model": None,
    "purpose": "HRESCH",
    "recipient": RECIPIENT,
    "resources": [{"codes": None, "type": kind} for kind in TYPES],
    "use": [],
    "version": 1,
}


def fhir(recipient: str) -> dict[str, Any]:
    """An R4 Consent: this recipient may use these types for research, but nothing restricted."""
    reason = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
    participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
    confidentiality = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/p"},
        "dateTime": "2026-01-01T00:00:00Z",
        "policyRule": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]
        },
        "provision": {
            "type": "permit",
            "period": {"start": "2026-01-01", "end": "2030-01-01"},
            "actor": [
                {
                    "role": {"coding": [{"system": participation, "code": "IRCP"}]},
                    "reference": {"reference": recipient},
                }
            ],
            "purpose": [{"system": reason, "code": "HRESCH"}],
            "class": [{"system": "http://hl7.org/fhir/resource-types", "code": kind} for kind in TYPES],
            "provision": [
                {"type": "deny", "securityLabel": [{"system": confidentiality, "code": code}]}
                for code in "RV"
            ],
        },
    }


POLICY = """
permit (principal == Org::"%s", action == Action::"use", resource == Patient::"p")
when { context.purpose == "HRESCH"
       && ["Observation", "Condition", "MedicationRequest", "Patient"].containsAll(context.types)
       && context.at >= 1767225600 && context.at < 1893456000 };
"""


class OneDecision(Row):
    name = "one decision"
    unit = "decisions"
    goal = "≥ 10 × the fastest peer"
    product_is = (
        "decide(): a patient with two consents, a request for four types; reasons and rules left over"
    )
    peer_is = "Cedar (cedarpy), the same two consents as policies, a yes or no"
    limit_is = "one look-up of a tuple in a dict"

    def setup(self) -> None:
        self._consents = [
            compiled(compile_consent(fhir(recipient), consent=n * 64, patient="9" * 64))
            for n, recipient in (("a", RECIPIENT), ("b", OTHER))
        ]
        self._table = {(RECIPIENT, "HRESCH", kind): True for kind in TYPES}
        if decide(self._consents, REQUEST, at=AT).decision != "permit":
            raise RuntimeError("The request that is measured should be permitted.")

    def product(self) -> int:
        for _ in range(TIMES):
            decide(self._consents, Asking(REQUEST), at=AT)
        return TIMES

    def peer(self) -> int:
        try:
            is_authorized = importlib.import_module("cedarpy").is_authorized
        except ImportError:
            raise NotInstalled("not installed: pip install cedarpy") from None
        policies = "".join(POLICY % name for name in (RECIPIENT, OTHER))
        asked = {
            "principal": f'Org::"{RECIPIENT}"',
            "action": 'Action::"use"',
            "resource": 'Patient::"p"',
            "context": {"purpose": "HRESCH", "types": list(TYPES), "at": AT},
        }
        count = TIMES // 20
        for _ in range(count):
            if not is_authorized(asked, policies, []).allowed:
                raise RuntimeError("The peer should permit the request that is measured.")
        return count

    def limit(self) -> int:
        table = self._table
        for _ in range(TIMES * 50):
            _ = table[(RECIPIENT, "HRESCH", "Observation")]
        return TIMES * 50


ROW = OneDecision()
