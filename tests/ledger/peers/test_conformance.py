"""The conformance suite on the chaincode and the Fabric client, over fake peers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.client import Ledger, Trust, connect, trust
from ledger.contract.transactions import run
from tests.ledger.conformance import Conformance
from tests.ledger.fake_network import FakeNetwork


@dataclass
class Peers:
    """A channel of fake peers, reached as a channel of real ones is."""

    made: FakeNetwork
    races = 30
    stop_delay = 0.12

    def __post_init__(self) -> None:
        self.orgs = sorted(self.made.orgs, key=lambda org: (org != self.made.orgs[0], org))

    @property
    def url(self) -> str:
        return f"fabric://{self.made.profile}"

    @property
    def trust(self) -> Trust:
        return trust(self.url)

    def connect(self, identity: str) -> Ledger:
        return connect(self.url, identity=identity)


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "single"], scope="class")
class TestPeers(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def network(cls, tmp_path_factory: pytest.TempPathFactory, batched: bool) -> Iterator[Peers]:
        folder: Path = tmp_path_factory.mktemp("peers")
        orgs = ("LakesideMSP", "RiversideMSP")
        with FakeNetwork(folder, run, orgs=orgs, batched=batched) as made:
            made.register()
            yield Peers(made)
