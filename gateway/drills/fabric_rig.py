"""A Fabric network on loopback and a keyholder on it, for drills; it ends with the drill."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deploy.fabric.config import HOST, write_json
from deploy.fabric.network import CHAINCODE, ORDERER_MSP, ORGANISATIONS, Network, fabric_name
from deploy.fabric.processes import free_ports
from gateway.drills import evidence
from gateway.drills.history import Write
from gateway.drills.rig import Rig, eventually, folder
from ledger.client import HOME
from ledger.fabric import blocks
from ledger.fabric.client import FabricLedger
from ledger.fabric.profile import Profile

OWN, *OTHERS = ORGANISATIONS


class FabricRig(Rig):
    """Names of processes: `keyholder`, `orderer0`, `peer.<org>`, `chaincode.<org>`."""

    kind = "fabric"
    ledger_name = "orderer0"
    killable = ("orderer0", *(f"{kind}.{org}" for org in ORGANISATIONS for kind in ("peer", "chaincode")))

    def __init__(self, home: Path, network: Network) -> None:
        self.network = network
        super().__init__(home, network.urls)
        try:
            self.start_keyholder()
            self.furnish()
        except BaseException:
            self.processes.stop_all()
            raise

    def kill(self, name: str) -> None:
        if name == "keyholder":
            super().kill(name)
        else:
            self.network.kill(name)

    def start(self, name: str) -> None:
        if name == "keyholder":
            super().start(name)
        else:
            self.network.start(name)

    def pause(self, name: str) -> None:
        if name == "keyholder":
            super().pause(name)
        else:
            self.network.processes.signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        if name == "keyholder":
            super().resume(name)
        else:
            self.network.processes.signal(name, signal.SIGCONT)

    def lose(self, channel: str) -> None:
        self._everywhere("pause", channel)

    def find(self, channel: str) -> None:
        self._everywhere("resume", channel)

    def _everywhere(self, verb: str, channel: str) -> None:
        """`peer node pause|resume` of one channel on every peer, each restarted for it."""
        for org, node in self.network.settings.peers.items():
            name = f"peer.{org}"
            self.kill(name)
            environment = {"FABRIC_CFG_PATH": str(self.network.folder / "nodes" / node.name)}
            self.network.commands.run(["peer", "node", verb, "-c", fabric_name(channel)], environment)
            self.start(name)

    def ledger(self, identity: str = "gateway", *, ahead: float = 0.0, channel: str = HOME) -> FabricLedger:
        profile = Profile.load(self.network.profile_of(channel))
        return FabricLedger(profile, profile.identity(identity), clock=lambda: time.time() + ahead)

    def writes(self, channel: str = HOME) -> list[Write]:
        return list(evidence.fabric_writes(self._blocks(channel), chaincode=CHAINCODE))

    def transactions(self) -> list[tuple[str, str]]:
        found = [entry for block in self._blocks() for entry in blocks.transactions(block)]
        return [(entry.tx_id, entry.validity) for entry in found]

    def _blocks(self, channel: str = HOME) -> list[Any]:
        """Every block that our own peer has."""
        ledger = self.ledger("gateway", channel=channel)
        try:
            return eventually(lambda: list(ledger.blocks(0, wait=1)))
        finally:
            ledger.close()

    def isolate(self, org: str) -> None:
        """Restart an organisation's peer so that the way to every orderer ends at a port where nobody is."""
        (port,) = free_ports(1)
        roots = str(self.network.folder / "crypto" / ORDERER_MSP / "tlsca.pem")
        self._override(
            org,
            [
                {"from": node.address, "to": f"{HOST}:{port}", "caCertsFile": roots}
                for node in self.network.settings.orderers
            ],
        )

    def reconnect(self, org: str) -> None:
        """Undo `isolate`."""
        self._override(org, [])

    def _override(self, org: str, addresses: list[dict[str, str]]) -> None:
        name = f"peer.{org}"
        self.kill(name)
        path = self.network.folder / "nodes" / name / "core.yaml"
        core = json.loads(path.read_text())
        core["peer"]["deliveryclient"]["addressOverrides"] = addresses
        write_json(path, core)
        self.start(name)


@contextmanager
def fabric(
    say: Callable[[str], None] = lambda _: None,
    *,
    organisations: int = 3,
    chaincodes: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> Iterator[FabricRig]:
    """A network of so many organisations, a majority needed, up and ready. Raises BinariesMissing."""
    with folder() as home:
        network = Network.make(
            home / "network",
            organisations=ORGANISATIONS[:organisations],
            bound=True,
            chaincodes=chaincodes,
            **options,
        )
        try:
            network.up(say)
            with FabricRig(home, network) as rig:
                assert isinstance(rig, FabricRig)
                yield rig
        finally:
            with suppress(ProcessLookupError):
                network.down()
