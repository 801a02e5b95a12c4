"""What staff wrote down for a patient: she is told on her pages, and can undo it with one click."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from consent import recorded
from consent.models import Patient
from gateway.portal.choices import find_choice
from gateway.portal.stopping import stop_now
from gateway.portal.visitor import for_patient
from ledger.errors import RefusedTransition


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient
def undo(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """This is not what I said: nothing is shared under it, and the question is open again."""
    consent = find_choice(patient, id)
    if request.method == "POST":
        try:
            recorded.undo(consent=consent, stop_now=stop_now)
        except RefusedTransition:
            pass  # undone already, or her own answer; the page says how it stands
        else:
            messages.success(request, _("We took it back. Nothing is shared."))
    return redirect("choice", id=id)
