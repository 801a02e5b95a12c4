"""`/staff/emergency/review/<id>`: a second person judges an emergency access, within 72 hours."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from gateway.emergency import services
from gateway.emergency.models import Emergency
from gateway.staff.forms import OutcomeForm
from gateway.staff.visitor import for_staff, me, page, perform, refused
from ledger.audit.models import AuditRow
from ledger.errors import GatewayError

SECTION = "staff_queue"
SOON = timedelta(hours=24)
MOST_READINGS = 100


def waiting() -> QuerySet[Emergency]:
    """What waits for a review, the first due first."""
    return (
        Emergency.objects.filter(reviewed_at=None)
        .select_related("opened_by", "owner")
        .order_by("review_by", "id")
    )


def rows(found: QuerySet[Emergency], after: str, most: int) -> tuple[list[dict[str, Any]], str]:
    """A page of the queue, and where the next one begins ("" at the end)."""
    moment, _comma, id = after.partition(",")
    try:
        at = datetime.fromisoformat(moment) if moment else None
    except ValueError:
        at = None
    if at is not None and at.tzinfo is not None:
        found = found.filter(Q(review_by__gt=at) | Q(review_by=at, id__gt=id))
    listed = list(found[: most + 1])
    now = timezone.now()
    shown = [
        {
            "emergency": each,
            "reason": services.REASONS.get(each.reason, each.reason),
            "age": int((now - each.opened_at).total_seconds() // 3600),
            "late": each.review_by < now,
            "soon": each.review_by < now + SOON,
        }
        for each in listed[:most]
    ]
    last = listed[most - 1] if len(listed) > most else None
    return shown, f"{last.review_by.isoformat()},{last.id}" if last else ""


@require_safe
@for_staff("see_emergencies")
def emergency(request: HttpRequest, id: str) -> HttpResponse:
    return _show(request, _find(id), OutcomeForm())


@require_safe
@for_staff("see_emergencies")
def signed(request: HttpRequest, id: str) -> HttpResponse:
    """The proof that whoever opened it signed it, for whoever verifies it without us."""
    found = _find(id)
    try:
        file = services.signed_file(emergency=found)
    except GatewayError as error:
        return refused(request, SECTION, error, _at(found))
    answer = HttpResponse(file, content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="emergency-{id[:8]}.json"'
    return answer


@require_POST
@for_staff("review_emergencies")
def judge(request: HttpRequest, id: str) -> HttpResponse:
    found, form = _find(id), OutcomeForm(request.POST)
    if not form.is_valid():
        return _show(request, found, form, status=400)
    return perform(
        request,
        SECTION,
        lambda: services.review(emergency=found, by=me(request), **form.cleaned_data),
        back=_at(found),
        done=_("Saved. The patient is told."),
        settled={"already_reviewed"},
    )


@require_POST
@for_staff("review_emergencies")
def own(request: HttpRequest, id: str) -> HttpResponse:
    found = _find(id)
    return perform(
        request,
        SECTION,
        lambda: services.take(emergency=found, by=me(request)),
        back=_at(found),
        done=_("It is yours to review."),
    )


def _show(request: HttpRequest, found: Emergency, form: OutcomeForm, status: int = 200) -> HttpResponse:
    their_own = request.user.pk in (found.opened_by_id, found.patient.user_id)
    is_known = services.believe_keyholder(found)
    return page(
        request,
        "staff/emergency_review.html",
        SECTION,
        status=status,
        emergency=found,
        reason=services.REASONS.get(found.reason, found.reason),
        readings=AuditRow.objects.filter(
            subject=found.patient.pseudonym, kind="emergency.read", step_of=found.pk
        ).order_by("pk")[:MOST_READINGS],
        over=found.expires_at <= timezone.now(),
        unproven=not is_known and bool(found.tx_id or found.confirmed),
        completed=services.is_completed(found) if found.tx_id else None,
        late=found.reviewed_at is None and found.review_by < timezone.now(),
        can_review=found.reviewed_at is None and not their_own,
        form=form,
        back=reverse("staff_queue") + "?show=emergency",
    )


def _find(id: str) -> Emergency:
    whole = Emergency.objects.select_related("patient", "opened_by", "owner", "reviewed_by")
    return get_object_or_404(whole, pk=id)


def _at(found: Emergency) -> str:
    return reverse("staff_emergency_review", args=[found.pk])
