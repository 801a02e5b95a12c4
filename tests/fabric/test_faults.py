"""Faults of a real network: peers, orderers and chaincode killed or hung; nothing lost, nothing twice."""

import secrets
import signal
import time
from collections.abc import Callable

import pytest

from deploy.fabric.network import Network
from ledger.client import Envelope, Outcome, trust
from ledger.errors import LedgerError, OutcomeUnknown, PrepareError, ProofError, SendError
from ledger.fabric import blocks
from ledger.fabric.client import FabricLedger
from tests.ledger.conformance import Given, submit

OTHERS = ("LakesideMSP", "PatientTrustMSP")


def eventually(attempt: Callable[[], Outcome], seconds: float = 30) -> Outcome:
    """Repeat what a task would repeat, until it is done."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except LedgerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def grant(ledger: FabricLedger) -> Given:
    given = Given()

    def attempt() -> Outcome:
        return submit(ledger, "GrantConsent", given.args, given.transient)

    assert eventually(attempt).is_valid
    return given


def test_a_stop_needs_no_other_organisation(three: Network) -> None:
    """With both other organisations gone a stop lands, a grant does not; they catch up when they are back."""
    keyholder, gateway = three.ledger("keyholder"), three.ledger("gateway")
    given = grant(keyholder)
    for org in OTHERS:
        three.kill(f"peer.{org}")
    assert eventually(lambda: submit(gateway, "RevokeConsent", {"consent": given.id})).is_valid
    other = Given()
    with pytest.raises(PrepareError):
        keyholder.prepare("GrantConsent", other.args, other.transient)
    for org in OTHERS:
        three.start(f"peer.{org}")
    key = f"revoked/{given.id}/RiversideMSP"
    deadline = time.monotonic() + 30
    while True:
        nonce = secrets.token_bytes(32)
        try:
            readings = trust(three.url).check(keyholder.read([key], nonce=nonce), keys=[key], nonce=nonce)
        except LedgerError:
            readings = []
        seen = [reading.org for reading in readings if b'"set":true' in (reading.values[key] or b"")]
        if len(seen) == 3:
            break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    grant(keyholder)
    keyholder.close()
    gateway.close()


def test_a_proof_survives_one_peer_killed_or_hung_and_not_two(three: Network) -> None:
    keyholder = three.ledger("keyholder")
    given = grant(keyholder)
    keys, believed = [f"consent/{given.id}"], trust(three.url)

    def proven() -> set[str]:
        nonce, before = secrets.token_bytes(32), time.monotonic()
        proof = keyholder.read(keys, nonce=nonce)
        assert time.monotonic() - before < 1  # older answers would not be believed
        return {reading.org for reading in believed.check(proof, keys=keys, nonce=nonce)}

    assert proven() == {"RiversideMSP", *OTHERS}
    three.processes.signal("peer.LakesideMSP", signal.SIGSTOP)
    assert proven() == {"RiversideMSP", "PatientTrustMSP"}
    three.kill("peer.PatientTrustMSP")
    with pytest.raises(ProofError):
        proven()
    three.processes.signal("peer.LakesideMSP", signal.SIGCONT)
    keyholder.close()


def test_one_envelope_four_times_counts_once(two: Network) -> None:
    keyholder = two.ledger("keyholder")
    given = Given()
    envelope = keyholder.prepare("GrantConsent", given.args, given.transient)
    for _ in range(4):
        keyholder.send(envelope)
    outcome = keyholder.outcome(envelope.tx_id, timeout=20)
    assert outcome.is_valid
    seen: list[str] = []
    for block in keyholder.blocks(outcome.block, wait=1):
        seen += [one.validity for one in blocks.transactions(block) if one.tx_id == envelope.tx_id]
    # A copy in the same block is judged after the first has set its keys' own policies.
    assert (len(seen), seen[0], seen.count("VALID")) == (4, "VALID", 1)
    assert set(seen[1:]) <= {"DUPLICATE_TXID", "ENDORSEMENT_POLICY_FAILURE"}
    keyholder.close()


def test_an_orderer_killed_in_mid_flight_loses_nothing_that_is_sent_again(three: Network) -> None:
    """Its acknowledgement is not durable; the stored envelopes are. Each lands exactly once."""
    keyholder = three.ledger("keyholder")
    grant(keyholder)
    begin = keyholder.height()
    prepared: list[Envelope] = []
    for _ in range(20):
        given = Given()
        prepared.append(keyholder.prepare("GrantConsent", given.args, given.transient))
    acknowledged = 0
    for number, envelope in enumerate(prepared):
        if number == 10:
            three.kill("orderer0")
        try:
            keyholder.send(envelope)
            acknowledged += 1
        except SendError:
            pass
    assert acknowledged < 20
    with pytest.raises(OutcomeUnknown):
        keyholder.outcome(prepared[-1].tx_id, timeout=0.5)
    three.start("orderer0")

    def settle(envelope: Envelope) -> Outcome:
        keyholder.send(envelope)
        return keyholder.outcome(envelope.tx_id, timeout=5)

    for envelope in prepared:
        assert eventually(lambda envelope=envelope: settle(envelope)).is_valid  # type: ignore[misc]
    valid: list[str] = []
    for block in keyholder.blocks(begin, wait=1):
        valid += [one.tx_id for one in blocks.transactions(block) if one.is_valid]
    assert sorted(valid) == sorted(envelope.tx_id for envelope in prepared)
    keyholder.close()


def test_chaincode_killed_and_frozen_is_no_endorsement_and_then_one(three: Network) -> None:
    keyholder = three.ledger("keyholder")
    grant(keyholder)
    for org in OTHERS:
        three.kill(f"chaincode.{org}")
    given = Given()
    with pytest.raises(PrepareError):
        keyholder.prepare("GrantConsent", given.args, given.transient)
    for org in OTHERS:
        three.start(f"chaincode.{org}")
    grant(keyholder)
    keyholder.close()


def test_an_organisation_that_joins_gets_marks_of_the_consents_in_force(tmp_path: object) -> None:
    from tests.fabric.conftest import make, unmake

    network = make(2)
    try:
        keyholder = network.ledger("keyholder")
        given, stopped = grant(keyholder), grant(keyholder)
        assert submit(keyholder, "RevokeConsent", {"consent": stopped.id}).is_valid
        keyholder.close()
        network.add_organisation("PatientTrustMSP")
        theirs = network.ledger("gateway", "PatientTrustMSP")
        keys = [f"revoked/{one.id}/PatientTrustMSP" for one in (given, stopped)]
        assert theirs.evaluate(keys) == [b'{"set":false}', None]
        assert eventually(lambda: submit(theirs, "RevokeConsent", {"consent": given.id})).is_valid
        theirs.close()
    finally:
        unmake(network)
