"""Questions and answers for the tests of the consent and the portal rooms."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from consent import notices, review, services
from consent.models import Consent, ConsentRequest, Patient, Requester
from gateway.accounts.models import User
from ledger.client import Event
from ledger.models import LedgerTransaction

MODEL = "ab" * 32


def ask(helix: Requester, patient: Patient, **changes: Any) -> ConsentRequest:
    """Helix asks for test results, medicines and health problems, and for mental health on its own.

    The question has passed its review.
    """
    question = ask_unread(helix, patient, **changes)
    review.approve(request=question, by=reviewer())
    return question


def reviewer() -> User:
    """rita, who reads questions before patients do."""
    return User.objects.get_or_create(
        username="rita", defaults={"email": "rita@example.org", "is_staff": True}
    )[0]


def ask_unread(helix: Requester, patient: Patient, **changes: Any) -> ConsentRequest:
    """The same question, before its review."""
    today = timezone.localdate()
    fields: dict[str, Any] = {
        "model": MODEL,
        "purpose": "HRESCH",
        "use": ["GRU"],
        "kinds": ["Observation", "MedicationRequest", "Condition"],
        "sensitive": ["PSY"],
        "what_for": "Use a computer program to look for early signs of heart disease.",
        "who_sees": "Your heart clinic doctor. A person checks each result.",
        "what_can_go_wrong": "The program is wrong for 8 out of every 100 people.",
        "share_until": today + timedelta(days=200),
        "answer_by": today + timedelta(days=30),
    }
    return services.ask(requester=helix, patient=patient, notice=notices.current(), **{**fields, **changes})


def cohort_question(model: str, /, **changes: Any) -> dict[str, Any]:
    """What helix wants to ask many."""
    today = timezone.localdate()
    fields: dict[str, Any] = {
        "model": model,
        "purpose": "TREAT",
        "use": ["HMB"],
        "kinds": ["Condition", "MedicationRequest", "Observation", "Patient"],
        "what_for": "To see your risk of heart disease.",
        "who_sees": "Your heart clinic.",
        "what_can_go_wrong": "The program is wrong for 8 out of every 100 people.",
        "share_until": today + timedelta(days=200),
        "answer_by": today + timedelta(days=30),
    }
    return {**fields, **changes}


def grant(question: ConsentRequest, **changes: Any) -> Consent:
    fields: dict[str, Any] = {"kinds": ["Observation", "Condition"], "duration": "until"}
    return services.grant(request=question, patient=question.patient, **{**fields, **changes})


def commit(consent: Consent, name: str = "ConsentGranted", block: int = 7) -> Event:
    """What the ledger's event says about `consent`, told to the service that hears it."""
    event = Event(block=block, index=0, tx_id="cd" * 32, name=name, payload={"consent": consent.id})
    hear = {
        "ConsentGranted": services.record_granted,
        "ConsentReplaced": services.record_replaced,
        "ConsentRevoked": services.record_revoked,
    }
    hear[name](event)
    consent.refresh_from_db()
    return event


def in_force(question: ConsentRequest, **changes: Any) -> Consent:
    consent = grant(question, **changes)
    commit(consent)
    return consent


def intents(consent: Consent) -> list[tuple[str, str]]:
    rows = LedgerTransaction.objects.filter(reference=f"consent/{consent.id}").order_by("pk")
    return list(rows.values_list("name", "through"))
