"""Long lists of the staff site: the newest first, a page at a time."""

from typing import TypeVar

from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest

PAGE = 50

Row = TypeVar("Row", bound=Model)


def newest_first(request: HttpRequest, found: QuerySet[Row]) -> tuple[list[Row], str | None]:
    """The page that `?before=` asks for, and what the next one's `?before=` says, if there is a next one.

    `found` has a `created_at` and a text as its key. A `?before=` that names no row is the first page.
    """
    if before := request.GET.get("before", "")[:64]:
        at = found.filter(pk=before).values_list("created_at", flat=True).first()
        if at is not None:
            found = found.filter(Q(created_at__lt=at) | Q(created_at=at, pk__lt=before))
    rows = list(found.order_by("-created_at", "-pk")[: PAGE + 1])
    return rows[:PAGE], rows[PAGE - 1].pk if len(rows) > PAGE else None
