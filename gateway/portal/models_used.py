"""Which computer programs used my records: each version, how often, and what became of the results."""

from django.db.models import Count, Max, Min, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from consent.models import Patient
from gateway.analysis.models import AIModel, JobSubject
from gateway.portal.visitor import for_patient

MOST = 100
State = JobSubject.State


@never_cache
@require_safe
@for_patient(may="see")
def models(request: HttpRequest, patient: Patient) -> HttpResponse:
    let_in = ~Q(consent="")  # the release stands on a consent of hers
    found = list(
        JobSubject.objects.filter(patient=patient)
        .order_by()
        .values("job__model")
        .annotate(
            first=Min("job__created_at"),
            last=Max("job__created_at"),
            used=Count("pk", filter=let_in),
            sent=Count("pk", filter=Q(state=State.DELIVERED)),
            held_back=Count("pk", filter=let_in & Q(state=State.NOT_AVAILABLE)),
            blocked=Count("pk", filter=Q(consent="", state=State.NOT_AVAILABLE)),
        )
        .order_by("-last")[:MOST]
    )
    programs = AIModel.objects.select_related("provider").in_bulk([each["job__model"] for each in found])
    listed = [{**each, "program": programs.get(each["job__model"])} for each in found]
    return render(request, "portal/models.html", {"section": "access", "listed": listed})
