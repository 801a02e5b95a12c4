"""Teach-back: three questions, one a page, between what was chosen and the page that checks it.

A wrong answer is explained and asked again; after two, a person at the clinic is offered. No stands on
each of these pages and asks for none of it.
"""

from typing import cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from consent import progress
from consent.models import ConsentRequest, Patient
from consent.teach_back import ITEMS, OFFER_HELP_AFTER
from gateway.portal.forms import TeachBackForm
from gateway.portal.questions import boxes, find_question, is_open, question_page, way_of
from gateway.portal.visitor import for_patient

NAMES = list(ITEMS)


@never_cache
@require_safe
@for_patient(may="answer")
def first(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """To the first question that is not understood yet, or on to the check."""
    asked = find_question(patient, id)
    if not is_open(request, asked):
        return redirect("question", id=id)
    return _onward(request, asked)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient(may="answer")
def one(request: HttpRequest, patient: Patient, id: str, number: int) -> HttpResponse:
    asked = find_question(patient, id)
    if not is_open(request, asked):
        return redirect("question", id=id)
    way = way_of(request, asked)
    if not way.chosen or not 1 <= number <= len(NAMES):
        return _onward(request, asked)
    name = NAMES[number - 1]
    form = TeachBackForm(request.POST if request.method == "POST" else None, item=ITEMS[name])
    if form.is_valid():
        user_id = cast(int, request.user.pk)
        right = progress.answer(request=asked, user_id=user_id, item=name, said=form.cleaned_data["answer"])
        # To a page of its own in either case: loading it again is not another answer.
        return _onward(request, asked) if right else redirect("understand_one", id=id, number=number)
    understood = name in way.understood
    misses = 0 if understood else way.asked.get(name, 0)
    return question_page(
        request,
        "portal/understand.html",
        asked,
        item=ITEMS[name],
        form=form,
        boxes=boxes(form, "answer"),
        number=number,
        of=len(NAMES),
        understood=understood,
        wrong=misses > 0 and not form.errors,
        offer_help=misses >= OFFER_HELP_AFTER,
    )


def _onward(request: HttpRequest, asked: ConsentRequest) -> HttpResponse:
    way = way_of(request, asked)
    if not way.chosen:
        return redirect("choose", id=asked.id)
    for number, name in enumerate(NAMES, start=1):
        if name not in way.understood:
            return redirect("understand_one", id=asked.id, number=number)
    return redirect("check", id=asked.id)
