"""What patients asked an AI provider to delete, on the provider's page, until it is written down as done."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from consent.deletion import confirm_deletion
from consent.models import Deletion
from gateway.staff.visitor import actor, for_staff, perform


@require_POST
@for_staff("confirm_deletions")
def confirm(request: HttpRequest, id: str) -> HttpResponse:
    """The provider told the hospital that it deleted what it got under the consent `id`."""
    found = get_object_or_404(
        Deletion.objects.select_related(
            "consent__request__requester", "consent__request__patient", "consent__request__notice"
        ),
        consent=id,
    )
    return perform(
        request,
        "staff_requesters",
        lambda: confirm_deletion(deletion=found, by=actor(request)),
        back=reverse("staff_requester", args=[found.consent.request.requester_id]),
        done=_("Written down. The patient sees it."),
        settled=("confirmed_already",),
    )
