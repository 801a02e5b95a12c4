"""The register of processing activities, GDPR article 30: made of what stands in the database, for any day.

An activity is what one requester asks records for: one purpose, use or copy, one AI model. It begins with the
first question that a patient was asked and ends with the last consent. Two days are compared by `changes`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from datetime import date, datetime, time
from typing import Any

from django.conf import settings
from django.db.models import Count, QuerySet
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from consent.explanation import KINDS, SENSITIVE
from consent.kinds import name_of, purpose_of
from consent.models import Consent, ConsentRequest, Requester
from gateway.analysis.models import AIModel
from gateway.compliance.package import retention
from gateway.documents.report import Report, Section, Table
from gateway.documents.tables import as_csv

# What makes an activity: fields of a question.
GROUP = ("requester", "purpose", "action", "model")
Group = tuple[Any, ...]
COMPARED = ("contact", "kinds", "sensitive", "suspended")
NUMBERS = (4, 5)  # of `columns()`
FEW = 5  # people; a smaller number is not told


@dataclass(frozen=True)
class Activity:
    """`asked` and `in_force` are numbers of patients; None: more than none and fewer than FEW."""

    id: str
    requester: str
    contact: str
    purpose: str
    action: str
    model: str
    kinds: tuple[str, ...]
    sensitive: tuple[str, ...]
    suspended: bool
    asked: int | None
    in_force: int | None

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.id, self.purpose, self.action, self.model


@dataclass(frozen=True)
class Change:
    """`what` is added, ended or changed; `fields` are those that differ."""

    what: str
    activity: Activity
    fields: tuple[str, ...] = ()


def on(day: date) -> list[Activity]:
    """The activities at the end of this day, by requester, purpose, action, model. Four queries, grouped."""
    end = timezone.make_aware(datetime.combine(day, time.max))
    questions = ConsentRequest.objects.filter(asked_at__lte=end).order_by()
    asked = _patients(questions.values_list(*GROUP))
    given = _patients(_in_force(end).values_list(*(f"request__{field}" for field in GROUP)))
    kinds: dict[Group, set[str]] = {}
    sensitive: dict[Group, set[str]] = {}
    for *group, types, codes in questions.values_list(*GROUP, "kinds", "sensitive").distinct():
        kinds.setdefault(tuple(group), set()).update(types)
        sensitive.setdefault(tuple(group), set()).update(codes)
    requesters = Requester.objects.in_bulk({group[0] for group in asked})
    names = {each.digest: str(each) for each in AIModel.objects.all()}
    found = []
    for group, count in asked.items():
        requester, (_id, purpose, action, model) = requesters[group[0]], group
        found.append(
            Activity(
                id=requester.reference,
                requester=requester.name,
                contact=requester.contact,
                purpose=purpose,
                action=action,
                model=names.get(model) or model,
                kinds=tuple(sorted(kinds[group])),
                sensitive=tuple(sorted(sensitive[group])),
                suspended=_suspended(requester, end),
                asked=_told(count),
                in_force=_told(given.get(group, 0)),
            )
        )
    return sorted(found, key=lambda each: (each.requester, each.key))


def _patients(groups: Any) -> dict[Group, int]:
    """How many patients are in each group of these rows."""
    counted = groups.order_by().annotate(patients=Count("patient", distinct=True))
    return {tuple(group): count for *group, count in counted}


def _in_force(end: datetime) -> QuerySet[Consent]:
    """The consents in force at `end`."""
    given = Consent.objects.filter(granted_at__lte=end, invalid_at=None).exclude(stopped_at__lte=end)
    return given.exclude(expires_at__lte=end).exclude(replaced_by__granted_at__lte=end)


def _suspended(requester: Requester, end: datetime) -> bool:
    return requester.suspended_at is not None and requester.suspended_at <= end


def _told(patients: int) -> int | None:
    return patients if patients == 0 or patients >= FEW else None


def changes(earlier: Sequence[Activity], later: Sequence[Activity]) -> list[Change]:
    """What is in one and not in the other, and what differs in both; numbers of patients are no change."""
    before, after = {each.key: each for each in earlier}, {each.key: each for each in later}
    found = [Change("added", after[key]) for key in sorted(after.keys() - before.keys())]
    for key in sorted(before.keys() & after.keys()):
        was, now = asdict(before[key]), asdict(after[key])
        differ = tuple(name for name in COMPARED if was[name] != now[name])
        if differ:
            found.append(Change("changed", after[key], differ))
        if _ended(before[key], after[key]):
            found.append(Change("ended", after[key]))
    return found


def _ended(before: Activity, after: Activity) -> bool:
    return before.in_force != 0 and after.in_force == 0


def as_json(
    day: date, activities: Sequence[Activity], since: date | None, changed: Sequence[Change]
) -> bytes:
    told = {
        "format": "consent-gateway register 1",
        "day": day.isoformat(),
        "controller": {
            "name": settings.CUSTODIAN,
            "address": settings.CUSTODIAN_ADDRESS,
            "phone": settings.HELP_PHONE,
        },
        "activities": [asdict(each) for each in activities],
        "compared_with": since.isoformat() if since else None,
        "changes": [asdict(each) for each in changed],
    }
    return json.dumps(told, ensure_ascii=False, indent=1, sort_keys=True).encode()


def as_table(activities: Sequence[Activity]) -> bytes:
    return as_csv(
        [each.name for each in fields(Activity)],
        [[_cell(value) for value in astuple(each)] for each in activities],
    )


def _cell(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return " ".join(value)
        case None | int():
            return _count(value)
    return str(value)


def _count(number: int | None) -> str:
    return f"<{FEW}" if number is None else str(number)


def cells(activity: Activity) -> list[str]:
    """An activity as a row of a table, under `columns()`."""
    return [
        f"{activity.requester}\n{activity.contact}".strip(),
        str(purpose_of(activity.purpose)),
        _action(activity),
        _named(activity),
        _count(activity.asked),
        _count(activity.in_force),
        _("Suspended") if activity.suspended else _("Open"),
    ]


def columns() -> list[str]:
    return [
        _("Recipient (30(1)(d))"),
        _("Purpose (30(1)(b))"),
        _("Kind of use"),
        _("Categories of data (30(1)(c))"),
        _("Patients asked"),
        _("Patients sharing"),
        _("State"),
    ]


def _action(activity: Activity) -> str:
    if activity.action == ConsentRequest.Action.DISCLOSE:
        return _("A de-identified copy leaves")
    return _("Read here by %(model)s") % {"model": activity.model}


def _named(activity: Activity) -> str:
    names = [name_of(kind) for kind in activity.kinds if kind in KINDS]
    names += [SENSITIVE[code].name for code in activity.sensitive if code in SENSITIVE]
    return ", ".join(str(name) for name in names)


def said(change: Change) -> str:
    """What kind of change it is, in a word or two."""
    match change.what:
        case "added":
            return _("Added")
        case "ended":
            return _("Nobody shares any more")
    names = {
        "contact": _("contact"),
        "kinds": _("kinds of data"),
        "sensitive": _("private kinds of data"),
        "suspended": _("suspended or open"),
    }
    return _("Changed: %(fields)s") % {"fields": ", ".join(names[each] for each in change.fields)}


def frame() -> list[tuple[str, str]]:
    """What is the same for every activity: (heading, text)."""
    return [
        (_("Controller (30(1)(a))"), f"{settings.CUSTODIAN} {settings.CUSTODIAN_ADDRESS}".strip()),
        (_("Contact"), settings.HELP_PHONE),
        (_("Whose data (30(1)(c))"), _("Patients of the hospital")),
        (
            _("Transfers to other countries (30(1)(e))"),
            _("None by the gateway; a recipient's own country is in its contract"),
        ),
        (_("Time limits for erasure (30(1)(f))"), " ".join(retention())),
        (
            _("Security measures (30(1)(g))"),
            _(
                "Records are sealed, one key for each patient. No key is opened without a release on the"
                " ledger, no result leaves without a delivery there. Each use is a row of a log that anybody"
                " can verify."
            ),
        ),
    ]


def report(
    day: date, activities: Sequence[Activity], since: date | None, changed: Sequence[Change]
) -> Report:
    rows = [cells(each) for each in activities]
    sections = [
        Section(
            _("What holds for every activity"),
            table=Table([_("What"), _("Entry")], [list(each) for each in frame()], (1, 3)),
        ),
        Section(
            _("Activities"),
            text=[] if rows else [_("There are none.")],
            table=Table(columns(), rows, (1.4, 1.2, 1.4, 1.9, 0.7, 0.7, 0.8)) if rows else None,
        ),
    ]
    if since is not None:
        told = [[said(each), *cells(each.activity)[:4]] for each in changed]
        heading = _("Changes since %(day)s") % {"day": date_format(since, "DATE_FORMAT")}
        table = Table([_("Change"), *columns()[:4]], told, (1, 1.4, 1.3, 1.4, 2)) if told else None
        sections.append(Section(heading, text=[] if told else [_("There are none.")], table=table))
    about = [
        settings.CUSTODIAN,
        _("As it stood at the end of %(day)s.") % {"day": date_format(day, "DATE_FORMAT")},
        _("Numbers of patients from 1 to 4 are shown as <5."),
    ]
    return Report(_("Register of processing activities (GDPR article 30)"), about, sections, wide=True)
