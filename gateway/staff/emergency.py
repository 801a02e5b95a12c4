"""`/staff/emergency/<patient>`: break-glass. Stop and read → two identifiers → why → an hour with "End now".

What is typed passes through POST and the session alone, and nothing of a record is kept anywhere.
"""

from typing import Any

from allauth.mfa.models import Authenticator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from consent.explanation import SENSITIVE
from consent.kinds import name_of
from gateway.accounts import passkeys
from gateway.emergency import services
from gateway.emergency.models import Emergency
from gateway.keyholder.client import ChunkHeader
from gateway.staff.forms import WhoForm, WhyForm
from gateway.staff.patients import find_patient
from gateway.staff.visitor import for_staff, me, page, perform, refused
from gateway.wording import sentence
from ledger.errors import AccessDenied, GatewayError
from ledger.webauthn import Assertion

SECTION = "staff_patients"
IDENTIFIED = "patient of an emergency"  # in the session: whose identifiers were typed
PAGE = 50
# What an emergency asks for first; the other kinds follow by name.
FIRST = ("AllergyIntolerance", "MedicationRequest", "MedicationStatement", "Condition", "Observation")


@require_safe
@for_staff("break_glass")
def warning(request: HttpRequest, id: str) -> HttpResponse:
    """The interruption: what follows, before anything is asked."""
    found = find_patient(id)
    if (open_now := services.open_for(found, me(request))) is not None:
        return redirect("staff_emergency_open", id=open_now.pk)
    return _show(request, "staff/emergency.html", patient=found, back=reverse("staff_patient", args=[id]))


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("break_glass")
def who(request: HttpRequest, id: str) -> HttpResponse:
    """Two identifiers, read from the patient's wristband or card: not everybody of a name is this one."""
    found = find_patient(id)
    form = WhoForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        typed = (form.cleaned_data["record_id"].strip(), form.cleaned_data["birth_date"])
        if found.record_id and typed == (found.record_id, found.birth_date):
            request.session[IDENTIFIED] = found.pk
            return redirect("staff_emergency_why", id=id)
        form.add_error(None, _("These do not belong to this patient. Check the number and the date."))
    return _form(request, form, _("Who is it?"), _("Continue"), reverse("staff_emergency", args=[id]))


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("break_glass")
def why(request: HttpRequest, id: str) -> HttpResponse:
    found = find_patient(id)
    if request.session.get(IDENTIFIED) != found.pk:
        if (open_now := services.open_for(found, me(request))) is not None:  # the same POST twice
            return redirect("staff_emergency_open", id=open_now.pk)
        return redirect("staff_emergency_who", id=id)
    form = WhyForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        will_sign = bool(passkeys.passkeys_of(me(request)))
        try:
            opened = services.open_emergency(
                patient=found, by=me(request), will_sign=will_sign, **form.cleaned_data
            )
        except GatewayError as error:
            return refused(request, SECTION, error, reverse("staff_emergency_why", args=[id]))
        request.session.pop(IDENTIFIED, None)
        return redirect("staff_emergency_open", id=opened.pk)
    button = _("Open the records for 60 minutes")
    return _form(request, form, _("Why do you open them?"), button, reverse("staff_emergency_who", args=[id]))


@require_safe
@for_staff("break_glass")
def contents(request: HttpRequest, id: str) -> HttpResponse:
    """What there is, by kind. Nothing is opened yet."""
    found = _find_own(request, id)
    if services.is_too_late_to_confirm(found):
        services.end(emergency=found, by=me(request))
        found.refresh_from_db()
    kinds: list[dict[str, Any]] = []
    problem, sign = "", None
    try:
        if _may_ask_again(found):
            if services.waits_for_passkey(found):
                sign = _to_sign(request, found)
            else:
                services.ask_again(emergency=found)
        if services.is_open(found):
            kinds = _kinds(services.contents(emergency=found))
    except GatewayError as error:
        problem = sentence(error)
    return _show(
        request,
        "staff/emergency_open.html",
        emergency=found,
        patient=found.patient,
        kinds=kinds,
        problem=problem,
        sign=sign,
        **_clock(found),
    )


def _to_sign(request: HttpRequest, found: Emergency) -> dict[str, str]:
    """What the page has a passkey sign, and which may. Raises GatewayError."""
    own, signers = passkeys.passkeys_of(me(request)), passkeys.confirming(me(request))
    is_first = not signers["known"] and not signers["quiet_until"]
    may = [one.credential for one in own if is_first or one.credential in signers["signing"]]
    return {"challenge": services.challenge(found), "credentials": " ".join(may)}


