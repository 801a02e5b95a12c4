"""`/people`: who acts for me, for whom I act, and the choice of for whom. Whoever it is stays in the session
as the id of a row that is read again at each request (gateway/portal/visitor.py)."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from consent import conflicts, representatives
from consent.explanation import KINDS, SENSITIVE
from consent.kinds import name_of, name_to_a_patient
from consent.models import Conflict, Representative
from gateway.accounts.models import User
from gateway.portal.signed_out import needs_sign_in
from gateway.portal.visitor import ACTS_AS, Visit, enter, is_over, named, nobody
from ledger.errors import RefusedTransition

Role, Scope = Representative.Role, Representative.Scope

ROLES: dict[str, Promise] = {
    Role.PARENT: gettext_lazy("Parent"),
    Role.GUARDIAN: gettext_lazy("Guardian, named by a court"),
    Role.ATTORNEY: gettext_lazy("Has power of attorney"),
}
SCOPES: dict[str, Promise] = {
    Scope.SEE: gettext_lazy("See what is asked and shared"),
    Scope.STOP: gettext_lazy("See what is asked and shared, and stop sharing"),
    Scope.ANSWER: gettext_lazy("See what is asked and shared, stop sharing, and say yes or no"),
}


def for_person(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Signed in, and a patient or somebody who acts for one: `view(request, visit, …)`."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        visit = enter(request)
        if visit.own is None and not visit.represents:
            return nobody(request, visit)
        return view(request, visit, *args, **kwargs)

    return never_cache(needs_sign_in(inner))


@require_safe
@for_person
def people(request: HttpRequest, visit: Visit) -> HttpResponse:
    if is_over(request, visit):
        del request.session[ACTS_AS]
        messages.info(request, _("You no longer act for the person whom you chose."))
        return redirect("people")
    concerned = visit.patient
    return render(
        request,
        "portal/people.html",
        {
            "section": "people",
            "for_me": [told_of(each, to_the_patient=True) for each in visit.represented_by],
            "by_me": [told_of(each) for each in visit.represents],
            "acting": visit.acting,
            "own": visit.own,
            "of_age": visit.of_age,
            "disagreements": [disagreement(each, visit) for each in conflicts.waiting_for(concerned)[:20]]
            if concerned
            else [],
        },
    )


@require_POST
@for_person
def act(request: HttpRequest, visit: Visit) -> HttpResponse:
    """Act for this person from now on, or for oneself again."""
    id = request.POST.get("representative", "")
    if not id:
        request.session.pop(ACTS_AS, None)
        return redirect("home" if visit.own else "people")
    chosen = _of(visit.represents, id)
    try:
        representatives.enter(representative=chosen)
    except RefusedTransition:
        messages.info(request, _("You no longer act for the person whom you chose."))
        return redirect("people")
    request.session[ACTS_AS] = chosen.pk
    return redirect("home")


@require_POST
@for_person
def end(request: HttpRequest, visit: Visit, id: str) -> HttpResponse:
    """The patient ends it where she may, and so may who acts for her."""
    mine = _of([*visit.represented_by, *visit.represents], id)
    assert isinstance(request.user, User)
    try:
        if mine in visit.represents:
            representatives.lay_down(representative=mine, user=request.user)
        elif visit.own is not None:
            representatives.end_by_patient(representative=mine, patient=visit.own)
    except RefusedTransition as error:
        if error.code != "ended_already":
            return render(
                request, "portal/refused.html", {"error": error, "back": "/people"}, status=error.status
            )
    else:
        messages.success(request, _("It has ended."))
    return redirect("people")


@require_POST
@for_person
def told(request: HttpRequest, visit: Visit) -> HttpResponse:
    """She has read that she decides alone from now on."""
    if visit.own is not None:
        representatives.tell_of_age(patient=visit.own)
    return redirect("people")


def _of(rows: Any, id: str) -> Representative:
    """One of these rows; another's and none look the same. Raises Http404."""
    for each in rows:
        if each.pk == id:
            return each  # type: ignore[no-any-return]
    raise Http404


def told_of(row: Representative, *, to_the_patient: bool = False) -> dict[str, Any]:
    """One authority in plain words, for the patient or for anybody else."""
    named = name_to_a_patient if to_the_patient else name_of
    today = timezone.localdate()
    return {
        "row": row,
        "role": ROLES[row.role],
        "scope": SCOPES[row.scope],
        "kinds": [named(kind) for kind in row.kinds if kind in KINDS]
        + [SENSITIVE[code].name for code in row.sensitive if code in SENSITIVE],
        "stands": row.stands(today),
        "waits": row.accepted_at is None and row.ended_at is None,
        "later": row.accepted_at is not None and row.ended_at is None and row.starts > today,
        "came_of_age": row.came_of_age(today),
        "may_end": row.ended_at is None and row.role in representatives.PATIENT_MAY_END,
        "may_lay_down": row.stands(today),
    }


def disagreement(found: Conflict, visit: Visit) -> dict[str, Any]:
    """One disagreement in plain words: who said yes, who said no, and what the clinic made of it."""
    yes, no = found.yes, found.no
    stopper = yes.stopper if found.why == Conflict.Why.STOPPED else no.representative
    return {
        "conflict": found,
        "asker": yes.request.requester.name,
        "yes": named(visit, yes.representative),
        "no": named(visit, stopper),
        "choice": yes.pk,
    }
