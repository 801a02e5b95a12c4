"""Real Fabric networks for this folder; without Fabric's binaries its tests are skipped, visibly."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.fabric.binaries import Binaries, BinariesMissing
from deploy.fabric.network import ORGANISATIONS, Network


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    try:
        Binaries.find()
        missing = None
    except BinariesMissing:
        missing = "no Fabric binaries in FABRIC_BIN_DIR or on PATH"
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.fabric)
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


def make(organisations: int, **options: object) -> Network:
    """A network in a folder of its own that ends with this process, up and ready."""
    folder = Path(tempfile.mkdtemp(prefix="fabric-"))
    network = Network.make(folder, organisations=ORGANISATIONS[:organisations], bound=True, **options)  # type: ignore[arg-type]
    try:
        network.up()
    except BaseException:
        unmake(network)
        raise
    return network


def unmake(network: Network) -> None:
    """Take it down; its folder stays where KEEP_FABRIC is set."""
    network.down()
    if "KEEP_FABRIC" not in os.environ:
        shutil.rmtree(network.folder, ignore_errors=True)


@pytest.fixture(scope="package")
def two() -> Iterator[Network]:
    """Two organisations, both needed, shared by every test that breaks nothing."""
    network = make(2)
    yield network
    unmake(network)


@pytest.fixture
def three() -> Iterator[Network]:
    """Three organisations, two needed, for one test to break."""
    network = make(3)
    yield network
    unmake(network)
