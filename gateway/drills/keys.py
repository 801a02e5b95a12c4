"""Drills of the keyholder's own losses: its KEK, and the disk with its store."""

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.drills.catalogue import EMBEDDED, FABRIC, Drill
from gateway.drills.report import Report
from gateway.drills.rig import Patient, Rig, new_id
from gateway.keyholder import backup
from gateway.keyholder.envelope import open_chunk
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.log import check_log
from gateway.keyholder.store import FILE, read_only
from gateway.processes import python
from ledger.client import HOME, VALID
from ledger.errors import EnvelopeError, GatewayError
from ledger.fsck import check


def kek_lost(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """The KEK's file is gone. First its copy is found; then there is none, and all begins anew."""
    alice, bob = rig.patient(), rig.patient()
    report.saw("before: a job over both", f"{rig.can_open(alice)}, {rig.can_open(bob)}")
    folder = rig.home / "keyholder"
    kek, copy = folder / "kek", rig.home / "kek-kept-elsewhere"
    shutil.copy(kek, copy)
    rig.kill("keyholder")
    kek.unlink()
    code = _refused_start(rig)
    report.promise("the keyholder does not start without it, and says why", code == "kek_unreadable", code)
    rows = _rows(folder)
    FileKEK.create(kek)
    code = _refused_start(rig)
    report.promise("nor with one that somebody made in its place", code == "wrong_kek", code)
    same = _rows(folder) == rows
    report.promise("the store is as it was", same, "every row" if same else "changed")
    validity = rig.revoke(bob.consent).validity
    report.promise("meanwhile a stop lands on the ledger", validity == VALID, validity)
    found = check(rig.url)
    report.promise("the ledger verifies without it", found.good, f"{found.blocks} blocks")
    count = _openings(rig)
    report.promise("and so does the log of openings", count > 0, f"{count} openings")

    kek.unlink()
    shutil.copy(copy, kek)
    rig.start("keyholder")
    states = [rig.can_open(alice), rig.can_open(bob)]
    report.promise(
        "with its copy records open again, but for who stopped", states == ["done", "denied"], _listed(states)
    )

    rig.kill("keyholder")
    folder.rename(rig.home / "keyholder-lost")
    folder.mkdir(mode=0o700)
    FileKEK.create(kek)
    rig.start("keyholder")
    state = rig.can_open(alice)
    report.promise("with no copy and a new store: nothing of before opens", state == "denied", state)
    sealed = rig.blobs[alice.chunks[0]]
    said = _opened_anew(rig, alice, sealed)
    report.promise("nor by keys made anew for the same ids", said == "envelope_tampered", said)
    state = rig.can_open(rig.patient())
    report.promise("records taken in again, of a patient asked again, are used", state == "done", state)


def disk_lost(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """The keyholder's disk is lost after a backup, and after a stop, an erasure and a grant that it lacks."""
    alice, bob, carol = (rig.patient() for _ in range(3))
    folder, file = rig.home / "keyholder", rig.home / "keyholder.backup"
    backup.make(folder, file, now=time.time())
    report.saw("a backup while it serves", f"{file.stat().st_size // 1024} kB")
    rig.keyholder.stop(consent=bob.consent)
    rig.revoke(bob.consent)
    rig.revoke(carol.consent)
    erased = rig.keyholder.erase(patient=carol.id)
    dave = rig.patient()
    rig.kill("keyholder")
    for path in folder.glob(f"{FILE}*"):
        path.unlink()
    name = sha256(carol.id.encode()).hexdigest()
    done = _run("gateway.keyholder.backup", _restoring(rig, file), given=f"{name} {erased['at']}\n")
    report.promise("it is restored", done.returncode == 0, done.stderr.strip() or "exit 0")
    lacks = "It lacks what came after it" in done.stdout
    report.promise("and says that it lacks what came after", lacks, "said" if lacks else done.stdout)
    rig.start("keyholder")
    states = [rig.can_open(one) for one in (alice, bob, carol, dave)]
    report.promise(
        "who said yes before is served; who stopped, was erased or came later is not",
        states == ["done", "denied", "denied", "denied"],
        _listed(states),
    )
    code = _emergency(rig, carol)
    report.promise("who was erased opens in no emergency", code == "patient_unknown", code)
    code = _emergency(rig, alice)
    report.promise("another does", code == "committed", code)
    rig.kill("keyholder")
    count = _openings(rig)
    report.promise("the log of openings verifies", count > 0, f"{count} openings")


def _rows(folder: Path) -> list[str]:
    """All that the store holds, as SQL."""
    with closing(read_only(folder)) as db:
        return list(db.iterdump())


def _openings(rig: Rig) -> int:
    """How many rows of the log of openings verify. Raises EnvelopeError where one does not."""
    return len(list(check_log(rig.home / "keyholder", {HOME: rig.trust()})))


def _refused_start(rig: Rig) -> str:
    """The code with which a keyholder that is started ends at once."""
    done = _run("gateway.keyholder", [str(rig.home / "keyholder"), "--ledger", rig.url])
    return done.stderr.strip().rpartition("(")[2].rstrip(")") if done.returncode else "started"


def _restoring(rig: Rig, file: Path) -> list[str]:
    folder = rig.home / "keyholder"
    return ["restore", str(file), str(folder), "--kek", str(folder / "kek"), "--erased", "-"]


def _run(module: str, arguments: Sequence[str], *, given: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        python("-m", module, *arguments), input=given, capture_output=True, text=True, timeout=60, check=False
    )


def _opened_anew(rig: Rig, patient: Patient, sealed: bytes) -> str:
    """What becomes of a sealed chunk under a key that the new store makes for the same patient and chunk."""
    chunk = patient.chunks[0]
    rig.keyholder.enrol(patient=patient.id)
    keys = rig.keyholder.new_chunks(
        patient=patient.id,
        chunks=[
            {"chunk": chunk, "resource_type": "Observation", "labels": ["N"], "count": 1, "version": 1},
        ],
    )["keys"]
    try:
        open_chunk(keys[chunk], sealed, patient=patient.id, chunk=chunk, version=1)
    except EnvelopeError as error:
        return error.code
    return "opened"


def _emergency(rig: Rig, patient: Patient) -> str:
    """What asking for a patient's records in an emergency comes to."""
    try:
        answer = rig.keyholder.emergency_access(
            access=new_id(),
            patient=patient.id,
            details={"reason": "ETREAT", "words": "Found unconscious at home"},
            expires=int(time.time()) + 3600,
        )
    except GatewayError as error:
        return error.code
    return str(answer["state"])


def _listed(states: Sequence[str]) -> str:
    return ", ".join(states)


DRILLS = [
    Drill(
        "lost-kek",
        "The KEK is lost: nothing opens, stops land, what was done verifies; its copy brings all back.",
        (EMBEDDED, FABRIC),
        kek_lost,
    ),
    Drill(
        "lost-keyholder",
        "The keyholder's disk is lost: a backup brings back nobody who stopped or was erased since.",
        (EMBEDDED, FABRIC),
        disk_lost,
    ),
]
