"""`/staff/results`: results of AI models, each to be accepted or rejected by a clinician, one by one."""

from datetime import date, datetime
from itertools import groupby
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from consent.kinds import label_of, name_of
from gateway.accounts.models import User
from gateway.analysis import results
from gateway.analysis.fhir import SYSTEM
from gateway.analysis.models import AIModel, Attempt, Job, JobSubject, ResultReview
from gateway.records.ucum import unit_of
from gateway.staff.visitor import for_staff, page, perform
from gateway.wording import sentence
from ledger.errors import AccessDenied, GatewayError

SECTION = "staff_results"
PAGE = 25
PROGRAMS = 100  # in the list to choose from
State = ResultReview.State
SHOWN: dict[str, Promise] = {
    "waiting": gettext_lazy("Waiting"),
    State.ACCEPTED: gettext_lazy("Accepted"),
    State.REJECTED: gettext_lazy("Rejected"),
    State.WITHDRAWN: gettext_lazy("Withdrawn"),
}
# RiskAssessment.status, which the provider reads.
STATUS: dict[str, Promise] = {
    "preliminary": gettext_lazy("Preliminary"),
    "final": gettext_lazy("Final"),
    "cancelled": gettext_lazy("Cancelled"),
    "entered-in-error": gettext_lazy("Entered in error"),
}
DONE: dict[str, Promise] = {
    State.ACCEPTED: gettext_lazy("Accepted. The patient can read so."),
    State.REJECTED: gettext_lazy("Rejected. It is not used in care."),
    State.WITHDRAWN: gettext_lazy("Withdrawn. The patient and the provider can read so."),
}


@require_safe
@for_staff("see_results")
def index(request: HttpRequest) -> HttpResponse:
    """What waits, oldest first; what was decided, latest first. By day, and of one program if so asked."""
    show = request.GET.get("show", "waiting")
    show = show if show in SHOWN else "waiting"
    programs = list(AIModel.objects.order_by("name", "version", "digest")[:PROGRAMS])
    program = request.GET.get("program", "")
    of = {"model": program} if any(program == each.digest for each in programs) else {}
    after = request.GET.get("after", "")
    rows, following = _waiting(after, **of) if show == "waiting" else _decided(show, after, **of)
    models = AIModel.objects.in_bulk({row["subject"].job.model for row in rows})
    for row in rows:
        row["model"] = models.get(row["subject"].job.model)
    counts = results.counts(**of)
    return page(
        request,
        "staff/results.html",
        SECTION,
        days=_by_day(rows),
        show=show,
        filters=[(name, label, counts[name]) for name, label in SHOWN.items()],
        program=of.get("model", ""),
        programs=programs,
        shown=len(rows),
        of_all=counts[show],
        later=bool(after),
        after=following,
    )


def _waiting(after: str, **of: str) -> tuple[list[dict[str, Any]], str]:
    found = results.waiting().filter(**_of_jobs(of))
    if place := _place(after):
        found = found.filter(Q(delivered_at__gt=place[0]) | Q(delivered_at=place[0], id__gt=place[1]))
    listed = list(found[: PAGE + 1])
    rows = [{"subject": each.subject, "when": each.delivered_at, "id": each.pk} for each in listed]
    return _page(rows)


def _decided(state: str, after: str, **of: str) -> tuple[list[dict[str, Any]], str]:
    found: QuerySet[ResultReview] = (
        ResultReview.objects.filter(state=state, **_of_jobs(of))
        .select_related("subject__job__requester", "subject__patient")
        .order_by("-reviewed_at", "-id")
    )
    if place := _place(after):
        found = found.filter(Q(reviewed_at__lt=place[0]) | Q(reviewed_at=place[0], id__lt=place[1]))
    listed = list(found[: PAGE + 1])
    rows = [{"subject": each.subject, "when": each.reviewed_at, "id": each.pk} for each in listed]
    return _page(rows)


def _of_jobs(of: dict[str, str]) -> dict[str, str]:
    return {f"subject__job__{name}": value for name, value in of.items()}


def _by_day(rows: list[dict[str, Any]]) -> list[tuple[date, int, list[dict[str, Any]]]]:
    """The rows in their order: each day (the clinic's own), how many days ago it was, and what is of it."""
    today = timezone.localdate()
    days = groupby(rows, key=lambda row: timezone.localtime(row["when"]).date())
    return [(day, (today - day).days, list(of_day)) for day, of_day in days]


