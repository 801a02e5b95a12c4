"""What a patient is told: one row for each act that concerns her, in the transaction of the act.

Pages show it; `gateway/accounts/letters.py` sends it by email as each person wants it. A row says what
kind of thing happened and never about which records, by whom, or what for: an email is read over shoulders.
"""

from collections.abc import Mapping
from typing import Any

from consent.models import News, Patient
from ledger.audit.log import Actor

Kind = News.Kind


def tell(*, patient: str | Patient, kind: News.Kind, about: str = "") -> News:
    """Queue one piece of news within the caller's database transaction.

    `about` is the id of what its page shows: a question, an answer, a use.
    """
    return News.objects.create(
        patient_id=patient.pk if isinstance(patient, Patient) else patient, kind=kind, about=about
    )


def was_told(*, patient: Patient, kind: News.Kind, about: str) -> bool:
    return News.objects.filter(patient=patient, kind=kind, about=about).exists()


def tell_of_answer(
    kind: str, actor: Actor, *, patient: str, request: str, details: Mapping[str, Any]
) -> None:
    """What the audit log's `kind` of act upon a question or an answer is to the patient, if it is news."""
    news, about = _of_act(kind, actor, str(details.get("code", ""))), str(details.get("consent", ""))
    if news is not None:
        tell(patient=patient, kind=news, about=request if news == Kind.QUESTION else about)


def _of_act(kind: str, actor: Actor, code: str) -> News.Kind | None:
    by_staff = actor.kind == "staff"
    match kind:
        case "request.approved":
            return Kind.QUESTION
        case "consent.granted" | "consent.replaced" if code == "committed":
            return Kind.SEALED
        case "consent.granted" | "consent.replaced" if code != "asked":
            return Kind.NOT_SEALED
        case "consent.granted" | "consent.refused" if by_staff:
            return Kind.WRITTEN_DOWN
        case "consent.stopped" | "consent.withdrawn" | "consent.entered_in_error":
            return Kind.STOPPED
    return None


def tell_of_use(kind: str, *, patient: str, use: str) -> None:
    """What a step of a job is to the patient whose records it is about."""
    news = USES.get(kind)
    if news is not None:
        tell(patient=patient, kind=news, about=use)


USES = {
    "job.released": Kind.USE,
    "job.denied": Kind.BLOCKED,
    "job.stopped": Kind.BLOCKED,
    "job.delivered": Kind.RESULT,
}
