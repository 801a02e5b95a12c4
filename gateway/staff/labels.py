"""`/staff/patients/<id>/labels`: how sensitive a patient's records are, and what clinicians say of one.

A label that is added counts at once. One that is to be lifted waits for a second clinician.
"""

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from consent.explanation import SENSITIVE
from consent.kinds import label_of, name_of
from consent.models import Patient
from gateway.keyholder.client import Keyholder
from gateway.records import clinical_labels
from gateway.records.models import LabelChange
from gateway.staff.patients import SECTION, find_patient
from gateway.staff.visitor import for_staff, me, page, perform
from gateway.wording import sentence
from ledger.errors import GatewayError

MOST = 50
ACTS = {
    LabelChange.Act.ADD: gettext_lazy("Add the label"),
    LabelChange.Act.LIFT: gettext_lazy("Lift the label"),
}
STATES = {
    LabelChange.State.ASKED: gettext_lazy("Waits for a second clinician"),
    LabelChange.State.DUE: gettext_lazy("Is being carried out"),
    LabelChange.State.DONE: gettext_lazy("Done"),
    LabelChange.State.REFUSED: gettext_lazy("Refused"),
}
SAID = {
    LabelChange.Act.ADD: gettext_lazy("The label is on the record from now on."),
    LabelChange.Act.LIFT: gettext_lazy("Written down. A second clinician has to agree."),
}


class LabelForm(forms.Form):
    act = forms.ChoiceField(
        widget=forms.RadioSelect, choices=ACTS.items(), label=gettext_lazy("What should happen?")
    )
    label = forms.ChoiceField(
        choices=[(code, kind.name) for code, kind in SENSITIVE.items()], label=gettext_lazy("Label")
    )
    resource = forms.CharField(
        max_length=110,
        label=gettext_lazy("Which record"),
        help_text=gettext_lazy("Its type and id in your record system, such as Condition/123."),
    )
    reason = forms.CharField(
        max_length=clinical_labels.MOST_REASON,
        label=gettext_lazy("Why?"),
        help_text=gettext_lazy("Other clinicians read this."),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("label_records")
def index(request: HttpRequest, id: str) -> HttpResponse:
    found = find_patient(id)
    keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
    form, status = LabelForm(request.POST if request.method == "POST" else None), 200
    if form.is_valid():
        try:
            change = clinical_labels.ask(
                patient=found, by=me(request), keyholder=keyholder, **form.cleaned_data
            )
        except GatewayError as error:
            form.add_error(None, sentence(error))
            status = error.status
        else:
            messages.success(request, str(SAID[LabelChange.Act(change.act)]))
            return redirect("staff_labels", id=found.pk)
    changes = found.label_changes.select_related("by", "second").order_by("-asked_at")[:MOST]
    return page(
        request,
        "staff/labels.html",
        SECTION,
        status=status,
        patient=found,
        form=form,
        counts=_counts(found, keyholder),
        changes=[_row(one, request) for one in changes],
        back=reverse("staff_patient", args=[found.pk]),
    )


@require_POST
@for_staff("label_records")
def agree(request: HttpRequest, id: str) -> HttpResponse:
    return _decided(request, id, clinical_labels.agree, _("Agreed. The label is lifted within a minute."))


@require_POST
@for_staff("label_records")
def refuse(request: HttpRequest, id: str) -> HttpResponse:
    return _decided(request, id, clinical_labels.refuse, _("Refused. The label stays."))


def _decided(request: HttpRequest, id: str, decide: Callable[..., None], done: str) -> HttpResponse:
    change = get_object_or_404(LabelChange, pk=id)
    return perform(
        request,
        SECTION,
        lambda: decide(change=change, by=me(request)),
        back=reverse("staff_labels", args=[change.patient_id]),
        done=done,
        settled=("label_settled",),
    )


def _counts(patient: Patient, keyholder: Keyholder) -> list[dict[str, Any]] | None:
    """What there is by type and labels; None where the keyholder cannot be asked."""
    try:
        return [
            {
                "kind": name_of(one["resource_type"]),
                "labels": [str(label_of(code)) for code in one["labels"]],
                "withheld": "unlabelled" in one["labels"],
                "count": one["count"],
            }
            for one in keyholder.index(patient=patient.pk)
        ]
    except GatewayError as error:
        return [] if error.code == "patient_unknown" else None


def _row(change: LabelChange, request: HttpRequest) -> dict[str, Any]:
    told = clinical_labels.told(change)
    return {
        "change": change,
        "resource": told.resource,
        "label": SENSITIVE[told.label].name,
        "reason": told.reason,
        "act": ACTS[LabelChange.Act(change.act)],
        "state": STATES[LabelChange.State(change.state)],
        "is_open": change.state == LabelChange.State.ASKED,
        "is_own": change.by_id == me(request).pk,
    }
