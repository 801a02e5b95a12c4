"""`/staff/exports` and `/staff/register`: exports for patients, auditors and courts; the register of today.

A file is handed out by a POST with a ticket of the page that offers it: for this person, for a few minutes.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

from django import forms
from django.conf import settings
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from consent.models import Consent, Patient, Requester
from gateway.accounts.models import User
from gateway.analysis.models import AIModel
from gateway.compliance import kinds, register, services
from gateway.compliance.kinds import KINDS
from gateway.compliance.models import Export
from gateway.staff.visitor import actor, enter, for_staff, page, refused
from gateway.wording import sentence
from ledger.errors import GatewayError

SECTION = "staff_exports"
MOST = 50
TICKET_SECONDS = 600
DAY = gettext_lazy("Year, month, day: 1960-12-31.")


class PatientField(forms.CharField):
    def clean(self, value: Any) -> Patient | None:
        text = super().clean(value)
        found = Patient.objects.filter(record_id=text).first() if text else None
        if text and found is None:
            raise forms.ValidationError(_("There is no patient with this record number."))
        return found


class ConsentField(forms.CharField):
    def clean(self, value: Any) -> Consent | None:
        text = super().clean(value)
        found = Consent.objects.filter(pk=text).first() if text else None
        if text and found is None:
            raise forms.ValidationError(_("There is no choice with this number."))
        return found


FIELDS: dict[str, Callable[[bool], forms.Field]] = {
    "patient": lambda needed: PatientField(
        required=needed, max_length=64, label=_("Record number of the patient")
    ),
    "consent": lambda needed: ConsentField(
        required=needed,
        max_length=64,
        label=_("Number of the choice"),
        help_text=_("64 letters and digits, as the receipt and the page of the answer show it."),
    ),
    "requester": lambda needed: forms.ModelChoiceField(
        Requester.objects.order_by("name"),
        required=needed,
        empty_label=None if needed else _("All"),
        label=_("AI provider"),
    ),
    "model": lambda needed: forms.ModelChoiceField(
        AIModel.objects.order_by("name", "version"),
        required=needed,
        empty_label=None,
        label=_("AI model"),
    ),
    "since": lambda needed: _day(needed, _("First day")),
    "until": lambda needed: _day(needed, _("Last day")),
}


def _day(needed: bool, label: str) -> forms.Field:
    hint = DAY if needed else format_lazy("{} {}", DAY, _("It may stay empty."))
    return forms.DateField(required=needed, label=label, help_text=hint, input_formats=["%Y-%m-%d"])


class ExportForm(forms.Form):
    """What a kind of export has to be told, and what it may be told."""

    def __init__(self, *args: Any, kind: kinds.Kind, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in (*kind.needs, *kind.takes):
            self.fields[name] = FIELDS[name](name in kind.needs)
        self.fields["language"] = forms.ChoiceField(
            choices=settings.LANGUAGES, initial=get_language(), label=_("Language of the documents")
        )


@require_safe
@for_staff("see_exports")
def index(request: HttpRequest) -> HttpResponse:
    found = Export.objects.select_related("patient", "requester", "asked_by")
    return page(
        request,
        "staff/exports.html",
        SECTION,
        kinds=KINDS.items(),
        exports=[_shown(each) for each in found.order_by("-asked_at", "-id")[:MOST]],
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("make_exports")
def new(request: HttpRequest, kind: str) -> HttpResponse:
    asked = KINDS.get(kind)
    if asked is None:
        raise Http404
    if not enter(request) & asked.asks:
        raise PermissionDenied
    initial = {"consent": request.GET.get("consent", "")}
    form = ExportForm(request.POST if request.method == "POST" else None, kind=asked, initial=initial)
    assert isinstance(request.user, User)
    if form.is_valid():
        given = {name: value for name, value in form.cleaned_data.items() if value}
        if "model" in given:
            given["model"] = given["model"].digest
        try:
            made = services.ask(kind=kind, by=actor(request), asked_by=request.user, **given)
        except GatewayError as error:
            form.add_error(None, sentence(error))
        else:
            return redirect("staff_export", id=made.pk)
    return page(
        request,
        "staff/form.html",
        SECTION,
        status=400 if form.errors else 200,
        form=form,
        title=asked.name,
        hint=asked.about,
        button=_("Make the export"),
        back=reverse("staff_exports"),
    )


@require_safe
@for_staff("see_exports")
def export(request: HttpRequest, id: str) -> HttpResponse:
    found = _find(id)
    return page(
        request,
        "staff/export.html",
        SECTION,
        **_shown(found),
        may_read=kinds.may_read(found, enter(request)),
        ticket=signing.dumps([found.pk, request.user.pk], salt=SECTION),
        minutes=TICKET_SECONDS // 60,
        back=reverse("staff_exports"),
    )


@require_POST
@for_staff("see_exports")
def file(request: HttpRequest, id: str) -> Any:
    """The bundle, to whoever may read its kind and holds a ticket that is fresh."""
    found = _find(id)
    if not kinds.may_read(found, enter(request)):
        raise PermissionDenied
    try:
        ticket = signing.loads(request.POST.get("ticket", ""), salt=SECTION, max_age=TICKET_SECONDS)
    except signing.BadSignature:
        ticket = None
    if ticket != [found.pk, request.user.pk]:
        return redirect("staff_export", id=id)
    try:
        parts = services.read(export=found, by=actor(request))
    except GatewayError as error:
        return refused(request, SECTION, error, reverse("staff_export", args=[id]))
    answer = StreamingHttpResponse(parts, content_type="application/zip")
    answer["Content-Disposition"] = f'attachment; filename="{found.kind}-{found.pk[:8]}.zip"'
    answer["Content-Length"] = str(found.size)
    return answer


@require_safe
@for_staff("see_exports")
def register_page(request: HttpRequest) -> HttpResponse:
    """The register as it stands, or stood on a day; and what changed since an earlier one."""
    today = timezone.localdate()
    day, since = _read_day(request.GET.get("day", "")), _read_day(request.GET.get("since", ""))
    day = min(day or today, today)
    activities = register.on(day)
    changed = register.changes(register.on(since), activities) if since else []
    return page(
        request,
        "staff/register.html",
        "staff_exports",
        day=day,
        since=since,
        frame=register.frame(),
        columns=register.columns(),
        numbers=register.NUMBERS,
        activities=[list(zip(register.columns(), register.cells(each), strict=True)) for each in activities],
        changes=[(register.said(each), _line(register.cells(each.activity)[:3])) for each in changed],
        back=reverse("staff_exports"),
    )


def _line(cells: list[str]) -> str:
    return ", ".join(cells).replace("\n", ", ")


def _read_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _find(id: str) -> Export:
    whole = Export.objects.select_related("patient", "consent__patient", "requester", "asked_by")
    return get_object_or_404(whole, pk=id)


def _shown(export: Export) -> dict[str, Any]:
    kind = KINDS.get(export.kind)
    model = AIModel.objects.filter(digest=export.model).first() if export.model else None
    return {
        "export": export,
        "name": kind.name if kind else export.kind,
        "model": model,
        "share": 100 * export.written // export.rows if export.rows else 0,
        "over": export.expires_at is not None and export.expires_at <= timezone.now(),
    }
