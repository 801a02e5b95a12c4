"""`/staff/patients`: find, invite, identify, link. A search is a POST: no name ever stands in a URL."""

from collections.abc import Callable
from uuid import UUID

from django import forms
from django.conf import settings
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from consent import referrals, services
from consent.models import Patient, Requester
from consent.patients import PROOFS, mark_well_known
from consent.state import state_of
from gateway.accounts.models import User
from gateway.staff.visitor import actor, for_staff, page, perform, refused
from gateway.wording import sentence
from ledger.errors import GatewayError

SECTION = "staff_patients"
MOST = 20
METHODS = {
    "in_person": gettext_lazy("They came with a photo ID"),
    "id_document": gettext_lazy("A document that I checked"),
    "video": gettext_lazy("A video call with a photo ID"),
    "known_to_staff": gettext_lazy("I know them"),
}
assert METHODS.keys() == PROOFS


class FindForm(forms.Form):
    wanted = forms.CharField(
        max_length=200, label=gettext_lazy("Name or record number"), min_length=2, strip=True
    )


class InviteForm(forms.Form):
    name = forms.CharField(max_length=200, label=gettext_lazy("Name"))
    birth_date = forms.DateField(
        label=gettext_lazy("Date of birth"),
        help_text=gettext_lazy("Year, month, day: 1960-12-31."),
        input_formats=["%Y-%m-%d"],
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("see_patients")
def index(request: HttpRequest) -> HttpResponse:
    form = FindForm(request.POST if request.method == "POST" else None)
    rows, more = None, False
    if form.is_valid():
        wanted = form.cleaned_data["wanted"]
        found = Patient.objects.filter(Q(name__icontains=wanted) | Q(record_id=wanted)).order_by("name", "pk")
        rows = list(found[: MOST + 1])
        more, rows = len(rows) > MOST, rows[:MOST]
    return page(request, "staff/patients.html", SECTION, form=form, rows=rows, more=more)


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("see_patients")
def new(request: HttpRequest) -> HttpResponse:
    """Invite somebody. The link is shown once, in the answer to this POST."""
    form = InviteForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            patient, code = services.invite(**form.cleaned_data, by=actor(request))
        except GatewayError as error:
            form.add_error(None, sentence(error))
        else:
            return shown_once(request, patient.name, _("Invitation"), link_to(code), back=_at(patient))
    return page(
        request,
        "staff/form.html",
        SECTION,
        form=form,
        title=_("Invite a patient"),
        button=_("Invite"),
        back=reverse(SECTION),
    )


@require_safe
@for_staff("see_patients")
def patient(request: HttpRequest, id: str) -> HttpResponse:
    found = find_patient(id)
    answers = found.consents.select_related("request__requester").order_by("-decided_at")[:MOST]
    return page(
        request,
        "staff/patient.html",
        SECTION,
        patient=found,
        methods=list(METHODS.items()),
        requesters=Requester.objects.filter(suspended_at=None).order_by("name")[:200],
        answers=[{"answer": each, "state": state_of(each)} for each in answers],
        back=reverse(SECTION),
    )


@require_POST
@for_staff("mark_patients")
def mark(request: HttpRequest, id: str) -> HttpResponse:
    """Many know this patient, or it is no longer so."""
    found = find_patient(id)
    return perform(
        request,
        SECTION,
        lambda: mark_well_known(patient=found, is_so=request.POST.get("so") == "yes", by=actor(request)),
        back=_at(found),
        done=_("Saved."),
    )


@require_POST
@for_staff("see_patients")
def invite_again(request: HttpRequest, id: str) -> HttpResponse:
    found = find_patient(id)
    try:
        code = services.invite_again(patient=found, by=actor(request))
    except GatewayError as error:
        return refused(request, SECTION, error, _at(found))
    return shown_once(request, found.name, _("Invitation"), link_to(code), back=_at(found))


@require_POST
@for_staff("see_patients")
def proof(request: HttpRequest, id: str) -> HttpResponse:
    """Who this person is was checked; by somebody else than themselves."""
    found = find_patient(id)
    assert isinstance(request.user, User)
    by, method = request.user, request.POST.get("method", "")
    return _act(
        request, found, lambda: services.proof_identity(patient=found, by=by, method=method), _("Saved.")
    )


@require_POST
@for_staff("see_patients")
def link(request: HttpRequest, id: str) -> HttpResponse:
    found = find_patient(id)
    record_id = request.POST.get("record_id", "").strip()
    return _act(
        request,
        found,
        lambda: services.link_record(patient=found, record_id=record_id, by=actor(request)),
        _("Linked. It cannot be linked to another record later."),
    )


@require_POST
@for_staff("see_patients")
def referral(request: HttpRequest, id: str) -> HttpResponse:
    """A code with which one provider may ask this patient once."""
    found = find_patient(id)
    try:
        requester = get_object_or_404(Requester, pk=UUID(request.POST.get("requester", "")))
    except ValueError:
        raise Http404 from None
    try:
        code = referrals.issue(patient=found, requester=requester, by=actor(request))
    except GatewayError as error:
        return refused(request, SECTION, error, _at(found))
    title = _("Referral code for %(who)s") % {"who": requester.name}
    return shown_once(request, found.name, title, code, back=_at(found))


def find_patient(id: str) -> Patient:
    return get_object_or_404(Patient.objects.select_related("user", "proofed_by"), pk=id)


def _act(request: HttpRequest, found: Patient, act: Callable[[], object], done: str) -> HttpResponse:
    return perform(request, SECTION, act, back=_at(found), done=done)


def shown_once(request: HttpRequest, name: str, title: str, secret: str, *, back: str) -> HttpResponse:
    """For the person of this name. It passes through no session, no cookie and no URL."""
    response = page(
        request, "staff/shown_once.html", SECTION, name=name, title=title, secret=secret, back=back
    )
    response["Cache-Control"] = "no-store"
    return response


def link_to(code: str) -> str:
    return settings.PUBLIC_URL.rstrip("/") + reverse("invitation", args=[code])


def _at(found: Patient) -> str:
    return reverse("staff_patient", args=[found.pk])
