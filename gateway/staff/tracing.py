"""`/staff/trace`: from a record, a patient, a job, a model, a result or a sealed packet to all that it met.

What somebody types is looked up by a POST: a record number stands in no address. A record's own name stands
neither in an address nor anywhere else here: what used it is the answer to the POST.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from typing import Any

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from consent.models import Patient, Requester
from gateway.analysis.models import AIModel, Job, JobSubject
from gateway.compliance import trace as tracing
from gateway.compliance.retraining import concerned, versions_of
from gateway.compliance.trace import Traced
from gateway.documents.tables import as_csv
from gateway.keyholder.client import Keyholder
from gateway.staff.visitor import for_staff, page, refused
from gateway.wording import sentence
from ledger.errors import GatewayError, InvalidInput

SECTION = "staff_trace"
MOST = 20
FEW = 5  # uses of which each packet is listed
KINDS = {
    "record": gettext_lazy("A record’s type and id"),
    "patient": gettext_lazy("A patient’s record number"),
    "job": gettext_lazy("A job’s number"),
    "model": gettext_lazy("A model’s digest"),
    "output": gettext_lazy("A sealed result’s digest"),
    "packet": gettext_lazy("A sealed packet’s number"),
}
TITLES = {
    "record": gettext_lazy("What used this record"),
    "patient": gettext_lazy("What used this patient’s records"),
    "job": gettext_lazy("What this job used"),
    "model": gettext_lazy("What this model used"),
    "output": gettext_lazy("What this result came from"),
    "packet": gettext_lazy("What used this sealed packet"),
}
COLUMNS = (
    "at", "kind", "key", "patient", "job", "model", "requester", "consent", "state", "output", "delivered_at",
    "read", "review", "held", "records",
)  # fmt: skip
Begin = Callable[[str, Keyholder], Iterator[Traced]]
BEGINNINGS: Mapping[str, Begin] = {
    "patient": lambda id, keyholder: tracing.of_patient(Patient.objects.get(pk=id), keyholder),
    "job": tracing.of_job,
    "model": tracing.of_model,
    "output": tracing.of_output,
    "packet": tracing.of_packet,
}


class WhatForm(forms.Form):
    kind = forms.ChoiceField(
        widget=forms.RadioSelect, choices=list(KINDS.items()), label=gettext_lazy("What do you have?")
    )
    what = forms.CharField(
        max_length=200,
        label=gettext_lazy("Its number, digest, or type and id"),
        help_text=gettext_lazy("A record: Condition/123. One version of it: Condition/123/_history/2."),
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        kind, what = given.get("kind"), given.get("what", "").strip()
        if kind and what:
            given["what"] = _known(kind, what)
            if not given["what"]:
                self.add_error("what", _("Nothing here has this number."))
        return given


def _known(kind: str, what: str) -> str:
    """The id that stands in the address; "" where there is none."""
    if kind == "record":
        return what
    if kind == "patient":
        return str(Patient.objects.filter(record_id=what).values_list("pk", flat=True).first() or "")
    return what if tracing.KNOWN[kind](what) else ""


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("see_trace")
def begin(request: HttpRequest) -> HttpResponse:
    form = WhatForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        kind, what = form.cleaned_data["kind"], form.cleaned_data["what"]
        if kind != "record":
            return redirect("staff_traced", kind=kind, id=what)
        try:
            if "table" in request.POST:
                return _table("record", what, tracing.of_record)
            return _page(request, "record", what, tracing.of_record)
        except InvalidInput as error:
            form.add_error("what", sentence(error))
        except GatewayError as error:
            return refused(request, SECTION, error, request.path)
    return page(request, "staff/trace.html", SECTION, status=400 if form.is_bound else 200, form=form)


@require_safe
@for_staff("see_trace")
def trace(request: HttpRequest, kind: str, id: str) -> HttpResponse:
    uses_of = _beginning(kind, id)
    try:
        return _page(request, kind, id, uses_of)
    except GatewayError as error:
        return refused(request, SECTION, error, request.path)


def _page(request: HttpRequest, kind: str, id: str, uses_of: Begin) -> HttpResponse:
    """The first MOST uses, and a sum of them. Raises GatewayError."""
    keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
    try:
        uses = list(islice(uses_of(id, keyholder), MOST + 1))
    finally:
        keyholder.close()
    totals = tracing.Totals(of_record=kind == "record")
    for use in uses[:MOST]:
        totals.add(use)
    return page(
        request,
        "staff/traced.html",
        SECTION,
        title=TITLES[kind],
        beginning=kind,
        id=id,
        about=_named(kind, id),
        rows=_rows(uses[:MOST]),
        told=totals.as_json(),
        more=len(uses) > MOST,
        most=MOST,
        lists_packets=kind != "packet" and len(uses) <= FEW,
        as_filed=kind in tracing.AS_FILED,
    )


def _named(kind: str, id: str) -> str:
    """What people call it from which the trace began, where it has a name of its own."""
    if kind == "patient" and (patient := Patient.objects.filter(pk=id).first()):
        return f"{patient.name}, {patient.record_id}" if patient.record_id else patient.name
    if kind == "model" and (model := AIModel.objects.filter(digest=id).first()):
        return f"{model.name} {model.version}"
    return ""


@require_safe
@for_staff("see_trace")
def table(request: HttpRequest, kind: str, id: str) -> HttpResponse:
    """Every use, as a table; it ends early where the keyholder goes away meanwhile."""
    return _table(kind, id, _beginning(kind, id))


def _table(kind: str, id: str, uses_of: Begin) -> HttpResponse:
    """Raises InvalidInput and GatewayError for what cannot be begun."""
    with ExitStack() as stack:
        keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
        stack.callback(keyholder.close)
        uses = uses_of(id, keyholder)
        is_open = stack.pop_all()

    def lines() -> Iterator[bytes]:
        with is_open:
            yield as_csv(COLUMNS, [])
            for use in uses:
                told = use.as_json()
                yield as_csv([*(told.get(name, "") for name in COLUMNS[:-1]), " ".join(use.records)], [])

    answer = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="trace-{kind}.csv"'
    return answer  # type: ignore[return-value]


def _beginning(kind: str, id: str) -> Begin:
    """Another kind, and what is not there: 404."""
    if kind not in BEGINNINGS or not tracing.KNOWN[kind](id):
        raise Http404
    return BEGINNINGS[kind]


def _rows(uses: list[Traced]) -> list[dict[str, Any]]:
    models = AIModel.objects.in_bulk(list({use.model for use in uses if use.model}))
    patients = Patient.objects.in_bulk(list({use.patient for use in uses if use.patient}))
    requesters = {
        str(one.pk): one
        for one in Requester.objects.filter(pk__in={use.requester for use in uses if use.requester})
    }
    jobs = Job.objects.in_bulk(list({use.job for use in uses if use.kind == Job.Kind.EXPORT}))
    versions = versions_of(requesters.values())
    rows = []
    for use in uses:
        copy = jobs.get(use.job) if use.state == JobSubject.State.DELIVERED else None
        learned = concerned(versions[copy.requester_id], [copy]) if copy else []
        rows.append(
            {
                "use": use,
                "model": models.get(use.model),
                "patient": patients.get(use.patient or ""),
                "requester": requesters.get(use.requester),
                "packets": len(use.records),
                "learned": [version for version, _said in learned],
            }
        )
    return rows
