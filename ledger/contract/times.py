"""FHIR's dates and times as whole seconds since 1970 UTC. Integer arithmetic; no clock is read."""

import re
from datetime import UTC, date, datetime, timedelta, timezone

# FHIR R4, 2.24.0.1 date, dateTime, instant: YYYY, YYYY-MM, YYYY-MM-DD or with a time and a zone.
_FORM = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
DAY = 86_400


def span(text: object) -> tuple[int, int] | None:
    """First second of `text` and the first second after it: a day, month or year is taken whole.

    None where `text` is no FHIR date or dateTime. A date without a zone is read as UTC; a time
    without a zone is refused, because FHIR requires one.
    """
    if not isinstance(text, str) or not (match := _FORM.fullmatch(text)):
        return None
    year, month, day, hour, minute, second, zone = match.groups()
    try:
        first = date(int(year), int(month or 1), int(day or 1))
        if hour is None:
            after = _after(first, has_month=month is not None, has_day=day is not None)
            return _midnight(first), after
        if zone is None:
            return None
        # A leap second has no number of its own: it is the last second of its minute.
        time = datetime(
            first.year,
            first.month,
            first.day,
            int(hour),
            int(minute),
            min(int(second or 0), 59),
            tzinfo=_zone(zone),
        )
        start = (time - _EPOCH) // _SECOND
    except (ValueError, OverflowError):
        return None
    return start, start + (1 if second is not None else 60)


def period(value: object) -> tuple[int | None, int | None] | None:
    """FHIR Period as [start, end): None for an open side; None in all where it cannot be understood."""
    if not isinstance(value, dict) or not value or value.keys() - {"start", "end", "id"}:
        return None
    start = end = None
    if "start" in value:
        if (found := span(value["start"])) is None:
            return None
        start = found[0]
    if "end" in value:
        if (found := span(value["end"])) is None:
            return None
        end = found[1]
    if start is not None and end is not None and start >= end:
        return None
    return (start, end) if "start" in value or "end" in value else None


def day_after(seconds: int) -> int:
    """`seconds` rounded up to midnight UTC."""
    return -(-seconds // DAY) * DAY


def _after(first: date, *, has_month: bool, has_day: bool) -> int:
    if has_day:
        return _midnight(first) + DAY
    if has_month:
        year, month = (first.year, first.month + 1) if first.month < 12 else (first.year + 1, 1)
        return _midnight(date(year, month, 1))
    return _midnight(date(first.year + 1, 1, 1))


def _midnight(day: date) -> int:
    return (day.toordinal() - date(1970, 1, 1).toordinal()) * DAY


def _zone(text: str) -> timezone:
    if text == "Z":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    if minutes > 14 * 60 or int(text[4:6]) > 59:
        raise ValueError(text)
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))
