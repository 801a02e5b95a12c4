"""`/staff/alarms`: looks at records that somebody else should judge: a queue, one alarm, what was found."""

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from gateway.compliance import alarms
from gateway.compliance.models import Alarm
from gateway.staff.forms import FoundForm
from gateway.staff.visitor import for_staff, me, page, perform

SECTION = "staff_alarms"
MOST = 50
WHY = {
    Alarm.Kind.NIGHT: gettext_lazy("At night, between 22:00 and 6:00"),
    Alarm.Kind.OWN: gettext_lazy("Their own record"),
    Alarm.Kind.SURNAME: gettext_lazy("The same surname as the patient"),
    Alarm.Kind.VOLUME: gettext_lazy("20 patients within an hour"),
    Alarm.Kind.WELL_KNOWN: gettext_lazy("A patient whom many know"),
}
SHOWN = {"open": Q(settled_at=None), "settled": Q(settled_at__isnull=False)}


@require_safe
@for_staff("see_alarms")
def index(request: HttpRequest) -> HttpResponse:
    show = request.GET.get("show", "open")
    show = show if show in SHOWN else "open"
    order = "seen_at" if show == "open" else "-settled_at"
    found = _alarms().filter(SHOWN[show]).order_by(order, "pk")[:MOST]
    counts = {name: Alarm.objects.filter(fits).count() for name, fits in SHOWN.items()}
    return page(
        request,
        "staff/alarms.html",
        SECTION,
        show=show,
        filters=[("open", _("To judge"), counts["open"]), ("settled", _("Judged"), counts["settled"])],
        rows=[{"alarm": each, "why": WHY[Alarm.Kind(each.kind)]} for each in found],
    )


@require_safe
@for_staff("see_alarms")
def alarm(request: HttpRequest, id: str) -> HttpResponse:
    return _show(request, _find(id), FoundForm())


@require_POST
@for_staff("judge_alarms")
def own(request: HttpRequest, id: str) -> HttpResponse:
    found = _find(id)
    return perform(
        request,
        SECTION,
        lambda: alarms.take(alarm=found, by=me(request)),
        back=_at(found),
        done=_("It is yours to judge."),
    )


@require_POST
@for_staff("judge_alarms")
def settle(request: HttpRequest, id: str) -> HttpResponse:
    found, form = _find(id), FoundForm(request.POST)
    if not form.is_valid():
        return _show(request, found, form, status=400)
    return perform(
        request,
        SECTION,
        lambda: alarms.settle(alarm=found, by=me(request), **form.cleaned_data),
        back=_at(found),
        done=_("Saved."),
        settled={"alarm_settled"},
    )


def _show(request: HttpRequest, found: Alarm, form: FoundForm, status: int = 200) -> HttpResponse:
    return page(
        request,
        "staff/alarm.html",
        SECTION,
        status=status,
        alarm=found,
        why=WHY[Alarm.Kind(found.kind)],
        can_judge=found.settled_at is None and request.user.pk not in (found.by_id, found.patient.user_id),
        form=form,
        back=reverse("staff_alarms"),
    )


def _alarms() -> QuerySet[Alarm]:
    return Alarm.objects.select_related("by", "patient", "owner", "settled_by")


def _find(id: str) -> Alarm:
    return get_object_or_404(_alarms(), pk=id)


def _at(found: Alarm) -> str:
    return reverse("staff_alarm", args=[found.pk])
