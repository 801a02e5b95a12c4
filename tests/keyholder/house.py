"""A real embedded ledger and keyholder in one process, so that a test may move the clock or break in."""

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.keyholder.envelope import (
    PartUnwrapper,
    X25519PrivateKey,
    new_key,
    new_part_key,
    open_chunk,
    seal_chunk,
    seal_output,
)
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.opening import DELTA_SECONDS, JobRelease, Opened
from gateway.keyholder.service import Service
from gateway.keyholder.store import Header, Store
from ledger.channels import Channels
from ledger.client import Ledger, Outcome
from ledger.contract.consents import AI_MODEL
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import make_ledger
from ledger.embedded.server import LedgerProcess
from ledger.embedded.trust import EmbeddedTrust

HELIX = "Organization/helix"
MODEL = hashlib.sha256(b"a model").hexdigest()
REQUEST: dict[str, Any] = {
    "action": "use",
    "model": MODEL,
    "purpose": "HRESCH",
    "recipient": HELIX,
    "resources": [{"type": "Observation", "codes": None}, {"type": "Condition", "codes": None}],
    "use": [],
    "version": 1,
}


DIES = """
import json, os, signal, sys
from pathlib import Path
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.service import Service
from gateway.keyholder.store import Store
from ledger.channels import Channels
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.trust import EmbeddedTrust

home, when, call, arguments = Path(sys.argv[1]), *sys.argv[2:]

class Dying(EmbeddedLedger):
    def send(self, envelope):
        if when == "after":
            super().send(envelope)
        os.kill(os.getpid(), signal.SIGKILL)

store = Store(home / "keyholder", FileKEK(home / "keyholder" / "kek"))
ledger = Dying(home / "ledger", identity="keyholder")
service = Service(store, Channels.single(ledger, EmbeddedTrust.from_folder(home / "ledger")))
getattr(service, call)(**json.loads(arguments))
"""


class Clock:
    """The time, and how far a test has moved it."""

    def __init__(self, time: Callable[[], float] = time.time) -> None:
        self.ahead, self._time = 0.0, time

    def __call__(self) -> float:
        return self._time() + self.ahead


def new_id() -> str:
    return secrets.token_hex(32)


def fhir_consent(
    *, kind: str = "permit", types: tuple[str, ...] = ("Observation", "Condition"), until: str = "2099-01-01"
) -> dict[str, Any]:
    """A FHIR R4 Consent for helix's model; exceptions are nested in a root that speaks to helix alone."""
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"code": "research"}]},
        "category": [{"coding": [{"code": "INFA"}]}],
        "dateTime": "2024-01-01T00:00:00Z",
        "provision": {
            "type": kind,
            "period": {"start": "2020-01-01", "end": until},
            "extension": [{"url": AI_MODEL, "valueString": MODEL}],
            "actor": [{"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": HELIX}}],
            "action": [{"coding": [{"code": "use"}]}],
            "securityLabel": [{"code": "N"}],
            "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}],
            "class": [{"system": "http://hl7.org/fhir/resource-types", "code": one} for one in types],
        },
    }


@dataclass
class Child:
    """The child of one part: its key pair dies with it."""

    job: str
    attempt: int = 1
    part: int = 0
    keys: tuple[X25519PrivateKey, bytes] = field(default_factory=new_part_key)

    @property
    def public(self) -> str:
        return self.keys[1].hex()

    def open(self, house: "House", opened: Opened, *, subject: str, patient: str) -> list[bytes]:
        unwrapper = PartUnwrapper(self.keys[0], job=self.job, attempt=self.attempt, part=self.part)
        found = []
        for one in opened.chunks:
            header = one.header
            dek = unwrapper.unwrap(one.key, subject=subject, chunk=header.chunk, version=header.version)
            blob = house.blobs[header.chunk]
            found.append(open_chunk(dek, blob, patient=patient, chunk=header.chunk, version=header.version))
        return found


