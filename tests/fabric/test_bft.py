"""BFT ordering: four orderers, of which any one may be lost, and two lost stop everything safely.

What was ordered carries a quorum's signatures, and `fsck` misses none of them.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fabric_protos.common import common_pb2

from deploy.fabric.binaries import Binaries
from deploy.fabric.network import Network
from ledger.client import Envelope, Ledger, Outcome
from ledger.errors import LedgerError, OutcomeUnknown
from ledger.fabric.blocks import data_hash, transactions
from ledger.fabric.client import FabricLedger
from ledger.fsck import check
from tests.fabric.conftest import make, unmake
from tests.ledger.conformance import MODEL, Given, release_args, submit, with_openings

QUORUM = 3  # of four


def test_one_of_four_orderers_may_be_lost_and_two_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    if Binaries.find().version() < (3, 0):
        pytest.skip("BFT ordering needs Fabric 3")
    network = make(2, orderers=4, bft=True)
    try:
        stopped = _play(network)
        # 6. Each block carries a quorum's signatures, by this channel's own rules.
        found = check(network.url)
        assert found.good, found
        assert found.unchecked == ()
        _alter(network, stopped.block, monkeypatch)
    finally:
        unmake(network)


def _play(network: Network) -> Outcome:
    """The outcome of a stop, the last thing that was ordered."""
    keyholder, gateway = network.ledger("keyholder"), network.ledger("gateway")
    first, second, third = Given(), Given(), Given()
    # 1. Four of four: a grant, a model, a release.
    assert submit(keyholder, "GrantConsent", first.args, first.transient).is_valid
    model = {"model": MODEL, "card": MODEL, "provider": "Organization/helix", "state": "approved"}
    assert submit(gateway, "RegisterModel", model).is_valid
    assert submit(keyholder, "Release", release_args(first), with_openings(first)).is_valid
    # 2. Three of four: it goes on.
    network.kill("orderer3")
    assert _sent(keyholder, keyholder.prepare("GrantConsent", second.args, second.transient)).is_valid
    # 3. Two of four: nothing is committed, and nothing is said to be.
    network.kill("orderer2")
    waiting = [
        keyholder.prepare("GrantConsent", third.args, third.transient),
        gateway.prepare("RevokeConsent", {"consent": first.id}),
    ]
    height = keyholder.height()
    for envelope in waiting:
        try:
            keyholder.send(envelope)
        except LedgerError as error:
            assert error.code == "ledger_send_failed"  # noqa: PT017 (it may be taken as well)
    for envelope in waiting:
        with pytest.raises(OutcomeUnknown):
            keyholder.outcome(envelope.tx_id, timeout=3)
    assert keyholder.height() == height
    # 4. Back again: the stored envelopes land, once each.
    network.start("orderer2")
    network.start("orderer3")
    outcomes = [_sent(keyholder, envelope) for envelope in waiting]
    assert all(outcome.is_valid for outcome in outcomes)
    landed = [
        entry.tx_id
        for block in keyholder.blocks(height, wait=2)
        for entry in transactions(block)
        if entry.is_valid
    ]
    assert sorted(landed) == sorted(envelope.tx_id for envelope in waiting)
    # 5. Nothing of before was lost, and the stop holds.
    values = keyholder.evaluate([f"consent/{one.id}" for one in (first, second, third)])
    assert None not in values
    again = keyholder.prepare("Release", release_args(first), with_openings(first))
    assert again.result["decision"] == "deny"
    keyholder.close()
    gateway.close()
    return outcomes[1]


def _sent(ledger: Ledger, envelope: Envelope) -> Outcome:
    """As the outbox does: the same envelope, until its outcome is known."""
    ends = time.monotonic() + 300  # a view of BFT changes slowly on a machine that has other work
    while True:
        try:
            ledger.send(envelope)
            return ledger.outcome(envelope.tx_id, timeout=5)
        except LedgerError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.5)


# A block that somebody altered on its way to us


def _alter(network: Network, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quorum of signatures holds; one less, one altered, one twice or another byte does not."""
    handed_out = FabricLedger.blocks

    def verdict(change: Callable[[Any], None]) -> tuple[bool, int | None]:
        def altered(self: FabricLedger, start: int, **options: Any) -> Iterator[Any]:
            for block in handed_out(self, start, **options):
                if block.header.number == number:
                    change(block)
                yield block

        with monkeypatch.context() as patch:
            patch.setattr(FabricLedger, "blocks", altered)
            found = check(network.url)
        return found.good, found.block

    bad = (False, number)
    assert verdict(lambda block: _sign(block, lambda one: one[:QUORUM])) == (True, None)
    assert verdict(lambda block: _sign(block, lambda one: one[: QUORUM - 1])) == bad
    assert (
        verdict(lambda block: _sign(block, lambda one: [*one[: QUORUM - 1], _flipped(one[QUORUM - 1])]))
        == bad
    )
    assert verdict(lambda block: _sign(block, lambda one: [*one[: QUORUM - 1], one[0]])) == bad
    assert verdict(_another_transaction) == bad
    assert verdict(_another_header) == bad


def _sign(block: Any, change: Callable[[list[Any]], list[Any]]) -> None:
    metadata = common_pb2.Metadata.FromString(block.metadata.metadata[common_pb2.SIGNATURES])
    signatures = change(list(metadata.signatures))
    del metadata.signatures[:]
    metadata.signatures.extend(signatures)
    block.metadata.metadata[common_pb2.SIGNATURES] = metadata.SerializeToString()


def _flipped(signature: Any) -> Any:
    changed = common_pb2.MetadataSignature.FromString(signature.SerializeToString())
    changed.signature = changed.signature[:-1] + bytes([changed.signature[-1] ^ 1])
    return changed


def _another_transaction(block: Any) -> None:
    """One byte of a transaction, and the header's hash made to fit: then the orderers' signatures do not."""
    block.data.data[0] = block.data.data[0][:-1] + bytes([block.data.data[0][-1] ^ 1])
    block.header.data_hash = data_hash(block)


def _another_header(block: Any) -> None:
    block.header.previous_hash = bytes([block.header.previous_hash[0] ^ 1]) + block.header.previous_hash[1:]
