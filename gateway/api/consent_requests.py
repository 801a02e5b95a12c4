"""Asking a patient: `POST /api/v1/consent-requests`, and whether a consent is in force."""

from typing import Any

from django.db.models import Min
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from consent import notices, referrals, review, services
from consent.explanation import error_sentence
from consent.models import Consent, ConsentRequest, Deletion, Requester
from gateway.analysis.models import AIModel
from gateway.api.idempotency import once
from gateway.api.permissions import requester_of
from gateway.api.problems import NotAvailable
from gateway.api.serializers import ConsentRequestIn, ConsentRequestOut, ProblemOut
from ledger.errors import InvalidInput

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[ -~]+$"},
    OpenApiParameter.HEADER,
    required=True,
    description="New for each request; the same key and body get the same answer.",
)
PROBLEMS: dict[Any, Any] = {
    (status, "application/problem+json"): ProblemOut
    for status in (400, 401, 403, 404, 406, 409, 415, 422, 429, 503)
}


class ConsentRequests(APIView):
    required_scope = "consents"

    @extend_schema(
        operation_id="ask_for_consent",
        request=ConsentRequestIn,
        responses={201: ConsentRequestOut, **PROBLEMS},
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request) -> Response:
        """Ask the patient who gave you a referral code."""
        question = ConsentRequestIn(data=request.data)
        question.is_valid(raise_exception=True)
        return once(request, lambda requester: self._ask(requester, dict(question.validated_data)))

    def _ask(self, requester: Requester, question: dict[str, Any]) -> Response:
        if question.pop("kind") == "export":
            question["action"] = ConsentRequest.Action.DISCLOSE
            question.setdefault("model", "")
        else:
            question["what_can_go_wrong"] = with_test(requester, question)
        patient = referrals.redeem(code=question.pop("referral_code"), requester=requester)
        if patient is None:
            raise NotAvailable
        asked = services.ask(requester=requester, patient=patient, notice=notices.current(), **question)
        return Response(
            consent_request_body(asked),
            status=201,
            headers={"Location": f"/api/v1/consent-requests/{asked.id}"},
        )


def with_test(requester: Requester, question: dict[str, Any]) -> str:
    """What can go wrong, after what the hospital's own test of the model found. Raises InvalidInput."""
    model = AIModel.objects.filter(
        digest=question.get("model", ""), provider=requester, state=AIModel.State.APPROVED
    ).first()
    if model is None:
        raise InvalidInput("This model is not registered and approved for you.", code="model_not_approved")
    said = str(question["what_can_go_wrong"])
    if not model.tested_people:
        return said
    return f"{error_sentence(people=model.tested_people, wrong=model.tested_wrong or 0)}\n{said}"


class ConsentRequestDetail(APIView):
    required_scope = "consents"

    @extend_schema(operation_id="read_consent_request", responses={200: ConsentRequestOut, **PROBLEMS})
    def get(self, request: Request, id: str) -> Response:
        """Whether a consent is in force. Waiting, refused, ended and stopped look the same."""
        asked = ConsentRequest.objects.named_by(requester_of(request)).filter(id=id).first()
        if asked is None:
            raise NotAvailable
        return Response(consent_request_body(asked))


def consent_request_body(asked: ConsentRequest) -> dict[str, Any]:
    in_force = Consent.objects.in_force().filter(request=asked)
    wanted = Deletion.objects.filter(consent__request=asked, confirmed_at=None)
    return {
        "id": asked.id,
        "available": in_force.exists(),
        "review": _review_of(asked),
        "deletion_asked_at": wanted.aggregate(at=Min("asked_at"))["at"],
    }


def _review_of(asked: ConsentRequest) -> dict[str, Any]:
    """How the hospital's review stands; what the patient does after it changes nothing here."""
    if asked.asked_at is not None:
        return {"state": "passed", "reasons": []}
    if not asked.send_back_reasons:
        return {"state": "waiting", "reasons": []}
    reasons = [{"code": code, "detail": str(review.REASONS[code])} for code in asked.send_back_reasons]
    return {"state": "sent_back", "reasons": reasons}
