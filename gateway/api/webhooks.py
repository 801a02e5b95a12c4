"""`/api/v1/webhooks`: where you are told what changed, the log of the calls, and one of them once more."""

import re
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from consent.models import Requester
from gateway.accounts import webhooks
from gateway.accounts.models import Webhook, WebhookCall
from gateway.api.consent_requests import IDEMPOTENCY_KEY, PROBLEMS
from gateway.api.idempotency import once
from gateway.api.permissions import requester_of
from gateway.api.problems import NotAvailable
from gateway.api.serializers import WebhookCallsOut, WebhookIn, WebhookMadeOut, WebhooksOut

PAGE = 100


class Webhooks(APIView):
    required_scope = "jobs"

    @extend_schema(
        operation_id="register_webhook",
        request=WebhookIn,
        responses={201: WebhookMadeOut, **PROBLEMS},
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request) -> Response:
        """Be told at your https address. The answer holds the secret that signs the calls, once."""
        given = WebhookIn(data=request.data)
        given.is_valid(raise_exception=True)

        def register(requester: Requester) -> Response:
            made, secret = webhooks.register(requester=requester, **given.validated_data)
            return Response({**_shown(made), "secret": secret}, status=201)

        return once(request, register)

    @extend_schema(operation_id="list_webhooks", responses={200: WebhooksOut, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """Your webhooks."""
        found = Webhook.objects.filter(requester=requester_of(request)).order_by("created_at")
        return Response({"webhooks": [_shown(each) for each in found]})


class WebhookDetail(APIView):
    required_scope = "jobs"

    @extend_schema(operation_id="delete_webhook", responses={204: None, **PROBLEMS})
    def delete(self, request: Request, id: UUID) -> Response:
        """End a webhook, with its log."""
        webhooks.find(requester=requester_of(request), id=id).delete()
        return Response(status=204)


class WebhookCalls(APIView):
    required_scope = "jobs"

    @extend_schema(operation_id="list_webhook_calls", responses={200: WebhookCallsOut, **PROBLEMS})
    def get(self, request: Request, id: UUID) -> Response:
        """The last hundred calls, newest first; they are kept for 30 days."""
        found = webhooks.find(requester=requester_of(request), id=id)
        return Response({"calls": [_call(each) for each in found.calls.order_by("-created_at")[:PAGE]]})


class WebhookResend(APIView):
    required_scope = "jobs"

    @extend_schema(operation_id="resend_webhook_call", request=None, responses={202: None, **PROBLEMS})
    def post(self, request: Request, id: UUID, call: str) -> Response:
        """Send one call again, now; its signature has a new time."""
        webhook = webhooks.find(requester=requester_of(request), id=id)
        if not re.fullmatch("[!-~]{1,32}", call):  # nothing else reaches the database
            raise NotAvailable
        webhooks.send_again(webhook=webhook, call=call)
        return Response(status=202)


def _shown(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": str(webhook.pk),
        "url": webhook.url,
        "events": webhook.events,
        "created_at": webhook.created_at.isoformat(),
    }


def _call(call: WebhookCall) -> dict[str, Any]:
    return {
        "id": call.pk,
        "event": call.event,
        "state": call.state,
        "tries": call.tries,
        "status": call.status,
        "tried_at": call.tried_at.isoformat() if call.tried_at else None,
        "body": call.body,
    }
