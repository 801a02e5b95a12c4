"""Separate accounts: with everything that a worker can read, it opens nothing that was not released.

The keyholder runs as one account and the worker as another; both are forked from this process, which
must be root, because the interpreter itself may lie where those accounts cannot read.
"""

import hashlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ledger.embedded.trust  # noqa: F401 (before the fork: afterwards it may not be readable)
from gateway.keyholder.__main__ import main
from gateway.keyholder.client import Keyholder
from gateway.keyholder.envelope import PartUnwrapper, open_chunk, open_sealed_output, seal_chunk, seal_output
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.server import SEPARATE
from gateway.processes import listens_at
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import make_ledger
from ledger.embedded.server import LedgerProcess
from ledger.errors import GatewayError
from tests.keyholder.house import HELIX, MODEL, REQUEST, Child, fhir_consent, new_id

KEYHOLDER, WORKER = 65533, 65534

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run as separate accounts"),
]


def as_account(uid: int, act: Callable[[], None]) -> int:
    """The pid of a process of this account that runs `act` and ends."""
    if pid := os.fork():
        return pid
    try:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        act()
        os._exit(0)
    finally:
        os._exit(1)


def own(folder: Path, uid: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid)


@dataclass
class Accounts:
    home: Path
    keyholder_pid: int
    socket: Path

    def act(self, uid: int, act: Callable[[], Any]) -> Any:
        """What `act` answers in a process of this account."""
        reader, writer = os.pipe()

        def answer() -> None:
            os.write(writer, json.dumps(act()).encode())

        pid = as_account(uid, answer)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            answered = file.read()
        assert os.waitpid(pid, 0)[1] == 0
        return json.loads(answered)


@pytest.fixture
def accounts() -> Iterator[Accounts]:
    home = Path(tempfile.mkdtemp(prefix="ka-"))
    home.chmod(0o711)
    make_ledger(home / "ledger")
    ledger_process = LedgerProcess(home / "ledger", uids={0, KEYHOLDER})
    (home / "keyholder").mkdir(mode=0o700)
    FileKEK.create(home / "keyholder" / "kek")
    own(home / "keyholder", KEYHOLDER)
    own(home / "ledger", KEYHOLDER)
    (home / "run").mkdir(mode=0o711)
    os.chown(home / "run", KEYHOLDER, KEYHOLDER)
    # As in production: every role has its account, and the worker's group may reach the socket.
    arguments = [str(home / "keyholder"), "--ledger", f"embedded://{home / 'ledger'}"]
    arguments += ["--socket", str(home / "run" / "k.sock"), "--allow", f"worker={WORKER}"]
    for role in ("web", "relay", "ingest", "worker"):
        arguments += ["--allow", f"{role}=0"]
    pid = as_account(KEYHOLDER, lambda: main(arguments) and None)
    made = Accounts(home, pid, home / "run" / "k.sock")
    deadline = time.monotonic() + 20
    while not listens_at(made.socket)() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.chown(made.socket, -1, WORKER)
    made.socket.chmod(0o660)
    yield made
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    ledger_process.close()
    shutil.rmtree(home)


def code_of(act: Callable[[], Any]) -> str:
    """How an attempt ends: the code of its refusal, the name of the system's, or `opened`."""
    try:
        act()
    except GatewayError as error:
        return error.code
    except OSError as error:
        return type(error).__name__
    return "opened"


