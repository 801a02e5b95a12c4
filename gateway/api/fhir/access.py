"""Who may call the FHIR side: an AI client whose token has SMART scopes over resources; and in what form."""

from typing import Any

from oauth2_provider.models import AccessToken
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from gateway.accounts.scopes import Scopes
from gateway.api.permissions import is_of_a_client
from ledger.errors import InvalidInput


class FHIRRenderer(JSONRenderer):
    media_type = "application/fhir+json"


class AlwaysFHIR(BaseContentNegotiation):
    """One form of answer, whatever a client says that it accepts: FHIR clients say it in many ways."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class HasSystemScope(BasePermission):
    message = "This token carries no scope over FHIR resources. Ask for one such as system/Observation.rs."

    def has_permission(self, request: Request, view: Any) -> bool:
        token = request.auth
        if not isinstance(token, AccessToken) or token.is_expired() or not scopes_of(request).system:
            return False
        return is_of_a_client(request, token)


class FHIRView(APIView):
    permission_classes = (HasSystemScope,)
    renderer_classes = (FHIRRenderer,)
    content_negotiation_class = AlwaysFHIR
    schema = None


PAGE, LONGEST_PAGE = 100, 1000


def page_size(request: Request) -> int:
    """What `_count` asks for. Raises InvalidInput (`parameter`)."""
    text = request.query_params.get("_count", str(PAGE))
    # A number is read where it is short: Python refuses to read thousands of digits.
    if not (text.isascii() and text.isdecimal()) or len(text) > 4 or not 1 <= int(text) <= LONGEST_PAGE:
        raise InvalidInput(f"_count is 1 to {LONGEST_PAGE}.", code="parameter")
    return int(text)


def scopes_of(request: Request) -> Scopes:
    assert isinstance(request.auth, AccessToken)
    return Scopes.read(request.auth.scope)