class House:
    """One installation: `service` is the keyholder, `blobs` what the database keeps."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="kh-"))
        self.clock, self.ledger_clock, self.monotonic = Clock(), Clock(), Clock(time.monotonic)
        self.blobs: dict[str, bytes] = {}
        make_ledger(self.home / "ledger")
        self.start_ledger()
        (self.home / "keyholder").mkdir(mode=0o700)
        FileKEK.create(self.home / "keyholder" / "kek")
        self.start_keyholder()
        self.admin = EmbeddedLedger(self.home / "ledger", identity="admin")
        self.gateway = EmbeddedLedger(self.home / "ledger", identity="gateway")
        card = {"model": MODEL, "card": "0" * 64, "provider": HELIX, "state": "approved"}
        assert self.commit(self.gateway, "RegisterModel", card).is_valid

    def start_ledger(self) -> None:
        self.process = LedgerProcess(self.home / "ledger")

    def start_keyholder(self, **options: Any) -> None:
        folder = self.home / "keyholder"
        self.store = Store(folder, FileKEK(folder / "kek"))
        self.ledger = EmbeddedLedger(self.home / "ledger", identity="keyholder", clock=self.ledger_clock)
        self.trust = EmbeddedTrust.from_folder(self.home / "ledger")
        self.serve(self.ledger, **options)

    def serve(self, ledger: Ledger, **options: Any) -> None:
        self.service = Service(
            self.store,
            Channels.single(ledger, self.trust),
            clock=self.clock,
            monotonic=self.monotonic,
            **options,
        )

    def killed_around_sending(self, when: str, call: str, **arguments: Any) -> None:
        """Another keyholder on this store makes the call, and dies before or after it sends (`when`)."""
        self.store.close()
        words = [str(self.home), when, call, json.dumps(arguments)]
        done = subprocess.run([sys.executable, "-c", DIES, *words], cwd=os.getcwd(), check=False)
        assert done.returncode == -signal.SIGKILL
        self.start_keyholder()

    def start_keyholder_on(self, format: int, **options: Any) -> None:
        """The keyholder starts anew on its store as an older version left it."""
        undo = {
            8: ("DROP TABLE clinicians", "ALTER TABLE accesses DROP COLUMN signature"),
            7: ("DROP TABLE regrouped",),
            6: ("DROP TABLE erasures", "ALTER TABLE patients DROP COLUMN kek"),
            5: (
                "DROP TABLE channels",
                "ALTER TABLE patients DROP COLUMN channel",
                "CREATE TABLE old (org TEXT PRIMARY KEY, height INTEGER NOT NULL) STRICT",
                "INSERT INTO old SELECT org, height FROM heights",
                "DROP TABLE heights",
                "ALTER TABLE old RENAME TO heights",
            ),
            4: ("DROP TABLE drafts", "DROP TABLE passkeys"),
            3: ("DROP TABLE batches",),
        }
        with self.store.transaction() as db:
            for newer in (8, 7, 6, 5, 4, 3):
                for statement in undo[newer] if newer > format else ():
                    db.execute(statement)
            db.execute("UPDATE meta SET value = ? WHERE name = 'format'", (b"%d" % format,))
        self.store.close()
        self.start_keyholder(**options)

    def later(self) -> None:
        """So much later that no reading from before is rested on."""
        self.monotonic.ahead += DELTA_SECONDS

    def close(self) -> None:
        self.store.close()
        self.process.close()
        shutil.rmtree(self.home)

    def commit(self, ledger: EmbeddedLedger, name: str, args: dict[str, Any]) -> Outcome:
        envelope = ledger.prepare(name, args)
        ledger.send(envelope)
        return ledger.outcome(envelope.tx_id, timeout=10)

    def revoke(self, consent: str) -> None:
        assert self.commit(self.gateway, "RevokeConsent", {"consent": consent}).is_valid

    # What a test begins with

    def patient(self, kinds: dict[str, bytes] | None = None) -> str:
        """An enrolled patient with one confirmed chunk of each kind."""
        patient = new_id()
        self.service.enrol(patient=patient)
        for kind, lines in (kinds or {"Observation": b'{"value":1}\n', "Condition": b'{"code":2}\n'}).items():
            self.add_chunk(patient, kind, lines)
        return patient

    def add_chunk(self, patient: str, kind: str, lines: bytes, labels: tuple[str, ...] = ("N",)) -> str:
        header = Header(new_id(), 1, kind, labels, lines.count(b"\n"), new_key())
        keys, _ = self.service.new_chunks(patient=patient, chunks=[header])
        self.blobs[header.chunk] = seal_chunk(
            keys[header.chunk], lines, patient=patient, chunk=header.chunk, version=1
        )
        self.service.confirm_chunks(chunks=[(header.chunk, 1)])
        return header.chunk

    def grant(self, patient: str, **said: Any) -> str:
        consent = new_id()
        answer = self.service.grant(consent=consent, patient=patient, fhir=fhir_consent(**said))
        assert answer["state"] == "committed", answer
        return consent

    def release(
        self, patients: dict[str, str], *, child: Child | None = None, request: dict[str, Any] = REQUEST
    ) -> tuple[Child, dict[str, Any]]:
        """A release of `{subject: patient}` in one part, and the child that works on it."""
        child = child or Child(new_id())
        subjects = [{"subject": subject, "patient": patient} for subject, patient in patients.items()]
        answer = self.service.release(
            job=child.job,
            attempt=child.attempt,
            request=request,
            parts=[{"part": child.part, "key": child.public, "subjects": subjects}],
        )
        return child, answer

    def open(self, child: Child, subject: str, *, after: str | None = None, limit: int = 10) -> Opened:
        return self.service.open_chunks(
            JobRelease(child.job, child.attempt, child.part, subject, after, limit)
        )

    def seal_output(self, child: Child, subject: str, output: bytes = b'{"risk":1}') -> tuple[str, bytes]:
        """The sealed output and its digest."""
        sealed = seal_output(
            self.service.output_key(), output, job=child.job, attempt=child.attempt, subjects=[subject]
        )
        return hashlib.sha256(sealed).hexdigest(), sealed

    def deliver(self, child: Child, subject: str, digest: str) -> dict[str, Any]:
        return self.service.deliver(
            job=child.job, attempt=child.attempt, outputs=[{"subjects": [subject], "digest": digest}]
        )

    def on_ledger(self, key: str) -> Any:
        (value,) = self.admin.evaluate([key])
        return None if value is None else json.loads(value)
