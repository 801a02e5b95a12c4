"""The Fabric client on a channel of fake peers: each step's faults, events, keys with their own policies."""

import json
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from fabric_protos.common import common_pb2

from ledger import outbox
from ledger.chaincode import Contract
from ledger.client import Envelope, Event
from ledger.contract.errors import Refused
from ledger.contract.state import Endorsers, Json, Result, State, Transaction
from ledger.errors import LedgerError, OutcomeUnknown, PrepareError, SendError
from ledger.fabric import blocks, client
from ledger.fabric.client import FabricLedger
from ledger.fabric.profile import Profile
from tests.ledger.fake_network import ORGANISATIONS, FakeNetwork
from tests.ledger.toy import run


def commit(ledger: FabricLedger, envelope: Envelope) -> str:
    ledger.send(envelope)
    return ledger.outcome(envelope.tx_id, timeout=5).validity


def put(ledger: FabricLedger, key: str, value: str = "v") -> str:
    return commit(ledger, ledger.prepare("Put", {"key": key, "value": value}))


# Prepare


def test_an_envelope_is_endorsed_by_as_many_as_are_needed(ledger: FabricLedger) -> None:
    put(ledger, "a")
    block = next(iter(ledger.blocks(1, wait=0.3)))
    (entry,) = blocks.transactions(block)
    assert sorted(entry.endorsers) == sorted(ORGANISATIONS[:2])
    assert (entry.creator, entry.validity) == ("RiversideMSP", "VALID")
    assert entry.args[0] == b"Put"
    assert [(write.key, write.value) for write in entry.writes] == [("a", b"v")]


def test_without_the_other_organisation_nothing_is_endorsed(
    network: FakeNetwork, ledger: FabricLedger
) -> None:
    network.away.add("LakesideMSP")
    with pytest.raises(PrepareError):
        ledger.prepare("Put", {"key": "a", "value": "v"})
    network.away.clear()
    assert put(ledger, "a") == "VALID"


def test_without_our_own_peer_nothing_is_endorsed(network: FakeNetwork, ledger: FabricLedger) -> None:
    network.away.add("RiversideMSP")
    with pytest.raises(PrepareError):
        ledger.prepare("Put", {"key": "a", "value": "v"})
    with pytest.raises(LedgerError):
        ledger.evaluate(["a"])
    with pytest.raises(LedgerError):
        ledger.height()


def _refusing(state: State, tx: Transaction) -> Result:
    raise Refused("no", "Not here.")


def _other(state: State, tx: Transaction) -> Result:
    return run(
        state, Transaction(tx.name, {**tx.args, "value": "altered"}, tx.tx_id, tx.time, tx.org, tx.role)
    )


@pytest.mark.parametrize("altered", [_refusing, _other])
def test_another_organisations_refusal_or_other_result_is_retried_and_not_final(
    tmp_path: Path, altered: Contract
) -> None:
    network = FakeNetwork(tmp_path, run, runs={"LakesideMSP": altered})
    ledger = network.ledger("gateway")
    with pytest.raises(PrepareError):
        ledger.prepare("Put", {"key": "a", "value": "v"})
    ledger.close()
    network.close()


