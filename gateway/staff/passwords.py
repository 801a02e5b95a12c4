"""`/staff/patients/<id>/password`: a patient whom no letter reaches is identified again and gets a link."""

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from gateway.accounts import recovery
from gateway.staff.passkeys import how_checked
from gateway.staff.patients import SECTION, find_patient, shown_once
from gateway.staff.visitor import for_staff, me, page
from gateway.wording import sentence
from ledger.errors import GatewayError


class LinkForm(forms.Form):
    method = how_checked()
    present = forms.BooleanField(
        label=gettext_lazy("I hand the link to them and to nobody else"),
        error_messages={"required": gettext_lazy("Hand it to nobody else")},
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("reset_passkeys")
def link(request: HttpRequest, id: str) -> HttpResponse:
    found = find_patient(id)
    back = reverse("staff_patient", args=[found.pk])
    form, status = LinkForm(request.POST if request.method == "POST" else None), 200
    if form.is_valid():
        try:
            secret = recovery.new_password_link(
                patient=found, by=me(request), method=form.cleaned_data["method"]
            )
        except GatewayError as error:
            form.add_error(None, sentence(error))
            status = error.status
        else:
            return shown_once(request, found.name, _("A link for a new password"), secret, back=back)
    return page(request, "staff/password.html", SECTION, status=status, patient=found, form=form, back=back)
