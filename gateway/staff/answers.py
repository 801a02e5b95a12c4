"""`/staff/consents`: answers that staff wrote down. To withdraw and to mark as a mistake are two acts."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from consent import recorded, scans
from consent.explanation import KINDS, SENSITIVE
from consent.models import Consent, Scan
from consent.state import OPEN, state_of
from gateway.accounts.models import User
from gateway.portal.stopping import stop_now
from gateway.staff.forms import WithdrawForm
from gateway.staff.visitor import actor, for_staff, page, perform, refused
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput

PAGE = 25
SECTION = "staff_answers"


def find_answer(id: str) -> Consent:
    whole = Consent.objects.select_related(
        "request__requester", "request__notice", "request__patient", "patient", "recorded_by", "scan"
    )
    return get_object_or_404(whole, pk=id)


@require_safe
@for_staff("see_answers")
def index(request: HttpRequest) -> HttpResponse:
    """Latest first. Who the patients are is shown to whoever may see patients."""
    found = (
        Consent.objects.filter(given_by__in=recorded.RECORDED)
        .select_related("request__requester", "recorded_by", "patient")
        .order_by("-decided_at", "-id")
    )
    moment, _comma, id = request.GET.get("after", "").partition(",")
    try:
        at = datetime.fromisoformat(moment) if moment else None
    except ValueError:
        at = None
    if at is not None and at.tzinfo is not None:
        found = found.filter(Q(decided_at__lt=at) | Q(decided_at=at, id__lt=id))
    listed = list(found[: PAGE + 1])
    last = listed[PAGE - 1] if len(listed) > PAGE else None
    return page(
        request,
        "staff/answers.html",
        SECTION,
        rows=[{"answer": each, "state": state_of(each)} for each in listed[:PAGE]],
        after=f"{last.decided_at.isoformat()},{last.id}" if last else None,
    )


@require_safe
@for_staff("see_answers")
def answer(request: HttpRequest, id: str) -> HttpResponse:
    found = find_answer(id)
    state = state_of(found)
    return page(
        request,
        "staff/answer.html",
        SECTION,
        answer=found,
        state=state,
        kinds=[KINDS[kind].name for kind in found.kinds] + [SENSITIVE[code].name for code in found.sensitive],
        can_withdraw=state in OPEN,
        can_mark=found.given_by in recorded.RECORDED and found.invalid_at is None,
        back=reverse(SECTION),
    )


@require_POST
@for_staff("record_answers")
def withdraw(request: HttpRequest, id: str) -> HttpResponse:
    """The patient said stop, on paper or by phone."""
    found, form = find_answer(id), WithdrawForm(request.POST)
    if not form.is_valid():
        return refused(request, SECTION, InvalidInput(_("Say how the patient told you.")), _at(found))
    return _act(
        request,
        found,
        lambda by: recorded.withdraw(
            consent=found, by=by, given_by=form.cleaned_data["given_by"], stop_now=stop_now
        ),
        _("Stopped. Nothing more is opened."),
    )


@require_POST
@for_staff("mark_invalid")
def mark_invalid(request: HttpRequest, id: str) -> HttpResponse:
    """It was written down by mistake: it never was an answer."""
    found = find_answer(id)
    return _act(
        request,
        found,
        lambda by: recorded.mark_invalid(consent=found, actor=Actor.staff(by.pk), stop_now=stop_now),
        _("Marked as a mistake. Nothing is shared under it."),
    )


@require_safe
@for_staff("see_scans")
def scan(request: HttpRequest, id: str) -> HttpResponse:
    """The paper, as a file to keep: never shown inline. Each opening is written down."""
    found = find_answer(id)
    if found.scan is None:
        raise Http404
    return scan_file(request, found.scan, consent=found.pk)


def scan_file(request: HttpRequest, scan: Scan, **about: Any) -> HttpResponse:
    """A scan as a file; `about` is what its row of the log says besides."""
    content = scans.read(scan)
    with transaction.atomic():
        record(
            kind="scan.opened",
            actor=actor(request),
            subject=scan.patient.pseudonym,
            scan=scan.digest,
            **about,
        )
    response = HttpResponse(content, content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="scan.{scans.ENDINGS[scan.media_type]}"'
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response


def _act(request: HttpRequest, found: Consent, act: Callable[[User], Any], done: str) -> HttpResponse:
    assert isinstance(request.user, User)
    by = request.user
    return perform(
        request,
        SECTION,
        lambda: act(by),
        back=_at(found),
        done=done,
        settled={"not_in_force", "invalid_already"},
    )


def _at(found: Consent) -> str:
    return reverse("staff_answer", args=[found.pk])
