"""Bulk Data Access 2.0: `$export` of everyone or of a Group, its status, its files, its end.

Whom a client asked for a copy of their records is a Group, by purpose and use. An export is a job of ours:
what a file holds was de-identified and delivered, and is opened while the file is read (ADR 15).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any

import orjson
from django.http import HttpResponse, StreamingHttpResponse
from django.utils.http import http_date
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.accounts.scopes import READ, SEARCH, Filter, Scopes, read_filter
from gateway.analysis import exports, services
from gateway.analysis.models import Job
from gateway.api.discovery import base
from gateway.api.fhir.access import FHIRView, scopes_of
from gateway.api.jobs import waiting
from gateway.api.permissions import requester_of
from gateway.api.problems import NotAvailable
from ledger.contract import times
from ledger.contract.resource_types import RESOURCE_TYPES
from ledger.errors import GatewayError, InvalidInput

NDJSON = "application/fhir+ndjson"
FORMATS = frozenset({NDJSON, "application/ndjson", "ndjson"})
PARAMETERS = frozenset({"_outputFormat", "_since", "_type", "_typeFilter"})


class ExportFailed(GatewayError):
    """The job failed: kick off another (500)."""

    code = "export_failed"
    status = 500


class Export(FHIRView):
    """`/fhir/$export`, `/fhir/Group/<id>/$export`: 202 and where the status is."""

    def get(self, request: Request, group: str | None = None) -> Response:
        return self._start(request, group, [(name, each) for name, each in _pairs(request.query_params)])

    def post(self, request: Request, group: str | None = None) -> Response:
        return self._start(request, group, _of_parameters(request.data))

    def _start(self, request: Request, group: str | None, given: list[tuple[str, str]]) -> Response:
        wishes = [each.strip() for each in request.headers.get("Prefer", "").split(",")]
        if "respond-async" not in wishes:
            raise InvalidInput("An export takes time: send Prefer: respond-async.", code="prefer")
        unknown = sorted({name for name, _ in given} - PARAMETERS)
        if unknown and "handling=lenient" not in wishes:
            raise InvalidInput(
                f"We take {', '.join(sorted(PARAMETERS))}; others with Prefer: handling=lenient, unheard.",
                code="parameter",
            )
        _check_format(given)
        types, filters = _types_and_filters(given, scopes_of(request), group, requester_of(request))
        job = exports.submit(
            requester=requester_of(request),
            group=group,
            address=request.build_absolute_uri(),
            types=types,
            since=_since(given),
            filters=filters,
        )
        address = f"{base()}/fhir/bulk-status/{job.pk}"
        return Response(_note("The export has begun."), status=202, headers={"Content-Location": address})


class Status(FHIRView):
    """202 while it runs, 200 with the manifest; DELETE cancels or deletes."""

    def get(self, request: Request, id: str) -> HttpResponse:
        job = find_export(request, id)
        if job.state not in Job.SETTLED:
            return HttpResponse(status=202, headers=waiting(job))
        if job.state == Job.State.FAILED:
            raise ExportFailed("The export failed. Kick off another.")
        until = services.results_until(job)
        return HttpResponse(
            orjson.dumps(manifest(job)),
            content_type="application/json",
            headers={"Expires": http_date(until.timestamp()), "Cache-Control": "no-store"},
        )

    def delete(self, request: Request, id: str) -> Response:
        job = find_export(request, id)
        exports.discard(job=job, requester=job.requester)
        return Response(_note("The export is cancelled, and what it gave is deleted."), status=202)


class File(FHIRView):
    """One type's resources of everyone in the export, streamed as they are opened."""

    def get(self, request: Request, id: str, kind: str) -> StreamingHttpResponse:
        job, scopes = find_export(request, id), scopes_of(request)
        if kind not in job.spec["types"]:
            raise NotAvailable
        if scopes.filters(kind, READ) is None:
            raise PermissionDenied("This token carries no scope over this type.")
        found = exports.resources(job=job, found=exports.outputs(job))
        # The first look at the ledger comes before the answer begins, so that its failure is a clear error.
        first = next(found, None)
        return StreamingHttpResponse(
            _lines(kind, scopes, first, found), content_type=NDJSON, headers={"Cache-Control": "no-store"}
        )


class Groups(FHIRView):
    """`/fhir/Group`, `/fhir/Group/<id>`: whom you asked for copies, by purpose and use; never who."""

    def get(self, request: Request, group: str | None = None) -> Response:
        known = exports.groups(requester_of(request))
        if group is not None:
            if group not in known:
                raise NotAvailable
            return Response(group_resource(group, len(known[group])))
        entries = [
            {"fullUrl": f"{base()}/fhir/Group/{name}", "resource": group_resource(name, len(asked))}
            for name, asked in known.items()
        ]
        return Response(
            {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries}
            if entries
            else {"resourceType": "Bundle", "type": "searchset", "total": 0}
        )


def group_resource(id: str, asked: int) -> dict[str, Any]:
    """A Group by its number alone: how many you asked is yours to know."""
    return {
        "resourceType": "Group",
        "id": id,
        "type": "person",
        "actual": True,
        "active": True,
        "name": f"Asked for a copy: {id}",
        "quantity": asked,
    }


