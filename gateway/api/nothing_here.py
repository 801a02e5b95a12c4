"""The answer at every address that the API does not have."""

from typing import Any

from rest_framework.exceptions import NotAuthenticated
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
