"""revoke: stopping works at once, once, and whatever is under way."""

from typing import Any

import pytest

from consent import services
from consent.models import Consent
from consent.state import State, state_of
from ledger.audit.models import AuditRow
from ledger.errors import RefusedTransition
from tests.questions import ask, commit, grant, in_force, intents

pytestmark = pytest.mark.django_db


def stop(consent: Consent, told: list[str] | None = None) -> Consent:
    return services.revoke(
        consent=consent, patient=consent.patient, stop_now=(told if told is not None else []).append
    )


def test_the_keyholder_is_told_once_it_is_committed(
    alice: Any, helix: Any, django_capture_on_commit_callbacks: Any
) -> None:
    consent, told = in_force(ask(helix, alice)), list[str]()
    with django_capture_on_commit_callbacks(execute=True):
        stopped = stop(consent, told)
        assert told == []
    assert told == [consent.id]
    assert state_of(stopped) == State.STOPPING
    assert intents(consent)[-1] == ("RevokeConsent", "gateway")
    assert AuditRow.objects.filter(kind="consent.stopped", subject=alice.pseudonym).count() == 1
    commit(consent, "ConsentRevoked")
    assert state_of(consent) == State.STOPPED
    assert consent.stopped_at is not None
    assert consent.revoked_at is not None
    assert consent.stopped_at <= consent.revoked_at


def test_once(alice: Any, helix: Any) -> None:
    consent = in_force(ask(helix, alice))
    stop(consent)
    with pytest.raises(RefusedTransition):
        stop(consent)
    assert len(intents(consent)) == 2


def test_not_by_another(alice: Any, charlie: Any, helix: Any) -> None:
    consent = in_force(ask(helix, alice))
    with pytest.raises(RefusedTransition):
        services.revoke(consent=consent, patient=charlie, stop_now=lambda id: None)
    consent.refresh_from_db()
    assert consent.stopped_at is None


def test_a_no_cannot_be_stopped(alice: Any, helix: Any) -> None:
    consent = services.refuse(request=ask(helix, alice), patient=alice)
    with pytest.raises(RefusedTransition):
        stop(consent)


def test_a_grant_under_way_is_followed_by_its_revocation(alice: Any, helix: Any) -> None:
    consent = grant(ask(helix, alice))
    stop(consent)
    assert intents(consent) == [("GrantConsent", "keyholder"), ("RevokeConsent", "gateway")]
    commit(consent)
    assert state_of(consent) == State.STOPPING
    commit(consent, "ConsentRevoked", block=8)
    assert state_of(consent) == State.STOPPED


def test_a_replacement_under_way_is_stopped_with_what_it_replaces(
    alice: Any, helix: Any, django_capture_on_commit_callbacks: Any
) -> None:
    old, told = in_force(ask(helix, alice)), list[str]()
    new = services.replace(consent=old, patient=alice, kinds=["Condition"], duration="until")
    with django_capture_on_commit_callbacks(execute=True):
        stop(old, told)
    assert set(told) == {old.id, new.id}
    commit(new, "ConsentReplaced")
    assert state_of(new) == State.STOPPING
    assert intents(new)[-1][0] == "RevokeConsent"


def test_one_time_only_ends_with_the_first_result(alice: Any, helix: Any) -> None:
    once = in_force(ask(helix, alice), duration="once")
    longer = in_force(ask(helix, alice))
    for _ in range(2):
        services.use_up(consents=[once.id, longer.id], stop_now=lambda id: None)
    once.refresh_from_db()
    longer.refresh_from_db()
    assert (state_of(once), state_of(longer)) == (State.STOPPING, State.PARTLY)
    assert len(intents(once)) == 2
