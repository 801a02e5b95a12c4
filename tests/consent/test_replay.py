"""consent/replay.py: the ledger beside the readable copies, each kind of difference, and its repair."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from consent import replay
from consent.models import Consent
from consent.replay import Difference, OnLedger
from ledger import outbox
from ledger.audit.models import AuditRow
from ledger.client import Ledger
from ledger.contract import canonical
from ledger.contract.consents import commitment
from ledger.contract.transactions import run
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import make_ledger
from ledger.embedded.server import LedgerProcess
from ledger.models import LedgerTransaction
from tests.ledger.conformance import Given, submit
from tests.ledger.fake_network import FakeNetwork
from tests.questions import ask, in_force

pytestmark = pytest.mark.django_db
Here = Consent.LedgerState


@dataclass
class House:
    """The real contract on a ledger, and the identities that a test needs."""

    keyholder: Ledger
    gateway: Ledger

    def grant(self, given: Given) -> str:
        assert submit(self.keyholder, "GrantConsent", given.args, given.transient).is_valid
        return given.id

    def stop(self, consent: str) -> None:
        assert submit(self.gateway, "RevokeConsent", {"consent": consent}).is_valid


@contextmanager
def embedded(folder: Path) -> Iterator[House]:
    make_ledger(folder)
    process = LedgerProcess(folder)
    made = House(*(EmbeddedLedger(folder, identity=name) for name in ("keyholder", "gateway")))
    yield made
    made.keyholder.close()
    made.gateway.close()
    process.close()


@contextmanager
def peers(folder: Path) -> Iterator[House]:
    """Fabric's client and the chaincode on fake peers of two organisations."""
    with FakeNetwork(folder, run) as network:
        network.register()
        made = House(network.ledger("keyholder"), network.ledger("gateway"))
        yield made
        made.keyholder.close()
        made.gateway.close()