def test_a_worker_opens_nothing_that_was_not_released(accounts: Accounts) -> None:
    keyholder = Keyholder(accounts.socket)
    ledger = EmbeddedLedger(accounts.home / "ledger", identity="gateway")
    card = {"model": MODEL, "card": "0" * 64, "provider": HELIX, "state": "approved"}
    envelope = ledger.prepare("RegisterModel", card)
    ledger.send(envelope)
    assert ledger.outcome(envelope.tx_id, timeout=10).is_valid
    status = keyholder.status()
    assert (status["enforced"], status["boundary"]) == (True, SEPARATE)

    # alice consents, bob does not; what the database holds of both, the worker can read.
    blobs: dict[str, tuple[str, bytes]] = {}
    alice, bob = new_id(), new_id()
    for patient in (alice, bob):
        chunk = new_id()
        keyholder.enrol(patient=patient)
        header = {"chunk": chunk, "version": 1, "resource_type": "Observation", "labels": ["N"], "count": 1}
        made = keyholder.new_chunks(patient=patient, chunks=[header])  # type: ignore[list-item]
        blob = seal_chunk(made["keys"][chunk], b'{"own":1}\n', patient=patient, chunk=chunk, version=1)
        blobs[patient] = (chunk, blob)
        keyholder.confirm_chunks(chunks=[{"chunk": chunk, "version": 1}])
    assert keyholder.grant(consent=new_id(), patient=alice, fhir=fhir_consent())["state"] == "committed"
    child, subjects = Child(new_id()), {alice: new_id(), bob: new_id()}
    asked = {"job": child.job, "attempt": 1}
    folder, pid = accounts.home / "keyholder", accounts.keyholder_pid

    def try_everything() -> Any:
        worker = Keyholder(accounts.socket)
        parts = [
            {
                "part": 0,
                "key": child.public,
                "subjects": [
                    {"subject": subject, "patient": patient} for patient, subject in subjects.items()
                ],
            }
        ]
        found: dict[str, str] = {
            "before any release": code_of(
                lambda: worker.open_chunks(**asked, part=0, subject=subjects[alice])
            )
        }
        worker.release(**asked, request=REQUEST, parts=parts)  # type: ignore[arg-type]
        opened = worker.open_chunks(**asked, part=0, subject=subjects[alice])
        chunk, blob = blobs[alice]
        dek = PartUnwrapper(child.keys[0], **asked, part=0).unwrap(
            opened["chunks"][0]["wrapped"], subject=subjects[alice], chunk=chunk, version=1
        )
        lines = open_chunk(dek, blob, patient=alice, chunk=chunk, version=1)
        other, other_blob = blobs[bob]
        sealed = seal_output(worker.output_key(), b"{}", job=child.job, attempt=1, subjects=[subjects[alice]])
        digest = hashlib.sha256(sealed).hexdigest()
        consent, details = new_id(), {"reason": "none"}
        return {
            **found,
            "alice": lines.decode(),
            "bob": code_of(lambda: worker.open_chunks(**asked, part=0, subject=subjects[bob])),
            "bob with alice's key": code_of(
                lambda: open_chunk(dek, other_blob, patient=bob, chunk=other, version=1)
            ),
            "bob after alice": code_of(
                lambda: worker.open_chunks(**asked, part=0, subject=subjects[bob], after=chunk)
            ),
            "result, through the keyholder": code_of(
                lambda: worker.open_output(job=child.job, digest=digest, sealed=sealed)
            ),
            "result, with the child's key": code_of(
                lambda: open_sealed_output(
                    child.keys[0], sealed, job=child.job, attempt=1, subjects=[subjects[alice]]
                )
            ),
            "grant": code_of(lambda: worker.grant(consent=consent, patient=bob, fhir=fhir_consent())),
            "emergency": code_of(
                lambda: worker.emergency_access(access=consent, patient=bob, details=details, expires=2**32)
            ),
            "own copy": code_of(lambda: worker.own_copy(access=consent, patient=bob, expires=2**32)),
            "emergency's records": code_of(lambda: worker.read_emergency(access=consent, sealed={})),
            "enrol": code_of(lambda: worker.new_chunks(patient=bob, chunks=[])),
            "folder": code_of(lambda: os.listdir(folder)),
            "store": code_of((folder / "keyholder.sqlite3").read_bytes),
            "kek": code_of((folder / "kek").read_bytes),
            "memory": code_of(lambda: Path(f"/proc/{pid}/mem").open("rb")),
            "files": code_of(lambda: os.listdir(f"/proc/{pid}/fd")),
            "kill": code_of(lambda: os.kill(pid, signal.SIGTERM)),
            "ledger's key": code_of((accounts.home / "ledger" / "ledger.key").read_bytes),
            "as the keyholder": code_of(
                lambda: EmbeddedLedger(accounts.home / "ledger", identity="keyholder")
            ),
        }

    assert accounts.act(WORKER, try_everything) == {
        "before any release": "release_unknown",
        "alice": '{"own":1}\n',
        "bob": "subject_not_released",
        "bob with alice's key": "envelope_tampered",
        "bob after alice": "subject_not_released",
        "result, through the keyholder": "call_refused",
        "result, with the child's key": "envelope_tampered",
        "grant": "call_refused",
        "emergency": "call_refused",
        "own copy": "call_refused",
        "emergency's records": "call_refused",
        "enrol": "call_refused",
        "folder": "PermissionError",
        "store": "PermissionError",
        "kek": "PermissionError",
        "memory": "PermissionError",
        "files": "PermissionError",
        "kill": "PermissionError",
        "ledger's key": "PermissionError",
        "as the keyholder": "ledger_no_key",
    }
    ledger.close()


def test_another_account_is_turned_away(accounts: Accounts) -> None:
    accounts.socket.chmod(0o666)
    code = accounts.act(12345, lambda: code_of(Keyholder(accounts.socket).status))
    assert code == "account_refused"
