"""`/staff/retraining`: patients who withdrew after a copy of their records had left, and the models that
learned from it: a queue, one ticket, how it ended."""

from django import forms
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from gateway.compliance import retraining
from gateway.compliance.models import Retraining
from gateway.staff.forms import in_words
from gateway.staff.visitor import for_staff, me, page, perform

SECTION = "staff_retraining"
MOST = 50
SHOWN = {
    "open": Q(state=Retraining.State.OPEN),
    "asked": Q(state=Retraining.State.ASKED),
    "settled": Q(state=Retraining.State.SETTLED),
}
NAMES = {
    "open": gettext_lazy("To do"),
    "asked": gettext_lazy("With the AI provider"),
    "settled": gettext_lazy("Closed"),
}
OUTCOMES = {
    "retrained": gettext_lazy("Trained anew, without the copy"),
    "retired": gettext_lazy("The versions are not used any more"),
    "not_trained": gettext_lazy("Nothing learned from the copy"),
    "kept": gettext_lazy("The versions stay"),
}


class EndForm(forms.Form):
    outcome = forms.ChoiceField(
        widget=forms.RadioSelect, choices=list(OUTCOMES.items()), label=gettext_lazy("What was done?")
    )
    reason = in_words(gettext_lazy("Why?"), gettext_lazy("At least 15 characters."))


@require_safe
@for_staff("see_retraining")
def index(request: HttpRequest) -> HttpResponse:
    show = request.GET.get("show", "open")
    show = show if show in SHOWN else "open"
    order = "-settled_at" if show == "settled" else "withdrawn_at"
    counts = {name: Retraining.objects.filter(fits).count() for name, fits in SHOWN.items()}
    return page(
        request,
        "staff/retraining.html",
        SECTION,
        show=show,
        filters=[(name, NAMES[name], counts[name]) for name in SHOWN],
        tickets=_tickets().filter(SHOWN[show]).order_by(order, "pk")[:MOST],
    )


@require_safe
@for_staff("see_retraining")
def ticket(request: HttpRequest, id: str) -> HttpResponse:
    return _show(request, _find(id), EndForm())


@require_POST
@for_staff("settle_retraining")
def own(request: HttpRequest, id: str) -> HttpResponse:
    found = _find(id)
    return perform(
        request,
        SECTION,
        lambda: retraining.take(ticket=found, by=me(request)),
        back=_at(found),
        done=_("It is yours to see to."),
    )


@require_POST
@for_staff("settle_retraining")
def ask(request: HttpRequest, id: str) -> HttpResponse:
    found = _find(id)
    return perform(
        request,
        SECTION,
        lambda: retraining.ask(ticket=found, by=me(request)),
        back=_at(found),
        done=_("The AI provider reads it in its API now."),
        settled={"retraining_asked"},
    )


@require_POST
@for_staff("settle_retraining")
def settle(request: HttpRequest, id: str) -> HttpResponse:
    found, form = _find(id), EndForm(request.POST)
    if not form.is_valid():
        return _show(request, found, form, status=400)
    return perform(
        request,
        SECTION,
        lambda: retraining.settle(ticket=found, by=me(request), **form.cleaned_data),
        back=_at(found),
        done=_("Saved."),
        settled={"retraining_settled"},
    )


def _show(request: HttpRequest, found: Retraining, form: EndForm, status: int = 200) -> HttpResponse:
    return page(
        request,
        "staff/ticket.html",
        SECTION,
        status=status,
        ticket=found,
        state=NAMES[found.state],
        outcome=OUTCOMES[found.outcome] if found.outcome else "",
        copies=retraining.copies([found.consent]),
        models=retraining.concerned_by(found),
        form=form,
        back=reverse(SECTION),
    )


def _tickets() -> QuerySet[Retraining]:
    return Retraining.objects.select_related("requester", "owner", "settled_by")


def _find(id: str) -> Retraining:
    return get_object_or_404(_tickets(), pk=id)


def _at(found: Retraining) -> str:
    return reverse("staff_ticket", args=[found.pk])
