"""Pages of the patient's own copy: ask for it, sign for it where she has a passkey, read and keep it."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from allauth.account.decorators import reauthentication_required
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from consent.explanation import KINDS
from consent.models import Patient
from gateway import documents
from gateway.emergency.readable import Line, records_of
from gateway.keyholder.client import Keyholder
from gateway.portal.visitor import for_patient
from gateway.records import lines, own_copies
from gateway.records.models import OwnCopy
from ledger.errors import GatewayError
from ledger.webauthn import Assertion

MOST_LINES = 200  # of one kind on the page
MOST_IN_PDF = 3_000
TYPES = {
    "ndjson": "application/fhir+ndjson",
    "json": "application/fhir+json",
    "pdf": "application/pdf",
}


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient
@reauthentication_required  # type: ignore[untyped-decorator]  # a session that was left open gets none
def own_copy(request: HttpRequest, patient: Patient) -> HttpResponse:
    if request.method == "POST":
        return redirect("own_copy_of", id=own_copies.begin(patient=patient).pk)
    earlier = OwnCopy.objects.filter(patient=patient).order_by("-asked_at")[:10]
    now = timezone.now()
    listed = [{"copy": each, "open": each.expires_at > now} for each in earlier]
    return render(request, "portal/own_copy.html", {"section": "access", "earlier": listed})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient
@reauthentication_required  # type: ignore[untyped-decorator]
def own_copy_of(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """One copy: sign for it, wait for the record book, then keep it."""
    copy = _find(patient, id)
    problem = None
    if request.method == "POST":
        try:
            own_copies.put_on_ledger(copy=copy, voucher=_voucher(request.POST.get("signature", "")))
        except GatewayError as error:
            problem = error
        else:
            return redirect("own_copy_of", id=id)
    is_over = timezone.now() >= copy.expires_at
    waits = copy.state == OwnCopy.State.ASKED and not is_over
    return render(
        request,
        "portal/own_copy_of.html",
        {
            "section": "access",
            "copy": copy,
            "over": is_over,
            "waits": waits,
            "problem": problem,
            "signers": _signers(patient) if waits and copy.voucher is None else None,
            "challenge": own_copies.challenge(copy) if waits else "",
        },
        status=problem.status if problem else 200,
    )


@never_cache
@require_safe
@for_patient
@reauthentication_required  # type: ignore[untyped-decorator]
def own_copy_page(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """The copy as a page to read: the newest of each kind."""
    copy = _find(patient, id)
    try:
        kinds = _readable(own_copies.read(copy=copy))
    except GatewayError as error:
        return _not_now(request, copy, error)
    for kind in kinds:
        kind["more"] = max(0, len(kind["lines"]) - MOST_LINES)
        kind["lines"] = kind["lines"][:MOST_LINES]
    return render(request, "portal/own_copy_page.html", {"section": "access", "copy": copy, "kinds": kinds})


@never_cache
@require_safe
@for_patient
@reauthentication_required  # type: ignore[untyped-decorator]
def own_copy_file(request: HttpRequest, patient: Patient, id: str, form: str) -> Any:
    """The copy as a file: every resource as it was received (ndjson, json), or the readable page (pdf)."""
    if form not in TYPES:
        raise Http404
    copy = _find(patient, id)
    try:
        opened = own_copies.read(copy=copy)
        if form == "pdf":
            answer: Any = HttpResponse(_pdf(patient, opened), content_type=TYPES[form])
        else:
            # The first part is opened before the answer begins: a refusal is a page, not half a file.
            first = next(opened, None)
            parts = chain([first], opened) if first else iter(())
            write = _ndjson if form == "ndjson" else _bundle
            answer = StreamingHttpResponse(write(parts), content_type=TYPES[form])
    except GatewayError as error:
        return _not_now(request, copy, error)
    answer["Content-Disposition"] = f'attachment; filename="my-records.{form}"'
    return answer


def _find(patient: Patient, id: str) -> OwnCopy:
    """The patient's own; another's and none look the same. Raises Http404."""
    found = OwnCopy.objects.filter(pk=id, patient=patient).select_related("patient").first()
    if found is None:
        raise Http404
    return found


def _not_now(request: HttpRequest, copy: OwnCopy, error: GatewayError) -> HttpResponse:
    context = {"section": "access", "copy": copy, "problem": error, "over": timezone.now() >= copy.expires_at}
    return render(request, "portal/own_copy_of.html", context, status=error.status)


def _signers(patient: Patient) -> dict[str, Any]:
    """Who signs for her; `known` is None where the keyholder cannot be asked."""
    try:
        found = Keyholder(settings.KEYHOLDER_SOCKET).signers(patient=patient.pk)
    except GatewayError:
        return {"known": None}
    return {"known": found["known"], "signing": " ".join(found["signing"]), "quiet": found["quiet_until"]}


def _voucher(text: str) -> dict[str, Any] | None:
    return Assertion.read(text).to_json() if text else None


# The copy, written


def _ndjson(opened: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """One resource a line."""
    for _kind, ndjson in opened:
        yield lines.portable(ndjson)


def _bundle(opened: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """A FHIR R4 Bundle of type collection, every resource's bytes as they were received."""
    yield b'{"resourceType":"Bundle","type":"collection","entry":['
    comma = b""
    for _kind, ndjson in opened:
        for line in lines.unpack(ndjson):
            yield comma + b'{"resource":' + lines.as_received(line) + b"}"
            comma = b","
    yield b"]}"


def _readable(opened: Iterable[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """By kind of record, in the order that patients know them: its name and its lines, newest first."""
    chunks: dict[str, list[bytes]] = {}
    for kind, ndjson in opened:
        chunks.setdefault(kind, []).append(ndjson)
    order = {kind: number for number, kind in enumerate(KINDS)}
    return [
        {
            "name": KINDS[kind].name if kind in KINDS else kind,
            "lines": list(records_of(chunks[kind]).lines),
        }
        for kind in sorted(chunks, key=lambda kind: (order.get(kind, len(order)), kind))
    ]


def _pdf(patient: Patient, opened: Iterable[tuple[str, bytes]]) -> bytes:
    kinds = _readable(opened)
    left = MOST_IN_PDF
    told = []
    for kind in kinds:
        rows = [[_day(line), line.what, _details(line)] for line in kind["lines"][:left]]
        left -= len(rows)
        told.append({"name": str(kind["name"]), "rows": rows})
    about = [
        patient.name,
        _("Made on %(when)s.") % {"when": date_format(timezone.localtime(), "DATETIME_FORMAT")},
    ]
    if left == 0:
        about.append(_("This page holds the newest of it. The data file has everything."))
    columns = [_("When"), _("What"), _("More")]
    return documents.render(
        "own_copy",
        {"about": about, "columns": columns, "kinds": told},
        title=_("My health records"),
        language=get_language() or "en",
    )


def _day(line: Line) -> str:
    return date_format(line.when, "DATE_FORMAT") if line.when else line.said


def _details(line: Line) -> str:
    return "\n".join(f"{label}: {text}" for label, text in line.details)
