"""The patient's news, and how she wants our pages and our letters."""

from typing import cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from consent.models import News, Patient
from gateway.accounts import preferences
from gateway.accounts.addresses import is_confirmed
from gateway.accounts.letters import say
from gateway.accounts.models import User
from gateway.portal.signed_out import needs_sign_in
from gateway.portal.uses import read_place
from gateway.portal.visitor import for_patient

PAGE = 25

Kind = News.Kind
# Where each kind of news is shown in full.
PAGES = {
    Kind.QUESTION: "question",
    Kind.SEALED: "choice",
    Kind.NOT_SEALED: "choice",
    Kind.STOPPED: "choice",
    Kind.WRITTEN_DOWN: "choice",
    Kind.USE: "use",
    Kind.BLOCKED: "use",
    Kind.RESULT: "use",
    Kind.EMERGENCY: "use",
    Kind.COPY: "use",
}
# And where it is about no one thing.
OWN_PAGES = {
    Kind.PASSKEYS: "mfa_list_webauthn",
    Kind.WAY_BACK: "settings",
    Kind.ACTS_FOR: "people",
    Kind.ACTS_NO_MORE: "people",
    Kind.OF_AGE: "people",
}


@never_cache
@require_safe
@for_patient
def news(request: HttpRequest, patient: Patient) -> HttpResponse:
    rows = News.objects.filter(patient=patient).order_by("-pk")
    before = read_place(request.GET.get("before", ""))
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows[: PAGE + 1])
    listed = [
        {
            "when": row.created_at,
            "text": say(Kind(row.kind), 1),
            "href": _page_of(row),
            "urgent": row.kind == Kind.EMERGENCY,
        }
        for row in found[:PAGE]
    ]
    older = found[PAGE - 1].pk if len(found) > PAGE else None
    return render(request, "portal/news.html", {"section": "news", "listed": listed, "older": older})


def _page_of(row: News) -> str:
    if own_page := OWN_PAGES.get(Kind(row.kind)):
        return reverse(own_page)
    return reverse(PAGES[Kind(row.kind)], args=[row.about]) if row.about else reverse("access")


class SettingsForm(forms.Form):
    notices = forms.ChoiceField(
        choices=[
            (User.Notices.AT_ONCE, gettext_lazy("At once")),
            (User.Notices.DAILY, gettext_lazy("Once a day")),
            (User.Notices.NEVER, gettext_lazy("Never")),
        ],
        widget=forms.RadioSelect,
        error_messages={"required": gettext_lazy("Choose how often we write to you")},
    )
    language = forms.ChoiceField(choices=settings.LANGUAGES)
    large_text = forms.BooleanField(required=False)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@needs_sign_in
def settings_page(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    form = SettingsForm(request.POST or None, initial=_chosen(user))
    if not Patient.objects.filter(user=user).exists():
        del form.fields["notices"]  # nobody else is written to
    if request.method == "POST" and form.is_valid():
        preferences.save(user=user, **{"notices": user.notices, **form.cleaned_data})
        with translation.override(user.language):
            messages.success(request, _("We saved your settings."))
        answer = redirect("settings")
        preferences.remember(answer, user)
        return answer
    context = {"section": "settings", "form": form, "confirmed": is_confirmed(user)}
    return render(request, "portal/settings.html", context)


def _chosen(user: User) -> dict[str, object]:
    language = user.language or translation.get_language() or settings.LANGUAGE_CODE
    return {"notices": user.notices, "language": language, "large_text": user.large_text}
