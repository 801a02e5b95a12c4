"""`POST /api/v1/decisions`: would this be permitted now? One question, or a thousand at once."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.analysis import decisions
from gateway.api.consent_requests import PROBLEMS
from gateway.api.permissions import requester_of
from gateway.api.serializers import DecisionsIn, DecisionsOut


class Decisions(APIView):
    required_scope = "consents"

    @extend_schema(operation_id="decide", request=DecisionsIn, responses={200: DecisionsOut, **PROBLEMS})
    def post(self, request: Request) -> Response:
        """Ask what the consents in force permit now. The ledger decides again when a job runs."""
        asked = DecisionsIn(data=request.data)
        asked.is_valid(raise_exception=True)
        answers = decisions.decide_all(
            requester=requester_of(request), asked=asked.validated_data["decisions"]
        )
        return Response({"decisions": answers})
