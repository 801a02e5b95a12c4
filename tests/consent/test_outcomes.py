"""What the ledger said: each outcome takes effect once, however often it is told."""

from typing import Any

import pytest

from consent import services
from consent.state import State, state_of
from ledger.audit.models import AuditRow
from ledger.client import Event
from ledger.models import LedgerTransaction
from tests.questions import ask, commit, grant, in_force

pytestmark = pytest.mark.django_db


def logged(kind: str) -> int:
    return AuditRow.objects.filter(kind=kind).count()


def test_granted_twice_is_granted_once(alice: Any, helix: Any) -> None:
    consent = grant(
        ask(helix, alice), kinds=["Observation", "Condition", "MedicationRequest"], sensitive=["PSY"]
    )
    before = logged("consent.granted")
    commit(consent)
    first = consent.granted_at
    commit(consent)
    assert (consent.status, consent.granted_at) == ("active", first)
    assert state_of(consent) == State.SHARING
    assert logged("consent.granted") == before + 1


def test_granted_together_each_is_granted_once(alice: Any, helix: Any) -> None:
    consents = [grant(ask(helix, alice)) for _ in range(2)]
    payload = {"consents": [*(one.id for one in consents), "0" * 64]}
    event = Event(block=7, index=0, tx_id="cd" * 32, name="ConsentsGranted", payload=payload)
    before = logged("consent.granted")
    for _ in range(2):
        services.record_all_granted(event)
    for one in consents:
        one.refresh_from_db()
        assert state_of(one) == State.PARTLY
    assert logged("consent.granted") == before + 2


def test_revoked_twice_is_revoked_once_and_never_revived(alice: Any, helix: Any) -> None:
    consent = in_force(ask(helix, alice))
    commit(consent, "ConsentRevoked")
    when = consent.revoked_at
    commit(consent, "ConsentRevoked")
    commit(consent)
    assert consent.revoked_at == when
    assert state_of(consent) == State.STOPPED
    assert logged("consent.revoked") == 1


def test_a_refused_grant_never_was(alice: Any, helix: Any) -> None:
    consent = grant(ask(helix, alice))
    row = LedgerTransaction.objects.get()
    row.error_code = "consent_malformed"
    for _ in range(2):
        services.record_refused(row)
    consent.refresh_from_db()
    assert consent.status == "entered-in-error"
    assert state_of(consent) == State.NOT_SEALED
    assert logged("consent.granted") == 2


def test_a_refusal_that_comes_late_undoes_nothing(alice: Any, helix: Any) -> None:
    consent = in_force(ask(helix, alice))
    services.record_refused(LedgerTransaction.objects.get(name="GrantConsent"))
    consent.refresh_from_db()
    assert state_of(consent) == State.PARTLY


def test_the_consent_of_another_installation_is_none_of_ours() -> None:
    event = Event(block=1, index=0, tx_id="cd" * 32, name="ConsentGranted", payload={"consent": "00" * 32})
    services.record_granted(event)
    services.record_replaced(event)
    services.record_revoked(event)
    assert not AuditRow.objects.exists()
