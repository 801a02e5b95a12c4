"""`/staff/conflicts`: where a patient and who acts for her disagree. Nothing is shared until somebody has
looked; who the patient is, is not shown here."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from consent import conflicts
from consent.kinds import purpose_of
from consent.models import Conflict, Consent, Representative
from gateway.accounts.models import User
from gateway.portal.people import ROLES
from gateway.staff.visitor import for_staff, may, page, perform

SECTION = "staff_conflicts"
PAGE = 50
WHY = {
    Conflict.Why.HELD: gettext_lazy("A yes came after a no or a stop. It was not sent to the ledger."),
    Conflict.Why.OVERRULED: gettext_lazy("A no came after a yes. What was shared was stopped."),
    Conflict.Why.STOPPED: gettext_lazy("One said yes, and the other stopped it."),
}
# What somebody is to the patient, as the doer of a sentence.
WHO = {**ROLES, Representative.Role.ATTORNEY: gettext_lazy("Somebody with a power of attorney")}
OUTCOMES = {
    Conflict.Outcome.KEEP: gettext_lazy("Nothing is shared"),
    Conflict.Outcome.ASK_ANEW: gettext_lazy("Ask the question again"),
}


class SettleForm(forms.Form):
    outcome = forms.ChoiceField(
        widget=forms.RadioSelect, label=gettext_lazy("What is to happen?"), choices=list(OUTCOMES.items())
    )
    reason = forms.CharField(
        label=gettext_lazy("Why?"),
        help_text=gettext_lazy("15 to 300 characters. Staff read it; do not name anyone."),
        min_length=conflicts.REASON_LENGTH.start,
        max_length=conflicts.REASON_LENGTH.stop - 1,
    )


@require_safe
@for_staff("see_conflicts")
def index(request: HttpRequest) -> HttpResponse:
    """Those that wait, oldest first."""
    found = list(conflicts.open_ones()[: PAGE + 1])
    return page(
        request,
        "staff/conflicts.html",
        SECTION,
        rows=[_told(each) for each in found[:PAGE]],
        more=len(found) > PAGE,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("see_conflicts")
def conflict(request: HttpRequest, id: str) -> HttpResponse:
    """Why nothing is shared, and the reviewer's two ways on."""
    whole = Conflict.objects.select_related(
        "yes__request__requester",
        "yes__request__patient",
        "yes__request__notice",
        "yes__representative",
        "yes__stopper",
        "no__representative",
        "no__request",
        "settled_by",
    )
    found = get_object_or_404(whole, pk=id)
    may_settle = may(request, "settle_conflicts") and found.settled_at is None
    form = SettleForm(request.POST if request.method == "POST" and may_settle else None)
    if form.is_valid():
        assert isinstance(request.user, User)
        by = request.user
        return perform(
            request,
            SECTION,
            lambda: conflicts.settle(conflict=found, by=by, **form.cleaned_data),
            back=reverse(SECTION),
            done=_("Settled."),
            settled={"settled_already"},
        )
    return page(
        request,
        "staff/conflict.html",
        SECTION,
        **_told(found),
        question=found.yes.request,
        purpose=purpose_of(found.yes.request.purpose),
        outcome=OUTCOMES.get(Conflict.Outcome(found.outcome)) if found.outcome else "",
        form=form,
        may_settle=may_settle,
        back=reverse(SECTION),
    )


def _told(found: Conflict) -> dict[str, Any]:
    yes, no = found.yes, found.no
    stopped = found.why == Conflict.Why.STOPPED
    return {
        "conflict": found,
        "why": WHY[Conflict.Why(found.why)],
        "asker": yes.request.requester.name,
        "yes_by": _who(yes.representative, yes),
        "no_by": _who(yes.stopper, None) if stopped else _who(no.representative, no),
        "no_at": yes.stopped_at if stopped else no.stopped_at or no.decided_at,
        "age": (timezone.localdate() - timezone.localtime(found.opened_at).date()).days,
    }


def _who(person: Representative | None, answer: Consent | None) -> Any:
    """What somebody is to the patient; for an answer on paper, what the paper says."""
    if person is not None:
        return WHO[person.role]
    if answer is not None and answer.authority in WHO:
        return WHO[answer.authority]
    return _("The patient")
