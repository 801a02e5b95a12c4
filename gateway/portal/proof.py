"""Proofs: whether an entry of the patient's is sealed, the proof to keep, and the checker for everyone."""

import hashlib
import json
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_datetime
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from consent.models import Patient
from gateway.analysis.proofs import WEB, judge
from gateway.portal import uses
from gateway.portal.visitor import for_patient
from ledger.audit.incidents import PROOF_DIFFERS, open_incident, row
from ledger.audit.proof import MAX_BYTES, Verdict, judge_file, leaves_of
from ledger.errors import GatewayError

CHECKS_A_MINUTE = 20  # from one address


@never_cache
@require_safe
@for_patient(may="see")
def proof(request: HttpRequest, patient: Patient, key: str) -> HttpResponse:
    """The verdict in plain words; what does not match opens an incident by itself."""
    steps = uses.find_use(patient, key)
    verdict, kept = judge(steps)
    sealed = json.loads(kept) if kept and verdict == Verdict.SEALED else None
    (told,) = uses.explain([steps])
    return render(
        request,
        "portal/proof.html",
        {"section": "access", "use": told, "key": key, "verdict": verdict, "proof": sealed},
        status=200 if verdict != Verdict.UNKNOWN else 503,
    )


@never_cache
@require_safe
@for_patient(may="see")
def download(request: HttpRequest, patient: Patient, key: str) -> HttpResponse:
    verdict, kept = judge(uses.find_use(patient, key))
    if verdict != Verdict.SEALED or kept is None:
        return redirect("proof", key=key)
    answer = HttpResponse(kept, content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="proof-{key[:12]}.json"'
    return answer


# The checker


@never_cache
@csrf_exempt  # nothing is kept, no session is used: whoever has a proof may check it, by a program too
@require_http_methods(["GET", "HEAD", "POST"])
def check(request: HttpRequest) -> HttpResponse:
    """Anyone may check a proof, without signing in. It is held in memory for this one answer."""
    if request.method != "POST":
        return _checked(request)
    if not _may_check(request):
        return _checked(request, "too_many", status=429)
    if _length(request) > MAX_BYTES:
        return _checked(request, "too_large", status=413)
    request.upload_handlers = [MemoryFileUploadHandler(request)]
    file = request.FILES.get("proof")
    if file is None:
        return _checked(request, "none", status=400)
    data = file.read()
    try:
        verdict, lines = judge_file(data, settings.LEDGER_URL)
    except GatewayError:
        return _checked(request, "unreachable", status=503)
    if verdict == Verdict.DIFFERS:
        open_incident(code=PROOF_DIFFERS, place=row(min(leaves_of(data))), by=WEB)
    return _checked(request, verdict, [_in_words(line) for line in lines])


def _checked(
    request: HttpRequest, verdict: str = "", lines: list[dict[str, Any]] | None = None, *, status: int = 200
) -> HttpResponse:
    context = {"verdict": str(verdict), "lines": lines or [], "most": MAX_BYTES >> 20}
    return render(request, "portal/proof_check.html", context, status=status)


def _in_words(line: dict[str, Any]) -> dict[str, Any]:
    result = uses.RESULTS.get(line["kind"])
    return {"what": result[0] if result else line["kind"], "when": parse_datetime(line["time"])}


def _length(request: HttpRequest) -> int:
    text = request.META.get("CONTENT_LENGTH") or "0"
    return int(text) if text.isdigit() else 0


def _may_check(request: HttpRequest) -> bool:
    """At most CHECKS_A_MINUTE from one address, as this process counts them; no address is kept."""
    address = hashlib.sha256(settings.SECRET_KEY.encode() + request.META.get("REMOTE_ADDR", "").encode())
    key = f"proof-check-{address.hexdigest()}"
    cache.add(key, 0, timeout=60)
    try:
        return cache.incr(key) <= CHECKS_A_MINUTE
    except ValueError:  # it ran out between the two
        return True
