"""Pages of what the patient chose: the list, one choice with its history, Change and Stop."""

import logging

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from consent import services
from consent.explanation import KINDS, PURPOSES, SENSITIVE
from consent.models import Consent, Patient
from consent.state import OPEN, State, state_of
from gateway.keyholder.client import Keyholder
from gateway.portal.questions import Choosing, check_page, choose_page
from gateway.portal.visitor import for_patient
from ledger.errors import GatewayError, RefusedTransition

log = logging.getLogger(__name__)

PAGE = 50


def find_choice(patient: Patient, id: str) -> Consent:
    """The patient's own choice; another's and none look the same. Raises Http404."""
    found = (
        Consent.objects.filter(pk=id, patient=patient)
        .select_related("request__requester", "request__notice", "request__patient", "replaced_by")
        .first()
    )
    if found is None:
        raise Http404
    return found


@never_cache
@require_safe
@for_patient
def index(request: HttpRequest, patient: Patient) -> HttpResponse:
    given = (
        Consent.objects.filter(patient=patient).select_related("request__requester").order_by("-decided_at")
    )
    rows = [{"consent": each, "state": state_of(each)} for each in given[:PAGE]]
    for row in rows:
        row["open"] = row["state"] in OPEN
    return render(request, "portal/choices.html", {"section": "choices", "rows": rows})


@never_cache
@require_safe
@for_patient
def choice(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    consent = find_choice(patient, id)
    state = state_of(consent)
    return render(
        request,
        "portal/choice.html",
        {
            "section": "choices",
            "consent": consent,
            "question": consent.request,
            "state": state,
            "open": state in OPEN,
            "stopped": state in (State.STOPPING, State.STOPPED),
            "took": max(1, round((consent.revoked_at - consent.stopped_at).total_seconds()))
            if consent.revoked_at and consent.stopped_at
            else None,
            "newer": getattr(consent, "replaced_by", None),
            "can_change": may_change(consent),
            "still_holds": consent.request.consents.filter(ledger_state=Consent.LedgerState.IN_FORCE).first()
            if state == State.NOT_SEALED
            else None,
            "kinds": [KINDS[kind].name for kind in consent.kinds],
            "sensitive": [SENSITIVE[code].name for code in consent.sensitive],
            "purpose": PURPOSES.get(consent.request.purpose, consent.request.purpose),
        },
    )


def may_change(consent: Consent) -> bool:
    """In force, and no newer choice is on its way."""
    return state_of(consent) in (State.SHARING, State.PARTLY) and not hasattr(consent, "replaced_by")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient
def change(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    consent = find_choice(patient, id)
    return choose_page(request, Choosing.again(consent)) if may_change(consent) else redirect("choice", id=id)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient
def check_change(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """What was chosen before holds until the ledger has the new choice."""
    consent = find_choice(patient, id)
    if not may_change(consent):
        return redirect("choice", id=id)
    return check_page(
        request,
        Choosing.again(consent),
        lambda way: services.replace(consent=consent, patient=patient, **way.choice),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient
def stop(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """One POST, no reason asked. The same POST twice shows the same page."""
    consent = find_choice(patient, id)
    if request.method == "POST":
        try:
            services.revoke(consent=consent, patient=patient, stop_now=stop_now)
        except RefusedTransition:
            pass  # it is not in force any more, which is what was wanted; the page says why
        else:
            messages.success(request, _("You stopped sharing."))
    return redirect("choice", id=id)


def stop_now(consent_id: str) -> None:
    """The keyholder opens nothing more from here on. Where it cannot be reached, the ledger tells it."""
    try:
        Keyholder(settings.KEYHOLDER_SOCKET).stop(consent=consent_id)
    except GatewayError as error:
        log.warning("stop was not told to the keyholder at once: %s", error.code)
