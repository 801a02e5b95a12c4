"""`/staff/requesters`: AI providers, what was agreed with them, their clients and their models."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from consent import requesters
from consent.channels import known_channels
from consent.deletion import deletions_asked_of
from consent.explanation import PURPOSES
from consent.kinds import name_of, purpose_of
from consent.models import Requester
from gateway.analysis import catalogue, registrations, results, services
from gateway.analysis.models import AIModel, ModelRegistration
from gateway.staff.visitor import actor, for_staff, me, page, perform
from gateway.wording import sentence
from ledger.audit.log import Actor
from ledger.errors import GatewayError

PAGE = 50
SECTION = "staff_requesters"


class RequesterForm(forms.Form):
    name = forms.CharField(max_length=200, label=gettext_lazy("Name, as patients read it"))
    contact = forms.CharField(
        max_length=200, label=gettext_lazy("Contact"), help_text=gettext_lazy("An email or a phone number.")
    )
    purposes = forms.MultipleChoiceField(
        choices=lambda: [(code, purpose_of(code)) for code in PURPOSES],
        widget=forms.CheckboxSelectMultiple,
        label=gettext_lazy("Purposes that were agreed"),
    )


class TestForm(forms.Form):
    people = forms.IntegerField(min_value=services.FEWEST_TESTED, label=gettext_lazy("People in the test"))
    wrong = forms.IntegerField(min_value=0, label=gettext_lazy("For how many it was wrong"))


@require_safe
@for_staff("see_requesters")
def index(request: HttpRequest) -> HttpResponse:
    found = Requester.objects.order_by("name", "pk")
    if after := request.GET.get("after"):
        found = found.filter(name__gt=after[:200])
    listed = list(found[: PAGE + 1])
    after = listed[PAGE - 1].name if len(listed) > PAGE else None
    return page(request, "staff/requesters.html", SECTION, rows=listed[:PAGE], after=after)


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("change_requesters")
def register(request: HttpRequest) -> HttpResponse:
    form = RequesterForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            made = requesters.register(**form.cleaned_data, by=actor(request))
        except GatewayError as error:
            form.add_error(None, sentence(error))
        else:
            return redirect("staff_requester", id=made.pk)
    return page(
        request,
        "staff/form.html",
        SECTION,
        form=form,
        title=_("Add a provider"),
        button=_("Add"),
        back=reverse(SECTION),
    )


@require_safe
@for_staff("see_requesters")
def requester(request: HttpRequest, id: Any) -> HttpResponse:
    found = find_requester(id)
    waiting = {each.digest: each for each in found.registrations.filter(state__in=ModelRegistration.OPEN)}
    models: list[dict[str, Any]] = [
        {
            "model": model,
            "reads": [name_of(kind) for kind in model.card.get("reads", ())],
            "test": TestForm(prefix=model.digest[:8]),
        }
        for model in found.models.order_by("name", "version")[:PAGE]
    ]
    # Where there are several channels, one that came later is asked when two people approve a model again.
    known = {each["model"].digest for each in models} if len(known_channels()) == 1 else set()
    return page(
        request,
        "staff/requester.html",
        SECTION,
        requester=found,
        purposes=[purpose_of(code) for code in found.purposes],
        clients=found.clients.select_related("application").order_by("pk")[:PAGE],
        models=models,
        results=results.counts(requester=found),
        deletions=deletions_asked_of(found)[:PAGE],
        waiting=waiting,
        addable=[model for model in catalogue.MODELS if model.digest() not in {*known, *waiting}],
        back=reverse(SECTION),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("change_requesters")
def change(request: HttpRequest, id: Any) -> HttpResponse:
    found = find_requester(id)
    initial = {"name": found.name, "contact": found.contact, "purposes": found.purposes}
    form = RequesterForm(request.POST if request.method == "POST" else None, initial=initial)
    form.fields["name"].disabled = True
    if form.is_valid():
        fields = {name: form.cleaned_data[name] for name in ("contact", "purposes")}
        return _act(
            request, found, lambda by: requesters.change(requester=found, by=by, **fields), _("Saved.")
        )
    return page(
        request, "staff/form.html", SECTION, form=form, title=found.name, button=_("Save"), back=_at(found)
    )


@require_POST
@for_staff("change_requesters")
def suspend(request: HttpRequest, id: Any) -> HttpResponse:
    """Its questions and jobs are not taken, and the ledger refuses releases for its models."""
    found = find_requester(id)

    @transaction.atomic
    def act(by: Actor) -> None:
        requesters.suspend(requester=found, by=by)
        for model in found.models.filter(state=AIModel.State.APPROVED).select_related("provider"):
            services.suspend_model(model=model, by=by)

    return _act(request, found, act, _("Suspended. Its models are suspended too."))


@require_POST
@for_staff("change_requesters")
def resume(request: HttpRequest, id: Any) -> HttpResponse:
    found = find_requester(id)
    return _act(
        request,
        found,
        lambda by: requesters.resume(requester=found, by=by),
        _("Not suspended any more. Its models wait to be approved again."),
    )


@require_POST
@for_staff("change_requesters")
def propose_model(request: HttpRequest, id: Any) -> HttpResponse:
    """A model of the catalogue for this provider, anew or suspended before; somebody else approves it too."""
    found = find_requester(id)
    asked = request.POST.get("model", "")
    model = next((each for each in catalogue.MODELS if asked in (each.name, each.digest())), None)
    if model is None:
        raise Http404
    return perform(
        request,
        SECTION,
        lambda: registrations.propose(requester=found, model=model, by=me(request)),
        back=_at(found),
        done=_("Proposed. Somebody else gives the second approval."),
    )


@require_POST
@for_staff("change_requesters")
def suspend_model(request: HttpRequest, id: Any, digest: str) -> HttpResponse:
    found = find_requester(id)
    model = _find_model(found, digest)
    return _act(
        request, found, lambda by: services.suspend_model(model=model, by=by), _("The model is suspended.")
    )


@require_POST
@for_staff("test_models")
def record_test(request: HttpRequest, id: Any, digest: str) -> HttpResponse:
    """What the hospital's own test found; patients who are asked from now on read it."""
    found = find_requester(id)
    model = _find_model(found, digest)
    form = TestForm(request.POST, prefix=digest[:8])
    if not form.is_valid():
        return page(
            request,
            "staff/form.html",
            SECTION,
            status=400,
            form=form,
            title=_("Error rate in a test"),
            button=_("Save"),
            back=_at(found),
        )
    return _act(
        request,
        found,
        lambda by: services.record_test(model=model, by=by, **form.cleaned_data),
        _("Saved. Patients who are asked from now on read it."),
    )


def find_requester(id: Any) -> Requester:
    return get_object_or_404(Requester, pk=id)


def _find_model(of: Requester, digest: str) -> AIModel:
    return get_object_or_404(of.models.select_related("provider"), pk=digest)


def _act(request: HttpRequest, of: Requester, act: Callable[[Actor], object], done: str) -> HttpResponse:
    return perform(request, SECTION, lambda: act(actor(request)), back=_at(of), done=done)


def _at(of: Requester) -> str:
    return reverse("staff_requester", args=[of.pk])
