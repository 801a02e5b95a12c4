"""Pages of one question: read it, choose, understand (understand.py), check, say yes or no.

What was chosen waits in the database between two pages (consent/progress.py): no kind of record stands in
a URL, and a session that ends in the middle loses nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.db.models import Q
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from consent import notices, progress, services
from consent.answers import How
from consent.explanation import KINDS, PURPOSES, SENSITIVE
from consent.models import Consent, ConsentRequest, Notice, Patient, Progress
from consent.state import OPEN, State, gives_all, state_of, state_of_request
from consent.teach_back import ITEMS
from gateway.portal import signing
from gateway.portal.counts import Counts, count_items
from gateway.portal.forms import SOONER, ChoiceForm, initial_of, length_of
from gateway.portal.paging import page_of
from gateway.portal.signed_out import form_that_waited, waits
from gateway.portal.stopping import stop_now
from gateway.portal.visitor import enter, for_patient, named, turned_away
from ledger.errors import InvalidInput, RefusedTransition

Json = dict[str, Any]


def find_question(patient: Patient, id: str) -> ConsentRequest:
    """The patient's own question; another's and none look the same. Raises Http404."""
    found = (
        ConsentRequest.objects.shown_to(patient)
        .filter(pk=id)
        .select_related("requester", "notice", "patient")
        .first()
    )
    if found is None:
        raise Http404
    return found


def answer_to(question: ConsentRequest) -> Consent | None:
    """The latest answer to a question, if there is one; a change that the ledger refused never was.

    Nor was what staff wrote down by mistake.
    """
    answers = question.consents.filter(invalid_at=None).order_by("-decided_at")
    if question.asked_anew_at is not None:  # a review put it again: what was said before does not count
        answers = answers.filter(decided_at__gt=question.asked_anew_at)
    answer = answers.exclude(ledger_state=Consent.LedgerState.REFUSED).first() or answers.first()
    if answer is not None:
        answer.request = question
    return answer


def said_no(request: HttpRequest, asked: ConsentRequest, answer: Consent | None) -> str:
    """Who said no, where that is somebody else than this visitor, who may still say yes: to a review."""
    if answer is None or state_of(answer) != State.REFUSED or asked.answer_by < timezone.localdate():
        return ""
    visit = enter(request)
    return "" if answer.author == visit.how().author else named(visit, answer.representative)


def is_open(request: HttpRequest, asked: ConsentRequest) -> bool:
    """Whether this visitor may answer now."""
    waiting = state_of_request(asked) == State.WAITING
    return waiting or bool(said_no(request, asked, answer_to(asked)))


@never_cache
@require_safe
@for_patient(may="see")
def index(request: HttpRequest, patient: Patient) -> HttpResponse:
    asked = ConsentRequest.objects.shown_to(patient).select_related("requester", "notice")
    today, held = timezone.localdate(), ConsentRequest.State
    waiting, more = page_of(
        asked.filter(state=held.PENDING, answer_by__gte=today), "answer_by", request.GET.get("waiting", "")
    )
    over = Q(state__in=(held.WITHDRAWN, held.EXPIRED)) | Q(state=held.PENDING, answer_by__lt=today)
    closed, older = page_of(asked.filter(over), "-asked_at", request.GET.get("closed", ""))
    return render(
        request,
        "portal/requests.html",
        {
            "section": "requests",
            "waiting": waiting,
            "more": more,
            "closed": [{"question": each, "state": state_of_request(each)} for each in closed],
            "older": older,
        },
    )


@never_cache
@require_safe
@for_patient(may="see")
def question(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    asked = find_question(patient, id)
    answer = answer_to(asked)
    no = said_no(request, asked, answer)
    state = state_of(answer) if answer else state_of_request(asked)
    over = not (no or state_of_request(asked) == State.WAITING)
    return question_page(
        request,
        "portal/question.html",
        asked,
        answer=answer,
        state=state,
        purpose=PURPOSES.get(asked.purpose, asked.purpose),
        notice=shown_notice(asked),
        said_no=no,
        over=over,
        past=over and state not in OPEN,
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@waits
@for_patient(may="answer")
def choose(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    asked = find_question(patient, id)
    if not is_open(request, asked):
        return redirect("question", id=id)
    offered = enter(request).offered(asked)
    return choose_page(request, Choosing.first(offered)) if offered.kinds else turned_away(request, "scope")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient(may="answer")
def check(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    asked = find_question(patient, id)
    if not is_open(request, asked):
        # The same POST twice: the answer stands, and its receipt says which.
        return redirect("done", id=id) if answer_to(asked) else redirect("question", id=id)
    return check_page(
        request,
        Choosing.first(enter(request).offered(asked)),
        lambda way, signed: services.grant(
            request=asked, patient=patient, how=how_of(request, way), **way.choice, **signed
        ),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient(may="answer")
def refuse(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """No is one click, and asks nothing back."""
    asked = find_question(patient, id)
    if request.method != "POST":
        return redirect("question", id=id)
    try:
        how = enter(request).how(notice=shown_notice(asked))
        services.refuse(request=asked, patient=patient, how=how, stop_now=stop_now)
    except RefusedTransition as error:
        answer = answer_to(asked)
        if answer is None:
            return _refused(request, Choosing.first(asked), error)
    return redirect("done", id=id)


@never_cache
@require_safe
@for_patient(may="see")
def done(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    asked = find_question(patient, id)
    answer = answer_to(asked)
    if answer is None:
        return redirect("question", id=id)
    visit, state = enter(request), state_of(answer)
    # Who else said it, where it was not whoever looks at it.
    own = answer.representative_id == (visit.acting.pk if visit.acting else None)
    by = "" if own else named(visit, answer.representative)
    return question_page(
        request,
        "portal/done.html",
        asked,
        answer=answer,
        by=by,
        state=state,
        may_be_stopped=state in OPEN,
        part=not gives_all(answer),
        kinds=[KINDS[kind].name for kind in visit.covered(answer.kinds)],
        sensitive=[SENSITIVE[code].name for code in visit.covered(answer.sensitive)],
    )


# Choosing and checking: for a first answer, and to change one (gateway/portal/choices.py)


@dataclass(frozen=True)
class Choosing:
    """What is chosen, on which pages; `consent` is the choice that is changed, if it is one."""

    question: ConsentRequest
    back: str
    choose: str
    check: str
    consent: Consent | None = None

    @classmethod
    def first(cls, asked: ConsentRequest) -> "Choosing":
        back, choose, check = (reverse(name, args=[asked.id]) for name in ("question", "choose", "check"))
        return cls(asked, back, choose, check)

    @classmethod
    def again(cls, consent: Consent) -> "Choosing":
        names = ("choice", "change", "check_change")
        back, choose, check = (reverse(name, args=[consent.id]) for name in names)
        return cls(consent.request, back, choose, check, consent)

    def before_check(self, way: Progress) -> str | None:
        """Where to go first: something has to be chosen, and understood where this is the first yes."""
        if not way.chosen:
            return self.back
        if self.consent is None and not ITEMS.keys() <= {*way.understood}:
            return reverse("understand", args=[self.question.id])
        return None

    @property
    def given(self) -> Json | None:
        """What is shared now. For how long is asked anew: a change must not make it longer unseen."""
        if self.consent is None:
            return None
        return {"kinds": self.consent.kinds, "sensitive": self.consent.sensitive}


def way_of(request: HttpRequest, asked: ConsentRequest) -> Progress:
    """How far whoever is signed in is with this question."""
    return progress.progress_of(request=asked, user_id=cast(int, request.user.pk))


def how_of(request: HttpRequest, way: Progress) -> How:
    """What is kept with an answer that is given here."""
    return enter(request).how(teach_back=way.asked, notice=shown_notice(way.request))


def shown_notice(asked: ConsentRequest) -> Notice:
    """The full text in the language of this page, where there is one."""
    return notices.in_language(asked.notice, get_language() or settings.LANGUAGE_CODE)


def choose_page(request: HttpRequest, choosing: Choosing) -> HttpResponse:
    asked = choosing.question
    way = way_of(request, asked)
    if request.method == "POST":
        form = ChoiceForm(request.POST, question=asked)
        if form.is_valid():
            user_id = cast(int, request.user.pk)
            progress.choose(request=asked, user_id=user_id, **form.cleaned_data)
            return redirect(choosing.check)
    else:
        before = initial_of(way.choice) if way.chosen else choosing.given
        waited = form_that_waited(request, several=("kinds", "sensitive"))
        form = ChoiceForm(question=asked, initial=waited or before)
    counts = count_items(asked.patient, asked)
    return question_page(
        request,
        "portal/choose.html",
        asked,
        choosing=choosing,
        kept=bool(way.chosen) or form.initial != (choosing.given or {}),
        form=form,
        counts=counts,
        kinds=boxes(form, "kinds", lambda kind: KINDS[kind].about, counts, counts.kinds),
        sensitive=boxes(form, "sensitive", lambda code: SENSITIVE[code].about, counts, counts.sensitive),
        durations=boxes(form, "duration", more={SOONER: "portal/day.html"}),
    )


def check_page(
    request: HttpRequest, choosing: Choosing, agree: Callable[[Progress, Json], Consent]
) -> HttpResponse:
    asked = choosing.question
    way = way_of(request, asked)
    if first := choosing.before_check(way):
        return redirect(first)
    # What is agreed to is what this page showed, whatever was chosen in another window meanwhile.
    if request.method == "POST" and request.POST.get("shown") != way.shown:
        changed = _("Your answers changed. Nothing is shared yet. Please check them again.")
        messages.warning(request, changed)
        return redirect(choosing.check)
    problem = None
    try:
        yes = signing.on_screen(request, way, how_of(request, way), changes=choosing.consent)
        if request.method == "POST":
            signature = signing.given(request, asked, yes)
            agree(way, {"drafted": yes.drafted, "signature": signature})
            return redirect("done", id=asked.id)
    except signing.AskAgain as error:
        problem = error
    except (InvalidInput, RefusedTransition) as error:
        return _refused(request, choosing, error)
    choice = way.choice
    return question_page(
        request,
        "portal/check.html",
        asked,
        status=problem.status if problem else 200,
        problem=problem,
        yes=yes,
        choosing=choosing,
        shown=way.shown,
        kinds=[KINDS[kind].name for kind in choice["kinds"]],
        sensitive=[SENSITIVE[code].name for code in choice["sensitive"]],
        duration=length_of(asked, choice),
    )


def question_page(
    request: HttpRequest, template: str, asked: ConsentRequest, status: int = 200, **context: Any
) -> HttpResponse:
    return render(request, template, {"section": "requests", "question": asked, **context}, status=status)


def _refused(
    request: HttpRequest, choosing: Choosing, error: InvalidInput | RefusedTransition
) -> HttpResponse:
    asked = choosing.question
    if error.code == "not_open" and answer_to(asked):
        return redirect("done", id=asked.id)
    if isinstance(error, InvalidInput):
        return redirect(choosing.choose)
    context = {"section": "requests", "back": choosing.back, "error": error}
    return render(request, "portal/refused.html", context, status=error.status)


def boxes(
    form: Form,
    name: str,
    about: Callable[[str], Any] | None = None,
    counts: Counts | None = None,
    found: Any = None,
    *,
    more: Mapping[str, str] | None = None,
) -> list[Json]:
    """The boxes of one field as the template draws them, each with its hint and its count.

    `more`: a box's value -> the template of what it asks besides.
    """
    drawn = []
    chosen = form[name].value() or []
    for number, (value, label) in enumerate(form.fields[name].choices):  # type: ignore[attr-defined]
        drawn.append(
            {
                "id": f"id_{name}_{number}",
                "value": value,
                "label": label,
                "checked": value in chosen if isinstance(chosen, list) else value == chosen,
                "about": about(value) if about else "",
                "count": found[value] if counts and counts.known else None,
                "more": more.get(value) if more else None,
            }
        )
    return drawn
