"""fsck of a channel: whoever rewrites a block, a signature, a verdict or the state is found out."""

import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from fabric_protos.common import common_pb2
from fabric_protos.peer import transaction_pb2

from ledger.contract.transactions import run
from ledger.fabric import blocks
from ledger.fsck import Report, check
from tests.ledger.conformance import Given, new_id, submit
from tests.ledger.fake_network import ORDERER, FakeNetwork

Code = transaction_pb2.TxValidationCode


@pytest.fixture
def network(tmp_path: Path) -> Iterator[FakeNetwork]:
    """Blocks 1 and 2 register, 3 and 4 grant, 5 revokes twice (the second is not endorsed), 6 anchors."""
    made = FakeNetwork(tmp_path, run)
    made.register()
    admin, keyholder = made.ledger("admin"), made.ledger("keyholder")
    first, second = Given(), Given()
    for given in (first, second):
        assert submit(keyholder, "GrantConsent", given.args, given.transient).is_valid
    stops = [admin.prepare("RevokeConsent", {"consent": first.id}) for _ in range(2)]
    made.hold = True
    for stop in stops:
        admin.send(stop)
    made.hold = False
    made.cut()
    args = {"origin": "riverside", "previous": 0, "proof": [], "root": new_id(), "size": 3}
    assert submit(admin, "Checkpoint", args).is_valid
    admin.close()
    keyholder.close()
    yield made
    made.close()


def report(network: FakeNetwork) -> Report:
    return check(f"fabric://{network.profile}")


def chain(network: FakeNetwork) -> list[Any]:
    return network.peers["RiversideMSP"].chain


def rewrite(network: FakeNetwork, number: int, change: Callable[[Any], object], *, hashes: bool) -> None:
    """Change a block of our peer's, and put right what anyone can: the hashes from there on."""
    change(chain(network)[number])
    if hashes:
        for at in range(number, len(chain(network))):
            block = chain(network)[at]
            block.header.data_hash = blocks.data_hash(block)
            if at:
                block.header.previous_hash = blocks.header_hash(chain(network)[at - 1])


def without_orderers(network: FakeNetwork) -> None:
    profile = json.loads(network.profile.read_bytes())
    del profile["orderers"]
    network.profile.write_text(json.dumps(profile))


def test_a_whole_channel(network: FakeNetwork) -> None:
    found = report(network)
    assert (found.good, found.blocks, found.transactions) == (True, 7, 7), found
    # the organisations, their keys for emergencies, two consents with two marks each, a checkpoint
    assert found.keys == 1 + 2 + 2 * 3 + 1
    assert found.unchecked == ()


def test_without_orderers_it_says_what_it_did_not_check(network: FakeNetwork) -> None:
    without_orderers(network)
    found = report(network)
    assert found.good
    assert "who ordered the blocks" in found.unchecked[0]


