"""The logs of one AI model over its lifetime: Regulation (EU) 2024/1689, articles 12, 14, 19 and 26(6).

Article 12(3)(a) asks for each use's beginning and end, (d) for who verified the result; article 14 for the
oversight by people. The rows themselves are in the bundle; here they are read, one line for each.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from gateway.analysis.models import AIModel, Job
from gateway.compliance.package import logic_of
from gateway.documents.report import Report, Section, Table
from gateway.documents.tables import as_csv
from ledger.audit.export import Selection
from ledger.contract.state import Json

KEPT_MONTHS = 6  # at least: articles 19(1) and 26(6)
OVERSIGHT = ("result.accepted", "result.rejected", "result.withdrawn")
MOST_IN_REPORT = 2_000
COLUMNS = ("when", "kind", "job", "attempt", "subject", "actor_kind", "actor", "purpose", "reasons", "code",
           "leaf")  # fmt: skip


@dataclass(frozen=True)
class Event:
    """A row of the log that names the model."""

    at: datetime
    kind: str
    actor: dict[str, str]
    details: dict[str, Any]
    leaf: int | None


def selection_of(model: AIModel) -> Selection:
    return Selection(about=("model", model.digest))


def events_of(model: AIModel) -> Iterator[Event]:
    """Everything that the log says of the model, oldest first."""
    for row in selection_of(model).rows().order_by("pk").iterator():
        line = json.loads(bytes(row.line))
        yield Event(row.recorded_at, row.kind, line["actor"], line["details"], row.leaf)


def as_table(events: Sequence[Event]) -> bytes:
    return as_csv(
        COLUMNS,
        [
            (
                timezone.localtime(each.at).isoformat(timespec="seconds"), each.kind,
                each.details.get("job", ""), each.details.get("attempt", ""),
                each.details.get("subject_id", ""), each.actor["kind"], each.actor["id"],
                each.details.get("purpose", ""), " ".join(each.details.get("reasons", ())),
                each.details.get("code") or each.details.get("state", ""),
                "" if each.leaf is None else each.leaf,
            )
            for each in events
        ],
    )  # fmt: skip


def summary(model: AIModel, events: Sequence[Event]) -> Json:
    """JSON values: the model, its lifetime here, its uses and how people judged its results."""
    counts = Counter(each.kind for each in events)
    return {
        "format": "consent-gateway AI log pack 1",
        "model": {
            "name": model.name,
            "version": model.version,
            "digest": model.digest,
            "provider": model.provider.name,
            "state": model.state,
        },
        "card": model.card,
        "first": _instant(events[0].at) if events else None,
        "last": _instant(events[-1].at) if events else None,
        "uses": _uses(events),
        "oversight": {kind: counts[kind] for kind in OVERSIGHT},
        "events": dict(sorted(counts.items())),
        "tested_here": {"people": model.tested_people, "wrong": model.tested_wrong}
        if model.tested_people
        else None,
        "deployer": settings.CUSTODIAN,
        "kept_months_at_least": KEPT_MONTHS,
    }


def report(model: AIModel, found: Json, events: Sequence[Event]) -> Report:
    life = [
        [_("Program"), f"{model.title} ({model})"],
        [_("Fingerprint of what runs"), model.digest],
        [_("Provider"), model.provider.name],
        [_("Deployer"), settings.CUSTODIAN],
        [_("State"), _state(model)],
        [_("First and last entry"), f"{_told(found['first'])} – {_told(found['last'])}"],
        [_("Tested here"), _tested(model)],
        [_("Results that people judged (article 14)"), _oversight(found["oversight"])],
        [_("Kept for"), _("as long as the log is, and six months at least")],
    ]
    changes = [each for each in events if each.kind.startswith("model.")]
    runs = found["uses"][-MOST_IN_REPORT:]
    sections = [
        Section(_("The program"), table=Table([_("What"), _("Entry")], life, (1, 2.5))),
        Section(_("How it works"), items=logic_of(model.card)),
        Section(
            _("Approvals and tests"),
            text=[] if changes else [_("There are none.")],
            table=_changes(changes),
        ),
        Section(
            _("Each use: its beginning and end (article 12(3)(a))"),
            text=_cut(len(found["uses"])),
            table=_runs(runs),
        ),
    ]
    about = [
        settings.CUSTODIAN,
        _("Made on %(when)s.") % {"when": date_format(timezone.localtime(), "DATETIME_FORMAT")},
        _("Regulation (EU) 2024/1689, articles 12, 14, 19 and 26(6). Every entry is in the log beside it."),
    ]
    return Report(_("Log of an AI model over its lifetime"), about, sections, wide=True)


def _uses(events: Sequence[Event]) -> list[Json]:
    """One for each job: begun, ended, how it ended, for how many people, who judged."""
    jobs: dict[str, Json] = {}
    for each in events:
        job = each.details.get("job")
        if job is None:
            continue
        use = jobs.setdefault(
            job,
            {"job": job, "begun": _instant(each.at), "ended": None, "purpose": "", "released": 0,
             "delivered": 0, "blocked": 0, "judged": []},
        )  # fmt: skip
        use["purpose"] = each.details.get("purpose", use["purpose"])
        if "subject_id" in each.details:
            use["released"] += each.kind == "job.released"
            use["delivered"] += each.kind == "job.delivered"
            use["blocked"] += each.kind in ("job.denied", "job.stopped")
        if each.kind in OVERSIGHT:
            use["judged"].append({"what": each.kind, "by": each.actor["id"], "when": _instant(each.at)})
    settled = dict(Job.objects.filter(pk__in=jobs).values_list("pk", "settled_at"))
    for id, use in jobs.items():
        use["ended"] = _instant(settled.get(id))
    return list(jobs.values())


def _runs(uses: Sequence[Json]) -> Table | None:
    rows = [
        [
            _told(each["begun"]),
            _told(each["ended"]),
            each["purpose"],
            f"{each['released']} / {each['delivered']} / {each['blocked']}",
            ", ".join(_judged(one) for one in each["judged"]) or "–",
            each["job"][:16],
        ]
        for each in uses
    ]
    columns = [_("Begun"), _("Ended"), _("Purpose"), _("Released / delivered / blocked"),
               _("Judged by people (12(3)(d))"), _("Job")]  # fmt: skip
    return Table(columns, rows, (1.2, 1.2, 0.9, 1.1, 1.5, 1.2)) if rows else None


def _judged(one: Json) -> str:
    return f"{one['what'].removeprefix('result.')} ({one['by'][:8]})"


def _changes(events: Sequence[Event]) -> Table | None:
    rows = [
        [
            _told(_instant(each.at)),
            each.kind.removeprefix("model."),
            f"{each.details.get('state', '')} {each.details.get('code', '')}".strip(),
            each.details.get("tx_id", "–"),
        ]
        for each in events
    ]
    columns = [_("When"), _("What"), _("State"), _("Transaction on the ledger")]
    return Table(columns, rows, (1.2, 1, 1, 3)) if rows else None


def _cut(count: int) -> list[str]:
    if count == 0:
        return [_("It was never used.")]
    if count > MOST_IN_REPORT:
        return [_("These are the newest %(n)d. The table file has all.") % {"n": MOST_IN_REPORT}]
    return []


def _state(model: AIModel) -> str:
    match model.state:
        case AIModel.State.APPROVED:
            return _("Approved")
        case AIModel.State.SUSPENDED:
            return _("Suspended")
    return _("Waiting for the ledger")


def _tested(model: AIModel) -> str:
    if not model.tested_people:
        return _("Not tested here")
    return _("Wrong for %(wrong)d of %(people)d people") % {
        "wrong": model.tested_wrong,
        "people": model.tested_people,
    }


def _oversight(counts: Json) -> str:
    return _("%(accepted)d accepted, %(rejected)d rejected, %(withdrawn)d withdrawn") % {
        kind.removeprefix("result."): count for kind, count in counts.items()
    }


def _told(instant: str | None) -> str:
    if instant is None:
        return "–"
    return date_format(timezone.localtime(datetime.fromisoformat(instant)), "DATETIME_FORMAT")


def _instant(at: datetime | None) -> str | None:
    return timezone.localtime(at).isoformat(timespec="seconds") if at else None
