"""`/staff/models`: model versions that AI providers registered; two people approve each."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from gateway.analysis import registrations
from gateway.analysis.models import ModelRegistration
from gateway.staff import cards
from gateway.staff.paging import newest_first
from gateway.staff.visitor import for_staff, me, page, perform

SECTION = "staff_models"


@require_safe
@for_staff("see_requesters")
def index(request: HttpRequest) -> HttpResponse:
    rows, after = newest_first(request, ModelRegistration.objects.select_related("requester"))
    return page(request, "staff/models.html", SECTION, rows=rows, after=after)


@require_safe
@for_staff("see_requesters")
def registration(request: HttpRequest, id: str) -> HttpResponse:
    return _show(request, find_registration(id))


@require_POST
@for_staff("approve_models")
def approve(request: HttpRequest, id: str) -> HttpResponse:
    found = find_registration(id)
    return perform(
        request,
        SECTION,
        lambda: registrations.approve(registration=found, by=me(request)),
        back=_at(found),
        done=_("Approved by you."),
        settled={"not_open"},
    )


@require_POST
@for_staff("approve_models")
def refuse(request: HttpRequest, id: str) -> HttpResponse:
    found = find_registration(id)
    reasons = request.POST.getlist("reasons")
    if not reasons:
        return _show(request, found, problem=_("Choose one or more reasons."), status=400)
    return perform(
        request,
        SECTION,
        lambda: registrations.refuse(registration=found, by=me(request), reasons=reasons),
        back=_at(found),
        done=_("Refused. The provider reads why."),
        settled={"not_open"},
    )


def find_registration(id: str) -> ModelRegistration:
    whole = ModelRegistration.objects.select_related("requester", "first_by", "decided_by")
    return get_object_or_404(whole, pk=id)


def _show(
    request: HttpRequest, found: ModelRegistration, *, problem: str = "", status: int = 200
) -> HttpResponse:
    code = registrations.code_of(found)
    context: dict[str, Any] = {
        "registration": found,
        "card": cards.rows(found.card),
        "code": code,
        "ours": cards.rows(code.describe()) if code else [],
        "open": found.state in ModelRegistration.OPEN,
        "mine": found.first_by_id == request.user.pk,
        "why": [registrations.REASONS[code] for code in found.reasons],
        "reasons": list(registrations.REASONS.items()),
        "problem": problem,
        "back": reverse(SECTION),
    }
    return page(request, "staff/model.html", SECTION, status=status, **context)


def _at(found: ModelRegistration) -> str:
    return reverse("staff_model", args=[found.pk])
