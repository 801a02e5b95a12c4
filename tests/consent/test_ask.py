"""ask, withdraw_request and expire_requests."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from consent import services
from consent.models import ConsentRequest
from consent.state import State, state_of_request
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput, RefusedTransition
from tests.questions import ask, grant

pytestmark = pytest.mark.django_db


def kinds_logged(patient: Any) -> list[str]:
    return list(
        AuditRow.objects.filter(subject=patient.pseudonym).order_by("pk").values_list("kind", flat=True)
    )


def test_a_question_waits_for_its_patient_and_is_logged(alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    assert state_of_request(question) == State.WAITING
    assert question.kinds == ["Condition", "MedicationRequest", "Observation"]
    assert kinds_logged(alice) == ["consent.asked", "request.approved"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "AB" * 32}, "model"),
        ({"model": "ab"}, "model"),
        ({"purpose": "FUN"}, "purpose"),
        ({"use": ["ANY"]}, "use"),
        ({"kinds": []}, "kinds"),
        ({"kinds": ["Everything"]}, "kinds"),
        ({"sensitive": ["N"]}, "sensitive"),
        ({"what_for": "  "}, "what_for"),
        ({"what_for": "a" * 301}, "what_for"),
        ({"what_for": "word " * 21}, "hard_to_read"),
        ({"what_can_go_wrong": "word " * 21}, "hard_to_read"),
        ({"answer_by": timezone.localdate() - timedelta(days=1)}, "dates"),
        ({"share_until": timezone.localdate(), "answer_by": timezone.localdate()}, "dates"),
        ({"share_until": timezone.localdate() + timedelta(days=101 * 366)}, "dates"),
    ],
)
def test_a_malformed_question_is_not_asked(
    alice: Any, helix: Any, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        ask(helix, alice, **changes)
    assert refused.value.code == code
    assert not ConsentRequest.objects.exists()
    assert kinds_logged(alice) == []


def test_nobody_is_asked_before_their_record_is_linked(alice: Any, helix: Any) -> None:
    alice.record_id = None
    with pytest.raises(RefusedTransition):
        ask(helix, alice)


def test_the_asker_takes_an_open_question_back_once(alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    services.withdraw_request(request=question, requester=helix)
    assert state_of_request(question) == State.TAKEN_BACK
    with pytest.raises(RefusedTransition):
        services.withdraw_request(request=question, requester=helix)
    with pytest.raises(RefusedTransition):
        grant(question)
    assert kinds_logged(alice) == ["consent.asked", "request.approved", "request.withdrawn"]


def test_nobody_takes_back_what_another_asked(alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    other = type(helix).objects.create(name="Other AI")
    with pytest.raises(RefusedTransition):
        services.withdraw_request(request=question, requester=other)
    question.refresh_from_db()
    assert question.state == ConsentRequest.State.PENDING


def test_silence_is_no_from_the_day_after(alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    assert services.expire_requests(today=question.answer_by) == 0
    assert services.expire_requests(today=question.answer_by + timedelta(days=1)) == 1
    assert services.expire_requests(today=question.answer_by + timedelta(days=1)) == 0
    question.refresh_from_db()
    assert state_of_request(question) == State.NOT_ANSWERED
    assert kinds_logged(alice) == ["consent.asked", "request.approved", "request.expired"]