@pytest.mark.parametrize("what", ["args", "result"])
def test_a_peer_that_prepares_another_transaction_gets_no_signature(
    network: FakeNetwork, ledger: FabricLedger, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The Gateway assembles what we sign: another input, header or endorsed proposal is not signed."""
    from tests.ledger import fake_network, fake_peer

    other = network.ledger("gateway")
    assemble = fake_peer.assemble
    kept = []

    def swap(signed: object, responses: list[object]) -> object:
        kept.append((signed, responses))
        first = kept[0]
        return assemble(*first) if what == "args" else assemble(signed, first[1])

    monkeypatch.setattr(fake_network, "assemble", swap)
    other.prepare("Put", {"key": "a", "value": "first"})
    with pytest.raises(PrepareError):
        other.prepare("Put", {"key": "a", "value": "second"})
    other.close()


# Send and outcome


def test_an_orderer_that_is_away_leaves_the_envelope_to_be_sent_again(
    network: FakeNetwork, ledger: FabricLedger
) -> None:
    envelope = ledger.prepare("Put", {"key": "a", "value": "v"})
    network.orderer_away = True
    with pytest.raises(SendError):
        ledger.send(envelope)
    with pytest.raises(OutcomeUnknown):
        ledger.outcome(envelope.tx_id, timeout=0.2)
    network.orderer_away = False
    assert commit(ledger, envelope) == "VALID"


def test_the_same_envelope_four_times_changes_the_state_once(
    network: FakeNetwork, ledger: FabricLedger
) -> None:
    put(ledger, "counter", "5")
    envelope = ledger.prepare("Add", {"key": "counter"})
    for _ in range(4):
        ledger.send(envelope)
    assert ledger.outcome(envelope.tx_id, timeout=5).validity == "VALID"
    assert ledger.evaluate(["counter"]) == [b"6"]
    found = [entry.validity for block in ledger.blocks(2, wait=0.3) for entry in blocks.transactions(block)]
    assert found == ["VALID", "DUPLICATE_TXID", "DUPLICATE_TXID", "DUPLICATE_TXID"]


def test_orderers_that_refuse_what_they_ordered_do_not_hide_its_outcome(
    network: FakeNetwork, ledger: FabricLedger
) -> None:
    """BFT: sent, ordered, its outcome never heard. Then it is sent again for as long as it takes."""
    network.refuses_copies = True
    ours = network.peers["RiversideMSP"]
    envelope = ledger.prepare("Put", {"key": "a", "value": "v"})
    ours.cut_off = True
    ledger.send(envelope)
    with pytest.raises(SendError):  # our peer cannot tell a refused copy from an orderer that is away
        ledger.send(envelope)
    ours.cut_off = False
    network.deliver()
    assert commit(ledger, envelope) == "VALID"


def test_what_our_peer_has_not_seen_is_unknown_and_later_known(
    network: FakeNetwork, ledger: FabricLedger
) -> None:
    network.hold = True
    envelope = ledger.prepare("Put", {"key": "a", "value": "v"})
    ledger.send(envelope)
    with pytest.raises(OutcomeUnknown):
        ledger.outcome(envelope.tx_id, timeout=0.2)
    network.cut()
    outcome = ledger.outcome(envelope.tx_id, timeout=5)
    assert (outcome.validity, outcome.block) == ("VALID", 1)


def test_a_status_that_never_comes_is_looked_up_in_the_blocks(
    ledger: FabricLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.fabric.gateway import Failure, Peer

    envelope = ledger.prepare("Put", {"key": "a", "value": "v"})
    commit(ledger, envelope)

    def gone(*_: object, **__: object) -> tuple[str, int]:
        import grpc

        raise Failure(grpc.StatusCode.DEADLINE_EXCEEDED, [])

    monkeypatch.setattr(Peer, "commit_status", gone)
    outcome = ledger.outcome(envelope.tx_id, timeout=0.1)
    assert (outcome.validity, outcome.block) == ("VALID", 1)


def test_of_two_that_read_one_key_in_one_block_the_second_conflicts(
    network: FakeNetwork, ledger: FabricLedger
) -> None:
    put(ledger, "counter", "5")
    network.hold = True
    first, second = (ledger.prepare("Add", {"key": "counter"}) for _ in range(2))
    ledger.send(first)
    ledger.send(second)
    network.cut()
    assert ledger.outcome(first.tx_id, timeout=5).validity == "VALID"
    assert ledger.outcome(second.tx_id, timeout=5).validity == "MVCC_READ_CONFLICT"
    assert ledger.evaluate(["counter"]) == [b"6"]


# Keys with a policy of their own


def _guarding(state: State, tx: Transaction) -> Result:
    if tx.name == "Guard":
        state.put("mark", b"unset")
        state.require("mark", Endorsers(1, (tx.args["org"],)))
    elif tx.name == "Set":
        state.put("mark", b"set")
        state.require("mark", Endorsers(2, ORGANISATIONS[:2]))
    else:
        state.put("mark", b"cleared")
    return Result({})


def test_a_mark_is_set_by_its_organisation_alone_and_then_cleared_by_none_alone(tmp_path: Path) -> None:
    network = FakeNetwork(tmp_path, _guarding)
    ledger = network.ledger("gateway")
    assert commit(ledger, ledger.prepare("Guard", {"org": "RiversideMSP"})) == "VALID"
    network.away.add("LakesideMSP")
    assert commit(ledger, ledger.prepare("Set", {})) == "VALID"
    with pytest.raises(PrepareError):
        ledger.prepare("Clear", {})
    assert ledger.evaluate(["mark"]) == [b"set"]
    ledger.close()
    network.close()


def test_an_organisation_cannot_write_anothers_mark_alone(tmp_path: Path) -> None:
    network = FakeNetwork(tmp_path, _guarding)
    ledger = network.ledger("gateway")
    assert commit(ledger, ledger.prepare("Guard", {"org": "LakesideMSP"})) == "VALID"
    network.away.add("LakesideMSP")
    with pytest.raises(PrepareError):
        ledger.prepare("Set", {})
    ledger.close()
    network.close()


# Events and blocks


def test_events_go_on_after_the_checkpoint(network: FakeNetwork, ledger: FabricLedger) -> None:
    network.hold = True
    envelopes = [ledger.prepare("Put", {"key": key, "value": "v"}) for key in "abc"]
    for envelope in envelopes:
        ledger.send(envelope)
    network.cut()
    network.hold = False
    put(ledger, "d")
    places = [(event.block, event.index) for event in ledger.events((-1, -1), wait=0.3)]
    assert places == [(1, 0), (1, 1), (1, 2), (2, 0)]
    keys = [event.payload["key"] for event in ledger.events((1, 1), wait=0.3)]
    assert keys == ["c", "d"]
    assert list(ledger.events((2, 0), wait=0.1)) == []


def test_a_peer_that_keeps_blocks_back_is_not_taken_for_the_end(
    network: FakeNetwork, ledger: FabricLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(ledger, "a")
    monkeypatch.setattr(client, "STALL_SECONDS", 0.3)
    network.mute = True
    with pytest.raises(LedgerError) as raised:
        list(ledger.events((-1, -1), wait=0.05))
    assert raised.value.code == "ledger_blocks_missing"
    network.mute = False
    assert len(list(ledger.events((-1, -1), wait=0.05))) == 1


@pytest.mark.django_db
def test_who_could_not_read_the_blocks_has_not_caught_up(
    network: FakeNetwork, ledger: FabricLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(ledger, "a")
    monkeypatch.setattr(client, "STALL_SECONDS", 0.3)
    heard: list[Event] = []
    handlers = {"Put": heard.append}
    network.mute = True
    with pytest.raises(LedgerError):
        outbox.follow(ledger, listener="test", handlers=handlers, wait=0.05)
    lately = timedelta(minutes=1)
    assert not outbox.is_caught_up("test", height=ledger.height(), within=lately)
    network.mute = False
    assert outbox.follow(ledger, listener="test", handlers=handlers, wait=0.05) == 1
    assert outbox.is_caught_up("test", height=ledger.height(), within=lately)


def test_events_of_invalid_transactions_are_not_told(network: FakeNetwork, ledger: FabricLedger) -> None:
    put(ledger, "a")
    network.hold = True
    first, second = (ledger.prepare("Put", {"key": "a", "value": value}) for value in "xy")
    ledger.send(first)
    ledger.send(second)
    network.cut()
    told = [event.tx_id for event in ledger.events((1, 0), wait=0.3)]
    assert told == [first.tx_id]


def test_blocks_are_chained(ledger: FabricLedger) -> None:
    for key in "abc":
        put(ledger, key)
    chain = list(ledger.blocks(0, wait=0.3))
    assert [block.header.number for block in chain] == [0, 1, 2, 3]
    for before, block in pairwise(chain):
        assert block.header.previous_hash == blocks.header_hash(before)
        assert block.header.data_hash == blocks.data_hash(block)


def test_the_evidence_of_a_transaction_is_its_block(ledger: FabricLedger) -> None:
    import base64

    envelope = ledger.prepare("Put", {"key": "a", "value": "v"})
    commit(ledger, envelope)
    evidence = ledger.evidence(envelope.tx_id)
    block = common_pb2.Block.FromString(base64.b64decode(evidence["block"]))
    (entry,) = blocks.transactions(block)
    assert (evidence["kind"], evidence["position"], entry.tx_id) == ("fabric", 0, envelope.tx_id)
    with pytest.raises(LedgerError):
        ledger.evidence("00" * 32)


# The profile


def _without(profile: Json, *path: str) -> Json:
    copied: Json = json.loads(json.dumps(profile))
    at = copied
    for name in path[:-1]:
        at = at[name]
    del at[path[-1]]
    return copied


@pytest.mark.parametrize(
    "path", [("channel",), ("needed",), ("organisations",), ("organisations", "LakesideMSP", "roots")]
)
def test_a_profile_that_lacks_something_is_refused(network: FakeNetwork, path: tuple[str, ...]) -> None:
    changed = _without(json.loads(network.profile.read_text()), *path)
    network.profile.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="connection profile"):
        Profile.load(network.profile)


@pytest.mark.parametrize("needed", [0, 3, -1])
def test_a_profile_that_needs_nobody_or_more_than_there_are_is_refused(
    network: FakeNetwork, needed: int
) -> None:
    profile = json.loads(network.profile.read_text())
    network.profile.write_text(json.dumps({**profile, "needed": needed}))
    with pytest.raises(ValueError, match="needed"):
        Profile.load(network.profile)


def test_an_identity_that_the_profile_does_not_name_is_refused(network: FakeNetwork) -> None:
    with pytest.raises(ValueError, match="no identity"):
        network.ledger("nobody")
