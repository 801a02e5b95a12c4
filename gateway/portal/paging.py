"""Long lists, a page at a time, by the place of the last row shown: as quick at the end as at the start."""

from typing import Any

from django.db.models import Q, QuerySet

SIZE = 25


def page_of(rows: QuerySet[Any], order: str, after: str) -> tuple[list[Any], str | None]:
    """One page of `rows` by `order` ("field" or "-field"), and the id that the next one goes on `after`.

    `after` is the id of the last row of the page before, one of `rows`; any other starts from the top.
    """
    field, then, op = (order[1:], "-pk", "lt") if order.startswith("-") else (order, "pk", "gt")
    place = rows.filter(pk=after).values_list(field, flat=True).first() if after else None
    if place is not None:
        rows = rows.filter(Q(**{f"{field}__{op}": place}) | Q(**{field: place, f"pk__{op}": after}))
    found = list(rows.order_by(order, then)[: SIZE + 1])
    return found[:SIZE], found[SIZE - 1].pk if len(found) > SIZE else None
