"""What happened with a patient's records, as the audit log has it: found, grouped and said in plain words.

Rows with the same `use` are steps of one: a job's release, its result, each reading of that.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from django.db.models import Case, CharField, Count, Max, Q, QuerySet, When
from django.db.models.functions import Cast
from django.http import Http404
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from consent.explanation import PURPOSES
from consent.models import ConsentRequest, Patient, Requester
from gateway.analysis.models import JobSubject
from ledger.audit.models import AuditRow

EMERGENCY = "access.emergency"
OWN_COPY = "access.subject"

# Kind of audit row -> what the patient reads, and the colour of its tag.
RESULTS: dict[str, tuple[Promise, str]] = {
    "job.released": (_("Allowed"), "green"),
    "job.delivered": (_("Result sent"), "green"),
    "result.read": (_("Result sent and read"), "green"),
    "result.accepted": (_("Result accepted"), "green"),
    "result.rejected": (_("Result not accepted"), "grey"),
    "result.withdrawn": (_("Result taken back"), "red"),
    "job.denied": (_("Blocked"), "red"),
    "job.stopped": (_("Stopped"), "red"),
    EMERGENCY: (_("Emergency"), "orange"),
    "emergency.read": (_("Emergency: records read"), "orange"),
    "emergency.ended": (_("Emergency: ended"), "orange"),
    "emergency.reviewed": (_("Emergency: checked"), "grey"),
    OWN_COPY: (_("Your own copy"), "grey"),
}
# What is said instead where staff did it, and of a copy, which no model reads.
BY_STAFF: dict[str, tuple[Promise, str]] = {
    "result.read": (_("Result sent. Your clinic read it"), "green"),
}
OF_A_COPY: dict[str, tuple[Promise, str]] = {
    "job.delivered": (_("Copy sent"), "green"),
    "result.read": (_("Copy sent and read"), "green"),
}
# What there is to say besides.
NOTES: dict[str, Promise] = {"job.stopped": _("Its result was not released")}
EMERGENCY_STEPS = (EMERGENCY, "emergency.read", "emergency.ended", "emergency.reviewed")
REASONS: dict[str, Promise] = {
    **dict.fromkeys(EMERGENCY_STEPS, _("Emergency care")),
    OWN_COPY: _("You asked for a copy"),
}
BLOCKED = ("job.denied", "job.stopped")
DELIVERED = (
    "job.released",
    "job.delivered",
    "result.read",
    "result.accepted",
    "result.rejected",
    "result.withdrawn",
)
USES = ("job.released", EMERGENCY)
SHOWN: dict[str, tuple[Promise, tuple[str, ...]]] = {
    "all": (_("Everything"), tuple(RESULTS)),
    "used": (_("Uses"), DELIVERED),
    "blocked": (_("Blocked tries"), BLOCKED),
    "emergency": (_("Emergencies"), (EMERGENCY,)),
    "copy": (_("Your own copies"), (OWN_COPY,)),
}


@dataclass(frozen=True)
class Filter:
    """What of it is asked for: one of SHOWN, one requester (by id), one period (both days included)."""

    show: str = "all"
    who: str = ""
    since: date | None = None
    until: date | None = None

    @classmethod
    def read(cls, query: Mapping[str, str], requesters: Iterable[tuple[Any, str]]) -> "Filter":
        """From a query string; what is not understood filters nothing."""
        show, who = query.get("show", "all"), query.get("who", "")
        return cls(
            show if show in SHOWN else "all",
            who if who in {str(id) for id, _name in requesters} else "",
            _day(query.get("since", "")),
            _day(query.get("until", "")),
        )

    def as_query(self) -> dict[str, str]:
        found = {"show": self.show, "who": self.who}
        days = {"since": self.since, "until": self.until}
        found |= {name: day.isoformat() for name, day in days.items() if day}
        return {name: value for name, value in found.items() if value and (name, value) != ("show", "all")}

    def fits(self) -> Q:
        """What one step of a use has to be."""
        found = Q(kind__in=SHOWN[self.show][1])
        if self.since:
            found &= Q(recorded_at__date__gte=self.since)
        if self.until:
            found &= Q(recorded_at__date__lte=self.until)
        return found

    def narrow(self, rows: QuerySet[Any], patient: Patient) -> QuerySet[Any]:
        if not self.who:
            return rows
        own = JobSubject.objects.filter(patient=patient, job__requester_id=UUID(self.who))
        return rows.filter(step_of__in=own.values("pk"))


def rows_of(patient: Patient) -> QuerySet[Any]:
    """Every row of the log that is about the use of this patient's records."""
    return AuditRow.objects.filter(subject=patient.pseudonym, kind__in=RESULTS).annotate(
        use=Case(When(step_of="", then=Cast("pk", CharField())), default="step_of")
    )


