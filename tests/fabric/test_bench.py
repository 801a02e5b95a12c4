"""`manage.py bench fabric` on a real network: the figures are its own, nothing here judges them."""

from pathlib import Path

import pytest

from deploy.fabric.network import Network
from gateway.bench import fabric, fabric_stops


def test_the_products_turn_commits_its_grants(two: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fabric, "TURN_SECONDS", 1.0)
    ledger = two.ledger("keyholder")
    grants = fabric.new_grants(4)
    turn = fabric.product(ledger)("grant", 4, grants)
    assert (len(turn["times"]), turn["failed"]) == (4, 0)
    keys = [f"consent/{args['consent']}" for _, args, _ in grants]
    assert None not in ledger.evaluate(keys)
    ledger.close()


def test_an_anchoring_is_many_consents_in_one_transaction(two: Network) -> None:
    ledger = two.ledger("keyholder")
    (anchoring,) = fabric.new_grants(1, each=100)
    turn = fabric.product(ledger)("anchor 100", 1, [anchoring])
    assert (len(turn["times"]), turn["failed"]) == (1, 0)
    assert None not in ledger.evaluate([f"consent/{one['consent']}" for one in anchoring[1]["grants"]])
    ledger.close()


def test_a_stop_is_measured_to_the_last_key(
    two: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fabric_stops, "STOPS", 2)
    gateway = two.ledger("gateway")
    before = gateway.height() - 1
    stops = fabric_stops.measure_stops(two.url, tmp_path / "keyholder", gateway)
    names = [event.name for event in gateway.events((before, 1 << 30), wait=0.5)]
    assert (names.count("Released"), names.count("ConsentRevoked")) == (2, 2)
    assert len(stops.last_key) == len(stops.committed) == 2
    assert stops.as_json()["stops"] == 2
    gateway.close()
