"""The drill of one organisation that runs altered chaincode: what it can write alone, and what it cannot.

Riverside's chaincode forges; Lakeside and the Patient Trust run the contract. Each forged transaction is
endorsed by Riverside's own peer alone, and ordered.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploy.fabric.network import Network
from ledger.client import Envelope
from ledger.contract import canonical
from ledger.contract.state import Json
from ledger.fabric.client import FabricLedger
from ledger.fabric.proposals import sign_prepared
from tests.fabric.conftest import make, unmake
from tests.ledger.conformance import Given, new_id, release_args, submit, with_openings
from tests.ledger.fake_peer import assemble

RIVERSIDE, LAKESIDE, TRUST = "RiversideMSP", "LakesideMSP", "PatientTrustMSP"
REFUSED = "ENDORSEMENT_POLICY_FAILURE"


@dataclass
class Forger:
    """Riverside, with a peer, a chaincode and identities that are all its own."""

    ledger: FabricLedger

    def forge(self, *writes: Json) -> str:
        """Have them endorsed by Riverside's peer alone, ordered, and judged: the validity."""
        ledger = self.ledger
        proposal = ledger._propose([b"Forge", canonical.dumps({"writes": list(writes)})])
        (peer,) = ledger._peers[RIVERSIDE]
        response = peer.ask(proposal, timeout=10).result()
        assert response.response.status == 200
        data, _ = sign_prepared(ledger._identity, proposal, assemble(proposal.signed, [response]))
        ledger.send(Envelope(proposal.tx_id, data, {}))
        return ledger.outcome(proposal.tx_id, timeout=20).validity


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    made = make(3, chaincodes={RIVERSIDE: [sys.executable, "-m", "gateway.drills.altered", "forging"]})
    yield made
    unmake(made)


@pytest.fixture(scope="module")
def keyholder(network: Network) -> Iterator[FabricLedger]:
    ledger = network.ledger("keyholder")
    args = {"model": release_args()["model"], "card": new_id(), "provider": "Helix AI", "state": "approved"}
    admin = network.ledger("admin")
    assert submit(admin, "RegisterModel", args).is_valid
    admin.close()
    yield ledger
    ledger.close()


@pytest.fixture
def forger(network: Network) -> Iterator[Forger]:
    ledger = network.ledger("admin")
    yield Forger(ledger)
    ledger.close()


@pytest.fixture
def given(keyholder: FabricLedger) -> Given:
    consent = Given()
    assert submit(keyholder, "GrantConsent", consent.args, consent.transient).is_valid
    return consent


def put(key: str, value: object) -> Json:
    return {"key": key, "value": canonical.dumps(value).decode()}


def delete(key: str) -> Json:
    return {"key": key, "value": None}


def consent_value(given: Given, **changes: object) -> Json:
    value: Json = {
        "commitment": given.commitment,
        "expires": None,
        "marks": [],
        "state": "active",
        "version": 1,
    }
    return {**value, **changes}


def test_it_cannot_grant_alone(forger: Forger) -> None:
    given = Given()
    assert forger.forge(put(f"consent/{given.id}", consent_value(given))) == REFUSED


def test_it_cannot_extend_or_delete_a_consent_alone(forger: Forger, given: Given) -> None:
    assert forger.forge(put(f"consent/{given.id}", consent_value(given, version=2))) == REFUSED
    assert forger.forge(delete(f"consent/{given.id}")) == REFUSED


@pytest.mark.parametrize("org", [LAKESIDE, TRUST])
def test_it_cannot_touch_anothers_mark(forger: Forger, given: Given, org: str) -> None:
    key = f"revoked/{given.id}/{org}"
    assert forger.forge(put(key, {"at": 1, "set": True})) == REFUSED
    assert forger.forge(delete(key)) == REFUSED
    assert forger.forge({"key": key, "value": "", "orgs": [RIVERSIDE]}) == REFUSED


def test_it_cannot_release_deliver_or_approve_alone(forger: Forger, given: Given) -> None:
    job = new_id()
    for key in (f"release/{job}/1", f"deliver/{job}", f"model/{new_id()}", "organisations"):
        assert forger.forge(put(key, {"decision": "permit"})) == REFUSED


def test_it_records_emergencies_of_its_own_alone_and_no_others(
    keyholder: FabricLedger, forger: Forger
) -> None:
    access = new_id()
    for org in (LAKESIDE, TRUST):
        key = f"emergency/{org}"
        assert forger.forge(put(key, {"open": []})) == REFUSED
        assert forger.forge(delete(key)) == REFUSED
        assert forger.forge({"key": key, "value": "", "orgs": [RIVERSIDE]}) == REFUSED
    # Nobody alone says that the rest saw it.
    assert forger.forge(put(f"access/{access}/{RIVERSIDE}", {"kind": "emergency"})) == REFUSED
    assert forger.forge(put(f"access/{access}", {"kind": "subject"})) == REFUSED
    args = {"access": access, "digest": new_id(), "expires": int(time.time()) + 3600}
    assert submit(keyholder, "EmergencyAccess", args).is_valid
    assert submit(keyholder, "CompleteEmergency", {"access": access}).is_valid
    for write in (put(f"access/{access}/{RIVERSIDE}", {}), delete(f"access/{access}/{RIVERSIDE}")):
        assert forger.forge(write) == REFUSED
    # What it can do to its own list is lose what stood there.
    assert forger.forge({"key": f"emergency/{RIVERSIDE}", "value": "who knows"}) == "VALID"
    assert submit(keyholder, "EmergencyAccess", {**args, "access": new_id()}).is_valid


def test_it_cannot_un_stop(network: Network, keyholder: FabricLedger, forger: Forger, given: Given) -> None:
    """Not even its own mark, once set: setting it raised the mark's policy to all organisations."""
    key = f"revoked/{given.id}/{RIVERSIDE}"
    assert submit(keyholder, "RevokeConsent", {"consent": given.id}).is_valid
    assert forger.forge(put(key, {"set": False})) == REFUSED
    assert forger.forge(delete(key)) == REFUSED
    assert forger.forge({"key": key, "value": "", "orgs": [RIVERSIDE]}) == REFUSED
    (mark,) = keyholder.evaluate([key])
    assert json.loads(mark or b"")["set"] is True


@pytest.mark.parametrize("how", ["garbled", "deleted"])
def test_what_it_can_do_to_its_own_unset_mark_only_stops(
    keyholder: FabricLedger, forger: Forger, given: Given, how: str
) -> None:
    key = f"revoked/{given.id}/{RIVERSIDE}"
    write = delete(key) if how == "deleted" else {"key": key, "value": "who knows"}
    assert forger.forge(write) == "VALID"
    envelope = keyholder.prepare("Release", release_args(given), with_openings(given))
    assert envelope.result["decision"] == "deny"
