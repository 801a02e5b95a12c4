"""`/staff/requests/<id>`: one question before its patient sees it. Who she is, is not shown here."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from consent import review
from consent.explanation import PURPOSES
from consent.kinds import purpose_of
from consent.models import ConsentRequest
from consent.state import state_of_request
from gateway.accounts.models import User
from gateway.staff import minimum
from gateway.staff.visitor import for_staff, me, page, perform, refused
from ledger.errors import InvalidInput

State = ConsentRequest.State


def find_request(id: str) -> ConsentRequest:
    whole = ConsentRequest.objects.select_related("requester", "notice", "patient", "owner", "reviewed_by")
    return get_object_or_404(whole, pk=id)


@require_safe
@for_staff("see_queue")
def question(request: HttpRequest, id: str) -> HttpResponse:
    asked = find_request(id)
    return _show(request, asked)


@require_POST
@for_staff("review")
def own(request: HttpRequest, id: str) -> HttpResponse:
    """Take it, hand it over to another reviewer, or put it back."""
    asked = find_request(id)
    to = request.POST.get("to", "")
    if to == "":
        return _act(request, asked, lambda: review.own(request=asked, by=me(request), to=None))
    new = _reviewers().filter(pk=int(to)).first() if to.isascii() and to.isdigit() and len(to) < 10 else None
    if new is None:
        return refused(
            request, "staff_queue", InvalidInput(_("Choose a reviewer from the list.")), _at(asked)
        )
    return _act(request, asked, lambda: review.own(request=asked, by=me(request), to=new))


@require_POST
@for_staff("review")
def approve(request: HttpRequest, id: str) -> HttpResponse:
    """On to the patient. What asks for more than the model needs takes a tick that says so."""
    asked = find_request(id)
    if asked.state == State.REVIEW:
        found = minimum.check(asked)
        if found.model is None and not found.copy:
            error = InvalidInput(
                _("Its model is not approved for this provider: send it back."), code="model"
            )
            return refused(request, "staff_queue", error, _at(asked))
        if found.is_more and request.POST.get("beyond") != "yes":
            return _show(request, asked, problem=_("Tick the box, or send it back."), status=400)
        done = _("The patient is asked now.")
        return _act(
            request,
            asked,
            lambda: review.approve(
                request=asked,
                by=me(request),
                beyond=found.is_more,
                signature_required=request.POST.get("signature") == "required",
            ),
            done,
        )
    return redirect("staff_request", id=id)


@require_POST
@for_staff("review")
def send_back(request: HttpRequest, id: str) -> HttpResponse:
    asked = find_request(id)
    reasons = request.POST.getlist("reasons")
    if asked.state != State.REVIEW:
        return redirect("staff_request", id=id)
    if not reasons:
        return _show(request, asked, problem=_("Choose one or more reasons."), status=400)
    done = _("It was sent back. The patient was not asked.")
    return _act(
        request, asked, lambda: review.send_back(request=asked, by=me(request), reasons=reasons), done
    )


def _act(
    request: HttpRequest, asked: ConsentRequest, act: Callable[[], None], done: str = ""
) -> HttpResponse:
    return perform(request, "staff_queue", act, back=_at(asked), done=done, settled={"not_open"})


def _show(request: HttpRequest, asked: ConsentRequest, problem: str = "", status: int = 200) -> HttpResponse:
    found = minimum.check(asked)
    how_hard = minimum.grade(asked)
    context: dict[str, Any] = {
        "question": asked,
        "now": state_of_request(asked),
        "purpose": PURPOSES.get(asked.purpose, asked.purpose),  # as the patient will read it
        "for_what": purpose_of(asked.purpose),
        "agreed": asked.purpose in asked.requester.purposes,
        "minimum": found,
        "grade": how_hard,
        "hard": how_hard > minimum.HARDEST,
        "open": asked.state == State.REVIEW,
        "can_own": asked.state in (State.REVIEW, State.SENT_BACK),
        "reasons": list(review.REASONS.items()),
        "sent_back": [review.REASONS[code] for code in asked.send_back_reasons],
        "reviewers": _reviewers(),
        "problem": problem,
        "back": reverse("staff_queue"),
    }
    return page(request, "staff/request.html", "staff_queue", status=status, **context)


def _reviewers() -> Any:
    return User.objects.filter(groups__name="reviewer", is_active=True, is_staff=True).order_by("email")


def _at(asked: ConsentRequest) -> str:
    return reverse("staff_request", args=[asked.id])