@require_POST
@for_staff("break_glass")
def confirm(request: HttpRequest, id: str) -> HttpResponse:
    """Whoever opens it signs, or goes on without a passkey."""
    found = _find_own(request, id)
    return perform(
        request,
        SECTION,
        lambda: services.confirm(emergency=found, by=me(request), signature=_signed(request)),
        back=reverse("staff_emergency_open", args=[id]),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("break_glass")
def vouch(request: HttpRequest, pk: int) -> HttpResponse:
    """A clinician's second passkey, by the word of her first."""
    get_object_or_404(Authenticator, pk=pk, user=me(request), type=Authenticator.Type.WEBAUTHN)
    answer: HttpResponse = passkeys.vouch_for_emergencies(request, pk)
    return answer


def _signed(request: HttpRequest) -> dict[str, Any] | None:
    """What a passkey answered. One that is used for the first time is made known to the keyholder before."""
    if "without" in request.POST:
        return None
    assertion = Assertion.read(request.POST.get("signature", ""))
    if not passkeys.confirming(me(request))["known"]:
        for one in passkeys.passkeys_of(me(request)):
            if one.credential == assertion.credential:
                passkeys.enrol_clinician(me(request), one)
    return assertion.to_json()


@require_safe
@for_staff("break_glass")
def records(request: HttpRequest, id: str, kind: str) -> HttpResponse:
    """The records of one kind, opened for this answer alone."""
    found = _find_own(request, id)
    part, start = _number(request, "part"), _number(request, "from")
    at = reverse("staff_emergency_open", args=[id])
    try:
        seen, parts = services.read(emergency=found, kind=kind, part=part, by=me(request))
    except AccessDenied:
        return redirect(at)  # it is over, which that page says
    except GatewayError as error:
        return refused(request, SECTION, error, at)
    rest = len(seen.lines) > start + PAGE
    return _show(
        request,
        "staff/emergency_records.html",
        emergency=found,
        patient=found.patient,
        name=name_of(kind),
        lines=seen.lines[start : start + PAGE],
        first=start + 1,
        last=min(start + PAGE, len(seen.lines)),
        total=len(seen.lines),
        part=part,
        parts=parts,
        next={"part": part, "from": start + PAGE} if rest else {"part": part + 1, "from": 0},
        more=rest or part + 1 < parts,
        back=at,
        **_clock(found),
    )


@require_POST
@for_staff("break_glass")
def end(request: HttpRequest, id: str) -> HttpResponse:
    found = _find_own(request, id)
    return perform(
        request,
        SECTION,
        lambda: services.end(emergency=found, by=me(request)),
        back=reverse("staff_emergency_open", args=[id]),
        done=_("Ended. Nothing more is opened."),
    )


def _find_own(request: HttpRequest, id: str) -> Emergency:
    """One of this person's own; another's and none look the same."""
    return get_object_or_404(Emergency.objects.select_related("patient"), pk=id, opened_by=request.user.pk)


def _may_ask_again(found: Emergency) -> bool:
    return (
        found.state == Emergency.State.ASKED and found.ended_at is None and timezone.now() < found.expires_at
    )


def _kinds(headers: list[ChunkHeader]) -> list[dict[str, Any]]:
    """Each kind with its count, and which sorts of more private records it holds."""
    found: dict[str, dict[str, Any]] = {}
    for one in headers:
        kind = one["resource_type"]
        row = found.setdefault(kind, {"kind": kind, "name": name_of(kind), "count": 0, "private": {}})
        row["count"] += one["count"]
        row["private"] |= {label: SENSITIVE[label].name for label in one["labels"] if label in SENSITIVE}
    order = {kind: number for number, kind in enumerate(FIRST)}
    return sorted(found.values(), key=lambda row: (order.get(row["kind"], len(order)), str(row["name"])))


def _clock(found: Emergency) -> dict[str, Any]:
    left = (found.expires_at - timezone.now()).total_seconds()
    return {"is_open": services.is_open(found), "minutes": max(0, -int(-left // 60))}


def _number(request: HttpRequest, name: str) -> int:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 8 else 0


def _form(request: HttpRequest, form: Any, title: str, button: str, back: str) -> HttpResponse:
    return _show(request, "staff/form.html", form=form, title=title, button=button, back=back)


def _show(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    """No browser and no cache keeps it."""
    response = page(request, template, SECTION, **context)
    response["Cache-Control"] = "no-store, private"
    return response