def find_export(request: Request, id: str) -> Job:
    """The client's own export that is still there. Raises NotAvailable."""
    job = (
        Job.objects.select_related("requester")
        .filter(pk=id, requester=requester_of(request), kind=Job.Kind.EXPORT, discarded_at=None)
        .exclude(state=Job.State.CANCELLED)
        .first()
    )
    if job is None:
        raise NotAvailable
    return job


def manifest(job: Job) -> dict[str, Any]:
    """Bulk Data 2.0, "Response - Complete Status". A file of a type that nobody gave is empty."""
    delivered = bool(exports.outputs(job))
    files = [
        {"type": kind, "url": f"{base()}/fhir/bulk-files/{job.pk}/{kind}.ndjson"}
        for kind in (job.spec["types"] if delivered else ())
    ]
    return {
        "transactionTime": job.created_at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "request": job.spec["address"],
        "requiresAccessToken": True,
        "output": files,
        "deleted": [],
        "error": [],
    }


def _lines(kind: str, scopes: Scopes, first: Any, rest: Iterator[Any]) -> Iterator[bytes]:
    for _, resources in [first] if first is not None else []:
        yield _ndjson(kind, scopes, resources)
    for _, resources in rest:
        yield _ndjson(kind, scopes, resources)


def _ndjson(kind: str, scopes: Scopes, resources: list[dict[str, Any]]) -> bytes:
    return b"".join(
        orjson.dumps(each) + b"\n"
        for each in resources
        if each["resourceType"] == kind and scopes.permits(each, READ)
    )


# What was asked for


def _pairs(query: Any) -> Iterator[tuple[str, str]]:
    for name, values in query.lists():
        for value in values:
            yield name, value


def _of_parameters(body: Any) -> list[tuple[str, str]]:
    """A FHIR Parameters resource as pairs. Raises InvalidInput."""
    if not isinstance(body, Mapping) or body.get("resourceType") != "Parameters":
        raise InvalidInput("Send a Parameters resource.", code="parameter")
    listed = body.get("parameter", [])
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise InvalidInput("`parameter` is a list of objects.", code="parameter")
    found = []
    for each in listed:
        value = next((each[name] for name in each if name.startswith("value")), None)
        if not isinstance(each.get("name"), str) or not isinstance(value, str):
            raise InvalidInput("Each parameter has a name and a value that is a string.", code="parameter")
        found.append((each["name"], value))
    return found


def _check_format(given: list[tuple[str, str]]) -> None:
    if any(name == "_outputFormat" and value not in FORMATS for name, value in given):
        raise InvalidInput(f"The files are {NDJSON}.", code="output_format")


def _since(given: list[tuple[str, str]]) -> int | None:
    values = [value for name, value in given if name == "_since"]
    if not values:
        return None
    # A plus sign that nobody encoded is a space by now.
    span = times.span(values[-1].replace(" ", "+"))
    if span is None or len(values) > 1:
        raise InvalidInput("_since is one FHIR instant, such as 2026-01-31T12:00:00Z.", code="since")
    return span[0]


def _types_and_filters(
    given: list[tuple[str, str]], scopes: Scopes, group: str | None, requester: Any
) -> tuple[list[str] | None, dict[str, list[list[Filter]]]]:
    """The types, each with what the token's scopes and `_typeFilter` ask of a resource.

    Raises PermissionDenied for a type that the token does not cover.
    """
    named = [kind for name, value in given if name == "_type" for kind in value.split(",") if kind]
    if unknown := set(named) - RESOURCE_TYPES:
        raise InvalidInput(f"FHIR R4 has no type {sorted(unknown)[0][:40]!r}.", code="resource_type")
    asked_for: dict[str, list[Filter]] = {}
    for name, value in given:
        if name == "_typeFilter":
            # A comma parts two filters where a type follows it; else it parts two codes of one.
            for one in re.split(r",(?=[A-Z][A-Za-z]+\?)", value):
                kind, _, query = one.partition("?")
                if kind not in RESOURCE_TYPES:
                    raise InvalidInput("A _typeFilter begins with a type of FHIR R4.", code="type_filter")
                asked_for.setdefault(kind, []).append(read_filter(query))
    types = named or sorted(
        {
            kind
            for name, asked in exports.groups(requester).items()
            if group in (None, name)
            for each in asked
            for kind in each.kinds
            if scopes.filters(kind, READ) is not None and scopes.filters(kind, SEARCH) is not None
        }
    )
    found: dict[str, list[list[Filter]]] = {}
    for kind in types:
        by_scope = scopes.filters(kind, READ)
        if by_scope is None or scopes.filters(kind, SEARCH) is None:
            raise PermissionDenied(f"This token carries no scope system/{kind}.rs.")
        found[kind] = [by_scope, *([asked_for[kind]] if kind in asked_for else [])]
    return list(types) or None, found


def _note(text: str) -> dict[str, Any]:
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "information", "code": "informational", "diagnostics": text}],
    }
