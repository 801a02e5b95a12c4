"""Pages of who used my records: the list, one use in plain words, and the list as a file to keep."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from consent.explanation import KINDS, SENSITIVE
from consent.models import Consent, ConsentRequest, Patient
from consent.state import OPEN, state_of
from gateway import documents
from gateway.analysis.models import AIModel
from gateway.compliance import accounting
from gateway.documents import tables
from gateway.emergency.models import Emergency
from gateway.portal import uses
from gateway.portal.uses import BLOCKED, EMERGENCY, SHOWN, USES, Filter
from gateway.portal.visitor import enter, for_patient, named

PAGE = 25
AT_ONCE = 500  # uses read for a file at a time
MOST = {"csv": 20_000, "json": 20_000, "pdf": 1_000}
# What kind of somebody, or something, it was, in a word.
WHO = {
    "own_copy": gettext_lazy("You"),
    "emergency": gettext_lazy("Emergency"),
    "copy": gettext_lazy("A copy of records"),
    "program": gettext_lazy("Computer program"),
}
TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json", "pdf": "application/pdf"}


@never_cache
@require_safe
@for_patient(may="see")
def access(request: HttpRequest, patient: Patient) -> HttpResponse:
    requesters = uses.requesters_of(patient)
    wanted = Filter.read(request.GET, requesters)
    before = uses.read_place(request.GET.get("before", ""))
    found, older = uses.find_uses(patient, wanted, limit=PAGE, before=before)
    counts = uses.rows_of(patient).aggregate(
        **{
            name: Count("use", distinct=True, filter=Q(kind__in=kinds))
            for name, kinds in (
                ("uses", USES),
                ("blocked", BLOCKED),
                ("emergencies", (EMERGENCY,)),
            )
        }
    )
    return render(
        request,
        "portal/access.html",
        {
            "section": "access",
            "uses_listed": uses.explain(found),
            "wanted": wanted,
            "query": urlencode(wanted.as_query()),
            "filters": [(key, label) for key, (label, _kinds) in SHOWN.items()],
            "requesters": [(str(id), name) for id, name in requesters],
            "older": older,
            **counts,
        },
    )


@never_cache
@require_safe
@for_patient(may="see")
def use(request: HttpRequest, patient: Patient, key: str) -> HttpResponse:
    """One use: who, why, which kinds of records, what came of it, and the two doors."""
    steps = uses.find_use(patient, key)
    (told,) = uses.explain([steps])
    details, kinds = told["told"], {step.kind for step in steps}
    given, visit = Consent.objects.select_related("representative"), enter(request)
    consent = given.filter(pk=details.get("consent"), patient=patient).first()
    asked = ConsentRequest.objects.filter(pk=details.get("request"), patient=patient).first()
    records = consent or asked
    emergency = Emergency.objects.filter(pk=details.get("access"), patient=patient).first()
    return render(
        request,
        "portal/use.html",
        {
            "section": "access",
            "use": told,
            "steps": told["steps"] or [told],
            "consent": consent,
            "may_stop": consent is not None and visit.may_stop and state_of(consent) in OPEN,
            "yes_by": named(visit, consent.representative) if consent else "",
            "emergency": emergency,
            "records": [
                *(
                    KINDS[kind].name
                    for kind in visit.covered(records.kinds if records else [])
                    if kind in KINDS
                ),
                *(
                    SENSITIVE[code].name
                    for code in visit.covered(records.sensitive if records else [])
                    if code in SENSITIVE
                ),
            ],
            "model": AIModel.objects.filter(pk=details.get("model")).first(),
            "is_job": any(kind.startswith(("job.", "result.")) for kind in kinds),
            "first_door": "job.released" in kinds,
            "second_door": _second_door(kinds),
        },
    )


def _second_door(kinds: set[str]) -> str:
    if kinds & set(uses.DELIVERED) - {"job.released"}:
        return "open"
    return "shut" if kinds & set(BLOCKED) else "waiting"


# The list as a file


@never_cache
@require_safe
@for_patient(may="see")
def download(request: HttpRequest, patient: Patient, form: str) -> HttpResponse:
    """What is filtered, as a file: `form` is csv, json or pdf."""
    if form not in TYPES:
        raise Http404
    wanted = Filter.read(request.GET, uses.requesters_of(patient))
    entries = list(_entries(patient, wanted, most=MOST[form]))
    body = WRITERS[form](entries, cut=len(entries) == MOST[form])
    answer = HttpResponse(body, content_type=TYPES[form])
    answer["Content-Disposition"] = f'attachment; filename="who-used-my-records.{form}"'
    return answer


@never_cache
@require_safe
@for_patient
def accounting_file(request: HttpRequest, patient: Patient, form: str) -> HttpResponse:
    """The accounting of disclosures (45 CFR 164.528) of six years, as a file: `form` is csv or pdf."""
    since, until = accounting.period(None, None)
    rows = accounting.rows_of(patient, since=since, until=until)
    if form == "csv":
        body = accounting.as_table(rows)
    elif form == "pdf":
        report = accounting.report(patient, rows, since=since, until=until)
        body = report.as_pdf(get_language() or "en")
    else:
        raise Http404
    answer = HttpResponse(body, content_type=TYPES[form])
    answer["Content-Disposition"] = f'attachment; filename="accounting-of-disclosures.{form}"'
    return answer


def _entries(patient: Patient, wanted: Filter, *, most: int) -> Iterator[dict[str, Any]]:
    before: int | None = None
    while most > 0:
        limit = min(AT_ONCE, most)
        found, before = uses.find_uses(patient, wanted, limit=limit, before=before)
        yield from uses.explain(found)
        if before is None:
            return
        most -= limit


def _kind_of(entry: dict[str, Any]) -> str:
    """One of WHO."""
    if entry["you"]:
        return "own_copy"
    if entry["emergency"]:
        return "emergency"
    return "copy" if entry["copy"] else "program"


def _cells(entry: dict[str, Any], when: str) -> list[documents.Text]:
    """One use as a row of a table; `when` is its time as text."""
    seal = _("Sealed") if entry["sealed"] else _("Waiting to be sealed")
    result = " ".join(str(each) for each in (entry["result"], entry["note"] and f"({entry['note']})") if each)
    asked = entry["question"]
    why = documents.Said(asked.what_for, asked.language) if asked else str(entry["why"])
    return [when, entry["who"] or _("Your clinic"), str(WHO[_kind_of(entry)]), why, result, seal]


def _columns() -> list[str]:
    return [_("When"), _("Who"), _("Kind"), _("Why"), _("Result"), _("Proof")]


def _csv(entries: list[dict[str, Any]], *, cut: bool) -> bytes:
    return tables.as_csv(
        [*_columns(), _("Number")],
        [
            (
                *_cells(entry, timezone.localtime(entry["when"]).isoformat(sep=" ", timespec="seconds")),
                entry["key"],
            )
            for entry in entries
        ],
    )


def _json(entries: list[dict[str, Any]], *, cut: bool) -> bytes:
    listed = [
        {
            "id": entry["key"],
            "who": entry["who"],
            "kind": _kind_of(entry),
            "why": str(entry["why"]),
            "steps": [
                {"what": step["kind"], "when": step["when"].isoformat(), "sealed": step["sealed"]}
                for step in entry["steps"] or [entry]
            ],
        }
        for entry in entries
    ]
    return json.dumps({"format": "consent-gateway uses 1", "uses": listed}, ensure_ascii=False).encode()


def _pdf(entries: list[dict[str, Any]], *, cut: bool) -> bytes:
    about = [_("Made on %(when)s.") % {"when": date_format(timezone.localtime(), "DATETIME_FORMAT")}]
    if cut:
        about.append(_("These are the newest %(n)d entries. The table file has more.") % {"n": MOST["pdf"]})
    if not entries:
        about.append(_("No one has used your records."))
    data = {
        "about": about,
        "columns": _columns(),
        "rows": [
            _cells(entry, date_format(timezone.localtime(entry["when"]), "DATETIME_FORMAT"))
            for entry in entries
        ],
        "after": [],
    }
    return documents.render("uses", data, title=_("Who used my records"), language=get_language() or "en")


WRITERS: dict[str, Callable[..., bytes]] = {"csv": _csv, "json": _json, "pdf": _pdf}