def _page(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    last = rows[PAGE - 1] if len(rows) > PAGE else None
    return rows[:PAGE], f"{last['when'].isoformat()},{last['id']}" if last else ""


def _place(text: str) -> tuple[datetime, int] | None:
    moment, _comma, id = text.partition(",")
    if not (id.isascii() and id.isdecimal() and len(id) < 19):
        return None
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return (at, int(id)) if at.tzinfo is not None else None


@require_safe
@for_staff("see_results")
def result(request: HttpRequest, id: str) -> HttpResponse:
    """One result with its provenance. It is opened for this answer alone, and that is logged."""
    return _show(request, _find(id))


@require_POST
@for_staff("decide_results")
def decide(request: HttpRequest, id: str) -> HttpResponse:
    found = _find(id)
    assert isinstance(request.user, User)
    by, state, reason = request.user, request.POST.get("state", ""), request.POST.get("reason", "")
    if state in (State.REJECTED, State.WITHDRAWN) and reason not in results.REASONS:
        return _show(request, found, problem=_("Choose a reason."), status=400)
    return perform(
        request,
        SECTION,
        lambda: results.decide(subject=found, by=by, state=state, reason=reason),
        back=reverse("staff_result", args=[id]),
        done=str(DONE.get(state, "")),
    )


def _delivery(found: JobSubject) -> Attempt | None:
    """The attempt that delivered it."""
    return Attempt.objects.filter(leg=found.leg_id).exclude(deliver_tx="").order_by("-number").first()


def _find(id: str) -> JobSubject:
    whole = JobSubject.objects.select_related("job__requester", "patient", "request")
    return get_object_or_404(
        whole, pk=id, state=JobSubject.State.DELIVERED, patient__isnull=False, job__kind=Job.Kind.ANALYSE
    )


def _show(request: HttpRequest, found: JobSubject, problem: str = "", status: int = 200) -> HttpResponse:
    assert isinstance(request.user, User)
    review = results.review_of(found)
    told, closed = None, ""
    try:
        told = read(results.open_for_care(subject=found, by=request.user))
    except AccessDenied:
        closed = str(results.CLOSED)
    except GatewayError as error:
        closed = sentence(error)
    response = page(
        request,
        "staff/result.html",
        SECTION,
        status=status,
        subject=found,
        model=AIModel.objects.filter(pk=found.job.model).first(),
        attempt=_delivery(found),
        review=review,
        status_told=STATUS[results.STATUS[review.state if review else ""]],
        reason=results.REASONS.get(review.reason, "") if review else "",
        reasons=list(results.REASONS.items()),
        may=results.may_become(review),
        told=told,
        closed=closed,
        problem=problem,
        back=reverse("staff_results"),
    )
    response["Cache-Control"] = "no-store, private"
    return response


def read(bundle: dict[str, Any]) -> dict[str, Any]:
    """A result's Bundle (gateway/analysis/fhir.py) in a page's words; what is missing in it is empty."""
    by_type = {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle.get("entry", [])}
    measure = by_type.get("Observation", {})
    assessment = by_type.get("RiskAssessment", measure)
    provenance = by_type.get("Provenance", {})
    prediction = (assessment.get("prediction") or [{}])[0]
    quantity = measure.get("valueQuantity", {})
    used: dict[str, int] = {}
    for one in assessment.get("basis", measure.get("derivedFrom", [])):
        used[one.get("type", "")] = used.get(one.get("type", ""), 0) + 1
    return {
        "outcome": prediction.get("outcome", measure.get("code", {})).get("text", ""),
        "percent": prediction.get("probabilityDecimal"),
        "value": quantity.get("value"),
        "unit": unit_of(quantity),
        "why_none": prediction.get("rationale", measure.get("dataAbsentReason", {}).get("text", "")),
        "alert": by_type.get("DetectedIssue", {}).get("detail", ""),
        "day": parse_date(assessment.get("occurrenceDateTime", assessment.get("effectiveDateTime", ""))),
        "labels": [label_of(one.get("code", "")) for one in assessment.get("meta", {}).get("security", [])],
        "recorded": provenance.get("recorded", ""),
        "policy": [one.removeprefix(f"{SYSTEM}:") for one in provenance.get("policy", [])],
        "used": [(name_of(kind), count) for kind, count in sorted(used.items())],
    }
