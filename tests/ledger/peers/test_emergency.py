"""Who may write an organisation's key for emergencies: it alone, whatever its chaincode does. Fake peers."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.contract import canonical
from ledger.contract.access import recorded
from ledger.contract.state import Endorsers, Result, State, Transaction
from ledger.contract.transactions import run
from ledger.fabric.client import FabricLedger
from tests.fabric.test_endorsement import REFUSED, Forger, put
from tests.ledger.conformance import new_id, submit
from tests.ledger.fake_network import ORGANISATIONS, FakeNetwork

RIVERSIDE, LAKESIDE, TRUST = ORGANISATIONS
OWN = f"emergency/{RIVERSIDE}"


def forging(state: State, transaction: Transaction) -> Result:
    """Riverside's altered chaincode: it writes what it is told (`gateway/drills/altered.py`)."""
    if transaction.name != "Forge":
        return run(state, transaction)
    for write in transaction.args["writes"]:
        if write.get("orgs"):
            state.require(write["key"], Endorsers(1, tuple(write["orgs"])))
        else:
            state.put(write["key"], write["value"].encode())
    return Result({})


@pytest.fixture
def keyholder(tmp_path: Path) -> Iterator[FabricLedger]:
    with FakeNetwork(tmp_path, run, orgs=ORGANISATIONS, needed=2, runs={RIVERSIDE: forging}) as network:
        network.register()
        ledger = network.ledger("keyholder")
        yield ledger
        ledger.close()


def emergency(ledger: FabricLedger) -> str:
    access = new_id()
    args = {"access": access, "digest": new_id(), "expires": int(time.time()) + 3600}
    assert submit(ledger, "EmergencyAccess", args).is_valid
    return access


def test_one_organisation_writes_no_others_key_and_completes_nothing_alone(keyholder: FabricLedger) -> None:
    forger, access = Forger(keyholder), emergency(keyholder)
    for org in (LAKESIDE, TRUST):
        assert forger.forge(put(f"emergency/{org}", {"open": []})) == REFUSED
        assert forger.forge({"key": f"emergency/{org}", "value": "", "orgs": [RIVERSIDE]}) == REFUSED
    for key in (f"access/{access}/{RIVERSIDE}", f"access/{access}"):
        assert forger.forge(put(key, {"kind": "emergency"})) == REFUSED
    assert submit(keyholder, "CompleteEmergency", {"access": access}).is_valid
    assert forger.forge(put(f"access/{access}/{RIVERSIDE}", {})) == REFUSED


def test_its_own_list_it_can_lose_and_then_goes_on(keyholder: FabricLedger) -> None:
    forger = Forger(keyholder)
    emergency(keyholder)
    assert forger.forge({"key": OWN, "value": "who knows"}) == "VALID"
    access = emergency(keyholder)
    (value,) = keyholder.evaluate([OWN])
    assert list(recorded(value)) == [access]


def test_what_it_makes_up_for_itself_the_rest_complete_as_seen_now(keyholder: FabricLedger) -> None:
    """It can claim any hour in its own list: the completed record says when the rest saw it, not that."""
    access, forger = new_id(), Forger(keyholder)
    claimed = {"access": access, "at": 1, "digest": new_id(), "expires": 2}
    assert forger.forge(put(OWN, {"open": [claimed]})) == "VALID"
    before = int(time.time())
    assert submit(keyholder, "CompleteEmergency", {"access": access}).is_valid
    (value,) = keyholder.evaluate([f"access/{access}/{RIVERSIDE}"])
    assert canonical.load_canonical(value or b"")["at"] >= before
