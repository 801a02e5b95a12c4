"""A channel of fake peers that keep Fabric's rules, and a connection to it.

A file whose tests need another network has a `network` of its own; the `ledger` is the same.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.fabric.client import FabricLedger
from tests.ledger.fake_network import FakeNetwork
from tests.ledger.toy import run


@pytest.fixture
def network(tmp_path: Path) -> Iterator[FakeNetwork]:
    """Two organisations, both needed, with the toy contract."""
    with FakeNetwork(tmp_path / "network", run) as made:
        yield made


@pytest.fixture
def ledger(network: FakeNetwork) -> Iterator[FabricLedger]:
    connected = network.ledger("gateway")
    yield connected
    connected.close()
