"""Errors as RFC 9457 problem details: one stable code, a sentence, a request id, how to mend it."""

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from ledger.errors import AccessDenied, GatewayError

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

# What an AI client is told for each code; `docs/api.md` has a paragraph for each.
TITLES = {
    "invalid_input": "The request is not valid",
    "malformed": "The body is not readable",
    "unauthenticated": "Sign in first",
    "forbidden": "Your client may not do this",
    "not_available": "Not available",
    "not_found": "There is no such page",
    "method_not_allowed": "This address does not take that method",
    "not_acceptable": "This address answers with JSON only",
    "unsupported_media_type": "Send application/json",
    "too_many_requests": "Too many requests",
    "too_many_jobs": "Too many jobs under way",
    "no_stream_free": "No event stream is free",
    "refused": "The state does not allow this",
    "idempotency_key_missing": "Send an Idempotency-Key",
    "idempotency_key_reused": "That Idempotency-Key was used for another request",
    "ledger_unavailable": "The ledger cannot be reached",
    "database_unavailable": "The database cannot be written to or reached",
    "keyholder_unavailable": "The records cannot be opened now",
    "error": "Something went wrong here",
}
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
) -> Response:
    """One problem response; `request_id` also stands in our log, with the code and nothing else."""
    request_id = secrets.token_hex(8)
    log.info("problem %s %s %s", status, code, request_id)
    body = {
        "type": f"{settings.PUBLIC_URL}/api/v1/problems#{code}",
        "title": TITLES.get(code) or TITLES[TITLE_OF_STATUS.get(status, "error")],
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
    }
    if errors is not None:
        body["errors"] = errors
    return Response(body, status=status, content_type=CONTENT_TYPE, headers=dict(headers or {}))


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """The one place where an exception becomes an answer. What it does not know is a 500 without words."""
    set_rollback()
    if isinstance(error, AccessDenied | Http404):
        error = NotAvailable()
    if isinstance(error, exceptions.APIException):
        return _of_framework(error)
    if isinstance(error, GatewayError):
        headers = {"Retry-After": "10"} if error.status in (429, 503) else None
        return problem(code=error.code, status=error.status, detail=error.message, headers=headers)
    log.error("unhandled %s", type(error).__name__)
    if isinstance(error, OperationalError | InterfaceError):
        return problem(
            code="database_unavailable",
            status=503,
            detail="Nothing was written. Send the same request again in a few minutes, with the same key.",
        )
    return problem(
        code="error", status=500, detail="The failure is logged. Try again, or tell us the request id."
    )


def _of_framework(error: exceptions.APIException) -> Response:
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
    return problem(code=code, status=error.status_code, detail=detail, errors=errors, headers=headers)
