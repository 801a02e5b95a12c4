"""Which computer programs used my records: each version, how often, what became of the results; and which
copies of them have left."""

from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from consent.models import Patient
from gateway.analysis.models import AIModel, Job, JobSubject
from gateway.compliance import trace
from gateway.compliance.retraining import concerned, versions_of
from gateway.keyholder.client import Keyholder
from gateway.portal.visitor import enter, for_patient
from gateway.records.whereabouts import unknown
from ledger.errors import GatewayError

MOST, SHOWN = 100, 25
State = JobSubject.State
LET_IN = ~Q(consent="")  # a release let her in, on a consent of hers


@never_cache
@require_safe
@for_patient(may="see")
def models(request: HttpRequest, patient: Patient) -> HttpResponse:
    own = JobSubject.objects.filter(patient=patient)
    found = list(
        own.exclude(job__kind=Job.Kind.EXPORT)
        .order_by()
        .values("job__model")
        .annotate(
            first=Min("job__created_at"),
            last=Max("job__created_at"),
            used=Count("pk", filter=LET_IN),
            sent=Count("pk", filter=Q(state=State.DELIVERED)),
            held_back=Count("pk", filter=LET_IN & Q(state=State.NOT_AVAILABLE)),
            blocked=Count("pk", filter=Q(consent="", state=State.NOT_AVAILABLE)),
        )
        .order_by("-last")[:MOST]
    )
    programs = AIModel.objects.select_related("provider").in_bulk([each["job__model"] for each in found])
    listed = [{**each, "program": programs.get(each["job__model"])} for each in found]
    copies = own.filter(LET_IN, job__kind=Job.Kind.EXPORT).count()
    return render(request, "portal/models.html", {"section": "access", "listed": listed, "copies": copies})


@never_cache
@require_safe
@for_patient(may="see")
def model(request: HttpRequest, patient: Patient, digest: str) -> HttpResponse:
    """Each result of one program that her records are in, and how many of her sealed packets it opened."""
    program = get_object_or_404(AIModel.objects.select_related("provider"), pk=digest)
    subjects = JobSubject.objects.filter(patient=patient, job__model=digest)
    return _listed(request, subjects, program=program)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_patient(may="see")
def record(request: HttpRequest, patient: Patient) -> HttpResponse:
    """What used one record of hers, by its name: that is sent by a POST, and stands in no address.

    The words of the record may follow the name, as her own copy sends them; they are its heading.
    """
    typed, _, words = request.POST.get("record", "").strip().partition(" ")
    context: dict[str, Any] = {"section": "access", "typed": typed, "words": words}
    if request.method == "POST":
        keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
        try:
            if not enter(request).covered([typed.partition("/")[0]]):
                raise unknown()
            uses = list(trace.of_record(typed, keyholder, patient))
        except GatewayError as error:
            context["problem"] = error
        else:
            programs = AIModel.objects.in_bulk({use.model for use in uses if use.model})
            shown = sorted(uses, key=lambda use: use.at, reverse=True)[:SHOWN]
            rows = [{**_shown(use), "program": programs.get(use.model)} for use in shown]
            context |= {"uses": rows, "more": len(uses) > SHOWN, "most": SHOWN}
        finally:
            keyholder.close()
    status = context["problem"].status if "problem" in context else 200
    return render(request, "portal/record.html", context, status=status)


@never_cache
@require_safe
@for_patient(may="see")
def copies(request: HttpRequest, patient: Patient) -> HttpResponse:
    """Each copy that left, and the programs that learned from it or may have."""
    subjects = JobSubject.objects.filter(patient=patient, job__kind=Job.Kind.EXPORT)
    return _listed(request, subjects)


def _listed(
    request: HttpRequest, subjects: QuerySet[JobSubject], program: AIModel | None = None
) -> HttpResponse:
    """The newest. Where the keyholder cannot be asked, what was opened is not counted."""
    newest = list(
        subjects.filter(LET_IN).order_by("-job__created_at", "pk").values_list("pk", flat=True)[: SHOWN + 1]
    )
    if program is not None and not newest:
        raise Http404  # another's, and what never used her records, look the same
    keyholder, is_counted = Keyholder(settings.KEYHOLDER_SOCKET), True
    chosen = JobSubject.objects.filter(pk__in=newest[:SHOWN])
    try:
        uses = list(trace.of_subjects(chosen, keyholder))
    except GatewayError:
        uses, is_counted = list(trace.without_records(chosen)), False
    finally:
        keyholder.close()
    context = {
        "section": "access",
        "program": program,
        "uses": [_shown(use) for use in reversed(uses)] if program else _copies(uses),
        "is_counted": is_counted,
        "more": len(newest) > SHOWN,
        "most": SHOWN,
    }
    return render(request, "portal/model.html" if program else "portal/copies.html", context)


def _shown(use: trace.Traced) -> dict[str, Any]:
    return {"use": use, "packets": len(use.records), "sent": use.state == State.DELIVERED}


def _copies(uses: list[trace.Traced]) -> list[dict[str, Any]]:
    jobs = Job.objects.select_related("requester").in_bulk([use.job for use in uses])
    versions = versions_of({job.requester for job in jobs.values()})
    found = []
    for use in reversed(uses):
        job = jobs[use.job]
        learned = concerned(versions[job.requester_id], [job])
        said = {word: [one for one, is_said in learned if is_said == word] for word in (True, False)}
        found.append({**_shown(use), "requester": job.requester, "said": said[True], "unsaid": said[False]})
    return found
