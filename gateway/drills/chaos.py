"""`drill history`: jobs and stops at random moments, processes killed at random, and the check of it."""

import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gateway.drills import evidence
from gateway.drills.catalogue import EMBEDDED, FABRIC, Drill
from gateway.drills.history import Acknowledged, check
from gateway.drills.report import Report
from gateway.drills.rig import REQUEST, Patient, Rig, eventually
from gateway.drills.worker import Job, new_job, notes_of
from gateway.processes import python
from ledger.client import HOME
from ledger.contract.errors import Refused
from ledger.errors import GatewayError, NotCommitted

WORKERS = 3
PATIENCE = 180.0
ENDS = {"done", "denied", "stopped"}


def promise_history(
    rig: Rig,
    report: Report,
    *,
    stops: Sequence[Acknowledged] = (),
    revocations: Sequence[Acknowledged] = (),
    notes: Sequence[Any] | None = None,
    channel: str = HOME,
) -> None:
    """Gather all of one channel and have it checked. The keyholder ends with this."""
    writes = rig.writes(channel)
    rig.kill("keyholder")
    history = evidence.gather(
        writes,
        rig.home / "keyholder",
        rig.trust(channel),
        rig.notes if notes is None else notes,
        stops=stops,
        revocations=revocations,
        channel=channel,
    )
    violations = check(history)
    seen = f"{len(history.keys)} keys, {len(history.openings)} openings, {len(writes)} writes"
    where = "" if channel == HOME else f" on {channel}"
    report.promise(f"the history check{where} finds no violation", not violations, seen)
    for rule, count in sorted(Counter(one.rule for one in violations).items()):
        where = next(one.where for one in violations if one.rule == rule)
        report.promise(f"violated: {rule}", False, f"{count} times, first at {where}")


def history(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """Real workers in processes of their own; the ledger, the keyholder and they are killed as they go."""
    jobs, stops, kills = (int(options[name]) for name in ("jobs", "stops", "kills"))
    chance = random.Random(options.get("seed"))  # noqa: S311 (which moments, no secret)
    patients = [rig.patient() for _ in range(stops + max(5, stops // 4))]
    report.saw("patients who said yes", len(patients))
    works = [new_job(one.id for one in chance.sample(patients, chance.randint(1, 3))) for _ in range(jobs)]
    crew = Crew(rig, works)
    stopper = Stopper(rig, chance.sample(patients, stops), random.Random(chance.random()))  # noqa: S311
    began = time.monotonic()
    crew.start()
    stopper.start()
    killed: Counter[str] = Counter()
    targets = ["keyholder", "keyholder", *rig.killable, *rig.killable, *crew.names]
    while not crew.is_done():
        stopper.due = stops * crew.share()
        if killed.total() < kills * min(1.0, crew.share() * 1.1 + 0.02):
            name = chance.choice(targets)
            killed[name.rstrip("0123456789-") if name.startswith("worker") else name] += 1
            report.say(f"{crew.ended()} of {jobs} jobs, {len(stopper.revocations)} stops; {name} is killed")
            if name in crew.names:
                crew.restart(name)
            else:
                rig.kill(name)
                time.sleep(chance.uniform(0, 0.3))
                rig.start(name)
        if time.monotonic() - began > PATIENCE + jobs:
            break
        time.sleep(chance.uniform(0.01, 0.1))
    stopper.due = float("inf")
    stopper.join(PATIENCE)
    crew.close()
    notes = crew.notes()
    states = Counter(one["state"] for one in notes if one["kind"] == "ended")
    report.saw("killed", ", ".join(f"{name} {count}" for name, count in sorted(killed.items())) or "nothing")
    report.saw("time", f"{time.monotonic() - began:.0f} s")
    ended = {one["job"] for one in notes if one["kind"] == "ended"}
    report.promise(
        "every job ends, and none in an error",
        len(ended) == jobs and not set(states) - ENDS,
        ", ".join(f"{count} {state}" for state, count in sorted(states.items())),
    )
    acknowledged = len({one.consent for one in stopper.revocations})
    report.promise("every stop is acknowledged by the ledger", acknowledged == stops, acknowledged)
    promise_history(rig, report, stops=stopper.stops, revocations=stopper.revocations, notes=notes)


class Crew:
    """The workers' processes and their plans."""

    def __init__(self, rig: Rig, works: Sequence[Job]) -> None:
        self._folder: Path = rig.home / "workers"
        self._folder.mkdir()
        self._total = len(works)
        self._socket = rig.socket
        blobs = {chunk: blob.hex() for chunk, blob in rig.blobs.items()}
        (self._folder / "blobs.json").write_text(json.dumps(blobs))
        self.names = [f"worker-{number}" for number in range(WORKERS)]
        for number in range(WORKERS):
            own = [{"job": job.id, "subjects": list(job.subjects)} for job in works[number::WORKERS]]
            plan = {"jobs": own, "patience": PATIENCE, "request": REQUEST}
            (self._folder / f"jobs-{number}.json").write_text(json.dumps(plan))
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for name in self.names:
            self._start(name)

    def _start(self, name: str) -> None:
        number = name.rpartition("-")[2]
        command = python("-m", "gateway.drills.worker", str(self._socket), str(self._folder), number)
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=_repository())

    def restart(self, name: str) -> None:
        self._running[name].kill()
        self._running[name].wait()
        self._start(name)

    def is_done(self) -> bool:
        return all(one.poll() is not None for one in self._running.values())

    def ended(self) -> int:
        """How many jobs have ended, by the notes."""
        files = self._folder.glob("notes-*.jsonl")
        return sum(file.read_bytes().count(b'"kind": "ended"') for file in files)

    def share(self) -> float:
        return self.ended() / max(1, self._total)

    def close(self) -> None:
        for one in self._running.values():
            if one.poll() is None:
                one.kill()
            one.wait()

    def notes(self) -> list[Any]:
        return [
            note for number in range(WORKERS) for note in notes_of(self._folder / f"notes-{number}.jsonl")
        ]


class Stopper(threading.Thread):
    """Patients who stop, `due` of them by now: told to keyholder and ledger, or to the ledger alone."""

    def __init__(self, rig: Rig, patients: Sequence[Patient], chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._rig, self._patients, self._chance = rig, patients, chance
        self.due = 0.0
        self.stops: list[Acknowledged] = []
        self.revocations: list[Acknowledged] = []

    def run(self) -> None:
        ledger = self._rig.ledger("gateway")
        for number, patient in enumerate(self._patients):
            while number >= self.due:
                time.sleep(0.02)
            consent = patient.consent
            if self._chance.random() < 0.5:
                eventually(partial(self._rig.keyholder.stop, consent=consent), seconds=PATIENCE)
                self.stops.append(Acknowledged(time.monotonic(), consent))
            try:
                self._rig.submit(ledger, "RevokeConsent", {"consent": consent}, seconds=PATIENCE)
            except (NotCommitted, Refused, GatewayError):
                continue  # not acknowledged: the drill's promise about their number tells
            self.revocations.append(Acknowledged(time.monotonic(), consent))
        ledger.close()


def _repository() -> Path:
    return Path(__file__).resolve().parents[2]


DRILLS = [
    Drill(
        "history",
        "Jobs and stops at random moments, processes killed at random: no promise is broken.",
        (EMBEDDED, FABRIC),
        history,
    )
]
