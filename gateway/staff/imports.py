"""`/staff/imports`: what `manage.py ingest` takes in, how far it is, and what was refused or set aside."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from consent.kinds import name_of
from gateway.records import imports
from gateway.records.models import ImportRun, Quarantined
from gateway.staff.visitor import for_staff, page

SECTION = "staff_imports"
MOST = 50
MOST_REFUSALS = 100
STATES = {
    ImportRun.State.RUNNING: (_("Under way"), "yellow"),
    ImportRun.State.DONE: (_("Done"), "teal"),
    ImportRun.State.FAILED: (_("Stopped by a fault"), "red"),
    ImportRun.State.LOST: (_("Ended without a word"), "red"),
}


@require_safe
@for_staff("see_imports")
def index(request: HttpRequest) -> HttpResponse:
    rows = [_shown(run) for run in imports.newest(MOST)]
    aside = Quarantined.objects.count()
    return page(request, "staff/imports.html", SECTION, rows=rows, aside=aside, most=MOST)


@require_safe
@for_staff("see_imports")
def run(request: HttpRequest, id: str) -> HttpResponse:
    found = get_object_or_404(ImportRun, pk=id)
    refused = found.report.get("refused", [])
    return page(
        request,
        "staff/import.html",
        SECTION,
        refused=refused[:MOST_REFUSALS],
        more=found.report.get("refusals", 0) > min(len(refused), MOST_REFUSALS),
        types=[(name_of(kind), count) for kind, count in sorted(found.report.get("types", {}).items())],
        back=reverse(SECTION),
        **_shown(found),
    )


def _shown(run: ImportRun) -> dict[str, Any]:
    """`counts` as `ingest --json` names them, of the files that are done; empty before the first is."""
    name, colour = STATES[ImportRun.State(run.state)]
    percent = 100 * run.bytes_done // run.bytes if run.bytes else 100
    return {"run": run, "state": name, "colour": colour, "percent": percent, "counts": run.report}
