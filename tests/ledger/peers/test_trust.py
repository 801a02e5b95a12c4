"""Proofs from m organisations: what holds, and each way in which an answer does not."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from deploy.fabric.pki import Authority
from ledger.client import Answer, Proof
from ledger.errors import LedgerError, ProofError
from ledger.fabric.client import FabricLedger
from ledger.fabric.profile import Profile
from ledger.fabric.trust import FabricTrust
from tests.ledger.fake_network import ORGANISATIONS, FakeNetwork
from tests.ledger.toy import run

NONCE = b"n" * 32
KEYS = ["a", "missing"]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[FakeNetwork]:
    """Three organisations, two needed, and `a` = one in block 1."""
    with FakeNetwork(tmp_path, run, orgs=ORGANISATIONS) as made:
        ledger = made.ledger("gateway")
        put(ledger, "a", "one")
        ledger.close()
        yield made


@pytest.fixture
def trust(network: FakeNetwork) -> FabricTrust:
    return FabricTrust.from_profile(network.profile)


def put(ledger: FabricLedger, key: str, value: str) -> None:
    envelope = ledger.prepare("Put", {"key": key, "value": value})
    ledger.send(envelope)
    assert ledger.outcome(envelope.tx_id, timeout=5).is_valid


def test_every_organisation_answers_and_each_holds(ledger: FabricLedger, trust: FabricTrust) -> None:
    readings = trust.check(ledger.read(KEYS, nonce=NONCE), keys=KEYS, nonce=NONCE)
    assert {reading.org for reading in readings} == set(ORGANISATIONS)
    for reading in readings:
        assert reading.values == {"a": b"one", "missing": None}
        assert (reading.height, reading.blocks) == (2, {"a": 1})


def test_an_absent_peer_is_survived_and_two_are_not(
    network: FakeNetwork, ledger: FabricLedger, trust: FabricTrust
) -> None:
    network.away.add("LakesideMSP")
    assert len(trust.check(ledger.read(KEYS, nonce=NONCE), keys=KEYS, nonce=NONCE)) == 2
    network.away.add("PatientTrustMSP")
    with pytest.raises(ProofError, match="1 organisations"):
        trust.check(ledger.read(KEYS, nonce=NONCE), keys=KEYS, nonce=NONCE)
    network.away.add("RiversideMSP")
    with pytest.raises(LedgerError):
        ledger.read(KEYS, nonce=NONCE)


def test_a_peer_that_hangs_is_left_out_before_the_answers_grow_old(
    network: FakeNetwork, ledger: FabricLedger, trust: FabricTrust, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.read(KEYS, nonce=NONCE)  # connected
    peer = network.peers["LakesideMSP"]
    endorse = peer.endorse

    def slowly(signed: object) -> object:
        time.sleep(2)
        return endorse(signed)

    monkeypatch.setattr(peer, "endorse", slowly)
    before = time.monotonic()
    proof = ledger.read(KEYS, nonce=NONCE)
    assert time.monotonic() - before < 1
    assert {reading.org for reading in trust.check(proof, keys=KEYS, nonce=NONCE)} == {
        "RiversideMSP",
        "PatientTrustMSP",
    }


def test_a_stale_peer_shows_its_lower_height_and_the_older_state(
    network: FakeNetwork, ledger: FabricLedger, trust: FabricTrust
) -> None:
    network.peers["LakesideMSP"].cut_off = True
    put(ledger, "a", "two")
    readings = {r.org: r for r in trust.check(ledger.read(KEYS, nonce=NONCE), keys=KEYS, nonce=NONCE)}
    stale = readings.pop("LakesideMSP")
    assert (stale.height, stale.values["a"], stale.blocks) == (2, b"one", {"a": 1})
    assert all((r.height, r.values["a"], r.blocks) == (3, b"two", {"a": 2}) for r in readings.values())


def _changed(answer: Answer, part: str, name: str, data: bytes) -> Answer:
    bundle = json.loads(answer.payload)
    bundle[part][name] = base64.b64encode(data).decode()
    return replace(answer, payload=json.dumps(bundle).encode())


def _field(answer: Answer, part: str, name: str) -> bytes:
    return base64.b64decode(json.loads(answer.payload)[part][name])


def broken(proof: Proof, fault: str, other: Proof) -> list[Answer]:
    """The answers, all but one organisation's, each with the same fault."""
    answers, others = list(proof.answers), {answer.org: answer for answer in other.answers}
    made = []
    for answer in answers[1:]:
        state = _field(answer, "state", "answer")
        changed = {
            "a flipped byte of the values": _changed(
                answer, "state", "answer", state.replace(b"b25l", b"b25m")
            ),
            "a flipped byte of the signature": replace(
                answer, signature=answer.signature[:-1] + bytes([answer.signature[-1] ^ 1])
            ),
            "another organisation's name": replace(answer, org="SomeoneMSP"),
            "our own name": replace(answer, org=answers[0].org),
            "another signer": replace(answer, signer=answers[0].signer),
            "another answer's height": _changed(
                answer, "height", "answer", _field(others[answer.org], "height", "answer")
            ),
            "another nonce": others[answer.org],
            "a height from another peer": replace(
                answer,
                payload=json.dumps(
                    {
                        "height": json.loads(answers[0].payload)["height"],
                        "state": json.loads(answer.payload)["state"],
                    }
                ).encode(),
            ),
            "no JSON": replace(answer, payload=b"{"),
            "nothing": replace(answer, payload=b""),
            "deep JSON": replace(answer, payload=b"[" * 100_000),
            "other JSON": replace(answer, payload=b'{"height":1,"state":[]}'),
            "no certificate": replace(answer, signer=b"\x0a\x02hi"),
            "no protobuf": _changed(answer, "state", "proposal", b"\xff\xff"),
        }
        assert changed[fault] != answer
        made.append(changed[fault])
    return [answers[0], *made]


