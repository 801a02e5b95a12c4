"""Search and read: over what exports delivered to this client, and opened at this moment, de-identified.

A record that was never exported is not there, and neither is one whose consent has ended: no search opens
anything that a delivery has not let out.
"""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.utils import timezone
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.accounts.scopes import PARAMETERS, READ, SEARCH, matches, read_filter
from gateway.analysis import exports
from gateway.analysis.models import Job, Output
from gateway.api.discovery import base
from gateway.api.fhir.access import FHIRView, page_size, scopes_of
from gateway.api.permissions import requester_of
from gateway.api.problems import NotAvailable
from ledger.contract.resource_types import RESOURCE_TYPES
from ledger.errors import InvalidInput

MOST = 1000  # jobs that a search looks through
OPENED_AT_ONCE = 50  # of patients: a page may hold fewer than were asked for, and the next one goes on


class Search(FHIRView):
    """`/fhir/<Type>?patient=&category=&code=&status=&_count=`."""

    def get(self, request: Request, kind: str) -> Response:
        scopes = _check_scope(request, kind, SEARCH)
        asked = {name: str(value) for name, value in request.query_params.items() if name[:1] != "_"}
        patient = asked.pop("patient", asked.pop("subject", "")).removeprefix("Patient/")
        unknown = set(asked) - PARAMETERS
        unknown |= {name for name in request.query_params if name[:1] == "_" and name not in KNOWN}
        if unknown:
            raise InvalidInput(
                f"Search by patient, {', '.join(sorted(PARAMETERS))}, with _count.", code="parameter"
            )
        wanted = read_filter(urlencode(asked)) if asked else []
        count = page_size(request)
        delivered = _delivered(request, patient)
        after = request.query_params.get("_after", "")
        places = [output.subject_id for _, output, _ in delivered]
        if after:
            delivered = delivered[places.index(after) + 1 :] if after in places else []
        entries: list[dict[str, Any]] = []
        following = None
        for number, (job, output, _) in enumerate(delivered):
            for _, resources in exports.resources(job=job, found=[output]):
                entries += [
                    _entry(each, "match")
                    for each in resources
                    if each["resourceType"] == kind and scopes.permits(each, SEARCH) and matches(each, wanted)
                ]
            is_full = len(entries) >= count or number + 1 >= OPENED_AT_ONCE
            if is_full and number + 1 < len(delivered):
                following = output.subject_id
                break
        link = [{"relation": "self", "url": f"{base()}{request.get_full_path()}"}]
        if following:
            again = {**request.query_params.dict(), "_after": following}
            link.append({"relation": "next", "url": f"{base()}/fhir/{kind}?{urlencode(again)}"})
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link}
        return Response({**bundle, "entry": entries} if entries else bundle)


class Read(FHIRView):
    """`/fhir/<Type>/<id>`. Never exported, ended and unknown look the same."""

    def get(self, request: Request, kind: str, id: str) -> Response:
        scopes = _check_scope(request, kind, READ)
        for job, output, _ in _delivered(request, id):
            for _, resources in exports.resources(job=job, found=[output]):
                for each in resources:
                    if (each["resourceType"], each.get("id")) == (kind, id) and scopes.permits(each, READ):
                        return Response(each)
        raise NotAvailable


KNOWN = frozenset({"_count", "_after", "_format"})


def _delivered(request: Request, id: str = "") -> list[tuple[Job, Output, str]]:
    """Of each patient the last delivery that is kept, with its pseudonym; of one where `id` says so."""
    requester = requester_of(request)
    jobs = Job.objects.select_related("requester").filter(
        requester=requester,
        kind=Job.Kind.EXPORT,
        discarded_at=None,
        state=Job.State.DONE,
        settled_at__gt=timezone.now() - timedelta(hours=settings.EXPORT_HOURS),
    )
    key = exports.key_of(requester)
    found: dict[str, tuple[Job, Output, str]] = {}
    for job in jobs.order_by("-created_at", "-pk")[:MOST]:
        for output in exports.outputs(job):
            name = exports.pseudonym(key, output.subject)
            if not id or id.startswith(f"{name}-"):
                found.setdefault(name, (job, output, name))
    return list(found.values())


def _check_scope(request: Request, kind: str, action: str) -> Any:
    if kind not in RESOURCE_TYPES:
        raise NotAvailable
    scopes = scopes_of(request)
    if scopes.filters(kind, action) is None:
        raise PermissionDenied(f"This token carries no scope over {kind}.")
    return scopes


def _entry(resource: dict[str, Any], mode: str) -> dict[str, Any]:
    address = f"{base()}/fhir/{resource['resourceType']}/{resource.get('id', '')}"
    return {"fullUrl": address, "resource": resource, "search": {"mode": mode}}
