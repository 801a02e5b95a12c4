"""fsck of a real channel: good after all that happened on it, and not after its peer's files were changed."""

from deploy.fabric.network import Network
from deploy.fabric.ready import wait_until_ready
from ledger.fsck import check
from tests.fabric.conftest import make, unmake
from tests.ledger.conformance import Given, commit


def test_a_whole_channel(two: Network) -> None:
    """Whatever the other tests of this folder did on it: conflicts, copies, altered chaincode."""
    found = check(two.url)
    assert found.good, found
    assert found.unchecked == ()


def test_somebody_changes_a_block_in_the_peers_files() -> None:
    network = make(2)
    try:
        keyholder, given = network.ledger("keyholder"), Given()
        outcome = commit(keyholder, keyholder.prepare("GrantConsent", given.args, given.transient))
        keyholder.close()
        assert check(network.url).good
        msp = network.organisations[0]
        network.kill(f"peer.{msp}")
        assert _rewrite(network, msp, given.commitment) == 1
        network.start(f"peer.{msp}")
        wait_until_ready(network.organisations, network.ledger, logs=network.folder / "logs")
        found = check(network.url)
        assert (found.good, found.block) == (False, outcome.block)
    finally:
        unmake(network)


def _rewrite(network: Network, msp: str, commitment: str) -> int:
    """Put another commitment into the files of the peer's blocks; in how many files it stood."""
    count = 0
    for path in network._home(network.settings.peers[msp]).rglob("blockfile*"):
        data = path.read_bytes()
        if commitment.encode() in data:
            path.write_bytes(data.replace(commitment.encode(), b"0" * 64))
            count += 1
    return count
