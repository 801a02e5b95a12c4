"""A real ledger and keyholder within the test's own process, on a clock that moves only as the test says.

So that one rule of them can be broken at run time (`mutants.py`) and the history check must see it.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.drills import evidence, rig
from gateway.drills.history import Acknowledged, Violation, check
from gateway.drills.rig import REQUEST, Patient, Rig, new_id
from gateway.drills.worker import PART, Child, Player
from gateway.keyholder import server
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.service import Service
from gateway.keyholder.store import Store
from ledger.channels import HOME, Channels
from ledger.client import Envelope, Ledger
from ledger.contract.errors import Refused
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import make_ledger
from ledger.embedded.server import LedgerProcess
from ledger.embedded.trust import EmbeddedTrust
from ledger.errors import EnvelopeError, GatewayError, OutcomeUnknown

LEASE = 10**9


class Clock:
    """Half a millisecond passes with each look at it, and what a test adds."""

    def __init__(self) -> None:
        self.seconds = time.time()

    def __call__(self) -> float:
        self.seconds += 0.0005
        return self.seconds


class Hooked(EmbeddedLedger):
    """The keyholder's connection; `before_send` runs once, between preparing and sending."""

    before_send: Callable[[], None] | None = None

    def send(self, envelope: Envelope) -> None:
        hook, self.before_send = self.before_send, None
        if hook is not None:
            hook()
        super().send(envelope)


class Workshop(Rig):
    """alice has two chunks and one consent; `child` works on her for the first attempt of one job."""

    kind = "embedded"

    def __init__(self, home: Path) -> None:
        self.clock = Clock()
        self.folder = home / "ledger"
        make_ledger(self.folder, clock=self.clock)
        super().__init__(home, {HOME: f"embedded://{self.folder}"})
        self.stops: list[Acknowledged] = []
        self.revocations: list[Acknowledged] = []
        self.process = LedgerProcess(self.folder, clock=self.clock)
        keyholder = home / "keyholder"
        self.store = Store(keyholder, FileKEK(keyholder / "kek"))
        self.hooked = Hooked(self.folder, identity="keyholder", clock=self.clock)
        self.trusted = EmbeddedTrust.from_folder(self.folder)
        self.service = Service(
            self.store,
            Channels.single(self.hooked, self.trusted),
            clock=self.clock,
            monotonic=self.clock,
            lease=LEASE,
        )
        self.server = server.start(self.service, self.socket)
        self.furnish()
        self.stranger: Child | None = None

    def close(self) -> None:
        self.keyholder.close()
        self.server.close()
        self.store.close()
        self.process.close()

    def ledger(self, identity: str = "gateway", *, ahead: float = 0.0, channel: str = HOME) -> Ledger:
        return EmbeddedLedger(self.folder, identity=identity, clock=lambda: self.clock() + ahead)

    def restart_ledger(self, *, state: Path | None = None) -> None:
        """Stop it and start it again, on an older copy of its file if one is given."""
        self.process.close()
        if state is not None:
            for left in self.folder.glob("ledger.sqlite3*"):
                left.unlink()
            shutil.copy(state, self.folder / "ledger.sqlite3")
        self.process = LedgerProcess(self.folder, clock=self.clock)

    def copy_of_ledger(self) -> Path:
        """What a backup would be: the file as it stands now."""
        copy = self.home / "ledger.copy"
        self.process.close()
        shutil.copy(self.folder / "ledger.sqlite3", copy)
        self.process = LedgerProcess(self.folder, clock=self.clock)
        return copy

    def later(self, seconds: float = 2.0) -> None:
        self.clock.seconds += seconds

    # The story

    def begin(self, **consent: Any) -> None:
        self.alice: Patient = self.patient(granted=False)
        self.grant(self.alice, fhir=rig.fhir_consent(**consent))
        self.job, self.subject = new_id(), new_id()

    def player(self) -> Player:
        return Player(self.keyholder, REQUEST, self.blobs, self.notes.append, clock=self.clock)

    def release(self, attempt: int = 1) -> Child:
        """Pass the first door with a new child."""
        child = Child(self.job, attempt)
        subjects: Any = [{"subject": self.subject, "patient": self.alice.id}]
        self.keyholder.release(
            job=self.job,
            attempt=attempt,
            request=REQUEST,
            parts=[{"part": PART, "key": child.public, "subjects": subjects}],
        )
        return child

    def take(self, child: Child, *, after: str | None = None) -> str | None:
        """Ask for the next chunk and note the key, if one came; the chunk or None."""
        asked = self.clock()
        try:
            page = self.keyholder.open_chunks(
                job=child.job, attempt=child.attempt, part=PART, subject=self.subject, after=after
            )
        except GatewayError:
            return None
        for chunk in page["chunks"]:
            holder = child
            try:
                child.unwrap(chunk, self.subject)
            except EnvelopeError:
                assert self.stranger is not None
                holder = self.stranger
                holder.unwrap(chunk, self.subject)
            self.player().note_key(holder, chunk, asked)
            return chunk["chunk"]
        return None

    def output(self, child: Child) -> tuple[str, bytes]:
        """A computed output: its digest and the sealed bytes."""
        from gateway.keyholder.envelope import seal_output

        sealed = seal_output(
            self.keyholder.output_key(), b"{}", job=child.job, attempt=child.attempt, subjects=[self.subject]
        )
        return hashlib.sha256(sealed).hexdigest(), sealed

    def deliver(self, child: Child, digest: str) -> list[str]:
        try:
            return self.keyholder.deliver(
                job=child.job,
                attempt=child.attempt,
                outputs=[{"subjects": [self.subject], "digest": digest}],
            )["delivered"]
        except (GatewayError, Refused):
            return []

    def read(self, digest: str, sealed: bytes) -> bytes:
        try:
            return self.player().read(self.job, digest, sealed)
        except GatewayError:
            return b""

    def stop(self) -> None:
        """At the keyholder alone; the ledger has not heard of it yet."""
        self.keyholder.stop(consent=self.alice.consent)
        self.stops.append(Acknowledged(self.clock(), self.alice.consent))

    def revoke_on_ledger(self) -> None:
        """On the ledger alone, as another organisation would."""
        gateway = self.ledger("gateway")
        envelope = gateway.prepare("RevokeConsent", {"consent": self.alice.consent})
        gateway.send(envelope)
        try:
            assert gateway.outcome(envelope.tx_id, timeout=5).is_valid
        except OutcomeUnknown:
            return
        finally:
            gateway.close()
        self.revocations.append(Acknowledged(self.clock(), self.alice.consent))

    def violations(self) -> list[Violation]:
        return check(
            evidence.gather(
                evidence.embedded_writes(self.folder),
                self.home / "keyholder",
                self.trusted,
                self.notes,
                stops=self.stops,
                revocations=self.revocations,
                kept=evidence.commitments_of(self.store),
            )
        )


@contextmanager
def workshop() -> Iterator[Workshop]:
    with rig.folder() as home:
        made = Workshop(home)
        try:
            yield made
        finally:
            made.close()
