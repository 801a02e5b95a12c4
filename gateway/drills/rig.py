"""What a drill breaks: a ledger and a keyholder, real processes in a folder of their own, and some patients.

Nothing of an installation is touched. `Rig` says what both ledgers have in common; `EmbeddedRig` and
`fabric_rig.FabricRig` know how their processes are killed, paused and started.
"""

import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gateway.drills import evidence
from gateway.drills.history import Write
from gateway.drills.worker import Job, Player, new_job
from gateway.keyholder.client import ChunkHeader, Keyholder
from gateway.keyholder.envelope import seal_chunk
from gateway.keyholder.kek import FileKEK
from gateway.processes import Processes, Spec, listens_at, python
from ledger.client import HOME, Envelope, Ledger, Outcome, Trust, connect, trust
from ledger.contract.consents import AI_MODEL
from ledger.contract.state import Json
from ledger.embedded.folder import make_ledger
from ledger.errors import KeyholderUnavailable, LedgerError, NotCommitted

HELIX = "Organization/helix"
MODEL = "5e" * 32
REQUEST: Json = {
    "action": "use",
    "model": MODEL,
    "purpose": "HRESCH",
    "recipient": HELIX,
    "resources": [{"codes": None, "type": "Observation"}, {"codes": None, "type": "Condition"}],
    "use": [],
    "version": 1,
}
PATIENCE = 60.0

T = TypeVar("T")


@dataclass
class Patient:
    """A synthetic patient: id at the keyholder, channel, consents by age, chunk ids."""

    id: str
    channel: str = HOME
    consents: list[str] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)

    @property
    def consent(self) -> str:
        return self.consents[-1]


def new_id() -> str:
    return secrets.token_hex(32)


def fhir_consent(*, until: str = "2099-01-01", types: tuple[str, ...] = ("Observation", "Condition")) -> Json:
    """A FHIR R4 Consent for Helix AI's model over these types."""
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"code": "research"}]},
        "category": [{"coding": [{"code": "INFA"}]}],
        "dateTime": "2024-01-01T00:00:00Z",
        "provision": {
            "type": "permit",
            "period": {"start": "2020-01-01", "end": until},
            "extension": [{"url": AI_MODEL, "valueString": MODEL}],
            "actor": [{"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": HELIX}}],
            "action": [{"coding": [{"code": "use"}]}],
            "securityLabel": [{"code": "N"}],
            "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}],
            "class": [{"system": "http://hl7.org/fhir/resource-types", "code": one} for one in types],
        },
    }


