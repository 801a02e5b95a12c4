"""Jobs: start, list, wait, cancel, and read what was delivered."""

import re
from datetime import UTC, datetime
from typing import Any

from django.db.models import Q
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from consent.models import ConsentRequest, Requester
from gateway.analysis import proofs, services
from gateway.analysis.models import Job
from gateway.api import events
from gateway.api.consent_requests import IDEMPOTENCY_KEY, PROBLEMS
from gateway.api.events import EventStream
from gateway.api.idempotency import once
from gateway.api.permissions import requester_of
from gateway.api.problems import NotAvailable
from gateway.api.serializers import JobIn, JobListOut, JobOut, ProofOut, WaitingOut
from gateway.api.throttling import Summaries
from ledger.errors import InvalidInput

PAGE = 100
# One event of a stream, as OpenAPI tells of it.
EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["job"]},
        "data": {"type": "string", "description": "the job, with its progress, as JSON"},
    },
    "required": ["event", "data"],
}
OF_A_COHORT = ("cohort", "kinds", "given_since", "index_date")


def find_job(request: Request, id: str) -> Job:
    """The client's own job; another's and none look the same. Raises NotAvailable."""
    job = services.own_job(id=id, requester=requester_of(request))
    if job is None:
        raise NotAvailable
    return job


class Jobs(APIView):
    required_scope = "jobs"

    @extend_schema(
        operation_id="start_job",
        request=JobIn,
        responses={202: JobOut, **PROBLEMS},
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request) -> Response:
        """Start a job over patients whom you asked, or a cohort. Poll the address in `Content-Location`."""
        wanted = JobIn(data=request.data)
        wanted.is_valid(raise_exception=True)
        return once(request, lambda requester: self._start(requester, dict(wanted.validated_data)))

    def _start(self, requester: Requester, wanted: dict[str, Any]) -> Response:
        if "cohort" in wanted:
            given = {name: wanted[name] for name in OF_A_COHORT if name in wanted}
            return _accepted(services.submit_over_cohort(requester=requester, **given))
        named = wanted.get("requests")
        if named is None:
            asked = ConsentRequest.objects.named_by(requester).filter(model=wanted["model"])
            named = list(
                asked.order_by("created_at").values_list("pk", flat=True)[: services.MOST_SUBJECTS + 1]
            )
            if not named:
                raise InvalidInput("You have asked nobody for this model yet.", code="subjects")
        job = services.submit(
            requester=requester,
            model=wanted["model"],
            purpose=wanted["purpose"],
            use=wanted["use"],
            subjects=named,
            index_date=wanted.get("index_date"),
        )
        return _accepted(job)

    @extend_schema(
        operation_id="list_jobs",
        responses={200: JobListOut, **PROBLEMS},
        parameters=[OpenApiParameter("before", str, description="`next` of the page before")],
    )
    def get(self, request: Request) -> Response:
        """Your jobs, newest first, a hundred a page."""
        jobs = Job.objects.filter(requester=requester_of(request)).order_by("-created_at", "-pk")
        if before := request.query_params.get("before"):
            created_at, id = _mark(before)
            jobs = jobs.filter(Q(created_at__lt=created_at) | Q(created_at=created_at, pk__lt=id))
        page = list(jobs[: PAGE + 1])
        last = page[PAGE - 1] if len(page) > PAGE else None
        return Response(
            {
                "jobs": [services.client_brief(job) for job in page[:PAGE]],
                "next": None if last is None else f"{last.created_at.isoformat()}~{last.pk}",
            }
        )


class JobDetail(APIView):
    required_scope = "jobs"

    @extend_schema(
        operation_id="read_job",
        responses={200: JobOut, 202: JobOut, **PROBLEMS},
        parameters=[OpenApiParameter("after", str, description="`next` of the page of subjects before")],
    )
    def get(self, request: Request, id: str) -> Response:
        """202 with `Retry-After` and `X-Progress` while the job runs; 200 when it has ended, with what was
        delivered until when."""
        job = find_job(request, id)
        after = request.query_params.get("after", "")
        if not re.fullmatch("([0-9a-f]{64})?", after):
            raise InvalidInput("`after` is not the `next` of a page.", code="parameter")
        body = services.client_view(job, after=after)
        if job.state in Job.SETTLED:
            return Response(body)
        return Response(body, status=202, headers=waiting(job))


