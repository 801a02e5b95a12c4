"""`/cds-services`: consent decisions in the form of CDS Hooks 2.0, by the hook `patient-consent-consult`.

The same decision as `POST /api/v1/decisions`, for clients that speak this form: the patient is named by the
consent request that the client put to them, its only name for them.
"""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.analysis import decisions
from gateway.api.consent_requests import PROBLEMS
from gateway.api.discovery import base
from gateway.api.permissions import requester_of
from gateway.api.serializers import CDSCardsOut, CDSRequestIn, CDSServicesOut

HOOK = "patient-consent-consult"
DECISIONS = {"permit": "CONSENT_PERMIT", "deny": "CONSENT_DENY", "not_available": "NO_CONSENT"}
SUMMARIES = {
    "permit": "A consent in force permits this.",
    "deny": "Your consent in force does not reach this.",
    "not_available": "There is no consent for you.",
}
INDICATORS = {"permit": "info", "deny": "warning", "not_available": "warning"}


class Services(APIView):
    permission_classes = ()
    authentication_classes = ()

    @extend_schema(operation_id="list_cds_services", responses={200: CDSServicesOut}, auth=[])
    def get(self, request: Request) -> Response:
        """CDS Hooks discovery: which services there are. It takes no token."""
        service = {
            "hook": HOOK,
            "id": HOOK,
            "title": "Consent decision",
            "description": "Whether the consents in force permit a use of one patient's records now.",
            "usageRequirements": "Send a token with the scope `consents`. `context.patientId` is your consent"
            f" request: system {_system()}.",
        }
        return Response({"services": [service]})


class PatientConsentConsult(APIView):
    required_scope = "consents"

    @extend_schema(
        operation_id="consult_patient_consent",
        request=CDSRequestIn,
        responses={200: CDSCardsOut, **PROBLEMS},
    )
    def post(self, request: Request) -> Response:
        """One card with the decision, and the reasons where a consent of yours does not reach."""
        asked = CDSRequestIn(data=request.data)
        asked.is_valid(raise_exception=True)
        context = asked.validated_data["context"]
        more = asked.validated_data.get("extension", {})
        question = {
            # A name of another system is nobody's: it takes the same steps as one that is unknown.
            "request": next((one["value"] for one in context["patientId"] if one["system"] == _system()), ""),
            "kind": "analyse" if more.get("model") else "export",
            "model": more.get("model"),
            "purpose": context["purposeOfUse"],
            "use": more.get("use", []),
            "resources": [one["code"] for one in context["class"]],
        }
        (answer,) = decisions.decide_all(requester=requester_of(request), asked=[question])
        return Response({"cards": [card(answer)]})


def card(answer: dict[str, Any]) -> dict[str, Any]:
    """A decision of `decisions.decide_all` as a CDS Hooks card."""
    decision = answer["decision"]
    reasons = ", ".join(answer["reasons"])
    based_on = [{"reference": f"{base()}/fhir/Consent/{answer['consent']}"}] if answer["consent"] else []
    return {
        "summary": SUMMARIES[decision],
        "detail": f"Reasons: {reasons}." if reasons else "The ledger decides again when a job runs.",
        "indicator": INDICATORS[decision],
        "source": {"label": "Consent Gateway", "url": f"{base()}/developers/"},
        "extension": {
            "decision": DECISIONS[decision],
            "dateTime": timezone.now().isoformat(timespec="seconds"),
            "reasons": answer["reasons"],
            "basedOn": based_on,
            "obligations": [],
        },
    }


def _system() -> str:
    return f"{base()}/api/v1/consent-requests"
