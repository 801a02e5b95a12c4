"""Where a patient and who acts for her disagree: the most restrictive holds until it was reviewed."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from consent import conflicts, representatives, services
from consent.answers import How
from consent.models import Conflict, Consent, ConsentRequest, Representative
from consent.state import State, state_of
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput, RefusedTransition
from tests.questions import ask, grant, in_force, intents, reviewer
from tests.representing import represent

pytestmark = pytest.mark.django_db

REASON = "Both were heard on the phone."


@pytest.fixture
def ana(alice: Any, user: Callable[..., Any]) -> Representative:
    return represent(alice, user("ana"))


@pytest.fixture
def ben(alice: Any, user: Callable[..., Any]) -> Representative:
    return represent(alice, user("ben"), name="Ben")


def no(question: ConsentRequest, who: Representative | None = None) -> Consent:
    return services.refuse(request=question, patient=question.patient, how=How.by(who))


def yes(question: ConsentRequest, who: Representative | None = None) -> Consent:
    return grant(question, how=How.by(who))


def stop(consent: Consent, who: Representative | None = None) -> list[str]:
    told: list[str] = []
    services.revoke(consent=consent, patient=consent.patient, how=How.by(who), stop_now=told.append)
    consent.refresh_from_db()
    return told


def settle(outcome: str = "keep", **changes: Any) -> Conflict:
    found = Conflict.objects.select_related("yes__request__patient", "yes__request__requester").get()
    conflicts.settle(conflict=found, **{"by": reviewer(), "outcome": outcome, "reason": REASON, **changes})
    return found


def is_held(consent: Consent) -> bool:
    """Nothing of it is on its way to the ledger."""
    return state_of(consent) == State.HELD and intents(consent) == []


# A yes after a no or a stop


def test_a_yes_after_the_patients_no_is_held(alice: Any, helix: Any, ana: Representative) -> None:
    no(ask(helix, alice))
    consent = yes(ask(helix, alice), ana)
    assert is_held(consent)
    found = Conflict.objects.get()
    assert (found.why, found.yes, found.no.status) == ("held", consent, "rejected")
    lines = [json.loads(bytes(row.line)) for row in AuditRow.objects.filter(kind="conflict.opened")]
    assert [line["actor"]["id"] for line in lines] == [ana.pseudonym]


def test_for_the_same_question_too_and_once(alice: Any, helix: Any, ana: Representative) -> None:
    question = ask(helix, alice)
    no(question)
    assert is_held(yes(question, ana))
    with pytest.raises(RefusedTransition) as caught:
        yes(question, ana)
    assert caught.value.code == "not_open"
    with pytest.raises(RefusedTransition):
        yes(question)  # her own no stands; she answers again when she is asked again


def test_the_patients_yes_after_a_representatives_no_is_held(
    alice: Any, helix: Any, ana: Representative
) -> None:
    no(ask(helix, alice), ana)
    assert is_held(yes(ask(helix, alice)))


def test_between_two_representatives_it_is_the_same(
    alice: Any, helix: Any, ana: Representative, ben: Representative
) -> None:
    no(ask(helix, alice), ana)
    assert is_held(yes(ask(helix, alice), ben))


def test_a_yes_after_anothers_stop_is_held(alice: Any, helix: Any, ana: Representative) -> None:
    stop(in_force(ask(helix, alice)))
    assert is_held(yes(ask(helix, alice), ana))


@pytest.mark.parametrize("same", [True, False])
def test_one_persons_own_change_of_mind_is_none(
    alice: Any, helix: Any, ana: Representative, same: bool
) -> None:
    no(ask(helix, alice), ana if same else None)
    yes(ask(helix, alice), ana if same else None)
    assert not Conflict.objects.exists()
    # And her last word counts, not one before.
    assert intents(yes(ask(helix, alice), None if same else ana)) == [("GrantConsent", "keyholder")]


def test_another_asker_or_another_model_is_another_thing(alice: Any, helix: Any, ana: Representative) -> None:
    from consent.models import Requester

    no(ask(helix, alice))
    other = Requester.objects.create(name="Other AI")
    for question in (ask(helix, alice, model="cd" * 32), ask(other, alice)):
        assert intents(yes(question, ana)) == [("GrantConsent", "keyholder")]


def test_what_was_used_up_is_nobodys_stop(alice: Any, helix: Any, ana: Representative) -> None:
    consent = in_force(ask(helix, alice), duration="once")
    services.use_up(consents=[consent.pk], stop_now=lambda id: None)
    assert intents(yes(ask(helix, alice), ana)) == [("GrantConsent", "keyholder")]


def test_who_decides_no_more_stands_in_nobodys_way(alice: Any, helix: Any, ana: Representative) -> None:
    no(ask(helix, alice), ana)
    representatives.end_by_patient(representative=ana, patient=alice)
    assert intents(yes(ask(helix, alice))) == [("GrantConsent", "keyholder")]


# A no, and a stop, of what another gave


def test_a_no_stops_what_another_gave_on_the_ledger(alice: Any, helix: Any, ana: Representative) -> None:
    given, own = in_force(ask(helix, alice), how=How.by(ana)), in_force(ask(helix, alice))
    told: list[str] = []
    services.refuse(request=ask(helix, alice), patient=alice, stop_now=told.append)
    given.refresh_from_db()
    own.refresh_from_db()
    assert ("RevokeConsent", "gateway") in intents(given)
    assert (given.stopped_by, given.stopper, own.stopped_at) == ("patient", None, None)
    assert Conflict.objects.get().why == "overruled"


def test_a_representatives_no_stops_what_the_patient_gave(
    alice: Any, helix: Any, ana: Representative
) -> None:
    given = in_force(ask(helix, alice))
    no(ask(helix, alice), ana)
    given.refresh_from_db()
    assert (given.ledger_state, given.stopper) == ("revoking", ana)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("by_ana", [True, False])
def test_a_stop_works_at_once_and_is_reviewed_afterwards(
    alice: Any, helix: Any, ana: Representative, by_ana: bool
) -> None:
    given = in_force(ask(helix, alice), how=How.by(None if by_ana else ana))
    assert stop(given, ana if by_ana else None) == [given.pk]
    found = Conflict.objects.get()
    assert (found.why, found.yes, found.no) == ("stopped", given, given)


def test_ones_own_stop_is_no_disagreement(alice: Any, helix: Any, ana: Representative) -> None:
    stop(in_force(ask(helix, alice)))
    stop(in_force(ask(helix, alice, model="cd" * 32), how=How.by(ana)), ana)
    assert not Conflict.objects.exists()


def test_a_stop_works_while_a_disagreement_waits(alice: Any, helix: Any, ana: Representative) -> None:
    mine = in_force(ask(helix, alice))
    other = in_force(ask(helix, alice), how=How.by(ana))
    stop(other)
    stop(mine, ana)
    assert mine.ledger_state == "revoking"


def test_until_the_review_every_yes_is_held_the_patients_too(
    alice: Any, helix: Any, ana: Representative
) -> None:
    no(ask(helix, alice))
    yes(ask(helix, alice), ana)
    assert is_held(yes(ask(helix, alice)))


def test_what_is_in_force_is_not_changed_meanwhile(alice: Any, helix: Any, ana: Representative) -> None:
    own = in_force(ask(helix, alice))
    stop(in_force(ask(helix, alice), how=How.by(ana)))
    with pytest.raises(RefusedTransition) as caught:
        services.replace(consent=own, patient=alice, kinds=["Condition"], duration="until")
    assert caught.value.code == "in_conflict"


# The review


def test_kept_as_it_is_nothing_is_shared_and_a_new_yes_is_held_again(
    alice: Any, helix: Any, ana: Representative
) -> None:
    no(ask(helix, alice))
    consent = yes(ask(helix, alice), ana)
    found = settle("keep")
    consent.refresh_from_db()
    assert (state_of(consent), intents(consent)) == (State.NOT_SEALED, [])
    assert (found.outcome, found.settled_by, found.reason) == ("keep", reviewer(), REASON)
    assert is_held(yes(ask(helix, alice), ana))
    # Her own yes is not against her own no.
    Conflict.objects.update(settled_at=timezone.now(), outcome="keep")
    assert not is_held(yes(ask(helix, alice)))


@pytest.mark.parametrize("again", [True, False])
def test_asked_anew_the_question_is_open_and_what_was_said_before_does_not_count(
    alice: Any, helix: Any, ana: Representative, again: bool
) -> None:
    question = ask(helix, alice)
    no(ask(helix, alice))
    held = yes(question, ana)
    settle("ask_anew")
    question.refresh_from_db()
    held.refresh_from_db()
    assert (question.state, intents(held)) == ("pending", [])
    assert question.asked_anew_at is not None
    given = yes(question, ana if again else None)
    assert intents(given) == [("GrantConsent", "keyholder")]
    assert Conflict.objects.filter(settled_at=None).count() == 0


def test_asked_anew_there_is_time_to_answer(alice: Any, helix: Any, ana: Representative) -> None:
    question = ask(helix, alice)
    no(ask(helix, alice))
    yes(question, ana)
    today = timezone.localdate()
    ConsentRequest.objects.update(answer_by=today - timedelta(days=3))
    settle("ask_anew")
    question.refresh_from_db()
    assert question.answer_by == today + timedelta(days=conflicts.DAYS_TO_ANSWER)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"share_until": timezone.localdate()}, "too_late"),
        ({"state": "withdrawn"}, "not_open"),
    ],
)
def test_what_cannot_be_asked_again_is_refused_and_stays_open(
    alice: Any, helix: Any, ana: Representative, change: dict[str, Any], code: str
) -> None:
    no(ask(helix, alice))
    yes(ask(helix, alice), ana)
    ConsentRequest.objects.update(**change)
    with pytest.raises(RefusedTransition) as caught:
        settle("ask_anew")
    assert caught.value.code == code
    assert Conflict.objects.get().settled_at is None


def test_a_suspended_provider_asks_nothing_again(alice: Any, helix: Any, ana: Representative) -> None:
    no(ask(helix, alice))
    yes(ask(helix, alice), ana)
    helix.suspended_at = timezone.now()
    helix.save()
    with pytest.raises(RefusedTransition) as caught:
        settle("ask_anew")
    assert caught.value.code == "suspended"


@pytest.mark.parametrize(
    "changes",
    [{"outcome": "grant"}, {"outcome": ""}, {"reason": "short"}, {"reason": " " * 40}, {"reason": "x" * 301}],
)
def test_a_review_says_what_and_why(
    alice: Any, helix: Any, ana: Representative, changes: dict[str, Any]
) -> None:
    stop(in_force(ask(helix, alice)), ana)
    with pytest.raises(InvalidInput):
        settle(**{"outcome": "keep", **changes})


def test_nobody_reviews_what_concerns_them_and_nobody_twice(
    alice: Any, helix: Any, ana: Representative
) -> None:
    stop(in_force(ask(helix, alice)), ana)
    for concerned in (alice.user, ana.user):
        with pytest.raises(RefusedTransition) as caught:
            settle(by=concerned)
        assert caught.value.code == "own_conflict"
    settle()
    with pytest.raises(RefusedTransition) as caught:
        settle()
    assert caught.value.code == "settled_already"
    [row] = AuditRow.objects.filter(kind="conflict.settled")
    assert REASON not in bytes(row.line).decode()
