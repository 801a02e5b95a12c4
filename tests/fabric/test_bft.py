"""BFT ordering: four orderers, of which any one may be lost, and two lost stop everything safely."""

import time

import pytest

from deploy.fabric.binaries import Binaries
from deploy.fabric.network import Network
from ledger.client import Envelope, Ledger, Outcome
from ledger.errors import LedgerError, OutcomeUnknown
from ledger.fsck import check
from tests.fabric.conftest import make, unmake
from tests.ledger.conformance import Given, commit


def test_one_of_four_orderers_may_be_lost_and_two_lose_nothing() -> None:
    if Binaries.find().version() < (3, 0):
        pytest.skip("BFT ordering needs Fabric 3")
    network = make(2, orderers=4, bft=True)
    try:
        _play(network)
    finally:
        unmake(network)


def _play(network: Network) -> None:
    keyholder = network.ledger("keyholder")
    first, second, third = Given(), Given(), Given()
    # 1. Four of four.
    assert commit(keyholder, keyholder.prepare("GrantConsent", first.args, first.transient)).is_valid
    # 2. Three of four: it goes on.
    network.kill("orderer3")
    assert commit(keyholder, keyholder.prepare("GrantConsent", second.args, second.transient)).is_valid
    # 3. Two of four: nothing is committed, and nothing is said to be.
    network.kill("orderer2")
    envelope = keyholder.prepare("GrantConsent", third.args, third.transient)
    try:
        keyholder.send(envelope)
    except LedgerError as error:
        assert error.code == "ledger_send_failed"  # noqa: PT017 (it may be taken as well)
    with pytest.raises(OutcomeUnknown):
        keyholder.outcome(envelope.tx_id, timeout=3)
    # 4. Back again: the stored envelope lands, once.
    network.start("orderer2")
    network.start("orderer3")
    outcome = _resent(keyholder, envelope)
    assert outcome.is_valid
    values = keyholder.evaluate([f"consent/{one.id}" for one in (first, second, third)])
    assert None not in values
    keyholder.close()
    # 5. Each block carries a quorum's signatures, by this channel's own rules.
    found = check(network.url)
    assert found.good, found


def _resent(ledger: Ledger, envelope: Envelope) -> Outcome:
    """As the outbox does: the same envelope, until its outcome is known."""
    ends = time.monotonic() + 120
    while True:
        try:
            ledger.send(envelope)
            return ledger.outcome(envelope.tx_id, timeout=5)
        except LedgerError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.5)
