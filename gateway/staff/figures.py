"""The dashboard's numbers: each figure is a plot and the rows of its table, no small count of people in it.

A column of counts hides what is under five, and enough beside it that the sum of the column gives nothing
away; figures of the same things over the same time share no total but such sums.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, F, Min, Q, QuerySet
from django.db.models.functions import TruncMonth
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from consent.kinds import purpose_of
from consent.models import Consent
from gateway.analysis.models import Job, JobSubject
from gateway.compliance.models import Alarm
from gateway.emergency.models import Emergency
from gateway.staff.counting import fold, hide, percentiles
from gateway.staff.plots import NOTHING, Plot, Series, Value
from ledger.models import LedgerTransaction

MONTHS = 12
DAYS = 14
MOST = 10_000  # latest stops, or transactions, that percentiles are taken of
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Figure:
    """A plot and its table; None is a number that is not shown."""

    plot: Plot

    @property
    def hides(self) -> bool:
        return None in self.plot.values

    @property
    def columns(self) -> list[str]:
        return [one.name for one in self.plot.series]

    @property
    def rows(self) -> list[tuple[str, list[tuple[str, Value]]]]:
        """The label of each row, and its cells with the names of their columns."""
        return [
            (label, [(one.name, one.values[place]) for one in self.plot.series])
            for place, label in enumerate(self.plot.labels)
        ]


def _months() -> list[date]:
    """The first days of the last MONTHS months, this one last."""
    day = timezone.localdate().replace(day=1)
    found = [day]
    while len(found) < MONTHS:
        day = (day - timedelta(days=1)).replace(day=1)
        found.append(day)
    return found[::-1]


def _since(day: date) -> datetime:
    return timezone.make_aware(datetime(day.year, day.month, day.day))


def _month_names(months: Sequence[date]) -> list[str]:
    return [date_format(month, "M Y") for month in months]


def _by_month(
    rows: QuerySet[Any], when: str, months: Sequence[date], **counts: Count
) -> dict[str, list[int | None]]:
    """Each count for each month by the field `when`, small ones hidden."""
    found = list(
        rows.filter(**{f"{when}__gte": _since(months[0])})
        .annotate(month=TruncMonth(when))
        .values("month")
        .annotate(**counts)
        .order_by()
    )
    by_month = {timezone.localtime(each["month"]).date(): each for each in found}
    none = dict.fromkeys(counts, 0)
    return {name: hide([by_month.get(month, none)[name] for month in months]) for name in counts}


def choices() -> Figure:
    months = _months()
    valid = Consent.objects.filter(invalid_at=None)
    said_no = Q(status=Consent.Status.REJECTED)
    answered = _by_month(
        valid, "decided_at", months, yes=Count("pk", filter=~said_no), no=Count("pk", filter=said_no)
    )
    stopped = _by_month(valid, "stopped_at", months, stopped=Count("pk"))
    return Figure(
        Plot(
            "choices",
            _("Choices over time"),
            _("For each month, how many said yes, how many said no, and how many stopped sharing."),
            _month_names(months),
            [
                Series(_("Yes"), answered["yes"]),
                Series(_("No"), answered["no"]),
                Series(_("Stopped"), stopped["stopped"]),
            ],
            _("Choices"),
        )
    )


def purposes() -> Figure:
    since = _since(_months()[0])
    found = (
        JobSubject.objects.filter(job__created_at__gte=since)
        .exclude(consent="")
        .values_list("job__purpose")
        .annotate(uses=Count("pk"))
        .order_by()
    )
    shown = fold(dict(found), "")
    names = [str(purpose_of(code)) if code else _("Others") for code in shown]
    return Figure(
        Plot(
            "purposes",
            _("Uses by purpose"),
            _("For each purpose, uses of records in the last 12 months. Rare purposes are put together."),
            names,
            [Series(_("Uses"), list(shown.values()))],
            lying=True,
        )
    )


def blocked() -> Figure:
    months = _months()
    tried = _by_month(
        JobSubject.objects.filter(job__state__in=Job.SETTLED),
        "job__created_at",
        months,
        used=Count("pk", filter=~Q(consent="")),
        refused=Count("pk", filter=Q(consent="")),
    )
    rate: list[Value] = [
        None if a is None or b is None else round(100 * b / (a + b), 1) if a + b else NOTHING
        for a, b in zip(tried["used"], tried["refused"], strict=True)
    ]
    return Figure(
        Plot(
            "blocked",
            _("Blocked tries"),
            _("For each month, how many of a hundred tries to use a record were blocked."),
            _month_names(months),
            [Series(_("Blocked, in per cent"), rate)],
            _("Per cent"),
        )
    )


def _by_percentile(groups: Sequence[Sequence[float]], of: Sequence[int] = PERCENTILES) -> list[Series]:
    none: list[Value] = [NOTHING for _each in of]
    shown = [_rounded(percentiles(group, of=of)) if group else none for group in groups]
    return [Series(_share(each), [row[place] for row in shown]) for place, each in enumerate(of)]


def _share(percentile: int) -> str:
    return _("Half") if percentile == 50 else _("%(n)d of 100") % {"n": percentile}


def _rounded(values: Sequence[float | None]) -> list[Value]:
    return [None if each is None else round(each, 1) for each in values]


def stops() -> Figure:
    months = _months()
    found = (
        Consent.objects.filter(
            stopped_at__gte=_since(months[0]), revoked_at__gt=F("stopped_at") - timedelta(seconds=1)
        )
        .order_by("-stopped_at")
        .values_list("stopped_at", "revoked_at")[:MOST]
    )
    groups: dict[date, list[float]] = defaultdict(list)
    for stopped, revoked in found:
        assert stopped is not None
        assert revoked is not None
        # The ledger's times are whole seconds: a quick one seems to end before it began.
        took = max(0.0, (revoked - stopped).total_seconds())
        groups[timezone.localtime(stopped).date().replace(day=1)].append(took)
    return Figure(
        Plot(
            "stops",
            _("From a stop to the ledger"),
            _(
                "For each month, within how many seconds a stop was on the ledger: for half of them, for 95"
                " and for 99 of a hundred. The keyholder opens nothing from the first moment on."
            ),
            _month_names(months),
            _by_percentile([groups[month] for month in months]),
            _("Seconds"),
        )
    )


def lag() -> Figure:
    today = timezone.localdate()
    days = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    found = (
        LedgerTransaction.objects.filter(created_at__gte=_since(days[0]), settled_at__isnull=False)
        .order_by("-id")
        .values_list("created_at", "settled_at")[:MOST]
    )
    groups: dict[date, list[float]] = defaultdict(list)
    for created, settled in found:
        assert settled is not None
        groups[timezone.localtime(created).date()].append((settled - created).total_seconds())
    return Figure(
        Plot(
            "lag",
            _("Ledger lag"),
            _(
                "For each of the last 14 days, within how many seconds what was asked for was on the ledger:"
                " for half of it, for 95 and for 99 of a hundred."
            ),
            [date_format(day, "j M") for day in days],
            _by_percentile([groups[day] for day in days]),
            _("Seconds"),
        )
    )


def emergencies() -> Figure:
    months = _months()
    in_time = Q(reviewed_at__lte=F("review_by"))
    found = _by_month(
        Emergency.objects.all(),
        "opened_at",
        months,
        in_time=Count("pk", filter=in_time),
        late=Count("pk", filter=~in_time | Q(reviewed_at=None)),
    )
    return Figure(
        Plot(
            "emergencies",
            _("Emergency access"),
            _("For each month, how many were reviewed within 72 hours, and how many were not or still wait."),
            _month_names(months),
            [
                Series(_("Reviewed in time"), found["in_time"]),
                Series(_("Late or waiting"), found["late"]),
            ],
            _("Accesses"),
        )
    )


def reviews() -> Figure:
    months = _months()
    found = (
        Emergency.objects.filter(opened_at__gte=_since(months[0]), reviewed_at__isnull=False)
        .order_by("-opened_at")
        .values_list("opened_at", "reviewed_at")[:MOST]
    )
    groups: dict[date, list[float]] = defaultdict(list)
    for opened, reviewed in found:
        assert reviewed is not None
        groups[timezone.localtime(opened).date().replace(day=1)].append(
            (reviewed - opened).total_seconds() / 3600
        )
    return Figure(
        Plot(
            "reviews",
            _("From an emergency to its review"),
            _(
                "For each month, within how many hours a second person reviewed an emergency: half of them,"
                " and 95 of a hundred. A review is due within 72 hours."
            ),
            _month_names(months),
            _by_percentile([groups[month] for month in months], of=(50, 95)),
            _("Hours"),
        )
    )


def alarms() -> Figure:
    months = _months()
    found = _by_month(
        Alarm.objects.all(),
        "seen_at",
        months,
        explained=Count("pk", filter=Q(outcome=Alarm.Outcome.EXPLAINED)),
        misuse=Count("pk", filter=Q(outcome=Alarm.Outcome.MISUSE)),
        waiting=Count("pk", filter=Q(settled_at=None)),
    )
    return Figure(
        Plot(
            "alarms",
            _("Alarms"),
            _("For each month, looks at records that a second person should judge, and what they found."),
            _month_names(months),
            [
                Series(_("Explained"), found["explained"]),
                Series(_("Misuse"), found["misuse"]),
                Series(_("To judge"), found["waiting"]),
            ],
            _("Alarms"),
        )
    )


def unsettled() -> tuple[int, int]:
    """How many transactions wait for the ledger now, and for how many seconds the oldest has."""
    state = LedgerTransaction.State
    waiting = LedgerTransaction.objects.filter(state__in=(state.PENDING, state.SENT)).aggregate(
        count=Count("id"), oldest=Min("created_at")
    )
    oldest = waiting["oldest"]
    age = int((timezone.now() - oldest).total_seconds()) if oldest else 0
    return waiting["count"], age


FIGURES: dict[str, Callable[[], Figure]] = {
    "choices": choices,
    "purposes": purposes,
    "blocked": blocked,
    "stops": stops,
    "lag": lag,
    "emergencies": emergencies,
    "reviews": reviews,
    "alarms": alarms,
}
