"""What the patient chose: the list, one choice with its history, Change, Stop and what comes after it."""

from contextlib import suppress
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.db.models import Count, Max, Q
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from consent import conflicts, services
from consent.conflicts import PERSONS
from consent.deletion import ask_deletion
from consent.explanation import KINDS, PURPOSES, SENSITIVE
from consent.models import Consent, Patient
from consent.state import OPEN, State, state_of
from gateway.analysis.models import Job, JobSubject
from gateway.portal.history import history_of
from gateway.portal.paging import page_of
from gateway.portal.people import disagreement
from gateway.portal.questions import Choosing, check_page, choose_page, how_of
from gateway.portal.signed_out import waits
from gateway.portal.stopping import stop_now
from gateway.portal.visitor import Visit, enter, for_patient, named
from ledger.errors import RefusedTransition


def find_choice(patient: Patient, id: str) -> Consent:
    """The patient's own choice; another's and none look the same. Raises Http404."""
    found = (
        Consent.objects.filter(pk=id, patient=patient)
        .select_related(
            "request__requester",
            "request__notice",
            "request__patient",
            "notice",
            "replaced_by",
            "deletion",
            "representative",
            "stopper",
        )
        .first()
    )
    if found is None:
        raise Http404
    return found


@never_cache
@require_safe
@for_patient(may="see")
def index(request: HttpRequest, patient: Patient) -> HttpResponse:
    given = Consent.objects.filter(patient=patient).select_related("request__requester", "request__notice")
    found, older = page_of(given, "-decided_at", request.GET.get("after", ""))
    rows = [{"consent": each, "state": state_of(each)} for each in found]
    for row in rows:
        row["open"] = row["state"] in OPEN and enter(request).may_stop
        row["ended"] = ended_at(row["consent"], row["state"])
    return render(request, "portal/choices.html", {"section": "choices", "rows": rows, "older": older})


@never_cache
@require_safe
@for_patient(may="see")
def choice(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    consent = find_choice(patient, id)
    state, visit = state_of(consent), enter(request)
    history = history_of(consent, visit, expired=state == State.EXPIRED)
    return render(
        request,
        "portal/choice.html",
        {
            "section": "choices",
            "consent": consent,
            "question": consent.request,
            "notice": consent.shown_notice,
            "state": state,
            "open": state in OPEN and visit.may_stop,
            "own": is_own(consent, visit),
            "disagreements": [disagreement(each, visit) for each in conflicts.about(consent)],
            "newer": getattr(consent, "replaced_by", None),
            "can_change": may_change(request, consent),
            "still_holds": consent.request.consents.filter(ledger_state=Consent.LedgerState.IN_FORCE).first()
            if state == State.NOT_SEALED
            else None,
            "kinds": [KINDS[kind].name for kind in visit.covered(consent.kinds)],
            "sensitive": [SENSITIVE[code].name for code in visit.covered(consent.sensitive)],
            "purpose": PURPOSES.get(consent.request.purpose, consent.request.purpose),
            "history": history,
            "all_sealed": all(entry.sealed for entry in history),
            **what_remains(consent, state, visit),
        },
    )


def ended_at(consent: Consent, state: State) -> datetime | None:
    if state in (State.STOPPING, State.STOPPED):
        return consent.stopped_at
    return consent.expires_at if state == State.EXPIRED else None


def what_remains(consent: Consent, state: State, visit: Visit) -> dict[str, Any]:
    """For a choice that is over: when it stopped, how long until that was sealed, what may still exist."""
    if state in OPEN or (consent.granted_at is None and consent.stopped_at is None):
        return {"over": False}
    left = Q(state=JobSubject.State.DELIVERED)
    used = JobSubject.objects.filter(patient=consent.patient_id, consent=consent.pk).aggregate(
        sent=Count("pk", filter=left & ~Q(job__kind=Job.Kind.EXPORT)),
        copies=Count("pk", filter=left & Q(job__kind=Job.Kind.EXPORT)),
        # A sealed result is kept for a time; its job stays.
        last_sent=Max(
            Coalesce("output__delivered_at", "leg__summary__delivered_at", "job__settled_at"), filter=left
        ),
        cut_off=Count("pk", filter=Q(state=JobSubject.State.NOT_AVAILABLE) & ~Q(job__kind=Job.Kind.EXPORT)),
    )
    took = None
    if consent.stopped_at and consent.revoked_at:
        # The ledger's time is in whole seconds, and may be the second in which the stop was asked for.
        took = max(1, round((consent.revoked_at - consent.stopped_at).total_seconds()))
    return {
        "over": True,
        "stopped": state in (State.STOPPING, State.STOPPED),
        "stopped_by": named(visit, consent.stopper) if consent.stopped_by in PERSONS else "",
        "took": took,
        "deletion": getattr(consent, "deletion", None),
        **used,
    }


def is_own(consent: Consent, visit: Visit) -> bool:
    """This visitor made the choice, and nobody else."""
    return bool(consent.author == visit.how().author)


def may_change(request: HttpRequest, consent: Consent) -> bool:
    """In force, no newer choice is on its way, and this visitor made it."""
    visit = enter(request)
    own = is_own(consent, visit) and visit.may_answer
    held = state_of(consent) in (State.SHARING, State.PARTLY)
    return own and held and not hasattr(consent, "replaced_by")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@waits
@for_patient(may="answer")
def change(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    consent = find_choice(patient, id)
    if not may_change(request, consent):
        return redirect("choice", id=id)
    consent.request = enter(request).offered(consent.request)
    return choose_page(request, Choosing.again(consent))


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient(may="answer")
def check_change(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """What was chosen before holds until the ledger has the new choice."""
    consent = find_choice(patient, id)
    if not may_change(request, consent):
        return redirect("choice", id=id)
    consent.request = enter(request).offered(consent.request)
    return check_page(
        request,
        Choosing.again(consent),
        lambda way, signed: services.replace(
            consent=consent, patient=patient, how=how_of(request, way), **way.choice, **signed
        ),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient(may="stop")
def stop(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """One POST, no reason asked; then what came of it. The same POST twice shows the same page."""
    consent = find_choice(patient, id)
    if request.method == "POST":
        # Where it is not in force any more, which is what was wanted, the page says why.
        with suppress(RefusedTransition):
            services.revoke(consent=consent, patient=patient, stop_now=stop_now, how=enter(request).how())
        return redirect("stop", id=id)
    state = state_of(consent)
    remains = what_remains(consent, state, enter(request))
    if not remains.get("stopped"):
        return redirect("choice", id=id)
    return render(
        request,
        "portal/stopped.html",
        {
            "section": "choices",
            "consent": consent,
            "question": consent.request,
            "state": state,
            **remains,
        },
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient
def delete(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """Ask the requester to delete what it got under a choice that is over."""
    consent = find_choice(patient, id)
    if request.method == "POST":
        try:
            ask_deletion(consent=consent, patient=patient)
        except RefusedTransition:
            pass  # the page says how it stands
        else:
            messages.success(request, _("We asked them to delete it."))
    return redirect("choice", id=id)
