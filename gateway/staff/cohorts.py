"""`/staff/cohorts`: whom an AI provider's question for many is put to. Who they are, is not shown here."""

from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from consent import cohorts, review
from consent.cohorts import Criteria
from consent.explanation import PURPOSES
from consent.kinds import name_of, purpose_of
from consent.models import Cohort, ConsentRequest
from gateway.keyholder.client import Keyholder
from gateway.staff import minimum
from gateway.staff.paging import newest_first
from gateway.staff.visitor import for_staff, me, page, perform

SECTION = "staff_cohorts"


class CriteriaForm(forms.Form):
    age_from = forms.IntegerField(
        min_value=0, max_value=cohorts.OLDEST, required=False, label=gettext_lazy("Youngest age, in years")
    )
    age_to = forms.IntegerField(
        min_value=0, max_value=cohorts.OLDEST, required=False, label=gettext_lazy("Oldest age, in years")
    )

    def __init__(self, *args: Any, kinds: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["kinds"] = forms.MultipleChoiceField(
            choices=[(kind, name_of(kind)) for kind in kinds],
            required=False,
            widget=forms.CheckboxSelectMultiple,
            label=_("They have at least one record of each of these"),
        )


@require_safe
@for_staff("see_queue")
def index(request: HttpRequest) -> HttpResponse:
    found = Cohort.objects.select_related("requester").defer("chosen")
    rows, after = newest_first(request, found)
    return page(request, "staff/cohorts.html", SECTION, rows=rows, after=after)


@require_safe
@for_staff("see_queue")
def cohort(request: HttpRequest, id: str) -> HttpResponse:
    return _show(request, find_cohort(id))


@require_POST
@for_staff("review")
def write(request: HttpRequest, id: str) -> HttpResponse:
    """Write the criteria and find whom they fit."""
    found = find_cohort(id)
    form = CriteriaForm(request.POST, kinds=found.question["kinds"])
    if not form.is_valid():
        return _show(request, found, form=form, problem=_("Ages are whole years."), status=400)
    return perform(
        request,
        SECTION,
        lambda: cohorts.write(
            cohort=found,
            criteria=Criteria(**form.cleaned_data),
            by=me(request),
            with_kinds=Keyholder(settings.KEYHOLDER_SOCKET).with_kinds,
        ),
        back=_at(found),
        done=_("Found. Somebody else approves it now."),
    )


@require_POST
@for_staff("review")
def approve(request: HttpRequest, id: str) -> HttpResponse:
    """Those found are asked. What asks for more than the model needs takes a tick that says so."""
    found = find_cohort(id)
    checked = minimum.check(as_question(found))
    if checked.model is None:
        problem = _("Its model is not approved for this provider: send it back.")
        return _show(request, found, problem=problem, status=400)
    if checked.is_more and request.POST.get("beyond") != "yes":
        return _show(request, found, problem=_("Tick the box, or send it back."), status=400)
    return perform(
        request,
        SECTION,
        lambda: cohorts.approve(cohort=found, by=me(request)),
        back=_at(found),
        done=_("They are asked now."),
        settled={"not_open"},
    )


@require_POST
@for_staff("review")
def send_back(request: HttpRequest, id: str) -> HttpResponse:
    found = find_cohort(id)
    reasons = request.POST.getlist("reasons")
    if not reasons:
        return _show(request, found, problem=_("Choose one or more reasons."), status=400)
    return perform(
        request,
        SECTION,
        lambda: cohorts.send_back(cohort=found, by=me(request), reasons=reasons),
        back=_at(found),
        done=_("It was sent back. Nobody was asked."),
        settled={"not_open"},
    )


def find_cohort(id: str) -> Cohort:
    return get_object_or_404(Cohort.objects.select_related("requester", "written_by", "approved_by"), pk=id)


def as_question(cohort: Cohort) -> ConsentRequest:
    """What each of them reads; it is not kept."""
    return ConsentRequest(**cohorts.question_of(cohort))


def _show(
    request: HttpRequest,
    found: Cohort,
    *,
    form: forms.Form | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    question = as_question(found)
    how_hard = minimum.grade(question)
    is_asked = found.state in (Cohort.State.ASKING, Cohort.State.ASKED)
    context: dict[str, Any] = {
        "cohort": found,
        "question": question,
        "purpose": PURPOSES.get(question.purpose, question.purpose),  # as the patients will read it
        "for_what": purpose_of(question.purpose),
        "agreed": question.purpose in found.requester.purposes,
        "minimum": minimum.check(question),
        "grade": how_hard,
        "hard": how_hard > minimum.HARDEST,
        "kinds": [name_of(kind) for kind in found.criteria.get("kinds", ())],
        "found": found.found,
        "asked": found.requests.count() if is_asked else None,
        "sharing": len(cohorts.in_force(found)) if is_asked else None,
        "open": found.state in cohorts.OPEN,
        "mine": found.written_by_id == request.user.pk,
        "form": form or CriteriaForm(initial=found.criteria, kinds=found.question["kinds"]),
        "reasons": list(review.REASONS.items()),
        "sent_back": [review.REASONS[code] for code in found.send_back_reasons],
        "problem": problem,
        "back": reverse(SECTION),
    }
    return page(request, "staff/cohort.html", SECTION, status=status, **context)


def _at(found: Cohort) -> str:
    return reverse("staff_cohort", args=[found.pk])
