"""`/staff/queue`: questions that wait for a review. Each is opened and decided by itself, never in bulk."""

from datetime import date, timedelta
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from consent.explanation import PURPOSES
from consent.models import ConsentRequest
from gateway.staff.visitor import for_staff, page

PAGE = 25
SOON = timedelta(days=2)
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
    show = request.GET.get("show", "new")
    show = show if show in found else "new"
    waiting = ConsentRequest.objects.filter(state__in=(State.REVIEW, State.SENT_BACK))
    counts = waiting.aggregate(**{name: Count("pk", filter=fits) for name, (_label, fits) in found.items()})
    rows = waiting.filter(found[show][1]).select_related("requester", "owner").order_by("review_by", "id")
    if after := _position(request.GET.get("after", "")):
        rows = rows.filter(Q(review_by__gt=after[0]) | Q(review_by=after[0], id__gt=after[1]))
    listed = list(rows[: PAGE + 1])
    last = listed[PAGE - 1] if len(listed) > PAGE else None
    return page(
        request,
        "staff/queue.html",
        "staff_queue",
        rows=[_row(each) for each in listed[:PAGE]],
        show=show,
        filters=[(name, label, counts[name]) for name, (label, _fits) in found.items()],
        after=f"{last.review_by}.{last.id}" if last else None,
    )


def _row(asked: ConsentRequest) -> dict[str, Any]:
    today = timezone.localdate()
    return {
        "question": asked,
        "purpose": PURPOSES.get(asked.purpose, asked.purpose),
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