@pytest.fixture(params=[embedded, peers], ids=["embedded", "peers"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    monkeypatch.setattr(replay, "EVENT_SECONDS", 0.05)
    with request.param(tmp_path_factory.mktemp("ledger")) as made:
        yield made


@pytest.fixture
def row(alice: Any, helix: Any) -> Consent:
    """Alice's consent as the database has it: in force, without an end."""
    consent = in_force(ask(helix, alice))
    Consent.objects.filter(pk=consent.pk).update(expires_at=None)
    consent.refresh_from_db()
    return consent


def found(house: House, **options: Any) -> set[tuple[str, str, str]]:
    differences = replay.compare(replay.derive(house.gateway), **options)
    return {(one.code, one.here, one.ledger) for one in differences}


def mend(house: House) -> Mapping[str, int]:
    truth = replay.derive(house.gateway)
    return replay.repair(replay.compare(truth), truth)


def test_the_ledger_alone_tells_every_consent(house: House) -> None:
    kept, stopped, old, new = Given(), Given(), Given(), Given()
    for given in (kept, stopped, old):
        house.grant(given)
    house.stop(stopped.id)
    args = {**new.args, "replaces": old.id}
    assert submit(house.keyholder, "ReplaceConsent", args, new.transient).is_valid
    truth = replay.derive(house.gateway)
    assert {id: (one.state, one.version) for id, one in truth.items()} == {
        kept.id: ("in_force", 1),
        stopped.id: ("revoked", 1),
        old.id: ("superseded", 1),
        new.id: ("in_force", 2),
    }
    assert all(one.agrees for one in truth.values())
    assert truth[kept.id].commitment == kept.commitment
    assert abs((truth[stopped.id].revoked_at or 0) - timezone.now().timestamp()) < 60


def test_what_agrees_is_not_listed(house: House, row: Consent) -> None:
    house.grant(Given(row.pk))
    assert found(house) == set()


@pytest.mark.parametrize("here", [Here.GRANTING, Here.REFUSED, Here.SUPERSEDED])
def test_a_consent_that_is_in_force_after_all(house: House, row: Consent, here: str) -> None:
    house.grant(Given(row.pk))
    Consent.objects.filter(pk=row.pk).update(ledger_state=here)
    assert found(house) == {("state_differs", here, "in_force")}
    assert mend(house) == {"state_differs": 1}
    row.refresh_from_db()
    assert (row.ledger_state, row.status) == ("in_force", "active")
    assert found(house) == set()


def test_a_stop_that_the_database_does_not_know(house: House, row: Consent) -> None:
    house.stop(house.grant(Given(row.pk)))
    assert found(house) == {("state_differs", "in_force", "revoked")}
    mend(house)
    row.refresh_from_db()
    assert (row.ledger_state, row.status) == ("revoked", "inactive")
    assert row.stopped_at == row.revoked_at
    assert AuditRow.objects.filter(kind="consent.replayed").count() == 1


def test_a_stop_that_the_ledger_does_not_have_is_sent_again(house: House, row: Consent) -> None:
    """It never becomes a yes again, whatever the ledger says."""
    house.grant(Given(row.pk))
    Consent.objects.filter(pk=row.pk).update(
        ledger_state=Here.REVOKED, stopped_at=timezone.now(), revoked_at=timezone.now()
    )
    assert found(house) == {("stop_lost", "revoked", "in_force")}
    assert mend(house) == {"stop_lost": 1}
    sent = LedgerTransaction.objects.get(name="RevokeConsent")
    assert sent.args == {"consent": row.pk}
    row.refresh_from_db()
    assert row.ledger_state == Here.REVOKING
    assert found(house) == set()  # it is on its way


def test_a_stop_that_only_the_keyholder_remembers(house: House, row: Consent) -> None:
    house.grant(Given(row.pk))
    told = {row.pk: {"opening": "fits", "stopped": True}}
    assert found(house, ask_keyholder=lambda _: told) == {("stop_lost", "in_force", "in_force")}


def test_what_only_one_side_has(house: House, row: Consent) -> None:
    elsewhere = house.grant(Given())
    differences = replay.compare(replay.derive(house.gateway))
    assert {(one.code, one.consent) for one in differences} == {
        ("missing_here", elsewhere),
        ("missing_on_ledger", row.pk),
    }
    assert mend(house) == {"missing_on_ledger": 1}
    row.refresh_from_db()
    assert (row.ledger_state, row.status) == ("refused", "entered-in-error")
    assert found(house) == {("missing_here", "", "in_force")}


def test_what_nobody_can_see_here_is_stopped_when_asked(house: House) -> None:
    """Only what is in force, the keyholder first, once; and the ledger has it when the relay has sent it."""
    lost, over = house.grant(Given()), house.grant(Given())
    house.stop(over)
    truth, told = replay.derive(house.gateway), []
    assert replay.stop_missing(replay.compare(truth), told.append) == 1
    assert told == [lost]
    assert found(house) == {("missing_here", "", "revoked")}  # the other is on its way
    assert replay.stop_missing(replay.compare(truth), told.append) == 0
    assert outbox.send_pending(house.gateway) == 1
    assert {one.state for one in replay.derive(house.gateway).values()} == {"revoked"}
    assert AuditRow.objects.filter(kind="consent.replayed").count() == 1


def test_another_end_and_another_version(house: House, row: Consent) -> None:
    house.grant(Given(row.pk))
    Consent.objects.filter(pk=row.pk).update(expires_at=timezone.now() + timedelta(days=1))
    truth = replay.derive(house.gateway)
    truth[row.pk] = OnLedger(**{**vars(truth[row.pk]), "version": 3})
    codes = {one.code for one in replay.compare(truth)}
    assert codes == {"expiry_differs", "version_differs"}


@pytest.mark.parametrize("opening", ["missing", "differs"])
def test_an_opening_that_does_not_fit(house: House, row: Consent, opening: str) -> None:
    house.grant(Given(row.pk))
    told = {row.pk: {"opening": opening, "stopped": False}}
    assert found(house, ask_keyholder=lambda _: told) == {(f"opening_{opening}", "", "in_force")}


def test_a_ledger_that_contradicts_itself(house: House, row: Consent) -> None:
    """Its state forgot a stop that its events tell: the stop is believed, and the contradiction is listed."""

    class Forgetful:
        def __getattr__(self, name: str) -> Any:
            return getattr(house.gateway, name)

        def evaluate(self, keys: list[str]) -> list[bytes | None]:
            values = house.gateway.evaluate(keys)
            return [
                b'{"set":false}' if key.startswith("revoked/") else value
                for key, value in zip(keys, values, strict=True)
            ]

    house.stop(house.grant(Given(row.pk)))
    truth = replay.derive(Forgetful())  # type: ignore[arg-type]
    assert {(one.code, one.ledger) for one in replay.compare(truth)} == {
        ("ledger_disagrees", "revoked"),
        ("state_differs", "revoked"),
    }


def test_the_keyholder_is_told_the_ledgers_commitments(house: House, row: Consent) -> None:
    given = Given(row.pk)
    house.grant(given)
    asked: dict[str, str] = {}

    def ask(commitments: Mapping[str, str]) -> Mapping[str, Any]:
        asked.update(commitments)
        return {}

    replay.compare(replay.derive(house.gateway), ask)
    assert asked == {row.pk: commitment(given.key, canonical.dumps(given.opening["consent"]))}


def test_a_difference_says_where(row: Consent) -> None:
    one = Difference(secrets.token_hex(32), "state_differs", "in_force", "revoked")
    assert set(one.as_json()) == {"channel", "code", "consent", "here", "ledger"}
