"""A network that was taken down comes up ready: what `up` returned from takes a transaction at once."""

from collections.abc import Iterator

import pytest

from deploy.fabric.commands import NetworkError
from deploy.fabric.network import Network
from deploy.fabric.ready import wait_until_ready
from ledger.fsck import check
from tests.fabric.conftest import make, unmake
from tests.ledger.conformance import Given, commit


@pytest.fixture
def all_needed() -> Iterator[Network]:
    """Three organisations, each needed for every grant."""
    network = make(3, needed=3)
    yield network
    unmake(network)


def test_the_first_grant_after_up_is_taken_at_once(all_needed: Network) -> None:
    """Through each organisation's own peer in turn, prepared once and without a second attempt."""
    for msp in all_needed.organisations:
        all_needed.down()
        all_needed.up()
        keyholder = all_needed.ledger("keyholder", msp)
        given = Given()
        assert commit(keyholder, keyholder.prepare("GrantConsent", given.args, given.transient)).is_valid
        keyholder.close()
    # What readiness left on the ledger is in order too.
    found = check(all_needed.url)
    assert found.good, found


def test_a_network_that_does_not_get_ready_says_who_is_missing(all_needed: Network) -> None:
    all_needed.kill("chaincode.PatientTrustMSP")
    with pytest.raises(NetworkError, match=r"PatientTrustMSP does not answer.*logs"):
        wait_until_ready(
            all_needed.organisations, all_needed.ledger, logs=all_needed.folder / "logs", seconds=2
        )