def eventually(attempt: Callable[[], T], *, seconds: float = PATIENCE) -> T:
    """Repeat what a task would repeat until it succeeds. Raises the last error when the time is over."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (LedgerError, KeyholderUnavailable):
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)


def until(is_so: Callable[[], bool], *, seconds: float = PATIENCE) -> bool:
    """Whether it becomes so in time."""
    ends = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


class Rig:
    """A ledger for each channel and one keyholder in `home`. Safe for threads once it is up."""

    kind = ""
    ledger_name = ""  # the process without which nothing lands
    killable: Sequence[str] = ()  # processes of the ledger that may die at any moment

    def __init__(self, home: Path, urls: Mapping[str, str]) -> None:
        self.home, self.urls = home, urls
        self.blobs: dict[str, bytes] = {}
        self.notes: list[Json] = []
        self.socket = home / "keyholder" / "keyholder.sock"
        self.keyholder = Keyholder(self.socket)
        self.processes = Processes(home)
        (home / "keyholder").mkdir(mode=0o700)
        FileKEK.create(home / "keyholder" / "kek")

    @property
    def url(self) -> str:
        """Of the channel home."""
        return self.urls[HOME]

    # Processes

    def kill(self, name: str) -> None:
        """As a crash or a power cut would."""
        self.processes.kill(name)

    def start(self, name: str) -> None:
        """Start again what was killed."""
        self.processes.restart(name)

    def pause(self, name: str) -> None:
        """It hangs: SIGSTOP."""
        os.kill(self.processes.pid(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        os.kill(self.processes.pid(name), signal.SIGCONT)

    def start_keyholder(self) -> None:
        command = python("-m", "gateway.keyholder", str(self.home / "keyholder"), "--ledger", self.url)
        command += ["--emergencies", "10"]
        command += [f"--channel={name}={url}" for name, url in self.urls.items() if name != HOME]
        self.processes.start(Spec("keyholder", command, listens_at(self.socket)))

    @contextmanager
    def gone(self, *names: str) -> Iterator[None]:
        """These are killed, and are back at the end."""
        for name in names:
            self.kill(name)
        try:
            yield
        finally:
            for name in names:
                self.start(name)

    @contextmanager
    def hung(self, *names: str) -> Iterator[None]:
        """These stand still, and go on at the end."""
        for name in names:
            self.pause(name)
        try:
            yield
        finally:
            for name in names:
                with suppress(ProcessLookupError, KeyError):
                    self.resume(name)

    def lose(self, channel: str) -> None:
        """Nobody serves the channel any more; the others go on."""
        raise NotImplementedError

    def find(self, channel: str) -> None:
        """Undo `lose`."""
        raise NotImplementedError

    def close(self) -> None:
        self.keyholder.close()
        self.processes.stop_all()

    # The ledger

    def ledger(self, identity: str = "gateway", *, ahead: float = 0.0, channel: str = HOME) -> Ledger:
        """Connect; `ahead` seconds is how far this client's clock is off."""
        raise NotImplementedError

    def trust(self, channel: str = HOME) -> Trust:
        return trust(self.urls[channel])

    def writes(self, channel: str = HOME) -> list[Write]:
        """Every write of the ledger's valid transactions, in its order."""
        raise NotImplementedError

    def transactions(self) -> list[tuple[str, str]]:
        """(tx_id, validity) of every transaction in a block, in order, copies included."""
        raise NotImplementedError

    def commit(self, ledger: Ledger, envelope: Envelope, *, seconds: float = PATIENCE) -> Outcome:
        """Send the same envelope until its outcome is known."""

        def attempt() -> Outcome:
            ledger.send(envelope)
            return ledger.outcome(envelope.tx_id, timeout=5)

        return eventually(attempt, seconds=seconds)

    def submit(self, ledger: Ledger, name: str, args: Json, *, seconds: float = PATIENCE) -> Outcome:
        """Prepare until it is endorsed, then commit that one envelope. Raises NotCommitted, Refused."""
        outcome = self.commit(
            ledger, eventually(lambda: ledger.prepare(name, args), seconds=seconds), seconds=seconds
        )
        if not outcome.is_valid:
            raise NotCommitted("The transaction is invalid.", validity=outcome.validity)
        return outcome

    def revoke(self, consent: str, *, seconds: float = PATIENCE, channel: str = HOME) -> Outcome:
        """The patient's stop on the ledger, by this installation's own organisation."""
        ledger = self.ledger("gateway", channel=channel)
        try:
            return self.submit(ledger, "RevokeConsent", {"consent": consent}, seconds=seconds)
        finally:
            ledger.close()

    # People and jobs

    def furnish(self) -> None:
        """The model is approved on every channel."""
        card = {"card": "0" * 64, "model": MODEL, "provider": HELIX, "state": "approved"}
        for channel in self.urls:
            admin = self.ledger("admin", channel=channel)
            self.submit(admin, "RegisterModel", card)
            admin.close()

    def patient(
        self,
        *,
        kinds: tuple[str, ...] = ("Observation", "Condition"),
        granted: bool = True,
        channel: str = HOME,
    ) -> Patient:
        """A patient with one sealed chunk of each kind, who said yes."""
        patient = Patient(new_id(), channel)
        eventually(lambda: self.keyholder.enrol(patient=patient.id, channel=channel))
        for kind in kinds:
            header: ChunkHeader = {
                "chunk": new_id(),
                "resource_type": kind,
                "labels": ["N"],
                "count": 1,
                "version": 1,
            }
            keys = self.keyholder.new_chunks(patient=patient.id, chunks=[header])["keys"]
            chunk = header["chunk"]
            self.blobs[chunk] = seal_chunk(
                keys[chunk],
                b'{"resourceType":"%s"}\n' % kind.encode(),
                patient=patient.id,
                chunk=chunk,
                version=1,
            )
            self.keyholder.confirm_chunks(chunks=[{"chunk": chunk, "version": 1}])
            patient.chunks.append(chunk)
        if granted:
            self.grant(patient)
        return patient

    def grant(self, patient: Patient, *, fhir: Json | None = None) -> str:
        """The patient says yes; returns once it is committed."""
        consent = new_id()

        def attempt() -> None:
            found = self.keyholder.grant(consent=consent, patient=patient.id, fhir=fhir or fhir_consent())
            if found["state"] != "committed":
                raise LedgerError("The grant is not committed yet.", code=found["code"])

        eventually(attempt)
        patient.consents.append(consent)
        return consent

    def player(self) -> Player:
        """A worker and its child, within the drill's own process."""
        return Player(self.keyholder, REQUEST, self.blobs, self.notes.append)

    def can_open(self, patient: Patient) -> str:
        """What a whole new job over the patient comes to: done, denied, stopped, or an error's code."""
        job: Job = new_job([patient.id], channel=patient.channel)
        self.player().finish(job)
        return str(self.notes[-1]["state"])

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EmbeddedRig(Rig):
    """The embedded ledgers' processes, `ledger` and `ledger-<channel>`, and the keyholder's."""

    kind = "embedded"
    ledger_name = "ledger"
    killable = ("ledger",)

    def __init__(self, home: Path, channels: Sequence[str] = ()) -> None:
        self.folders = {HOME: home / "ledger", **{name: home / f"ledger-{name}" for name in channels}}
        super().__init__(home, {name: f"embedded://{folder}" for name, folder in self.folders.items()})
        try:
            for ledger in self.folders.values():
                make_ledger(ledger)
                self.start_ledger(ledger)
            self.start_keyholder()
            self.furnish()
        except BaseException:
            self.close()
            raise

    def start_ledger(self, folder: Path) -> None:
        command = python("-m", "ledger.embedded", str(folder))
        self.processes.start(Spec(folder.name, command, listens_at(folder / "ledger.sock")))

    def lose(self, channel: str) -> None:
        self.kill(self.folders[channel].name)

    def find(self, channel: str) -> None:
        self.start(self.folders[channel].name)

    def ledger(self, identity: str = "gateway", *, ahead: float = 0.0, channel: str = HOME) -> Ledger:
        from ledger.embedded.client import EmbeddedLedger

        if not ahead:
            return connect(self.urls[channel], identity=identity)
        folder = self.folders[channel]
        return EmbeddedLedger(folder, identity=identity, clock=lambda: time.time() + ahead)

    def writes(self, channel: str = HOME) -> list[Write]:
        return evidence.embedded_writes(self.folders[channel])

    def transactions(self) -> list[tuple[str, str]]:
        return evidence.embedded_transactions(self.folders[HOME])


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder with a name short enough for sockets; nothing of it is left."""
    home = Path(tempfile.mkdtemp(prefix="drill-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def database(home: Path) -> Iterator[None]:
    """A new, migrated SQLite database in place of the configured one, for this thread."""
    from django.core.management import call_command

    with connected(home):
        call_command("migrate", verbosity=0, interactive=False, run_syncdb=True)
        yield


@contextmanager
def connected(home: Path) -> Iterator[None]:
    """That database for another thread."""
    from django.db import connections
    from django.db.utils import ConnectionHandler

    options = {
        "timeout": PATIENCE,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode = WAL",
    }
    new = {"ENGINE": "django.db.backends.sqlite3", "NAME": home / "db.sqlite3", "OPTIONS": options}
    before = connections["default"]
    connections["default"] = ConnectionHandler({"default": new})["default"]
    try:
        yield
    finally:
        connections["default"].close()
        connections["default"] = before


@contextmanager
def embedded(*, channels: Sequence[str] = (), **_: object) -> Iterator[EmbeddedRig]:
    """Its own ledger for each channel; what else a Fabric network is made with means nothing here."""
    with folder() as home, EmbeddedRig(home, channels) as rig:
        assert isinstance(rig, EmbeddedRig)
        yield rig
