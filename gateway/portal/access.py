"""Who used my records: every use and every blocked try, as the audit log has it for this patient."""

import json
from collections.abc import Iterable
from typing import Any

from django.db.models import Case, CharField, Count, Max, Q, QuerySet, When
from django.db.models.functions import Cast
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


def rows_of(patient: Patient) -> QuerySet[Any]:
    """Every row of the log that is about the use of this patient's records.

    Rows with the same `use` are steps of one: a job's release, its result, each reading of that.
    """
    return AuditRow.objects.filter(subject=patient.pseudonym, kind__in=RESULTS).annotate(
        use=Case(When(step_of="", then=Cast("pk", CharField())), default="step_of")
    )


def count_uses(rows: QuerySet[Any], kinds: Iterable[str] = USES) -> int:
    """How many uses have a step of these kinds."""
    return rows.filter(kind__in=kinds).aggregate(uses=Count("use", distinct=True))["uses"] or 0


@never_cache
@require_safe
@for_patient
def access(request: HttpRequest, patient: Patient) -> HttpResponse:
    show = request.GET.get("show", "all")
    show = show if show in FILTERS else "all"
    rows = rows_of(patient)
    # 1. The uses of this page, by their newest step.
    uses = rows.order_by().values("use").annotate(last=Max("pk"))
    if show != "all":
        uses = uses.annotate(fits=Count("pk", filter=Q(kind__in=FILTERS[show][1]))).filter(fits__gt=0)
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 19:
        uses = uses.filter(last__lt=int(before))
    found = list(uses.order_by("-last")[: PAGE + 1])
    page = found[:PAGE]
    # 2. Their steps.
    steps: dict[str, list[AuditRow]] = {each["use"]: [] for each in page}
    for row in rows.filter(use__in=steps).order_by("pk"):
        steps[row.use].append(row)
    counts = rows.aggregate(
        **{
            name: Count("use", distinct=True, filter=Q(kind__in=kinds))
            for name, kinds in (
                ("uses", ("job.released",)),
                ("blocked", BLOCKED),
                ("emergencies", (EMERGENCY,)),
            )
        }
    )
    return render(
        request,
        "portal/access.html",
        {
            "section": "access",
            "uses_listed": _explain(list(steps.values())),
            "show": show,
            "filters": [(key, label) for key, (label, _kinds) in FILTERS.items()],
            "older": page[-1]["last"] if len(found) > PAGE else None,
            **counts,
        },
    )


def _explain(uses: list[list[AuditRow]]) -> list[dict[str, Any]]:
    """Uses in plain words, each by its newest step: names come from our tables, for the log holds none."""
    lines = [json.loads(bytes(steps[-1].line)) for steps in uses]
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
    for steps, line, each in zip(uses, lines, details, strict=True):
        last = steps[-1]
        explained.append(
            {
                **_step(last),
                "who": names.get(each.get("requester", ""), ""),
                "program": line["actor"]["kind"] in ("client", "system")
                and last.kind.startswith(("job.", "result.")),
                "emergency": last.kind == EMERGENCY,
                "why": reasons.get(each.get("request", ""), "")
                or PURPOSES.get(each.get("purpose", ""))
                or REASONS.get(last.kind, ""),
                "sealed": all(step.leaf is not None for step in steps),
                "steps": [_step(step) for step in steps] if len(steps) > 1 else [],
            }
        )
    return explained


def _step(row: AuditRow) -> dict[str, Any]:
    result, colour = RESULTS[row.kind]
    return {
        "when": row.recorded_at,
        "result": result,
        "colour": colour,
        "note": NOTES.get(row.kind, ""),
        "sealed": row.leaf is not None,
    }
