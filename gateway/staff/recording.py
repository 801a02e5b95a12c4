"""`/staff/consents/new`: an answer on paper or by phone, one question a page.

Who → which question → how → by what authority → yes or no to each kind → scan (paper) → read back → check.
What was entered waits in the session, so that no kind of record and no person stands in a URL.
"""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from consent import recorded, scans
from consent.answers import GivenBy
from consent.explanation import KINDS, SENSITIVE
from consent.models import ConsentRequest, Patient, Scan
from gateway.accounts.models import User
from gateway.portal.forms import durations
from gateway.portal.stopping import stop_now
from gateway.staff.forms import (
    AuthorityForm,
    DecisionForm,
    HowForm,
    QuestionForm,
    ReadBackForm,
    ScanForm,
    WhoForm,
)
from gateway.staff.visitor import for_staff, page, refused
from gateway.wording import sentence
from ledger.errors import GatewayError, InvalidInput

SECTION = "staff_answers"
KEY, LAST = "answer that is written down", "answer that was written down"
STEPS: dict[str, tuple[Promise, type[forms.Form] | None]] = {
    "who": (gettext_lazy("Whose answer is it?"), WhoForm),
    "question": (gettext_lazy("Which question did they answer?"), QuestionForm),
    "how": (gettext_lazy("How did they answer?"), HowForm),
    "authority": (gettext_lazy("Who answered?"), AuthorityForm),
    "decision": (gettext_lazy("What did they say to each kind of record?"), DecisionForm),
    "scan": (gettext_lazy("Add a scan of the paper"), ScanForm),
    "read-back": (gettext_lazy("Read this back to the person"), ReadBackForm),
    "check": (gettext_lazy("Check before you save"), None),
}


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("record_answers")
def new(request: HttpRequest, step: str = "who") -> HttpResponse:
    if step not in STEPS:
        return redirect("staff_new_answer")
    given: dict[str, Any] = request.session.get(KEY, {})
    asked = _question_of(given)
    due = _first_missing(given, asked)
    if step == "check" and not given and (last := request.session.get(LAST)):
        return redirect("staff_answer", id=last)  # the same POST twice
    # A page out of turn leads to the first that is missing.
    if list(STEPS).index(step) > list(STEPS).index(due):
        return redirect("staff_new_answer_step", step=due)
    if step == "check" and asked is not None:
        return _check(request, given, asked)
    form = _form(step, request, given, asked)
    if request.method == "POST" and form.is_valid():
        try:
            _take(step, form, request, given, asked)
        except GatewayError as error:
            form.add_error(None, sentence(error))
        else:
            request.session[KEY] = given
            return redirect("staff_new_answer_step", step=_first_missing(given, _question_of(given)))
    title = STEPS[step][0]
    told = _told(given, asked) if step == "read-back" and asked else None
    return page(
        request, "staff/step.html", SECTION, form=form, title=title, told=told, question=asked, step=step,
        back=reverse("staff_new_answer_step", args=[_before(step, given)]) if step != "who" else "",
    )  # fmt: skip


def _form(step: str, request: HttpRequest, given: dict[str, Any], asked: ConsentRequest | None) -> forms.Form:
    data, files = (request.POST, request.FILES) if request.method == "POST" else (None, None)
    if step == "question":
        return QuestionForm(data, questions=waiting_for(Patient.objects.get(pk=given["patient"])))
    if step == "decision":
        assert asked is not None
        return DecisionForm(data, question=asked)
    made = STEPS[step][1]
    assert made is not None
    return made(data, files)


