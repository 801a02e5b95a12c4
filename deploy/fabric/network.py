"""Channels of several organisations on loopback: made, brought up, taken down, grown by one.

Each organisation has one peer and one chaincode process of its own, on every channel; the first one is this
installation's. Everything lies in one folder: `network.json` (what it is), `crypto/`, `nodes/`, `logs/`,
`profile.json` for the channel home and `profile-<name>.json` for each other.
"""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from deploy.fabric import config, package, pki
from deploy.fabric.binaries import Binaries
from deploy.fabric.commands import READY_SECONDS, Commands, NetworkError
from deploy.fabric.config import Node
from deploy.fabric.joining import add_member
from deploy.fabric.pki import OrganisationFiles
from deploy.fabric.processes import Processes, free_ports
from deploy.fabric.ready import wait_until_ready
from ledger.channels import named
from ledger.client import HOME, Ledger
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.errors import LedgerError
from ledger.fabric.client import FabricLedger

CHANNEL = "consent"  # what Fabric calls home; others keep their name
CHAINCODE = "consentgateway"
ORDERER_MSP = "OrdererMSP"
ORGANISATIONS = ("RiversideMSP", "LakesideMSP", "PatientTrustMSP")
ROLES = ("keyholder", "gateway", "admin")
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Channel:
    """How far a channel has come: what its chaincode definition is, and who is registered in the contract."""

    sequence: int = 0
    registered: list[str] = field(default_factory=list)


@dataclass
class Settings:
    """What `network.json` keeps: enough to start the same network again."""

    needed: int
    batch_timeout: str
    bft: bool
    orderers: list[Node]
    peers: dict[str, Node]
    chaincode_ports: dict[str, int]
    version: int = 0
    channels: dict[str, Channel] = field(default_factory=lambda: {HOME: Channel()})


