"""`/api/v1/cohorts`: asking many. The hospital decides whom; the client sees numbers, and never who."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from consent import cohorts, review
from consent.models import Cohort, Requester
from gateway.analysis.services import results_to_delete
from gateway.api.consent_requests import IDEMPOTENCY_KEY, PROBLEMS, with_test
from gateway.api.idempotency import once
from gateway.api.permissions import requester_of
from gateway.api.problems import NotAvailable
from gateway.api.serializers import CohortIn, CohortListOut, CohortOut

MOST = 100
STATES = {
    Cohort.State.PROPOSED: "waiting",
    Cohort.State.WRITTEN: "waiting",
    Cohort.State.SENT_BACK: "sent_back",
    Cohort.State.ASKING: "asking",
    Cohort.State.ASKED: "asked",
}


class Cohorts(APIView):
    required_scope = "consents"

    @extend_schema(
        operation_id="propose_cohort",
        request=CohortIn,
        responses={201: CohortOut, **PROBLEMS},
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request) -> Response:
        """Propose a question for many patients. The hospital decides whom it is put to, and asks."""
        given = CohortIn(data=request.data)
        given.is_valid(raise_exception=True)
        return once(request, lambda requester: self._propose(requester, dict(given.validated_data)))

    def _propose(self, requester: Requester, question: dict[str, Any]) -> Response:
        wish = question.pop("wish")
        question["what_can_go_wrong"] = with_test(requester, question)
        made = cohorts.propose(requester=requester, question=question, wish=wish)
        return Response(shown(made), status=201, headers={"Location": f"/api/v1/cohorts/{made.pk}"})

    @extend_schema(operation_id="list_cohorts", responses={200: CohortListOut, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """Your cohorts, newest first, a hundred at most."""
        found = Cohort.objects.filter(requester=requester_of(request)).order_by("-created_at", "-pk")
        return Response({"cohorts": [brief(each) for each in found.defer("chosen")[:MOST]]})


class CohortDetail(APIView):
    required_scope = "consents"

    @extend_schema(operation_id="read_cohort", responses={200: CohortOut, **PROBLEMS})
    def get(self, request: Request, id: str) -> Response:
        """How far the hospital is with it, and numbers that are lower bounds: multiples of 11, or null."""
        found = Cohort.objects.filter(requester=requester_of(request), pk=id).defer("chosen").first()
        if found is None:
            raise NotAvailable
        return Response(shown(found))


def brief(cohort: Cohort) -> dict[str, Any]:
    reasons = [{"code": code, "detail": str(review.REASONS[code])} for code in cohort.send_back_reasons]
    return {
        "id": cohort.pk,
        "state": STATES[Cohort.State(cohort.state)],
        "reasons": reasons,
        "model": cohort.question["model"],
        "purpose": cohort.question["purpose"],
        "created_at": cohort.created_at,
    }


def shown(cohort: Cohort) -> dict[str, Any]:
    """The brief, what is told of its numbers, and what is to be deleted."""
    deletions = results_to_delete(cohort)
    return {**brief(cohort), **cohorts.numbers(cohort), "deletions_asked": deletions}
