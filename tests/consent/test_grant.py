"""grant and refuse: one transaction holds the intent, the outbox row and the audit row."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from consent import services
from consent.models import Consent, ConsentRequest
from consent.state import State, state_of
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput, RefusedTransition
from ledger.models import LedgerTransaction
from tests.questions import ask, grant, intents

pytestmark = pytest.mark.django_db


def test_yes_is_an_intent_an_outbox_row_and_an_audit_row(alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    consent = grant(question)
    assert (consent.status, consent.ledger_state) == ("proposed", "granting")
    assert state_of(consent) == State.PENDING
    assert intents(consent) == [("GrantConsent", "keyholder")]
    row = LedgerTransaction.objects.get()
    assert row.args == {"consent": consent.id}
    assert services.consent_of(row) == consent
    assert AuditRow.objects.filter(kind="consent.granted", subject=alice.pseudonym).count() == 1
    question.refresh_from_db()
    assert question.state == ConsentRequest.State.ANSWERED


def test_all_of_it_or_none(alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    with transaction.atomic():
        grant(question)
        transaction.set_rollback(True)
    assert not Consent.objects.exists()
    assert not LedgerTransaction.objects.exists()
    assert not AuditRow.objects.filter(kind="consent.granted").exists()


@pytest.mark.parametrize("again", [grant, lambda q: services.refuse(request=q, patient=q.patient)])
def test_a_question_is_answered_once(alice: Any, helix: Any, again: Any) -> None:
    question = ask(helix, alice)
    grant(question)
    with pytest.raises(RefusedTransition) as refused:
        again(question)
    assert (refused.value.code, refused.value.status) == ("not_open", 409)
    assert Consent.objects.count() == LedgerTransaction.objects.count() == 1


def test_nobody_answers_for_another(alice: Any, charlie: Any, helix: Any) -> None:
    question = ask(helix, alice)
    for answer in (
        lambda: services.grant(request=question, patient=charlie, kinds=["Observation"], duration="until"),
        lambda: services.refuse(request=question, patient=charlie),
    ):
        with pytest.raises(RefusedTransition) as refused:
            answer()
        assert refused.value.code == "not_yours"
    assert not Consent.objects.exists()


def test_after_the_last_day_to_answer_it_is_too_late(alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    ConsentRequest.objects.update(answer_by=timezone.localdate() - timedelta(days=1))
    question.refresh_from_db()
    with pytest.raises(RefusedTransition) as refused:
        grant(question)
    assert refused.value.code == "too_late"


def test_yes_needs_a_proven_identity(charlie: Any, helix: Any) -> None:
    with pytest.raises(RefusedTransition) as refused:
        grant(ask(helix, charlie))
    assert refused.value.code == "not_proofed"


@pytest.mark.parametrize(
    "changes",
    [
        {"kinds": []},
        {"kinds": ["Immunization"]},
        {"sensitive": ["HIV"]},
        {"duration": "for ever"},
    ],
)
def test_only_what_was_asked_can_be_given(alice: Any, helix: Any, changes: dict[str, Any]) -> None:
    question = ask(helix, alice)
    with pytest.raises(InvalidInput):
        grant(question, **changes)
    question.refresh_from_db()
    assert question.state == ConsentRequest.State.PENDING


def test_no_is_kept_and_sends_nothing(alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    consent = services.refuse(request=question, patient=alice)
    assert state_of(consent) == State.REFUSED
    assert consent.fhir["status"] == "rejected"
    assert consent.fhir["provision"] == {"type": "deny"}
    assert not LedgerTransaction.objects.exists()
    assert AuditRow.objects.filter(kind="consent.refused", subject=alice.pseudonym).count() == 1


@pytest.mark.parametrize(("duration", "days"), [("once", 90), ("90_days", 90), ("until", 200)])
def test_how_long(alice: Any, helix: Any, duration: str, days: int) -> None:
    consent = grant(ask(helix, alice), duration=duration)
    assert consent.expires_at is not None
    assert abs((consent.expires_at - timezone.now()).days - days) <= 1


def test_nothing_lasts_longer_than_the_question_said(alice: Any, helix: Any) -> None:
    today = timezone.localdate()
    question = ask(helix, alice, share_until=today + timedelta(days=5), answer_by=today)
    consent = grant(question, duration="90_days")
    assert consent.expires_at is not None
    assert consent.expires_at.date() == question.share_until
