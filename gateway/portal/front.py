"""The pages around the questions: start, home, help, the full notice, invitations."""

from contextlib import suppress
from datetime import datetime
from typing import cast

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from consent import invitations, notices
from consent.models import Consent, ConsentRequest, Notice, Patient
from gateway.accounts.adapter import INVITATION, LAST_VISIT
from gateway.accounts.addresses import is_confirmed
from gateway.accounts.models import User
from gateway.portal.uses import EMERGENCY, count_uses, rows_of
from gateway.portal.visitor import for_patient
from ledger.errors import RefusedTransition


@require_safe
def start(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/start.html")


@require_safe
def help_page(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/help.html", {"section": "help"})


@require_safe
def notice(request: HttpRequest, digest: str) -> HttpResponse:
    """Any version of any notice that was ever shown, by its hash. Public: it says nothing of anyone.

    Where a translation ships with the product and was not published yet, it is now.
    """
    found = Notice.objects.filter(digest=digest).order_by("pk").first()
    if found is None:
        raise Http404
    parts = []
    for block in found.text.split("\n\n"):
        heading, line, rest = block.partition("\n")
        parts.append({"heading": heading, "text": rest} if line else {"heading": "", "text": block})
    spoken = notices.in_language(found, get_language() or settings.LANGUAGE_CODE)
    others = Notice.objects.filter(slug=found.slug).exclude(digest=digest).order_by("language", "-version")
    back, query = _came_from(request)
    return render(
        request,
        "portal/notice.html",
        {
            "notice": found,
            "parts": parts,
            "translated": spoken if spoken != found else None,
            "others": others[:50],
            "back": back,
            "query": query,
        },
    )


def _came_from(request: HttpRequest) -> tuple[str, str]:
    """The page that led here, and what says so in the address: `?question=` or `?choice=`, and its id."""
    for page in ("question", "choice"):
        id = request.GET.get(page, "")
        with suppress(NoReverseMatch):
            return reverse(page, args=[id]), f"?{page}={id}"
    return "", ""


@never_cache
@require_safe
@for_patient(may="see")
def home(request: HttpRequest, patient: Patient) -> HttpResponse:
    since = request.session.get(LAST_VISIT)
    new = rows_of(patient)
    if since:
        new = new.filter(recorded_at__gt=datetime.fromisoformat(since))
    sharing = Consent.objects.filter(
        patient=patient,
        ledger_state=Consent.LedgerState.IN_FORCE,
        invalid_at=None,
        expires_at__gt=timezone.now(),
    )
    waiting = ConsentRequest.objects.filter(
        patient=patient, state=ConsentRequest.State.PENDING, answer_by__gte=timezone.localdate()
    )
    return render(
        request,
        "portal/home.html",
        {
            "section": "home",
            "patient": patient,
            "waiting": waiting.select_related("requester", "notice").order_by("answer_by")[:5],
            "waiting_count": waiting.count(),
            "sharing_count": sharing.count(),
            "new_count": count_uses(new),
            "emergency": new.filter(kind=EMERGENCY).exists(),
            "confirmed": is_confirmed(cast(User, request.user)),
        },
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, code: str) -> HttpResponse:
    """From the link in the clinic's letter to an account, a new one or one that the visitor has."""
    try:
        found = invitations.find(code)
    except RefusedTransition as error:
        return render(request, "portal/invitation_invalid.html", {"error": error}, status=error.status)
    if request.method == "POST" and request.user.is_authenticated:
        try:
            invitations.accept(code=code, user=request.user)
        except RefusedTransition as error:
            return render(request, "portal/invitation_invalid.html", {"error": error}, status=error.status)
        messages.success(request, _("Your account is ready."))
        return redirect("home" if isinstance(found, Patient) else "people")
    if not request.user.is_authenticated:  # for the sign-up alone
        request.session[INVITATION] = code
    return render(request, "portal/invitation.html", {"code": code, "to_act": not isinstance(found, Patient)})


def problem(request: HttpRequest, status: int, template: str) -> HttpResponse:
    return render(request, template, status=status)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem(request, 404, "404.html")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem(request, 403, "403.html")