FAULTS = [
    "a flipped byte of the values",
    "a flipped byte of the signature",
    "another organisation's name",
    "our own name",
    "another signer",
    "another answer's height",
    "another nonce",
    "a height from another peer",
    "no JSON",
    "nothing",
    "deep JSON",
    "other JSON",
    "no certificate",
    "no protobuf",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_with_a_fault_counts_for_nothing(
    ledger: FabricLedger, trust: FabricTrust, fault: str
) -> None:
    proof, other = ledger.read(KEYS, nonce=NONCE), ledger.read(KEYS, nonce=b"m" * 32)
    answers = broken(proof, fault, other)
    with pytest.raises(ProofError):
        trust.check(replace(proof, answers=tuple(answers)), keys=KEYS, nonce=NONCE)
    # One whole answer more, and enough hold.
    enough = (*answers, proof.answers[1])
    assert len(trust.check(replace(proof, answers=enough), keys=KEYS, nonce=NONCE)) == 2


def test_one_organisation_counts_once(ledger: FabricLedger, trust: FabricTrust) -> None:
    proof = ledger.read(KEYS, nonce=NONCE)
    with pytest.raises(ProofError):
        trust.check(replace(proof, answers=(proof.answers[0],) * 3), keys=KEYS, nonce=NONCE)


@pytest.mark.parametrize("keys", [["a"], ["missing", "a"], ["a", "missing", "b"], ["a", "other"]])
def test_an_answer_to_other_keys_does_not_hold(
    ledger: FabricLedger, trust: FabricTrust, keys: list[str]
) -> None:
    with pytest.raises(ProofError):
        trust.check(ledger.read(KEYS, nonce=NONCE), keys=keys, nonce=NONCE)


def test_an_answer_of_another_chaincode_or_channel_does_not_hold(
    network: FakeNetwork, ledger: FabricLedger
) -> None:
    proof = ledger.read(KEYS, nonce=NONCE)
    profile = Profile.load(network.profile)
    for other in (replace(profile, channel="other"), replace(profile, chaincode="other")):
        trust = FabricTrust(other)
        with pytest.raises(ProofError):
            trust.check(proof, keys=KEYS, nonce=NONCE)


def test_a_certificate_counts_on_the_days_that_it_is_valid(
    network: FakeNetwork, ledger: FabricLedger
) -> None:
    proof = ledger.read(KEYS, nonce=NONCE)
    profile = Profile.load(network.profile)
    now, year = time.time(), 366 * 86400
    for moment in (now - year, now + year):
        with pytest.raises(ProofError, match="expired"):
            FabricTrust(profile, clock=partial(float, moment)).check(proof, keys=KEYS, nonce=NONCE)
    # Kept with its release, the proof verifies again at the moment that it was made.
    assert len(FabricTrust(profile, clock=lambda: now).check(proof, keys=KEYS, nonce=NONCE)) == 3


def test_a_root_that_is_not_pinned_does_not_count(network: FakeNetwork, ledger: FabricLedger) -> None:
    """Whoever can make certificates with our names still is not who we pinned."""
    proof = ledger.read(KEYS, nonce=NONCE)
    profile = Profile.load(network.profile)
    stranger = Authority.make("ca.LakesideMSP").pem
    others = {
        name: replace(organisation, roots=(stranger,)) if name != "RiversideMSP" else organisation
        for name, organisation in profile.organisations.items()
    }
    with pytest.raises(ProofError, match="pinned root"):
        FabricTrust(replace(profile, organisations=others)).check(proof, keys=KEYS, nonce=NONCE)


def test_a_client_of_an_organisation_does_not_speak_for_it(network: FakeNetwork) -> None:
    """Only peers' certificates count: a keyholder's own key cannot prove what it wants to open."""
    client = Profile.load(network.profile).identity("keyholder@LakesideMSP")
    network.peers["LakesideMSP"].identity = client
    other = Profile.load(network.profile).identity("keyholder@PatientTrustMSP")
    network.peers["PatientTrustMSP"].identity = other
    ledger = network.ledger("keyholder")
    with pytest.raises(ProofError, match="not a peer"):
        FabricTrust.from_profile(network.profile).check(
            ledger.read(KEYS, nonce=NONCE), keys=KEYS, nonce=NONCE
        )
    ledger.close()


def test_a_chaincode_that_answers_what_it_did_not_read_is_found_out(tmp_path: Path) -> None:
    """The read set is the peer's, the payload the chaincode's: they must agree on what exists."""
    from ledger import chaincode

    network = FakeNetwork(tmp_path, run, orgs=ORGANISATIONS)
    ledger = network.ledger("gateway")
    put(ledger, "a", "one")
    read = chaincode.read

    def lying(stub: object, args: object) -> dict[str, object]:
        answer = read(stub, args)  # type: ignore[arg-type]
        return {"values": list(reversed(answer["values"]))}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chaincode, "read", lying)
        proof = ledger.read(KEYS, nonce=NONCE)
    with pytest.raises(ProofError, match="not what was read"):
        FabricTrust.from_profile(network.profile).check(proof, keys=KEYS, nonce=NONCE)
    ledger.close()
    network.close()


def test_a_proof_of_another_kind_is_refused(ledger: FabricLedger, trust: FabricTrust) -> None:
    proof = ledger.read(KEYS, nonce=NONCE)
    with pytest.raises(ProofError):
        trust.check(replace(proof, kind="embedded"), keys=KEYS, nonce=NONCE)
