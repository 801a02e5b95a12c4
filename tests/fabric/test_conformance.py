"""The conformance suite on a real channel of two organisations."""

from dataclasses import dataclass

import pytest

from deploy.fabric.network import Network
from ledger.client import Ledger, Trust, connect, trust
from tests.ledger.conformance import Conformance


@dataclass
class Channel:
    made: Network
    races = 30
    stop_delay = 0.12

    def __post_init__(self) -> None:
        self.orgs = sorted(self.made.organisations)

    @property
    def trust(self) -> Trust:
        found = trust(self.made.url)
        found.own = self.orgs[0]  # as whose identities this suite connects
        return found

    def connect(self, identity: str) -> Ledger:
        return connect(self.made.url, identity=f"{identity}@{self.orgs[0]}")


class TestFabric(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def network(cls, two: Network) -> Channel:
        return Channel(two)
