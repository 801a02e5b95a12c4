"""The answer at every address that the API does not have."""

from typing import Any

from rest_framework.exceptions import NotAuthenticated, ParseError
from rest_framework.request import Request
from rest_framework.views import APIView

from gateway.api.fhir.access import FHIRView
from gateway.api.problems import NotAvailable


class NothingHere(APIView):
    """Every other address of the API: what cannot be an id looks like an id that is unknown."""

    schema = None
    permission_classes = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.auth is None:
            raise NotAuthenticated
        raise NotAvailable


class NoFHIR(FHIRView):
    """Every other address of the FHIR side."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotAvailable


class Unreadable(APIView):
    """Any address of the API, for a request that nothing of it is to read; `why` is told."""

    schema = None
    authentication_classes = permission_classes = throttle_classes = ()
    why = ""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise ParseError(self.why)


class UnreadableFHIR(FHIRView):
    """The same, as FHIR says it. Who asks is not looked at."""

    why = ""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.format_kwarg = None
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        raise ParseError(self.why)
