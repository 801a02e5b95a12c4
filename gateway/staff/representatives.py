"""`/staff/patients/<id>/representatives`: who acts for a patient.

The paper that says so is looked at and kept with its hash; the invitation is shown once.
"""

from typing import Any

from django import forms
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from consent import representatives, scans
from consent.explanation import KINDS, SENSITIVE
from consent.kinds import name_of
from consent.models import Patient, Representative, Scan
from gateway.accounts.models import User
from gateway.portal.people import ROLES, SCOPES, told_of
from gateway.staff.answers import scan_file
from gateway.staff.patients import find_patient, link_to, shown_once
from gateway.staff.visitor import actor, for_staff, page, perform, refused
from gateway.wording import sentence
from ledger.errors import GatewayError

SECTION = "staff_patients"
DAY = gettext_lazy("Year, month, day: 2030-12-31.")


class RegisterForm(forms.Form):
    """`cleaned_data` is what `representatives.register` takes, but for the scan and `seen`."""

    name = forms.CharField(max_length=200, label=gettext_lazy("Name of the person who acts"))
    role = forms.ChoiceField(
        widget=forms.RadioSelect,
        label=gettext_lazy("Who are they to the patient?"),
        choices=list(ROLES.items()),
    )
    scope = forms.ChoiceField(
        widget=forms.RadioSelect, label=gettext_lazy("What may they do?"), choices=list(SCOPES.items())
    )
    kinds = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        required=False,
        label=gettext_lazy("Which records may they say yes to?"),
        choices=[(code, name_of(code)) for code in KINDS],
    )
    sensitive = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        required=False,
        label=gettext_lazy("Which more private records, besides?"),
        choices=[(code, kind.name) for code, kind in SENSITIVE.items()],
    )
    starts = forms.DateField(
        required=False,
        label=gettext_lazy("First day (empty: today)"),
        help_text=DAY,
        input_formats=["%Y-%m-%d"],
    )
    ends = forms.DateField(
        required=False,
        label=gettext_lazy("Last day (empty: until someone ends it)"),
        help_text=DAY,
        input_formats=["%Y-%m-%d"],
    )
    scan = forms.FileField(
        label=gettext_lazy("Scan of the paper that says so"),
        help_text=gettext_lazy("PDF, JPEG or PNG, at most 5 MB."),
        widget=forms.FileInput(attrs={"accept": ".pdf,.jpg,.jpeg,.png"}),
    )
    seen = forms.BooleanField(label=gettext_lazy("I have seen the paper, and checked who this person is"))

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("scope") == Representative.Scope.ANSWER and not cleaned.get("kinds"):
            self.add_error("kinds", _("Choose the records that they may say yes to"))
        return cleaned


@require_safe
@for_staff("see_representatives")
def index(request: HttpRequest, id: str) -> HttpResponse:
    found = find_patient(id)
    rows = found.representatives.select_related("patient", "checked_by").order_by("-starts", "id")
    return page(
        request,
        "staff/representatives.html",
        SECTION,
        patient=found,
        rows=[told_of(each) for each in rows],
        of_age=found.of_age_on,
        minor=found.of_age_on is not None and timezone.localdate() < found.of_age_on,
        back=reverse("staff_patient", args=[found.pk]),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("change_representatives")
def new(request: HttpRequest, id: str) -> HttpResponse:
    found = find_patient(id)
    posted = request.method == "POST"
    form = RegisterForm(request.POST if posted else None, request.FILES if posted else None)
    assert isinstance(request.user, User)
    if form.is_valid():
        try:
            made, code = _register(found, request.user, dict(form.cleaned_data))
        except GatewayError as error:
            form.add_error(None, sentence(error))
        else:
            return shown_once(request, made.name, _("Invitation"), link_to(code), back=_at(found))
    return page(
        request,
        "staff/form.html",
        SECTION,
        patient=found,
        form=form,
        title=_("Somebody who acts for this patient"),
        button=_("Register and invite"),
        files=True,
        back=_at(found),
    )


@transaction.atomic
def _register(found: Patient, by: User, given: dict[str, Any]) -> tuple[Representative, str]:
    """The scan is kept only where the authority is."""
    del given["seen"]
    kept: Scan = scans.keep(patient=found, content=given.pop("scan").read(scans.MOST_BYTES + 1))
    if given["scope"] != Representative.Scope.ANSWER:
        given |= {"kinds": [], "sensitive": []}
    return representatives.register(patient=found, evidence=kept, by=by, **given)


@require_POST
@for_staff("change_representatives")
def invite_again(request: HttpRequest, id: str) -> HttpResponse:
    found = find_representative(id)
    try:
        code = representatives.invite_again(representative=found, by=actor(request))
    except GatewayError as error:
        return refused(request, SECTION, error, _at(found.patient))
    return shown_once(request, found.name, _("Invitation"), link_to(code), back=_at(found.patient))


@require_POST
@for_staff("change_representatives")
def end(request: HttpRequest, id: str) -> HttpResponse:
    found = find_representative(id)
    assert isinstance(request.user, User)
    by = request.user
    return perform(
        request,
        SECTION,
        lambda: representatives.end_by_clinic(representative=found, by=by),
        back=_at(found.patient),
        done=_("Ended. This person acts for the patient no more."),
        settled={"ended_already"},
    )


@require_safe
@for_staff("see_scans")
def evidence(request: HttpRequest, id: str) -> HttpResponse:
    """The paper, as a file to keep. Each opening is written down."""
    found = find_representative(id)
    return scan_file(request, found.evidence, representative=found.pseudonym)


def find_representative(id: str) -> Representative:
    return get_object_or_404(Representative.objects.select_related("patient", "evidence"), pk=id)


def _at(found: Patient) -> str:
    return reverse("staff_representatives", args=[found.pk])
