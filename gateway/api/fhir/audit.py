"""`/fhir/AuditEvent`: what this client did with records, in the form of IHE BALP (Basic Audit Log Patterns).

A delivery is an authorisation by consent (AuthZ-Consent), a reading a disclosure at its source. The patient
stands there by the name that the client has for them and no other; network addresses are not logged.
"""

from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.accounts.scopes import SEARCH
from gateway.analysis import exports
from gateway.analysis.models import Job
from gateway.analysis.uses import Use, uses_of
from gateway.api.discovery import base
from gateway.api.fhir.access import FHIRView, page_size, scopes_of
from gateway.api.permissions import requester_of
from ledger.contract import purposes, times
from ledger.errors import InvalidInput

Json = dict[str, Any]
KNOWN = frozenset({"date", "patient", "_count", "_after", "_format"})
DCM = "http://dicom.nema.org/resources/ontology/DCM"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"


class AuditEvents(FHIRView):
    """Search by `patient` (the subject's id in its job) and `date` (`ge`, `lt`, …); newest first."""

    def get(self, request: Request) -> Response:
        if scopes_of(request).filters("AuditEvent", SEARCH) is None:
            raise PermissionDenied("This token carries no scope system/AuditEvent.s.")
        asked = request.query_params
        if unknown := sorted(set(asked) - KNOWN):
            raise InvalidInput(f"Search by date or patient, not by {unknown[0][:40]}.", code="parameter")
        since, until = _period(asked.getlist("date"))
        requester, count = requester_of(request), page_size(request)
        found = uses_of(
            requester,
            subject=asked.get("patient", "").removeprefix("Patient/"),
            since=since,
            until=until,
            after=asked.get("_after", ""),
        )
        page = list(islice(found, count + 1))
        link = [{"relation": "self", "url": f"{base()}{request.get_full_path()}"}]
        if len(page) > count:
            again = [(name, each) for name in asked for each in asked.getlist(name) if name != "_after"]
            mark = urlencode([*again, ("_after", page[count - 1].mark)])
            link.append({"relation": "next", "url": f"{base()}/fhir/AuditEvent?{mark}"})
        key = exports.key_of(requester)
        entries = [
            {"resource": audit_event(each, key=key), "search": {"mode": "match"}} for each in page[:count]
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link}
        return Response({**bundle, "entry": entries} if entries else bundle)


def audit_event(use: Use, *, key: bytes) -> Json:
    """One use as an AuditEvent; `key` makes the client's own name of a patient whose records it exported."""
    job, details = use.subject.job, use.details
    is_reading = use.kind == "result.read"
    client = {
        "type": _concept(DCM, "110152" if is_reading else "110150"),
        "who": _who("Organization", f"{base()}/requesters", str(job.requester_id), job.requester.name),
        "requestor": True,
    }
    custodian = _custodian()
    server = {
        "type": _concept(DCM, "110153")
        if is_reading
        else _concept("http://terminology.hl7.org/CodeSystem/extra-security-role-type", "authserver"),
        "who": custodian,
        "requestor": False,
    }
    return {
        "resourceType": "AuditEvent",
        "id": use.id,
        "type": _coding(DCM, "110106" if is_reading else "110113"),
        "subtype": [
            _coding("http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle", "disclose")
            if is_reading
            else _coding("https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType", "AuthZ-Consent")
        ],
        "action": "R" if is_reading else "E",
        "recorded": use.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "outcome": "0",
        "purposeOfEvent": [_concept(purposes.SYSTEM, job.purpose)],
        "agent": [client, server],
        "source": {"observer": custodian},
        "entity": [_patient(use, key), *_consent(use), *_data(use, str(details.get("tx_id") or ""))],
    }


def _custodian() -> Json:
    return {"type": "Organization", "display": settings.CUSTODIAN}


def _patient(use: Use, key: bytes) -> Json:
    """By the name that the client has: of an export its pseudonym, else the subject's id in its job."""
    exported = use.subject.job.kind == Job.Kind.EXPORT
    name = exports.pseudonym(key, use.subject) if exported else use.subject.pk
    return {
        "what": _who("Patient", f"{base()}/subjects", name),
        "type": _coding(ENTITY_TYPE, "1"),
        "role": _coding(ENTITY_ROLE, "1"),
    }


def _consent(use: Use) -> list[Json]:
    """The question that the consent answers, or the cohort: of that no question is the client's to know."""
    if use.subject.request is None:
        return []
    cohort = use.subject.request.cohort_id
    kind, id = ("cohorts", cohort) if cohort else ("consent-requests", use.subject.request_id)
    return [
        {
            "what": _who("Consent", f"{base()}/api/v1/{kind}", str(id)),
            "type": _coding(ENTITY_TYPE, "2"),
            "role": _coding(ENTITY_ROLE, "10" if cohort else "4"),
        }
    ]


def _data(use: Use, tx_id: str) -> list[Json]:
    """The job's result or export, by the client's own address of it, and the delivery on the ledger."""
    job = use.subject.job
    address = (
        f"{base()}/fhir/bulk-status/{job.pk}"
        if job.kind == Job.Kind.EXPORT
        else f"{base()}/api/v1/jobs/{job.pk}/results/{use.subject.pk}"
    )
    on_ledger = [{"type": "ledger-transaction", "valueString": tx_id}] if tx_id else []
    data = {
        "what": _who("Bundle", f"{base()}/api/v1/jobs", job.pk),
        "type": _coding(ENTITY_TYPE, "2"),
        "role": _coding(ENTITY_ROLE, "3"),
        "detail": [{"type": "address", "valueString": address}, *on_ledger],
    }
    return [data]


def _who(kind: str, system: str, value: str, display: str = "") -> Json:
    named = {"type": kind, "identifier": {"system": system, "value": value}}
    return {**named, "display": display} if display else named


def _coding(system: str, code: str) -> Json:
    return {"system": system, "code": code}


def _concept(system: str, code: str) -> Json:
    return {"coding": [_coding(system, code)]}


def _period(dates: list[str]) -> tuple[datetime | None, datetime | None]:
    """`date=ge…`, `gt`, `le`, `lt`, or a date alone (FHIR search, "date"), as [since, until)."""
    since: list[int] = []
    until: list[int] = []
    for text in dates[:10]:
        prefix, value = (text[:2], text[2:]) if text[:2] in ("ge", "gt", "le", "lt", "eq") else ("eq", text)
        span = times.span(value)
        if span is None:
            raise InvalidInput("A date is one of FHIR's, such as ge2026-01-31.", code="parameter")
        first, end = span
        if prefix in ("ge", "eq"):
            since.append(first)
        if prefix == "gt":
            since.append(end)
        if prefix in ("le", "eq"):
            until.append(end)
        if prefix == "lt":
            until.append(first)
    return _moment(max(since, default=None)), _moment(min(until, default=None))


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)
