"""Delivered results as the clinic sees them: opened for a clinician, and accepted, rejected or withdrawn.

An AI's result is an assertion (AIAST) until a person answers for it. What that person said goes to the
patient, and to the AI client with the job, in FHIR's words.
"""

import json
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from gateway.accounts.models import User
from gateway.analysis.jobs import details
from gateway.analysis.models import Job, JobSubject, Output, ResultReview
from gateway.keyholder.client import Keyholder
from ledger.audit.log import Actor, record
from ledger.errors import AccessDenied, InvalidInput, RefusedTransition

Json = dict[str, Any]
State = ResultReview.State

# Why a result is not used, by code: the AI client reads the code, the patient and the staff the words.
REASONS: dict[str, Promise] = {
    "implausible": gettext_lazy("It does not fit what we know of the patient"),
    "records_incomplete": gettext_lazy("Records that it needs were missing or out of date"),
    "not_applicable": gettext_lazy("The program is not meant for this patient"),
    "program_error": gettext_lazy("The program has a fault"),
}

CLOSED = gettext_lazy("The patient stopped sharing, or the yes has ended. The result stays closed.")

# A review in FHIR's words: RiskAssessment.status (R4 ObservationStatus). One that was never taken over is
# cancelled; one that was, and is wrong, was entered in error.
STATUS: dict[str, str] = {
    "": "preliminary",
    State.ACCEPTED: "final",
    State.REJECTED: "cancelled",
    State.WITHDRAWN: "entered-in-error",
}
NEXT: dict[str, frozenset[str]] = {
    "": frozenset({State.ACCEPTED, State.REJECTED}),
    State.ACCEPTED: frozenset({State.WITHDRAWN}),
    State.REJECTED: frozenset(),
    State.WITHDRAWN: frozenset(),
}


def waiting() -> QuerySet[Output]:
    """Delivered results that nobody answered for yet, oldest first."""
    return (
        Output.objects.filter(
            subject__review=None, subject__patient__isnull=False, subject__job__kind=Job.Kind.ANALYSE
        )
        .exclude(delivered_at=None)
        .select_related("subject__job__requester", "subject__patient")
        .defer("sealed")
        .order_by("delivered_at", "id")
    )


def counts(**of: Any) -> dict[str, int]:
    """How many results wait, and how many were decided which way; `of` filters their jobs, by its fields."""
    jobs = {f"subject__job__{name}": value for name, value in of.items()}
    decided = dict(
        ResultReview.objects.filter(**jobs).values_list("state").annotate(number=Count("pk")).order_by()
    )
    waits = waiting().filter(**jobs).order_by().count()
    return {"waiting": waits, **{state: decided.get(state, 0) for state in State.values}}


def review_of(subject: JobSubject) -> ResultReview | None:
    return ResultReview.objects.filter(subject=subject).select_related("reviewed_by").first()


def may_become(review: ResultReview | None) -> frozenset[str]:
    return NEXT[review.state if review else ""]


def open_for_care(*, subject: JobSubject, by: User, keyholder: Keyholder | None = None) -> Json:
    """The FHIR Bundle of a delivered result, for a clinician to judge.

    The keyholder opens it as it would for the AI client: delivered, and every consent in force *now*. It uses
    up no consent for one time. Raises AccessDenied, LedgerError, KeyholderUnavailable, RefusedTransition
    (`result_gone`: its time is over).
    """
    output = Output.objects.filter(subject=subject).exclude(delivered_at=None).first()
    if output is None:
        raise RefusedTransition(_("This result is not kept any more."), code="result_gone")
    keyholder = keyholder or Keyholder(settings.KEYHOLDER_SOCKET)
    opened = keyholder.open_output(job=subject.leg_id, digest=output.digest, sealed=bytes(output.sealed))
    with transaction.atomic():
        _record("result.read", subject, Actor.staff(by.pk), output.digest)
    found: Json = json.loads(opened)
    return found


def decide(
    *, subject: JobSubject, by: User, state: str, reason: str = "", keyholder: Keyholder | None = None
) -> ResultReview:
    """Accept or reject a result that waits, or withdraw one that was accepted. A repeat is harmless.

    All but accepting takes a `reason` of REASONS. What is accepted is opened once more for it: nobody answers
    for a result that the patient has closed since the page was shown. Raises InvalidInput, RefusedTransition
    (`own_result`, `result_settled`, `result_gone`, `result_closed`), LedgerError, KeyholderUnavailable.
    """
    if state not in State.values:
        raise InvalidInput(_("Accept it, reject it, or withdraw it."), code="state")
    if state == State.ACCEPTED:
        reason = ""
    elif reason not in REASONS:
        raise InvalidInput(_("Choose a reason."), code="reason")
    if subject.patient and subject.patient.user_id == by.pk:
        raise RefusedTransition(_("This result is about you: somebody else decides."), code="own_result")
    if state == State.ACCEPTED and review_of(subject) is None:
        try:
            open_for_care(subject=subject, by=by, keyholder=keyholder)
        except AccessDenied:
            raise RefusedTransition(CLOSED, code="result_closed") from None
    return _settle(subject, by, state, reason)


@transaction.atomic
def _settle(subject: JobSubject, by: User, state: str, reason: str) -> ResultReview:
    subject = JobSubject.objects.select_for_update().select_related("patient", "job").get(pk=subject.pk)
    known = ResultReview.objects.filter(subject=subject).first()
    if known is not None and (known.state, known.reason) == (state, reason):
        return known
    if state not in may_become(known):
        raise RefusedTransition(_("This was decided already."), code="result_settled")
    output = Output.objects.filter(subject=subject).exclude(delivered_at=None).first()
    digest = known.output if known else output.digest if output else ""
    if not digest:
        raise RefusedTransition(_("This result is not kept any more."), code="result_gone")
    made, _created = ResultReview.objects.update_or_create(
        subject=subject,
        defaults={
            "state": state,
            "reason": reason,
            "output": digest,
            "reviewed_by": by,
            "reviewed_at": timezone.now(),
        },
    )
    _record(f"result.{state}", subject, Actor.staff(by.pk), digest, code=made.reason or None)
    return made


def _record(kind: str, subject: JobSubject, by: Actor, output: str, **more: Any) -> None:
    record(
        kind=kind,
        actor=by,
        subject=subject.patient.pseudonym if subject.patient else "",
        subject_id=subject.pk,
        request=subject.request_id,
        consent=subject.consent or None,
        output=output,
        **details(subject.job),
        **more,
    )
