"""Pages of one question: read it, choose, check, say yes or no.

What was chosen waits in the session between two pages, so that no kind of record stands in a URL.
"""

from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from consent import services
from consent.explanation import KINDS, PURPOSES, SENSITIVE
from consent.models import Consent, ConsentRequest, Patient
from consent.state import State, gives_all, state_of, state_of_request
from gateway.portal.counts import Counts, count_items
from gateway.portal.forms import ChoiceForm, durations
from gateway.portal.visitor import for_patient
from ledger.errors import InvalidInput, RefusedTransition

Json = dict[str, Any]


def find_question(patient: Patient, id: str) -> ConsentRequest:
    """The patient's own question; another's and none look the same. Raises Http404."""
    found = (
        ConsentRequest.objects.filter(pk=id, patient=patient)
        .select_related("requester", "notice", "patient")
        .first()
    )
    if found is None:
        raise Http404
    return found


def answer_to(question: ConsentRequest) -> Consent | None:
    """The latest answer to a question, if there is one."""
    answer = question.consents.order_by("-decided_at").first()
    if answer is not None:
        answer.request = question
    return answer


@never_cache
@require_safe
@for_patient
def index(request: HttpRequest, patient: Patient) -> HttpResponse:
    asked = ConsentRequest.objects.filter(patient=patient).select_related("requester").order_by("-created_at")
    waiting = [each for each in asked[:200] if state_of_request(each) == State.WAITING]
    closed = [
        {"question": each, "state": state}
        for each in asked[:200]
        if (state := state_of_request(each)) in (State.TAKEN_BACK, State.NOT_ANSWERED)
    ]
    return render(
        request, "portal/requests.html", {"section": "requests", "waiting": waiting, "closed": closed}
    )


@never_cache
@require_safe
@for_patient
def question(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    asked = find_question(patient, id)
    answer = answer_to(asked)
    return _page(
        request,
        "portal/question.html",
        asked,
        answer=answer,
        state=state_of(answer) if answer else state_of_request(asked),
        purpose=PURPOSES.get(asked.purpose, asked.purpose),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient
def choose(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    asked = find_question(patient, id)
    if state_of_request(asked) != State.WAITING:
        return redirect("question", id=id)
    if request.method == "POST":
        form = ChoiceForm(request.POST, question=asked)
        if form.is_valid():
            request.session[_session_key(id)] = form.cleaned_data
            return redirect("check", id=id)
    else:
        form = ChoiceForm(question=asked, initial=request.session.get(_session_key(id)))
    counts = count_items(patient, asked)
    return _page(
        request,
        "portal/choose.html",
        asked,
        form=form,
        counts=counts,
        kinds=_boxes(form, "kinds", lambda kind: KINDS[kind].about, counts, counts.kinds),
        sensitive=_boxes(form, "sensitive", lambda code: SENSITIVE[code].about, counts, counts.sensitive),
        durations=_boxes(form, "duration"),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient
def check(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    asked = find_question(patient, id)
    chosen = request.session.get(_session_key(id))
    if chosen is None or state_of_request(asked) != State.WAITING:
        # The same POST twice: the answer stands, and its receipt says which.
        return redirect("done", id=id) if answer_to(asked) else redirect("question", id=id)
    if request.method == "POST":
        try:
            services.grant(request=asked, patient=patient, **chosen)
        except (InvalidInput, RefusedTransition) as error:
            return _refused(request, asked, error)
        del request.session[_session_key(id)]
        return redirect("done", id=id)
    return _page(
        request,
        "portal/check.html",
        asked,
        kinds=[KINDS[kind].name for kind in chosen["kinds"]],
        sensitive=[SENSITIVE[code].name for code in chosen["sensitive"]],
        duration=dict(durations(asked)).get(chosen["duration"]),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient
def refuse(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """No is one click, and asks nothing back."""
    asked = find_question(patient, id)
    if request.method != "POST":
        return redirect("question", id=id)
    try:
        services.refuse(request=asked, patient=patient)
    except RefusedTransition as error:
        answer = answer_to(asked)
        if answer is None:
            return _refused(request, asked, error)
    request.session.pop(_session_key(id), None)
    return redirect("done", id=id)


@never_cache
@require_safe
@for_patient
def done(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    asked = find_question(patient, id)
    answer = answer_to(asked)
    if answer is None:
        return redirect("question", id=id)
    return _page(
        request,
        "portal/done.html",
        asked,
        answer=answer,
        state=state_of(answer),
        part=not gives_all(answer),
        kinds=[KINDS[kind].name for kind in answer.kinds],
        sensitive=[SENSITIVE[code].name for code in answer.sensitive],
    )


def _page(request: HttpRequest, template: str, asked: ConsentRequest, **context: Any) -> HttpResponse:
    return render(request, template, {"section": "requests", "question": asked, **context})


def _refused(
    request: HttpRequest, asked: ConsentRequest, error: InvalidInput | RefusedTransition
) -> HttpResponse:
    if error.code == "not_open" and answer_to(asked):
        return redirect("done", id=asked.id)
    if isinstance(error, InvalidInput):
        return redirect("choose", id=asked.id)
    return render(
        request,
        "portal/refused.html",
        {"section": "requests", "question": asked, "error": error},
        status=error.status,
    )


def _session_key(id: str) -> str:
    return f"choice {id}"


def _boxes(
    form: ChoiceForm,
    name: str,
    about: Callable[[str], Any] | None = None,
    counts: Counts | None = None,
    found: Any = None,
) -> list[Json]:
    """The boxes of one field as the template draws them, each with its hint and its count."""
    boxes = []
    chosen = form[name].value() or []
    for number, (value, label) in enumerate(form.fields[name].choices):  # type: ignore[attr-defined]
        boxes.append(
            {
                "id": f"id_{name}_{number}",
                "value": value,
                "label": label,
                "checked": value in chosen if isinstance(chosen, list) else value == chosen,
                "about": about(value) if about else "",
                "count": found[value] if counts and counts.known else None,
            }
        )
    return boxes
