"""`/staff/queue`: what waits for a review: questions, and emergency accesses. Each is opened and decided by
itself, never in bulk."""

from datetime import date, timedelta
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from consent.kinds import purpose_of
from consent.models import ConsentRequest
from gateway.emergency.models import Emergency
from gateway.staff import emergency_review
from gateway.staff.visitor import for_staff, may, page

PAGE = 25
SOON = timedelta(days=2)
EMERGENCY = "emergency"
State = ConsentRequest.State


def filters(user_id: int | None) -> dict[str, tuple[Promise, Q]]:
    """Filter -> its name, and the questions that it shows. What later needs a review is a line here."""
    new = Q(state=State.REVIEW)
    return {
        "new": (_("New"), new),
        "soon": (_("Due soon"), new & Q(review_by__lte=timezone.localdate() + SOON)),
        "information": (_("Needs information"), Q(state=State.SENT_BACK)),
        "mine": (_("Mine"), Q(state__in=(State.REVIEW, State.SENT_BACK), owner=user_id)),
    }


@require_safe
@for_staff("see_queue")
def queue(request: HttpRequest) -> HttpResponse:
    found = filters(request.user.pk)
    if not may(request, "review"):  # nobody else owns one
        del found["mine"]
    show = request.GET.get("show", "new")
    emergencies = emergency_review.waiting() if may(request, "see_emergencies") else None
    if show == EMERGENCY and emergencies is not None:
        listed_now, next_page = emergency_review.rows(emergencies, request.GET.get("after", ""), PAGE)
        return _show(request, found, show, emergencies, emergencies_listed=listed_now, after=next_page)
    show = show if show in found else "new"
    rows = _waiting().filter(found[show][1]).select_related("requester", "owner").order_by("review_by", "id")
    if after := _position(request.GET.get("after", "")):
        rows = rows.filter(Q(review_by__gt=after[0]) | Q(review_by=after[0], id__gt=after[1]))
    listed = list(rows[: PAGE + 1])
    last = listed[PAGE - 1] if len(listed) > PAGE else None
    return _show(
        request,
        found,
        show,
        emergencies,
        rows=[_row(each) for each in listed[:PAGE]],
        after=f"{last.review_by}.{last.id}" if last else None,
    )


def _waiting() -> QuerySet[ConsentRequest]:
    return ConsentRequest.objects.filter(state__in=(State.REVIEW, State.SENT_BACK))


def _show(
    request: HttpRequest,
    found: dict[str, tuple[Promise, Q]],
    show: str,
    emergencies: QuerySet[Emergency] | None,
    **context: Any,
) -> HttpResponse:
    counts = _waiting().aggregate(
        **{name: Count("pk", filter=fits) for name, (_label, fits) in found.items()}
    )
    listed = [(name, label, counts[name]) for name, (label, _fits) in found.items()]
    if emergencies is not None:
        listed.append((EMERGENCY, _("Emergency access"), emergencies.order_by().count()))
    return page(request, "staff/queue.html", "staff_queue", show=show, filters=listed, **context)


def _row(asked: ConsentRequest) -> dict[str, Any]:
    today = timezone.localdate()
    return {
        "question": asked,
        "purpose": purpose_of(asked.purpose),
        "age": (today - timezone.localtime(asked.created_at).date()).days,
        "soon": asked.review_by is not None and asked.review_by <= today + SOON,
        "late": asked.review_by is not None and asked.review_by < today,
    }


def _position(text: str) -> tuple[date, str] | None:
    """Where the page before ended: `date.id`; anything else starts from the top."""
    day, _dot, id = text.partition(".")
    try:
        return (date.fromisoformat(day), id) if len(id) == 64 and id.isalnum() else None
    except ValueError:
        return None
