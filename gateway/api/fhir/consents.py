"""`/fhir/Consent`: the client's own grants in force, with nothing that says whose they are."""

import re
from typing import Any

from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from consent.models import Consent
from gateway.accounts.scopes import READ, SEARCH
from gateway.analysis import decisions
from gateway.api.discovery import base
from gateway.api.fhir.access import FHIRView, scopes_of
from gateway.api.permissions import requester_of
from gateway.api.problems import NotAvailable
from ledger.errors import InvalidInput

PAGE = 200
# What is shown: what is given, when, and by which text. All else says who the patient is, or who acted.
SHOWN = ("resourceType", "id", "scope", "category", "dateTime", "organization", "policy", "provision")


class Consents(FHIRView):
    """Search by `identifier` (the id of your consent request) or `_id`; `_after` goes on."""

    def get(self, request: Request) -> Response:
        if scopes_of(request).filters("Consent", SEARCH) is None:
            raise PermissionDenied("This token carries no scope system/Consent.rs.")
        asked = request.query_params.dict()
        if unknown := sorted(set(asked) - {"identifier", "_id", "_after", "_format", "status"}):
            raise InvalidInput(f"Search by identifier or _id, not by {unknown[0][:40]}.", code="parameter")
        found = decisions.in_force(requester_of(request)).select_related("request").order_by("pk")
        if asked.get("status", "active") != "active":
            found = found.none()
        for name, column in (("_id", "pk"), ("identifier", "request_id"), ("_after", "pk__gt")):
            if name in asked:
                id = str(asked[name]).rpartition("|")[2]
                # What cannot be an id is an id that is unknown, and does not reach the database.
                found = found.filter(**{column: id}) if re.fullmatch("[0-9a-f]{64}", id) else found.none()
        page = list(found[: PAGE + 1])
        link = [{"relation": "self", "url": f"{base()}{request.get_full_path()}"}]
        if len(page) > PAGE:
            link.append({"relation": "next", "url": f"{base()}/fhir/Consent?_after={page[PAGE - 1].pk}"})
        entries = [
            {
                "fullUrl": f"{base()}/fhir/Consent/{each.pk}",
                "resource": shown(each),
                "search": {"mode": "match"},
            }
            for each in page[:PAGE]
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link}
        return Response({**bundle, "entry": entries} if entries else bundle)


class ConsentDetail(FHIRView):
    def get(self, request: Request, id: str) -> Response:
        if scopes_of(request).filters("Consent", READ) is None:
            raise PermissionDenied("This token carries no scope system/Consent.rs.")
        found = decisions.in_force(requester_of(request)).select_related("request").filter(pk=id).first()
        if found is None:
            raise NotAvailable
        return Response(shown(found))


def shown(consent: Consent) -> dict[str, Any]:
    """The FHIR R4 Consent without the patient; its identifier is the consent request that it answers."""
    kept = {name: consent.fhir[name] for name in SHOWN if name in consent.fhir}
    return {
        **kept,
        "status": "active",
        "identifier": [{"system": f"{base()}/api/v1/consent-requests", "value": consent.request_id}],
    }
