"""Errors as RFC 9457 problem details: one stable code, a sentence, a request id, how to mend it."""

import logging
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from gateway.api.codes import CODES
from gateway.api.fhir.access import FHIRView
from ledger.errors import AccessDenied, GatewayError, KeyholderUnavailable, LedgerError

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

# The title of a code that has none of its own, by its status: what was sent is at fault, not this server.
TITLE_OF_STATUS = {400: "invalid_input", 403: "forbidden", 404: "not_available", 409: "refused"}
DRF_CODES = {
    exceptions.ParseError: "malformed",
    exceptions.AuthenticationFailed: "unauthenticated",
    exceptions.NotAuthenticated: "unauthenticated",
    exceptions.PermissionDenied: "forbidden",
    exceptions.NotFound: "not_found",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.Throttled: "too_many_requests",
    exceptions.ValidationError: "invalid_input",
}


class NotAvailable(GatewayError):
    """Refused, revoked, never asked and unknown: one answer (404)."""

    code = "not_available"
    status = 404

    def __init__(self) -> None:
        super().__init__("There is nothing here for you. Ask for consent, or ask again later.")


def problem(
    *,
    code: str,
    status: int,
    detail: str,
    errors: Any = None,
    headers: Mapping[str, str] | None = None,
    fhir: bool = False,
) -> Response:
    """One problem response, as an OperationOutcome where FHIR is spoken.

    `request_id` also stands in our log, with the code and nothing else.
    """
    request_id = secrets.token_hex(8)
    log.info("problem %s %s %s", status, code, request_id)
    body = {
        "type": f"{settings.PUBLIC_URL.rstrip('/')}/developers/errors/{code}",
        "title": (CODES.get(code) or CODES[TITLE_OF_STATUS.get(status, "error")]).title,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
    }
    if errors is not None:
        body["errors"] = errors
    if fhir:
        return Response(outcome(body), status=status, headers=dict(headers or {}))
    return Response(body, status=status, content_type=CONTENT_TYPE, headers=dict(headers or {}))


# The issue types of FHIR (value set issue-type) that say the same as a status.
ISSUES = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    409: "conflict",
    429: "throttled",
    503: "transient",
}


def outcome(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same problem as a FHIR OperationOutcome, with the same code."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": ISSUES.get(body["status"], "exception"),
                "details": {
                    "coding": [
                        {
                            "system": f"{settings.PUBLIC_URL.rstrip('/')}/developers/errors",
                            "code": body["code"],
                        }
                    ],
                    "text": body["title"],
                },
                "diagnostics": f"{body['detail']} Request {body['request_id']}.",
            }
        ],
    }


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """The one place where an exception becomes an answer. What it does not know is a 500 without words."""
    set_rollback()
    answer = partial(problem, fhir=isinstance(context.get("view"), FHIRView))
    if isinstance(error, AccessDenied | Http404):
        error = NotAvailable()
    if isinstance(error, exceptions.APIException):
        return _of_framework(error, answer)
    if isinstance(error, GatewayError):
        headers = {"Retry-After": "10"} if error.status in (429, 503) else None
        # How our own processes are reached is nobody's business out there.
        away = isinstance(error, LedgerError | KeyholderUnavailable) or (
            error.is_remote and error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        )
        known = CODES.get(error.code) or CODES.get(type(error).code) or CODES["error"]
        detail = f"{known.title}." if away else error.message
        return answer(code=error.code, status=error.status, detail=detail, headers=headers)
    log.error("unhandled %s", type(error).__name__)
    if isinstance(error, OperationalError | InterfaceError):
        return answer(
            code="database_unavailable",
            status=503,
            detail="Nothing was written. Send the same request again in a few minutes, with the same key.",
        )
    return answer(
        code="error", status=500, detail="The failure is logged. Try again, or tell us the request id."
    )


def _of_framework(error: exceptions.APIException, answer: Callable[..., Response]) -> Response:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait) + 1)
    code = DRF_CODES.get(type(error), "error")
    if isinstance(error, exceptions.ValidationError):
        detail, errors = "Some values are missing or wrong; `errors` says which.", error.detail
    else:
        detail, errors = str(error.detail), None
    return answer(code=code, status=error.status_code, detail=detail, errors=errors, headers=headers)
