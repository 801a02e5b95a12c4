"""`/staff/dashboard`: plots drawn here, each with its table and its CSV."""

import csv
from datetime import timedelta

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from gateway.staff import figures
from gateway.staff.visitor import for_staff, page
from ledger.audit.models import Incident

SECTION = "staff_dashboard"
INCIDENTS = 20  # the latest


@require_safe
@for_staff("see_dashboard")
def dashboard(request: HttpRequest) -> HttpResponse:
    waiting, oldest = figures.unsettled()
    # Those that hold releases first, so that the first one says whether any does.
    incidents = list(
        Incident.objects.filter(settled_at=None).order_by("-holds", "-opened_at", "-pk")[:INCIDENTS]
    )
    return page(
        request,
        "staff/dashboard.html",
        SECTION,
        incidents=incidents,
        held=any(each.holds for each in incidents),
        figures=[make() for make in figures.FIGURES.values()],
        waiting=waiting,
        oldest=_waited(oldest) if waiting else "–",
    )


def _waited(seconds: int) -> str:
    now = timezone.now()
    return _("less than a minute") if seconds < 60 else timesince(now - timedelta(seconds=seconds), now)


@require_safe
@for_staff("see_dashboard")
def numbers(request: HttpRequest, plot: str) -> HttpResponse:
    """The numbers of one plot, as they stand in its table."""
    make = figures.FIGURES.get(plot)
    if make is None:
        raise Http404
    figure = make()
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{plot}.csv"'
    writer = csv.writer(response)
    writer.writerow(["", *figure.columns])
    for label, cells in figure.rows:
        writer.writerow([label, *("hidden" if cell is None else cell for _column, cell in cells)])
    return response
