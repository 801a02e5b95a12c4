"""Who used my records: every use and every blocked try, as the audit log has it for this patient."""

import json
from typing import Any

from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from consent.explanation import PURPOSES
from consent.models import ConsentRequest, Patient, Requester
from gateway.portal.visitor import for_patient
from ledger.audit.models import AuditRow

PAGE = 25
EMERGENCY = "access.emergency"

# Kind of audit row -> what the patient reads, and the colour of its tag.
RESULTS: dict[str, tuple[Promise, str]] = {
    "job.released": (_("Allowed"), "green"),
    "job.delivered": (_("Result sent"), "green"),
    "result.read": (_("Result read"), "green"),
    "job.denied": (_("Blocked"), "red"),
    "job.stopped": (_("Stopped"), "red"),
    EMERGENCY: (_("Emergency"), "orange"),
    "access.subject": (_("Your own copy"), "grey"),
}
# What there is to say besides.
NOTES: dict[str, Promise] = {"job.stopped": _("Its result was not released")}
REASONS: dict[str, Promise] = {EMERGENCY: _("Emergency care"), "access.subject": _("You asked for a copy")}
BLOCKED = ("job.denied", "job.stopped")
USES = ("job.released", EMERGENCY)
FILTERS: dict[str, tuple[Promise, tuple[str, ...]]] = {
    "all": (_("Everything"), tuple(RESULTS)),
    "used": (_("Uses"), ("job.released", "job.delivered", "result.read")),
    "blocked": (_("Blocked tries"), BLOCKED),
    "emergency": (_("Emergencies"), (EMERGENCY,)),
}


def rows_of(patient: Patient) -> QuerySet[AuditRow]:
    """Every row of the log that is about the use of this patient's records, newest first."""
    return AuditRow.objects.filter(subject=patient.pseudonym, kind__in=RESULTS).order_by("-id")


@never_cache
@require_safe
@for_patient
def access(request: HttpRequest, patient: Patient) -> HttpResponse:
    show = request.GET.get("show", "all")
    show = show if show in FILTERS else "all"
    rows = rows_of(patient)
    if show != "all":
        rows = rows.filter(kind__in=FILTERS[show][1])
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: PAGE + 1])
    page = found[:PAGE]
    counts = dict(rows_of(patient).order_by("kind").values_list("kind").annotate(Count("id")))
    return render(
        request,
        "portal/access.html",
        {
            "section": "access",
            "rows": _explain(page),
            "show": show,
            "filters": [(key, label) for key, (label, _kinds) in FILTERS.items()],
            "older": page[-1].pk if len(found) > PAGE else None,
            "uses": counts.get("job.released", 0),
            "blocked": sum(counts.get(kind, 0) for kind in BLOCKED),
            "emergencies": counts.get(EMERGENCY, 0),
        },
    )


def _explain(page: list[AuditRow]) -> list[dict[str, Any]]:
    """Rows in plain words: names come from our tables, for the log holds none."""
    lines = [json.loads(bytes(row.line)) for row in page]
    details = [line["details"] for line in lines]
    names = {
        str(id): name
        for id, name in Requester.objects.filter(
            pk__in={each["requester"] for each in details if "requester" in each}
        ).values_list("pk", "name")
    }
    reasons = dict(
        ConsentRequest.objects.filter(
            pk__in={each["request"] for each in details if "request" in each}
        ).values_list("pk", "what_for")
    )
    explained = []
    for row, line, each in zip(page, lines, details, strict=True):
        label, colour = RESULTS[row.kind]
        explained.append(
            {
                "when": row.recorded_at,
                "who": names.get(each.get("requester", ""), ""),
                "program": line["actor"]["kind"] in ("client", "system")
                and row.kind.startswith(("job.", "result.")),
                "emergency": row.kind == EMERGENCY,
                "why": reasons.get(each.get("request", ""), "")
                or PURPOSES.get(each.get("purpose", ""))
                or REASONS.get(row.kind, ""),
                "result": label,
                "colour": colour,
                "note": NOTES.get(row.kind, ""),
                "sealed": row.leaf is not None,
            }
        )
    return explained
