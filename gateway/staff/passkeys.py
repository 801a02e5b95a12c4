"""`/staff/patients/<id>/passkeys`: a patient who lost her passkeys is identified again, and they all go."""

from datetime import UTC, datetime

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from gateway.accounts import passkeys
from gateway.keyholder.client import Signers
from gateway.staff.patients import METHODS, SECTION, find_patient
from gateway.staff.visitor import for_staff, me, page
from gateway.wording import sentence
from ledger.errors import GatewayError


def how_checked() -> forms.ChoiceField:
    """The field of a form that gives somebody a way back in."""
    return forms.ChoiceField(
        widget=forms.RadioSelect,
        choices=METHODS.items(),
        label=gettext_lazy("How did you check who they are?"),
        error_messages={"required": gettext_lazy("Say how you checked who they are")},
    )


class ResetForm(forms.Form):
    method = how_checked()
    app_too = forms.BooleanField(
        required=False,
        label=gettext_lazy("They lost their app and their spare codes too: remove these as well"),
    )
    told = forms.BooleanField(
        label=gettext_lazy("I told them that nobody can say yes for them for a day"),
        error_messages={"required": gettext_lazy("Tell them first")},
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("reset_passkeys")
def reset(request: HttpRequest, id: str) -> HttpResponse:
    found = find_patient(id)
    try:
        signers: Signers | None = passkeys.signers_of(found)
    except GatewayError:
        signers = None
    # As the keyholder does it: a day of quiet follows where one is known, and one that runs goes on.
    quiet = signers is None or bool(signers["known"] or signers["quiet_until"])
    form, status = ResetForm(request.POST if request.method == "POST" else None), 200
    if not quiet:
        del form.fields["told"]
    if form.is_valid():
        method, app_too = form.cleaned_data["method"], form.cleaned_data["app_too"]
        try:
            until = passkeys.reset(patient=found, by=me(request), method=method, app_too=app_too)
        except GatewayError as error:
            form.add_error(None, sentence(error))
            status = error.status
        else:
            messages.success(request, _said(until))
            return redirect("staff_patient", id=found.pk)
    return page(
        request,
        "staff/passkeys.html",
        SECTION,
        status=status,
        patient=found,
        form=form,
        known=None if signers is None else len(signers["known"]),
        quiet=quiet,
        until=_time(signers["quiet_until"]) if signers and not signers["known"] else None,
        back=reverse("staff_patient", args=[found.pk]),
    )


def _time(at: int) -> datetime | None:
    return datetime.fromtimestamp(at, UTC) if at else None


def _said(until: object) -> str:
    if until is None:
        return _("The passkeys are removed. The patient can say yes at once.")
    return _("The passkeys are removed. From %(when)s on the patient can say yes again.") % {
        "when": date_format(localtime(until), "DATETIME_FORMAT")  # type: ignore[arg-type]
    }
