"""`/staff/erasures`: patients who asked that everything of them be destroyed. Two people confirm each, or one
refuses it with a reason that the law knows. The relay carries out what was confirmed."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from consent.erasure import ask_erasure, confirm_erasure, refuse_erasure
from consent.models import Erasure
from gateway.staff.patients import find_patient
from gateway.staff.visitor import for_staff, page, perform

SECTION = "staff_erasures"
MOST = 100
HOLDS = {
    Erasure.Hold.COURT: gettext_lazy("A claim or a court order: the records are evidence"),
    Erasure.Hold.RETENTION: gettext_lazy("A law says how long the records are kept"),
    Erasure.Hold.CARE: gettext_lazy("The records are needed for care that goes on"),
}
STATES = {
    Erasure.State.ASKED: gettext_lazy("Waits for two people"),
    Erasure.State.CONFIRMED: gettext_lazy("Waits for a second person"),
    Erasure.State.DUE: gettext_lazy("Is being carried out"),
    Erasure.State.DONE: gettext_lazy("Done"),
    Erasure.State.REFUSED: gettext_lazy("Refused"),
}


@require_safe
@for_staff("see_erasures")
def index(request: HttpRequest) -> HttpResponse:
    """Those to decide, the oldest first, then what was decided. Who is erased has no name here any more."""
    found = Erasure.objects.select_related("patient", "confirmed_by")
    return page(
        request,
        "staff/erasures.html",
        SECTION,
        open=[_row(request, each) for each in found.filter(state__in=Erasure.OPEN).order_by("pk")[:MOST]],
        decided=[
            _row(request, each) for each in found.exclude(state__in=Erasure.OPEN).order_by("-pk")[:MOST]
        ],
        holds=list(HOLDS.items()),
    )


def _row(request: HttpRequest, erasure: Erasure) -> dict[str, Any]:
    return {
        "erasure": erasure,
        "state": STATES[Erasure.State(erasure.state)],
        "hold": HOLDS[Erasure.Hold(erasure.hold)] if erasure.hold else "",
        "is_second": erasure.state == Erasure.State.CONFIRMED,
        "is_own": erasure.confirmed_by_id == request.user.pk,
    }


@require_POST
@for_staff("see_patients")
def ask(request: HttpRequest, id: str) -> HttpResponse:
    """The patient `id` asked the clinic for it."""
    found = find_patient(id)
    return perform(
        request,
        "staff_patients",
        lambda: ask_erasure(patient=found, by=_user(request)),
        back=reverse("staff_patient", args=[found.pk]),
        done=_("Written down. Two people of the compliance team decide it."),
    )


@require_POST
@for_staff("decide_erasures")
def confirm(request: HttpRequest, id: int) -> HttpResponse:
    found = _find(id)
    return _decided(request, lambda: confirm_erasure(erasure=found, by=_user(request)), _("Confirmed."))


@require_POST
@for_staff("decide_erasures")
def refuse(request: HttpRequest, id: int) -> HttpResponse:
    found, hold = _find(id), request.POST.get("hold", "")
    if hold not in Erasure.Hold.values:
        raise Http404
    return _decided(
        request,
        lambda: refuse_erasure(erasure=found, by=_user(request), hold=hold),
        _("Refused. Tell the patient why."),
    )


def _decided(request: HttpRequest, act: Callable[[], object], done: str) -> HttpResponse:
    return perform(request, SECTION, act, back=reverse(SECTION), done=done, settled=("erasure_settled",))


def _find(id: int) -> Erasure:
    return get_object_or_404(Erasure, pk=id)


def _user(request: HttpRequest) -> AbstractBaseUser:
    assert isinstance(request.user, AbstractBaseUser)
    return request.user
