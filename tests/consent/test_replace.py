"""replace: a new consent takes the place of one in force."""

from typing import Any

import pytest

from consent import services
from consent.models import Consent
from consent.state import State, state_of
from ledger.errors import RefusedTransition
from ledger.models import LedgerTransaction
from tests.questions import ask, commit, grant, in_force, intents

pytestmark = pytest.mark.django_db


def replace(consent: Consent) -> Consent:
    return services.replace(
        consent=consent, patient=consent.patient, kinds=["Observation"], duration="90_days"
    )


def test_the_old_one_stays_in_force_until_the_new_one_is(alice: Any, helix: Any) -> None:
    old = in_force(ask(helix, alice))
    new = replace(old)
    assert intents(new) == [("ReplaceConsent", "keyholder")]
    old.refresh_from_db()
    assert (state_of(old), state_of(new)) == (State.PARTLY, State.PENDING)
    commit(new, "ConsentReplaced")
    old.refresh_from_db()
    assert (state_of(old), state_of(new)) == (State.REPLACED, State.PARTLY)
    assert old.status == "inactive"


def test_stopping_a_replacement_on_its_way_stops_what_it_replaces(alice: Any, helix: Any) -> None:
    old = in_force(ask(helix, alice))
    new = replace(old)
    services.revoke(consent=new, patient=alice, stop_now=lambda id: None)
    for consent in (old, new):
        consent.refresh_from_db()
        assert state_of(consent) == State.STOPPING


def test_what_was_replaced_can_be_neither_replaced_nor_stopped(alice: Any, helix: Any) -> None:
    old = in_force(ask(helix, alice))
    commit(replace(old), "ConsentReplaced")
    before = LedgerTransaction.objects.count()
    with pytest.raises(RefusedTransition):
        replace(old)
    with pytest.raises(RefusedTransition):
        services.revoke(consent=old, patient=alice, stop_now=lambda id: None)
    assert LedgerTransaction.objects.count() == before


def test_not_while_another_replacement_is_under_way(alice: Any, helix: Any) -> None:
    old = in_force(ask(helix, alice))
    replace(old)
    with pytest.raises(RefusedTransition):
        replace(old)


def test_not_before_it_is_in_force_and_not_by_another(alice: Any, charlie: Any, helix: Any) -> None:
    pending = grant(ask(helix, alice))
    with pytest.raises(RefusedTransition):
        replace(pending)
    commit(pending)
    with pytest.raises(RefusedTransition):
        services.replace(consent=pending, patient=charlie, kinds=["Observation"], duration="until")


def test_a_refused_replacement_leaves_the_old_one_free(alice: Any, helix: Any) -> None:
    old = in_force(ask(helix, alice))
    new = replace(old)
    services.record_refused(LedgerTransaction.objects.get(name="ReplaceConsent"))
    new.refresh_from_db()
    old.refresh_from_db()
    assert (state_of(old), state_of(new)) == (State.PARTLY, State.NOT_SEALED)
    assert state_of(replace(old)) == State.PENDING
