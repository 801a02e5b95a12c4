"""How long after a patient's stop a key may still leave: a real keyholder, asked without a pause.

The stop comes from the gateway's own identity straight to the ledger. The keyholder is not told of it (which
would deny at once): what is measured is how soon it learns by itself.
"""

import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from gateway.keyholder.client import Keyholder
from gateway.keyholder.envelope import new_part_key
from gateway.keyholder.kek import FileKEK
from ledger.client import Ledger
from ledger.contract.state import Json
from ledger.errors import AccessDenied, GatewayError, LedgerError

STOPS = 40
READY_SECONDS = 20.0
RECIPIENT = "Organization/bench"
TERMS = "http://terminology.hl7.org/CodeSystem/"
REQUEST: Json = {
    "action": "use",
    "model": None,
    "purpose": "HRESCH",
    "recipient": RECIPIENT,
    "resources": [{"codes": None, "type": "Observation"}],
    "use": [],
    "version": 1,
}
# The consent that is granted in every measurement on Fabric.
FHIR: Json = {
    "resourceType": "Consent",
    "status": "active",
    "scope": {"coding": [{"system": f"{TERMS}consentscope", "code": "research"}]},
    "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
    "dateTime": "2024-01-01T00:00:00Z",
    "provision": {
        "type": "permit",
        "period": {"start": "2020-01-01", "end": "2099-01-01"},
        "actor": [{"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": RECIPIENT}}],
        "action": [{"coding": [{"code": "use"}]}],
        "securityLabel": [{"code": "N"}],
        "purpose": [{"system": f"{TERMS}v3-ActReason", "code": "HRESCH"}],
        "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}],
    },
}


@dataclass(frozen=True)
class Stops:
    """Seconds from asking for each stop: to its commit, and to the last key that left."""

    committed: tuple[float, ...]
    last_key: tuple[float, ...]
    keyholder_megabytes: int

    def as_json(self) -> Json:
        return {
            "last_key_ms": _percentiles(self.last_key),
            "stops": len(self.last_key),
            "to_commit_ms": _percentiles(self.committed),
        }

    def as_text(self) -> str:
        key, commit = _percentiles(self.last_key), _percentiles(self.committed)
        return (
            f"revoke → last possible key release, {len(self.last_key)} stops: p50 {key['p50']} ms, "
            f"p99 {key['p99']} ms (goal: block time + 1 s); to the stop's commit: p50 {commit['p50']} ms, "
            f"p99 {commit['p99']} ms"
        )


def _percentiles(times: tuple[float, ...]) -> dict[str, int]:
    found = quantiles(times, n=100, method="inclusive")
    return {"p50": round(found[49] * 1e3), "p99": round(found[98] * 1e3)}


def measure_stops(url: str, folder: Path, gateway: Ledger) -> Stops:
    """Grant, release and stop `STOPS` consents, one stop after another."""
    committed, last = [], []
    with keyholder(url, folder) as (holder, pid):
        for _ in range(STOPS):
            consent, job, subject = _released(holder)
            took, key = _stop(holder, gateway, consent, job, subject)
            committed.append(took)
            last.append(key)
        status = Path(f"/proc/{pid}/status").read_text()
        megabytes = int(status.split("VmRSS:")[1].split()[0]) // 1024
    return Stops(tuple(committed), tuple(last), megabytes)


@contextmanager
def keyholder(url: str, folder: Path) -> Iterator[tuple[Keyholder, int]]:
    """The keyholder's own process on a new store: calls to it, and its id."""
    folder.mkdir(mode=0o700)
    FileKEK.create(folder / "kek")
    command = [sys.executable, "-m", "gateway.keyholder", str(folder), "--ledger", url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        holder = Keyholder(folder / "keyholder.sock")
        try:
            _wait_for(holder)
            yield holder, process.pid
        finally:
            holder.close()
            process.terminate()


def _wait_for(holder: Keyholder) -> None:
    ends = time.monotonic() + READY_SECONDS
    while True:
        try:
            holder.status()
            return
        except GatewayError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)


def _released(holder: Keyholder) -> tuple[str, str, str]:
    """Consent, job and subject of a patient with one chunk, released to the job."""
    patient, chunk, consent, job, subject = (secrets.token_hex(32) for _ in range(5))
    holder.enrol(patient=patient)
    header = {"chunk": chunk, "count": 1, "labels": ["N"], "resource_type": "Observation", "version": 1}
    holder.new_chunks(patient=patient, chunks=[header])  # type: ignore[list-item]
    holder.confirm_chunks(chunks=[{"chunk": chunk, "version": 1}])
    granted = holder.grant(consent=consent, patient=patient, fhir=FHIR)
    if granted["state"] != "committed":
        raise RuntimeError(f"The grant was not committed: {granted['code'] or granted['state']}.")
    _, public = new_part_key()
    released = holder.release(
        job=job,
        attempt=1,
        request=REQUEST,
        parts=[{"part": 0, "key": public.hex(), "subjects": [{"subject": subject, "patient": patient}]}],
    )
    if released["decision"] != "permit":
        raise RuntimeError("The job that is measured should be permitted.")
    return consent, job, subject


def _stop(holder: Keyholder, gateway: Ledger, consent: str, job: str, subject: str) -> tuple[float, float]:
    """Seconds from asking for the stop to its commit, and to the last key that came."""
    keys = [time.perf_counter()]
    opening, denied = threading.Event(), threading.Event()

    def ask() -> None:
        while not denied.is_set():
            try:
                holder.open_chunks(job=job, attempt=1, part=0, subject=subject)
                keys.append(time.perf_counter())
                opening.set()
            except AccessDenied:
                denied.set()
            except LedgerError:  # a read that took too long opens nothing; ask again
                continue

    asking = threading.Thread(target=ask)
    asking.start()
    if not opening.wait(READY_SECONDS):
        denied.set()
        raise RuntimeError("The keyholder opened nothing before the stop.")
    time.sleep(random.uniform(0, 0.5))  # noqa: S311 - anywhere between two blocks and two readings
    began = time.perf_counter()
    envelope = gateway.prepare("RevokeConsent", {"consent": consent})
    gateway.send(envelope)
    outcome = gateway.outcome(envelope.tx_id, timeout=30)
    took = time.perf_counter() - began
    if not outcome.is_valid:
        denied.set()
        raise RuntimeError(f"The stop was not committed: {outcome.validity}.")
    asking.join()
    return took, max(0.0, keys[-1] - began)