def test_a_checkpoint_that_does_not_extend_the_one_before(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Organisations that run another contract endorse a log that was rewritten."""
    monkeypatch.setattr("ledger.contract.checkpoint.extends", lambda before, args: True)
    admin = network.ledger("admin")
    args = {"origin": "riverside", "previous": 3, "proof": [new_id()], "root": new_id(), "size": 4}
    assert submit(admin, "Checkpoint", args).is_valid
    admin.close()
    found = report(network)
    assert (found.good, found.block) == (False, 7)
    assert "does not extend the one before" in str(found.problem)


def edit_payload(block: Any) -> None:
    block.data.data[0] = block.data.data[0].replace(b"GrantConsent", b"GrantConsenT", 1)


@pytest.mark.parametrize("number", [1, 3, 6])
def test_a_flipped_bit_in_a_transaction(network: FakeNetwork, number: int) -> None:
    def flip(block: Any) -> None:
        data = bytearray(block.data.data[0])
        data[len(data) // 2] ^= 1
        block.data.data[0] = bytes(data)

    rewrite(network, number, flip, hashes=False)
    found = report(network)
    assert (found.good, found.block) == (False, number)
    assert "not those that its header names" in str(found.problem)


def test_hashes_that_were_put_right_lack_the_orderers_signature(network: FakeNetwork) -> None:
    rewrite(network, 3, edit_payload, hashes=True)
    found = report(network)
    assert (found.good, found.block) == (False, 3)
    assert "orderers" in str(found.problem)


def test_and_without_orderers_that_of_the_submitter(network: FakeNetwork) -> None:
    without_orderers(network)
    rewrite(network, 3, edit_payload, hashes=True)
    found = report(network)
    assert (found.good, found.block, found.problem) == (
        False, 3, "transaction 0: its submitter's signature does not hold",
    )  # fmt: skip


def test_a_block_that_does_not_follow(network: FakeNetwork) -> None:
    rewrite(network, 4, lambda block: setattr(block.header, "previous_hash", b"x" * 32), hashes=False)
    found = report(network)
    assert (found.block, found.problem) == (4, "it does not follow from the block before")


def test_a_block_that_is_gone(network: FakeNetwork) -> None:
    del chain(network)[4]
    assert report(network).block == 4


def flags(network: FakeNetwork, number: int, *codes: str) -> None:
    block = chain(network)[number]
    block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = bytes(Code.Value(code) for code in codes)


@pytest.mark.parametrize(
    ("number", "codes", "problem"),
    [
        (5, ("VALID", "VALID"), "transaction 1: it stands as valid, and read what was changed meanwhile"),
        (5, ("MVCC_READ_CONFLICT", "VALID"), "transaction 0: it stands as a conflict, and there was none"),
        (4, ("DUPLICATE_TXID",), "transaction 0: it stands as a copy, and is the first of its id"),
        (4, ("ENDORSEMENT_POLICY_FAILURE",), "transaction 0: it stands as not endorsed, and was"),
    ],
)
def test_a_verdict_that_somebody_changed(
    network: FakeNetwork, number: int, codes: tuple[str, ...], problem: str
) -> None:
    flags(network, number, *codes)
    found = report(network)
    assert (found.good, found.block) == (False, number)
    if number == 5 and codes == ("VALID", "VALID"):
        assert str(found.problem) in (problem, "transaction 1: it lacks endorsements")
    else:
        assert found.problem == problem


def test_a_transaction_that_too_few_endorsed(network: FakeNetwork) -> None:
    """A dishonest peer calls it valid; the profile says that both organisations are needed."""
    profile = json.loads(network.profile.read_bytes())
    profile["organisations"]["LakesideMSP"]["roots"] = profile["orderers"]["roots"]
    network.profile.write_text(json.dumps(profile))
    found = report(network)
    assert (found.good, found.block) == (False, 1)


def test_a_block_by_another_orderer(network: FakeNetwork) -> None:
    profile = json.loads(network.profile.read_bytes())
    profile["orderers"]["roots"] = ["crypto/RiversideMSP/ca.pem"]
    network.profile.write_text(json.dumps(profile))
    found = report(network)
    assert (found.good, found.block, found.problem) == (False, 1, "the orderers' signatures do not hold")
    assert ORDERER  # signed them


def test_a_state_that_the_blocks_do_not_lead_to(network: FakeNetwork) -> None:
    """Our peer's database has an unset mark again; its blocks say that the consent is revoked."""
    state = network.peers["RiversideMSP"]._state
    key = next(key for key in state if key.startswith("revoked/") and b'"set":true' in state[key][0])
    state[key] = (b'{"set":false}', state[key][1])
    found = report(network)
    assert (found.good, found.block) == (False, 5)
    assert "our peer answers 1 keys with another value" in str(found.problem)
    del state[key]
    assert not report(network).good


def fsck(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("fsck", *arguments, stdout=out, stderr=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_the_command(network: FakeNetwork, settings: Any) -> None:
    settings.LEDGER_URL = f"fabric://{network.profile}"
    assert fsck() == (0, "good: 7 blocks, 7 transactions, 10 keys\n")
    flags(network, 4, "DUPLICATE_TXID")
    status, text = fsck("--json")
    assert (status, json.loads(text)["block"]) == (1, 4)


def test_the_command_where_the_peer_is_away(network: FakeNetwork, settings: Any) -> None:
    settings.LEDGER_URL = f"fabric://{network.profile}"
    network.away.add("RiversideMSP")
    status, text = fsck()
    assert status == 2
    assert "ledger_unavailable" in text
    settings.LEDGER_URL = f"fabric://{network.folder / 'nowhere.json'}"
    assert fsck()[0] == 2
