"""`/api/v1/models`: register a model version; two people of the hospital approve it before anything runs."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from consent.models import Requester
from gateway.analysis import registrations
from gateway.api.consent_requests import IDEMPOTENCY_KEY, PROBLEMS
from gateway.api.idempotency import once
from gateway.api.permissions import requester_of
from gateway.api.problems import NotAvailable
from gateway.api.serializers import ModelIn, ModelListOut, ModelOut
from gateway.compliance import retraining


def _standing_of(requester: Requester, digest: str | None = None) -> list[dict[str, Any]]:
    """Its versions, each with the withdrawals that concern it."""
    found = registrations.standing_of(requester, digest)
    asked = retraining.asked_of(requester)
    return [{**one, "retraining": asked.get(one["digest"], [])} for one in found]


class ModelVersions(APIView):
    required_scope = "jobs"

    @extend_schema(
        operation_id="register_model",
        request=ModelIn,
        responses={201: ModelOut, **PROBLEMS},
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request) -> Response:
        """Register a model version by its digest, with its card and your own test of it."""
        given = ModelIn(data=request.data)
        given.is_valid(raise_exception=True)
        return once(request, lambda requester: self._register(requester, dict(given.validated_data)))

    def _register(self, requester: Requester, given: dict[str, Any]) -> Response:
        tested = given.pop("tested")
        made = registrations.register(requester=requester, **given, **tested)
        (told,) = _standing_of(requester, made.digest)
        return Response(told, status=201, headers={"Location": f"/api/v1/models/{made.digest}"})

    @extend_schema(operation_id="list_models", responses={200: ModelListOut, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """Your model versions, newest first."""
        return Response({"models": _standing_of(requester_of(request))})


class ModelVersion(APIView):
    required_scope = "jobs"

    @extend_schema(operation_id="read_model", responses={200: ModelOut, **PROBLEMS})
    def get(self, request: Request, digest: str) -> Response:
        """How one version of yours stands: a job takes it once its state is approved."""
        found = _standing_of(requester_of(request), digest)
        if not found:
            raise NotAvailable
        return Response(found[0])