class JobCancel(APIView):
    required_scope = "jobs"

    @extend_schema(operation_id="cancel_job", request=None, responses={202: JobOut, **PROBLEMS})
    def post(self, request: Request, id: str) -> Response:
        """Stop a job: at once while it waits, else at its next chunk. Harmless to repeat."""
        job = find_job(request, id)
        services.cancel(job=job, requester=job.requester)
        job.refresh_from_db()
        return Response(services.client_view(job), status=202)


class SubjectResult(APIView):
    required_scope = "jobs"

    @extend_schema(
        operation_id="read_result",
        responses={(200, "application/fhir+json"): OpenApiTypes.OBJECT, **PROBLEMS},
    )
    def get(self, request: Request, id: str, subject: str) -> HttpResponse:
        """One subject's FHIR Bundle, opened now: the ledger is asked again at this moment."""
        job = find_job(request, id)
        body = services.result(job=job, subject=subject, requester=job.requester)
        return HttpResponse(body, content_type="application/fhir+json", headers={"Cache-Control": "no-store"})


class JobSummary(APIView):
    required_scope = "jobs"
    throttle_classes = [*APIView.throttle_classes, Summaries]

    @extend_schema(
        operation_id="read_summary",
        responses={(200, "application/fhir+json"): OpenApiTypes.OBJECT, **PROBLEMS},
    )
    def get(self, request: Request, id: str, digest: str) -> HttpResponse:
        """What a model that summarises says of everyone: a FHIR Bundle with a MeasureReport, opened now. It
        closes when one of them stops."""
        job = find_job(request, id)
        body = services.summary(job=job, digest=digest, requester=job.requester)
        return HttpResponse(body, content_type="application/fhir+json", headers={"Cache-Control": "no-store"})


class ResultProof(APIView):
    required_scope = "jobs"

    @extend_schema(
        operation_id="prove_result",
        responses={200: ProofOut, 202: WaitingOut, **PROBLEMS},
    )
    def get(self, request: Request, id: str, subject: str) -> HttpResponse:
        """The proof of a result that you have read, to keep beside it: it verifies offline. 202 with
        `Retry-After` until the ledger holds the log with it, a few seconds."""
        job = find_job(request, id)
        proof = proofs.proof_of(job=job, subject=subject, requester=job.requester)
        if proof is None:
            return Response({"state": "waiting"}, status=202, headers={"Retry-After": "2"})
        return HttpResponse(proof, content_type="application/json", headers={"Cache-Control": "no-store"})


class JobEvents(APIView):
    required_scope = "jobs"
    renderer_classes = (EventStream,)

    @extend_schema(operation_id="follow_job", responses={(200, "text/event-stream"): EVENT, **PROBLEMS})
    def get(self, request: Request, id: str) -> StreamingHttpResponse:
        """Server-sent events instead of polling: `job` with the job each time it changes, for 25 seconds at
        most; a browser's EventSource connects again by itself. The last event is the job's end."""
        job = find_job(request, id)
        return StreamingHttpResponse(
            events.of_job(job), content_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )


def _accepted(job: Job) -> Response:
    headers = {"Content-Location": f"/api/v1/jobs/{job.pk}", **waiting(job)}
    return Response(services.client_view(job), status=202, headers=headers)


def waiting(job: Job) -> dict[str, str]:
    """The headers that say how far a job is, and when to ask again."""
    done, of = services.progress(job)
    return {
        "Retry-After": str(services.ask_again_in(job)),
        "X-Progress": f"{services.client_brief(job)['state']}, {done} of {of}",
    }


def _mark(text: str) -> tuple[datetime, str]:
    created_at, _, id = text.partition("~")
    try:
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None or not re.fullmatch("[0-9a-f]{64}", id):
            raise ValueError(created_at)
        return moment.astimezone(UTC), id
    except (ValueError, OverflowError):
        raise InvalidInput("`before` is not the `next` of a page.") from None
