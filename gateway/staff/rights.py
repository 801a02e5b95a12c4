"""`/staff/rights`: who may do what on the staff site, and the reviews of it: confirmed, or taken away."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from gateway.accounts.roles import ACTS
from gateway.compliance import rights
from gateway.compliance.models import RightsReview
from gateway.staff import acts
from gateway.staff.forms import in_words
from gateway.staff.visitor import for_staff, me, page, perform

SECTION = "staff_rights"
MOST = 25
ROLE_NAMES = {
    "administrator": gettext_lazy("Administrator"),
    "auditor": gettext_lazy("Auditor"),
    "clinician": gettext_lazy("Clinician"),
    "compliance": gettext_lazy("Compliance"),
    "requesters": gettext_lazy("AI providers, in the admin site"),
    "reviewer": gettext_lazy("Reviewer"),
    "superuser": gettext_lazy("Superuser"),
}
OUTCOMES = {
    "confirmed": gettext_lazy("Confirm them"),
    "taken_away": gettext_lazy("Take all of them away"),
}
FOUND = {"confirmed": gettext_lazy("Confirmed"), "taken_away": gettext_lazy("Taken away")}


class DecideForm(forms.Form):
    outcome = forms.ChoiceField(
        widget=forms.RadioSelect, choices=list(OUTCOMES.items()), label=gettext_lazy("These rights")
    )
    reason = in_words(gettext_lazy("Why?"), gettext_lazy("At least 15 characters."))


@require_safe
@for_staff("see_rights")
def index(request: HttpRequest) -> HttpResponse:
    """Open reviews first, the oldest on top; then everybody, by email."""
    waiting = RightsReview.objects.filter(settled_at=None).select_related("of", "owner").order_by("opened_at")
    people = list(rights.staff())
    last = rights.last_reviews(people[:MOST])
    return page(
        request,
        "staff/rights.html",
        SECTION,
        reviews=[{"review": each, "roles": names(each.roles)} for each in waiting[:MOST]],
        people=[_person(user, last.get(user.pk)) for user in people[:MOST]],
        more=len(people) - MOST,
    )


def _person(user: Any, last: RightsReview | None) -> dict[str, Any]:
    return {
        "user": user,
        "roles": names(rights.rights_of(user)),
        "last": last if last and last.settled_at else None,
        "due": rights.due_on(user, last),
    }


@require_safe
@for_staff("see_rights")
def review(request: HttpRequest, id: str) -> HttpResponse:
    return _show(request, _find(id), DecideForm())


@require_POST
@for_staff("review_rights")
def own(request: HttpRequest, id: str) -> HttpResponse:
    found = _find(id)
    return perform(
        request,
        SECTION,
        lambda: rights.take(review=found, by=me(request)),
        back=_at(found),
        done=_("It is yours to decide."),
    )


@require_POST
@for_staff("review_rights")
def settle(request: HttpRequest, id: str) -> HttpResponse:
    found, form = _find(id), DecideForm(request.POST)
    if not form.is_valid():
        return _show(request, found, form, status=400)
    return perform(
        request,
        SECTION,
        lambda: rights.settle(review=found, by=me(request), **form.cleaned_data),
        back=_at(found),
        done=_("Saved."),
        settled={"review_settled"},
    )


def names(roles: list[str]) -> list[str]:
    return [str(ROLE_NAMES.get(role, role)) for role in roles]


def _show(request: HttpRequest, found: RightsReview, form: DecideForm, status: int = 200) -> HttpResponse:
    roles = found.roles if found.settled_at else rights.rights_of(found.of)
    acting = {"administrator" if role == rights.SUPERUSER else role for role in roles}
    return page(
        request,
        "staff/rights_review.html",
        SECTION,
        status=status,
        review=found,
        roles=names(roles),
        may=[name for act, name in acts.NAMES.items() if ACTS[act] & acting],
        outcome=FOUND[found.outcome] if found.outcome else "",
        can_decide=found.settled_at is None and request.user.pk != found.of_id,
        form=form,
        back=reverse(SECTION),
    )


def _find(id: str) -> RightsReview:
    whole = RightsReview.objects.select_related("of", "owner", "settled_by").prefetch_related("of__groups")
    return get_object_or_404(whole, pk=id)


def _at(found: RightsReview) -> str:
    return reverse("staff_rights_review", args=[found.pk])