def count_uses(rows: QuerySet[Any], kinds: Iterable[str] = USES) -> int:
    """How many uses have a step of these kinds."""
    return rows.filter(kind__in=kinds).aggregate(uses=Count("use", distinct=True))["uses"] or 0


def requesters_of(patient: Patient) -> list[tuple[Any, str]]:
    """Who ever asked this patient: (id, name), by name."""
    asked = Requester.objects.filter(requests__patient=patient, requests__asked_at__isnull=False)
    return list(asked.order_by("name").values_list("pk", "name").distinct())


def find_uses(
    patient: Patient, wanted: Filter, *, limit: int, before: int | None = None
) -> tuple[list[list[AuditRow]], int | None]:
    """The steps of at most `limit` uses, latest first; and where older ones begin, if there are any.

    `before` is such a place. A use that fits by one step is shown with all of them. Two queries.
    """
    rows = rows_of(patient)
    found = wanted.narrow(rows, patient).order_by().values("use").annotate(last=Max("pk"))
    found = found.annotate(fits=Count("pk", filter=wanted.fits())).filter(fits__gt=0)
    if before is not None:
        found = found.filter(last__lt=before)
    page = list(found.order_by("-last")[: limit + 1])
    older = page[limit - 1]["last"] if len(page) > limit else None
    steps: dict[str, list[AuditRow]] = {each["use"]: [] for each in page[:limit]}
    for row in rows.filter(use__in=steps).order_by("pk"):
        steps[row.use].append(row)
    return list(steps.values()), older


def find_use(patient: Patient, key: str) -> list[AuditRow]:
    """The steps of one use of this patient's, oldest first; another's and none look the same: Http404."""
    by_key = Q(step_of=key) if len(key) == 64 else Q(step_of="", pk=key)
    steps = list(rows_of(patient).filter(by_key).order_by("pk"))
    if not steps:
        raise Http404
    return steps


def explain(uses: Sequence[Sequence[AuditRow]]) -> list[dict[str, Any]]:
    """Uses in plain words, each by its newest step: names come from our tables, for the log holds none."""
    lines = [[json.loads(bytes(step.line)) for step in steps] for steps in uses]
    details = [each[-1]["details"] for each in lines]
    names = {
        str(id): name
        for id, name in Requester.objects.filter(
            pk__in={each["requester"] for each in details if "requester" in each}
        ).values_list("pk", "name")
    }
    questions = (
        ConsentRequest.objects.select_related("notice")
        .only("what_for", "notice__language")
        .in_bulk({each["request"] for each in details if "request" in each})
    )
    return [_explained(steps, told, names, questions) for steps, told in zip(uses, lines, strict=True)]


def _explained(
    steps: Sequence[AuditRow],
    lines: Sequence[dict[str, Any]],
    names: Mapping[str, str],
    questions: Mapping[str, ConsentRequest],
) -> dict[str, Any]:
    last, told = steps[-1], lines[-1]["details"]
    question = questions.get(told.get("request", ""))
    # That the clinic read it does not hide that whoever got it read it too.
    same = [line for step, line in zip(steps, lines, strict=True) if step.kind == last.kind]
    by_staff = all(_is_by_staff(line) for line in same)
    return {
        **_step(last, lines[-1], by_staff=by_staff),
        "key": last.step_of or str(last.pk),
        "who": names.get(told.get("requester", ""), ""),
        "copy": _is_copy(last, told),
        "emergency": last.kind in EMERGENCY_STEPS,
        "you": last.kind == OWN_COPY,
        "question": question,  # whose words `why` is, if it is somebody's
        "why": (question.what_for if question else "")
        or PURPOSES.get(told.get("purpose", ""))
        or REASONS.get(last.kind, ""),
        "sealed": all(step.leaf is not None for step in steps),
        "steps": [
            _step(step, line, by_staff=_is_by_staff(line)) for step, line in zip(steps, lines, strict=True)
        ]
        if len(steps) > 1
        else [],
        "told": told,
    }


def _is_by_staff(line: Mapping[str, Any]) -> bool:
    return bool(line["actor"]["kind"] == "staff")


def _is_copy(row: AuditRow, told: Mapping[str, Any]) -> bool:
    """A copy of records left, or was to: such a job has no model."""
    return row.kind.startswith(("job.", "result.")) and "job" in told and "model" not in told


def _step(row: AuditRow, line: Mapping[str, Any], *, by_staff: bool) -> dict[str, Any]:
    copy = _is_copy(row, line["details"])
    instead = BY_STAFF if by_staff else OF_A_COPY if copy else {}
    result, colour = instead.get(row.kind) or RESULTS[row.kind]
    return {
        "kind": row.kind,
        "when": row.recorded_at,
        "result": result,
        "colour": colour,
        "note": "" if copy else NOTES.get(row.kind, ""),
        "sealed": row.leaf is not None,
    }


def read_place(text: str) -> int | None:
    """The place that a link to older entries names; None where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        return None