def _take(
    step: str, form: forms.Form, request: HttpRequest, given: dict[str, Any], asked: ConsentRequest | None
) -> None:
    """Keep what one page asked for. A change of an earlier answer asks the later pages anew."""
    cleaned = form.cleaned_data
    for later in list(STEPS)[list(STEPS).index(step) :]:
        _forget(later, given)
    match step:
        case "who":
            found = Patient.objects.filter(
                record_id=cleaned["record_id"].strip(), birth_date=cleaned["birth_date"]
            ).first()
            if found is None:
                raise InvalidInput(_("No patient has this number and this date of birth."), code="who")
            if not waiting_for(found):
                raise InvalidInput(_("No question waits for this patient."), code="who")
            given["patient"] = found.pk
        case "question" | "how":
            given |= cleaned
        case "authority":
            given["authority"] = cleaned["authority"]
        case "decision":
            given["decision"] = {name: cleaned[name] for name in ("kinds", "sensitive", "duration")}
        case "scan":
            assert asked is not None
            given["scan"] = scans.keep(
                patient=asked.patient, content=cleaned["scan"].read(scans.MOST_BYTES + 1)
            ).pk
        case "read-back":
            given["read_back"] = True


# What each page keeps in the session.
KEPT = {
    "who": "patient",
    "question": "question",
    "how": "given_by",
    "authority": "authority",
    "decision": "decision",
    "scan": "scan",
    "read-back": "read_back",
}


def _forget(step: str, given: dict[str, Any]) -> None:
    kept = given.pop(KEPT.get(step, ""), None)
    if step == "scan" and kept:
        Scan.objects.filter(pk=kept, consents=None).delete()


def _first_missing(given: dict[str, Any], asked: ConsentRequest | None) -> str:
    for step, name in KEPT.items():
        if step == "scan" and given.get("given_by") != GivenBy.PAPER:
            continue
        if name not in given or (step == "question" and asked is None):
            return step
    return "check"


def _before(step: str, given: dict[str, Any]) -> str:
    steps = [each for each in STEPS if each != "scan" or given.get("given_by") == GivenBy.PAPER]
    return steps[max(0, steps.index(step) - 1)] if step in steps else "who"


def waiting_for(patient: Patient) -> list[ConsentRequest]:
    """The questions that this patient can still answer."""
    return list(
        ConsentRequest.objects.shown_to(patient)
        .filter(state=ConsentRequest.State.PENDING, answer_by__gte=timezone.localdate())
        .select_related("requester")
        .order_by("answer_by", "id")[:50]
    )


def _question_of(given: dict[str, Any]) -> ConsentRequest | None:
    if "question" not in given or "patient" not in given:
        return None
    return (
        ConsentRequest.objects.filter(pk=given["question"], patient=given["patient"])
        .select_related("requester", "notice", "patient")
        .first()
    )


def _told(given: dict[str, Any], asked: ConsentRequest) -> dict[str, Any]:
    """The answer in the words that are read back."""
    decision = given["decision"]
    return {
        "yes": [KINDS[kind].name for kind in decision["kinds"]]
        + [SENSITIVE[code].name for code in decision["sensitive"]],
        "no": [KINDS[kind].name for kind in asked.kinds if kind not in decision["kinds"]]
        + [SENSITIVE[code].name for code in asked.sensitive if code not in decision["sensitive"]],
        "duration": dict(durations(asked)).get(decision["duration"], ""),
    }


def _check(request: HttpRequest, given: dict[str, Any], asked: ConsentRequest) -> HttpResponse:
    if request.method != "POST":
        return page(
            request, "staff/check.html", SECTION, question=asked, told=_told(given, asked), given=given,
            how=_words(HowForm, "given_by", given), authority=_words(AuthorityForm, "authority", given),
        )  # fmt: skip
    assert isinstance(request.user, User)
    try:
        answer = recorded.record_answer(
            request=asked,
            by=request.user,
            given_by=given["given_by"],
            authority=given["authority"],
            **given["decision"],
            scan=Scan.objects.filter(pk=given.get("scan")).first(),
            read_back=given["read_back"],
            stop_now=stop_now,
        )
    except GatewayError as error:
        return refused(request, SECTION, error, reverse("staff_new_answer"))
    del request.session[KEY]
    request.session[LAST] = answer.pk
    return redirect("staff_answer", id=answer.pk)


def _words(form: type[forms.Form], name: str, given: dict[str, Any]) -> Any:
    field: Any = form.base_fields[name]
    return dict(field.choices).get(given[name])