class Network:
    """One network in `folder`. `chaincodes` replaces an organisation's chaincode command, for drills."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        bound: bool = False,
        chaincodes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.binaries = Binaries.find()
        self.commands = Commands(self.binaries)
        self.processes = Processes(folder, bound=bound)
        self.chaincodes = dict(chaincodes or {})

    # Made and found again

    @classmethod
    def make(
        cls,
        folder: Path,
        *,
        organisations: Sequence[str] = ORGANISATIONS[:2],
        needed: int | None = None,
        orderers: int = 1,
        bft: bool = False,
        batch_timeout: str = "200ms",
        channels: Sequence[str] = (),
        bound: bool = False,
        chaincodes: Mapping[str, Sequence[str]] | None = None,
    ) -> "Network":
        """Certificates and configuration of a new network; nothing runs yet.

        `needed` organisations must endorse; a majority where it is None. `channels` are those beside home.
        """
        folder = folder.resolve()
        if (folder / "network.json").exists():
            raise NetworkError(f"There is a network in {folder} already.")
        if bft and orderers < 4:
            raise NetworkError("BFT ordering needs four orderers.")
        binaries = Binaries.find()
        if bft and binaries.version() < (3, 0):
            raise NetworkError("BFT ordering needs Fabric 3.")
        folder.mkdir(parents=True, exist_ok=True)
        ports = iter(free_ports(3 * orderers + 4 * len(organisations)))
        ordering = OrganisationFiles.make(folder / "crypto" / ORDERER_MSP, ORDERER_MSP)
        ordering.identity("admin", unit="admin", role="admin")
        nodes = []
        for number in range(orderers):
            crypto = ordering.node(f"orderer{number}", unit="orderer")
            nodes.append(
                Node(f"orderer{number}", ORDERER_MSP, str(crypto), next(ports), next(ports), next(ports))
            )
        settings = Settings(
            needed=needed or len(organisations) // 2 + 1,
            batch_timeout=batch_timeout,
            bft=bft,
            orderers=nodes,
            peers={},
            chaincode_ports={},
        )
        network = cls(folder, settings, bound=bound, chaincodes=chaincodes)
        for msp in organisations:
            network._make_member(msp, [next(ports) for _ in range(4)])
        roots = [str(ordering.folder / "tlsca.pem")]
        for node in nodes:
            config.write_orderer(binaries.config, network._home(node), node, roots)
        config.write_configtx(
            folder / "configtx" / "configtx.yaml",
            members=[network._member(msp) for msp in organisations],
            orderer_msp=ordering.folder / "msp",
            orderers=nodes,
            bft=bft,
            batch_timeout=batch_timeout,
        )
        network.add_channels(channels)
        return network

    def add_channels(self, names: Sequence[str]) -> None:
        """Channels beside home, of all the organisations; the next `up` makes them. Raises NetworkError."""
        for name in names:
            if name == CHANNEL:
                raise NetworkError(f"Fabric's name of home is {CHANNEL}. Choose another.")
            self.settings.channels.setdefault(name, Channel())
        try:
            named(self.url, {name: url for name, url in self.urls.items() if name != HOME})
        except ValueError as error:
            raise NetworkError(str(error)) from None
        self._save()

    @classmethod
    def load(cls, folder: Path, *, bound: bool = False) -> "Network":
        """Raises NetworkError where there is none."""
        folder = folder.resolve()
        try:
            raw = json.loads((folder / "network.json").read_bytes())
        except OSError:
            raise NetworkError(f"There is no network in {folder}.") from None
        raw["orderers"] = [Node(**node) for node in raw["orderers"]]
        raw["peers"] = {msp: Node(**node) for msp, node in raw["peers"].items()}
        raw["channels"] = {name: Channel(**channel) for name, channel in raw["channels"].items()}
        return cls(folder, Settings(**raw), bound=bound)

    @property
    def organisations(self) -> list[str]:
        return list(self.settings.peers)

    @property
    def profile(self) -> Path:
        """Of the channel home."""
        return self.profile_of(HOME)

    def profile_of(self, channel: str) -> Path:
        return self.folder / ("profile.json" if channel == HOME else f"profile-{channel}.json")

    @property
    def url(self) -> str:
        """What LEDGER_URL is set to."""
        return self.urls[HOME]

    @property
    def urls(self) -> dict[str, str]:
        """Every channel's URL by its name, home first."""
        return {name: f"fabric://{self.profile_of(name)}" for name in self.settings.channels}

    def ledger(self, role: str, org: str | None = None, *, channel: str = HOME) -> FabricLedger:
        """Connect as one of an organisation's identities (this installation's, if None)."""
        name = role if org is None else f"{role}@{org}"
        return FabricLedger.from_profile(self.profile_of(channel), identity=name)

    # Up and down

    def up(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Start every process; make the channels that are new, and commit the chaincode on them. Returns when
        a transaction has been endorsed by all and committed on each."""
        say("starting orderers and peers")
        for node in self.settings.orderers:
            self.start(node.name)
        for msp in self.organisations:
            self.start(f"peer.{msp}")
        new = [name for name, channel in self.settings.channels.items() if channel.sequence == 0]
        for name in new:
            say(f"making the channel {name}")
            self._make_channel(name)
            for msp in self.organisations:
                self._join(msp, name)
        if self.settings.version == 0:
            say("installing and committing the chaincode")
            self.deploy(version=1)
        else:
            for msp in self.organisations:
                self.start(f"chaincode.{msp}")
            for name in new:
                self._define(name)
        say("registering the organisations")
        self._register()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        for name in self.settings.channels:
            connect = partial(self.ledger, channel=name)
            wait_until_ready(self.organisations, connect, logs=self.folder / "logs")

    def down(self) -> None:
        """Stop every process; the folder stays, and `up` starts the same network again."""
        self.processes.stop(self.processes.names())

    def status(self) -> dict[str, bool]:
        """Whether each process runs."""
        names = [node.name for node in self.settings.orderers]
        for msp in self.organisations:
            names += [f"peer.{msp}", f"chaincode.{msp}"]
        return {name: self.processes.running(name) for name in names}

    def start(self, name: str) -> None:
        """Start one process: `orderer<n>`, `peer.<msp>` or `chaincode.<msp>`."""
        kind, _, msp = name.partition(".")
        if kind == "peer":
            environment = {"FABRIC_CFG_PATH": str(self._home(self.settings.peers[msp]))}
            self.processes.start(name, [self.binaries.path("peer"), "node", "start"], environment)
        elif kind == "chaincode":
            command = self.chaincodes.get(msp, [sys.executable, "-m", "ledger.chaincode"])
            self.processes.start(name, command, self._chaincode_environment(msp))
        else:
            node = next(node for node in self.settings.orderers if node.name == name)
            environment = {"FABRIC_CFG_PATH": str(self._home(node))}
            self.processes.start(name, [self.binaries.path("orderer")], environment)

    def kill(self, name: str) -> None:
        """End one process as a power cut would."""
        self.processes.signal(name, signal.SIGKILL)
        while self.processes.running(name):
            time.sleep(0.01)

    # The channel

    def _make_channel(self, name: str) -> None:
        channel, block = fabric_name(name), self._first_block(name)
        self.commands.run(
            ["configtxgen", "-profile", "Channel", "-channelID", channel, "-outputBlock", str(block)],
            {"FABRIC_CFG_PATH": str(self.folder / "configtx")},
        )
        for node in self.settings.orderers:
            self.commands.retry(
                [
                    "osnadmin", "channel", "join", "--channelID", channel, "--config-block", str(block),
                    "-o", f"{config.HOST}:{node.other_port}", "--ca-file", self._orderer_roots,
                    "--client-cert", f"{node.crypto}/tls.pem", "--client-key", f"{node.crypto}/tls.key",
                ],
                {},
                done="Status: 201",
            )  # fmt: skip

    def _first_block(self, name: str) -> Path:
        return self.folder / f"{fabric_name(name)}.block"

    def _join(self, msp: str, channel: str) -> None:
        self.commands.retry(
            ["peer", "channel", "join", "-b", str(self._first_block(channel))],
            self._admin(msp),
            given="already exists",
        )

    def deploy(self, *, version: int) -> None:
        """Install, approve and commit `version` of the chaincode everywhere, in place of the one before."""
        self.processes.stop([name for name in self.processes.names() if name.startswith("chaincode.")])
        self.settings.version = version
        for msp in self.organisations:
            self._package(msp)
            self.start(f"chaincode.{msp}")
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._install, self.organisations))
        for name in self.settings.channels:
            self._define(name)

    def _define(self, name: str) -> None:
        """Approve and commit the installed version on one channel."""
        channel = self.settings.channels[name]
        definition = self._definition(name, channel.sequence + 1)
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(self._approve, definition), self.organisations))
        self._commit(definition)
        channel.sequence += 1
        self._save()

    def _definition(self, channel: str, sequence: int) -> list[str]:
        members = ",".join(f"'{msp}.peer'" for msp in self.organisations)
        orderer = self.settings.orderers[0]
        return [
            "-o", orderer.address, "--tls", "--cafile", self._orderer_roots, "-C", fabric_name(channel),
            "-n", CHAINCODE, "-v", str(self.settings.version), "--sequence", str(sequence),
            "--signature-policy", f"OutOf({self.settings.needed},{members})",
        ]  # fmt: skip

    def _install(self, msp: str) -> None:
        file = str(self._package_file(msp))
        self.commands.retry(
            ["peer", "lifecycle", "chaincode", "install", file],
            self._admin(msp),
            given="already successfully",
        )

    def _approve(self, definition: Sequence[str], msp: str) -> None:
        approve = ["peer", "lifecycle", "chaincode", "approveformyorg", *definition]
        package_id = package.package_id(self._package_file(msp))
        # The orderers answer SERVICE_UNAVAILABLE until a leader is elected.
        self.commands.retry(
            [*approve, "--package-id", package_id], self._admin(msp), given="attempted to redefine"
        )

    def _commit(self, definition: Sequence[str]) -> None:
        peers = []
        for msp, node in self.settings.peers.items():
            peers += [
                "--peerAddresses",
                node.address,
                "--tlsRootCertFiles",
                str(self._files(msp).folder / "tlsca.pem"),
            ]
        commit = ["peer", "lifecycle", "chaincode", "commit", *definition, *peers]
        self.commands.retry(commit, self._admin(self.organisations[0]))

    # The contract's own beginning

    def _register(self) -> None:
        for name, channel in self.settings.channels.items():
            with closing(self.ledger("admin", channel=name)) as with_admin:
                for msp in self.organisations:
                    if msp not in channel.registered:
                        self._submit(with_admin, "RegisterOrganisation", {"org": msp})
                        channel.registered.append(msp)
                        self._save()

    def _submit(self, ledger: Ledger, name: str, args: Json) -> None:
        """Submit until it is valid: peers need a moment to learn of each other's chaincode."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                envelope = ledger.prepare(name, args)
                ledger.send(envelope)
                if (outcome := ledger.outcome(envelope.tx_id, timeout=20)).is_valid:
                    return
                why = outcome.validity
            except Refused as refused:
                raise NetworkError(f"{name} was refused: {refused}") from None
            except LedgerError as error:
                why = error.message
            if time.monotonic() > deadline:
                raise NetworkError(f"{name} was not committed: {why} See {self.folder / 'logs'}.")
            time.sleep(0.2)

    # One organisation more

    def add_organisation(self, msp: str) -> None:
        """Let a new member join the running channels, and give the consents in force its marks.

        The members' administrators sign the change; from then on `needed` of all members endorse.
        """
        if msp in self.settings.peers:
            raise NetworkError(f"{msp} is a member already.")
        before = self.organisations
        self._make_member(msp, free_ports(4))
        self.start(f"peer.{msp}")
        for name in self.settings.channels:
            add_member(
                self.commands,
                self.folder / "configtx",
                channel=fabric_name(name),
                member=self._member(msp),
                orderer=["-o", self.settings.orderers[0].address, "--tls", "--cafile", self._orderer_roots],
                signers=[self._admin(signer) for signer in before],
            )
            self._join(msp, name)
        self.settings.needed = max(self.settings.needed, len(self.organisations) // 2 + 1)
        self.deploy(version=self.settings.version + 1)
        self._register()
        self._wait_until_ready()
        for name in self.settings.channels:
            self._add_marks(name)

    def _add_marks(self, channel: str) -> None:
        with closing(self.ledger("admin", channel=channel)) as ledger:
            granted = {
                consent
                for event in ledger.events((-1, -1), wait=2)
                if event.name in ("ConsentGranted", "ConsentsGranted", "ConsentReplaced")
                for consent in event.payload.get("consents", [event.payload.get("consent")])
            }
            consents = sorted(consent for consent in granted if isinstance(consent, str))
            for start in range(0, len(consents), 500):
                self._submit(ledger, "AddMarks", {"consents": consents[start : start + 500]})

    # Members

    def _make_member(self, msp: str, ports: Sequence[int]) -> None:
        files = OrganisationFiles.make(self.folder / "crypto" / msp, msp)
        crypto = files.node(f"peer.{msp}", unit="peer")
        for role in ROLES:
            files.identity(role, unit="admin" if role == "admin" else "client", role=role)
        for name in ("chaincode", "chaincode-client"):
            certificate, key = files.tlsca.issue(f"{name}.{msp}", tls=True)
            (files.folder / f"{name}.pem").write_bytes(certificate)
            path = files.folder / f"{name}.key"
            path.touch(mode=0o600)
            path.write_bytes(key)
        node = Node(f"peer.{msp}", msp, str(crypto), ports[0], ports[1], ports[2])
        self.settings.peers[msp] = node
        self.settings.chaincode_ports[msp] = ports[3]
        config.write_peer(self.binaries.config, self._home(node), node)

    def _member(self, msp: str) -> dict[str, Any]:
        return config.organisation(msp, self._files(msp).folder / "msp", self.settings.peers[msp])

    def _package_file(self, msp: str) -> Path:
        return self.folder / "packages" / f"{msp}.{self.settings.version}.tar.gz"

    def _package(self, msp: str) -> None:
        files = self._files(msp).folder
        package.write_package(
            self._package_file(msp),
            label=f"{CHAINCODE}_{self.settings.version}",
            address=f"{config.HOST}:{self.settings.chaincode_ports[msp]}",
            roots=(files / "tlsca.pem").read_text(),
            certificate=(files / "chaincode-client.pem").read_text(),
            key=(files / "chaincode-client.key").read_text(),
        )

    def _chaincode_environment(self, msp: str) -> dict[str, str]:
        files = self._files(msp).folder
        return {
            "PYTHONPATH": str(REPOSITORY),
            "CHAINCODE_ID": package.package_id(self._package_file(msp)),
            "CHAINCODE_SERVER_ADDRESS": f"{config.HOST}:{self.settings.chaincode_ports[msp]}",
            "CHAINCODE_TLS_KEY": str(files / "chaincode.key"),
            "CHAINCODE_TLS_CERT": str(files / "chaincode.pem"),
            "CHAINCODE_CLIENT_CA_CERT": str(files / "tlsca.pem"),
        }

    def _files(self, msp: str) -> OrganisationFiles:
        return OrganisationFiles(self.folder / "crypto" / msp)

    def _home(self, node: Node) -> Path:
        return self.folder / "nodes" / node.name

    @property
    def _orderer_roots(self) -> str:
        return str(self.folder / "crypto" / ORDERER_MSP / "tlsca.pem")

    def _admin(self, msp: str) -> dict[str, str]:
        """The environment of Fabric's own commands, as the organisation's administrator at its own peer."""
        return {
            "FABRIC_CFG_PATH": str(self._home(self.settings.peers[msp])),
            "CORE_PEER_MSPCONFIGPATH": str(self._files(msp).folder / "identities" / "admin" / "msp"),
            "FABRIC_LOGGING_SPEC": "error",
        }

    # Files

    def _save(self) -> None:
        state = asdict(self.settings)
        (self.folder / "network.json").write_text(json.dumps(state, indent=1))
        crypto = "crypto"
        organisations = {
            msp: {
                "peers": [node.address],
                "roots": [f"{crypto}/{msp}/ca.pem"],
                "tls_roots": f"{crypto}/{msp}/tlsca.pem",
            }
            for msp, node in self.settings.peers.items()
        }
        identities = {}
        for msp in self.organisations:
            for role in ROLES:
                files = f"{crypto}/{msp}/identities/{role}"
                entry = {"certificate": f"{files}/cert.pem", "key": f"{files}/cert.key", "organisation": msp}
                identities[f"{role}@{msp}"] = entry
                if msp == self.organisations[0]:
                    identities[role] = entry
        for name in self.settings.channels:
            profile = {
                "chaincode": CHAINCODE,
                "channel": fabric_name(name),
                "identities": identities,
                "needed": self.settings.needed,
                "orderers": {"roots": [f"{crypto}/{ORDERER_MSP}/ca.pem"]},
                "organisations": organisations,
            }
            self.profile_of(name).write_text(json.dumps(profile, indent=1))
        msps = [*self.organisations, ORDERER_MSP]
        pki.write_trust(self.folder / "trust", {msp: self._files(msp) for msp in msps}, ORDERER_MSP)


def fabric_name(channel: str) -> str:
    """What Fabric calls one of our channels."""
    return CHANNEL if channel == HOME else channel


@contextmanager
def running(folder: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """A network in `folder`, new or found again, for as long as the block lasts: yields its LEDGER_URL.

    It ends with this process whatever happens to it. Raises BinariesMissing, NetworkError.
    """
    made = (folder / "network.json").exists()
    network = Network.load(folder, bound=True) if made else Network.make(folder, bound=True)
    try:
        network.up(say)
        yield network.url
    finally:
        network.down()
