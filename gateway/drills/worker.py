"""A worker and its child as a drill plays them: the doors in their order, real keys, and notes of all it got.

`python -m gateway.drills.worker SOCKET FOLDER NUMBER` works through `FOLDER/jobs-NUMBER.json` and appends to
`FOLDER/notes-NUMBER.jsonl`. Killed anywhere and started again it goes on from its notes, as a worker goes on
from the database: what was computed is delivered again, never computed anew.
"""

import contextlib
import hashlib
import json
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.keyholder.client import Keyholder
from gateway.keyholder.envelope import PartUnwrapper, new_part_key, open_chunk, seal_output
from ledger.client import HOME
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.errors import AccessDenied, GatewayError, KeyholderUnavailable, LedgerError, RefusedTransition

PART = 0
MOST_UNHEARD = 50
UNHEARD = frozenset({"release_differs", "attempt_superseded", "attempt_out_of_order"})
ATTEMPT_OVER = frozenset({"attempt_superseded", "release_too_old", "release_unknown", "release_missing"})

Note = Callable[[Json], None]


@dataclass
class Job:
    """One job as its notes leave it; `subjects` is `[{subject, patient}]`."""

    id: str
    subjects: Sequence[Json]
    attempt: int = 0  # the last one whose release was heard of
    sealed: dict[str, str] = field(default_factory=dict)  # computed outputs, hex, by subject
    is_computed: bool = False
    is_done: bool = False
    channel: str = HOME


@dataclass
class Child:
    """The key pair of one attempt's part, and what it was released."""

    job: str
    attempt: int

    def __post_init__(self) -> None:
        private, public = new_part_key()
        self.public = public.hex()
        self._unwrapper: Callable[..., bytes] = lambda *args, **named: PartUnwrapper(
            private, job=self.job, attempt=self.attempt, part=PART
        ).unwrap(*args, **named)

    def unwrap(self, chunk: Mapping[str, Any], subject: str) -> bytes:
        return self._unwrapper(
            chunk["wrapped"], subject=subject, chunk=chunk["chunk"], version=chunk["version"]
        )


class Player:
    """Plays jobs against one keyholder. `blobs` are the sealed chunks by id; `note` makes a note durable."""

    def __init__(
        self,
        keyholder: Keyholder,
        request: Json,
        blobs: Mapping[str, bytes],
        note: Note,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keyholder, self.request, self.blobs = keyholder, request, blobs
        self.note, self.clock = note, clock

    def finish(self, job: Job, *, patience: float = 60.0) -> None:
        """Bring the job to its end, whatever dies meanwhile. Raises TimeoutError after `patience` seconds."""
        ends = time.monotonic() + patience
        while not job.is_done:
            try:
                if job.is_computed:
                    self.deliver(job)
                else:
                    self.compute(job)
            except (LedgerError, KeyholderUnavailable):
                if time.monotonic() > ends:
                    raise TimeoutError from None
                time.sleep(random.uniform(0.02, 0.2))  # noqa: S311 (jitter)
            except (AccessDenied, RefusedTransition, Refused) as error:
                if error.code not in ATTEMPT_OVER:
                    self._end(job, error.code)
                job.is_computed = False

    def compute(self, job: Job) -> None:
        """The first door and, subject by subject, the records."""
        child, permitted = self.release(job)
        if permitted:
            for one in job.subjects:
                if one["subject"] in permitted and self.open(child, one["subject"], one["patient"]):
                    self._seal(job, child, one["subject"])
        if job.sealed:
            job.is_computed = True
            self.note({"kind": "computed", "job": job.id, "attempt": job.attempt, "sealed": job.sealed})
        else:
            self._end(job, "stopped" if permitted else "denied")

    def release(self, job: Job) -> tuple[Child, set[str]]:
        """A new attempt, under the next number if a dead worker's release has this one."""
        first = job.attempt + 1
        job.sealed = {}
        for number in range(first, first + MOST_UNHEARD):
            child = Child(job.id, number)
            part: Any = {"part": PART, "key": child.public, "subjects": list(job.subjects)}
            try:
                found = self.keyholder.release(
                    job=job.id, attempt=number, request=self.request, parts=[part], channel=job.channel
                )
            except (RefusedTransition, Refused) as error:
                if error.code not in UNHEARD:
                    raise
                continue
            job.attempt = number
            self.note({"kind": "released", "job": job.id, "attempt": number})
            return child, {
                subject for subject, decided in found["subjects"].items() if decided["decision"] == "permit"
            }
        raise LedgerError("No attempt of this job was free.", code="release_unsettled")

    def open(self, child: Child, subject: str, patient: str) -> bool:
        """Every chunk of a subject, one by one; whether nothing stopped it."""
        after: str | None = None
        while True:
            asked = self.clock()
            try:
                page = self.keyholder.open_chunks(
                    job=child.job, attempt=child.attempt, part=PART, subject=subject, after=after
                )
            except AccessDenied as error:
                if error.code in ATTEMPT_OVER:
                    raise
                return False
            for chunk in page["chunks"]:
                dek = child.unwrap(chunk, subject)
                open_chunk(
                    dek,
                    self.blobs[chunk["chunk"]],
                    patient=patient,
                    chunk=chunk["chunk"],
                    version=chunk["version"],
                )
                self.note_key(child, chunk, asked)
                after = chunk["chunk"]
            if not page["more"]:
                return True

    def note_key(self, child: Child, chunk: Mapping[str, Any], asked: float) -> None:
        self.note(
            {
                "kind": "key",
                "asked": asked,
                "job": child.job,
                "attempt": child.attempt,
                "part": PART,
                "chunk": f"{chunk['chunk']}/{chunk['version']}",
                "public_key": child.public,
            }
        )

    def _seal(self, job: Job, child: Child, subject: str) -> None:
        sealed = seal_output(
            self.keyholder.output_key(),
            b'{"risk":1}',
            job=job.id,
            attempt=child.attempt,
            subjects=[subject],
        )
        job.sealed[subject] = sealed.hex()

    def deliver(self, job: Job) -> list[bytes]:
        """The second door, then each delivered result in clear."""
        sealed = {one: bytes.fromhex(text) for one, text in job.sealed.items()}
        digests = {hashlib.sha256(data).hexdigest(): data for data in sealed.values()}
        answer = self.keyholder.deliver(
            job=job.id,
            attempt=job.attempt,
            outputs=[
                {"subjects": [one], "digest": hashlib.sha256(data).hexdigest()}
                for one, data in sealed.items()
            ],
        )
        opened = [self.read(job.id, digest, digests[digest]) for digest in answer["delivered"]]
        self._end(job, "done" if answer["delivered"] else "stopped")
        return [one for one in opened if one]

    def read(self, job: str, digest: str, sealed: bytes) -> bytes:
        """A result in clear; empty when it is refused."""
        asked = self.clock()
        try:
            opened = self.keyholder.open_output(job=job, digest=digest, sealed=sealed)
        except AccessDenied:
            return b""
        self.note({"kind": "result", "asked": asked, "job": job, "digest": digest})
        return opened

    def _end(self, job: Job, state: str) -> None:
        job.is_done = True
        self.note({"kind": "ended", "job": job.id, "state": state})


def new_job(patients: Iterable[str], *, channel: str = HOME) -> Job:
    """A job over these patients of one channel, each a subject under a new id."""
    return Job(
        secrets.token_hex(32),
        [{"subject": secrets.token_hex(32), "patient": patient} for patient in patients],
        channel=channel,
    )


def notes_of(path: Path) -> list[Json]:
    """The notes in a file; what a kill cut off in mid-line was never acted upon."""
    notes = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            notes.append(json.loads(line))
    return notes


def resumed(job: Job, notes: Iterable[Json]) -> Job:
    """The job as its notes leave it."""
    for note in notes:
        if note.get("job") != job.id:
            continue
        match note["kind"]:
            case "released":
                job.attempt, job.is_computed = note["attempt"], False
            case "computed":
                job.attempt, job.sealed, job.is_computed = note["attempt"], note["sealed"], True
            case "ended":
                job.is_done = True
    return job


def main(arguments: Sequence[str]) -> int:
    socket, folder, number = arguments[0], Path(arguments[1]), arguments[2]
    plan = json.loads((folder / f"jobs-{number}.json").read_text())
    blobs = {
        chunk: bytes.fromhex(blob) for chunk, blob in json.loads((folder / "blobs.json").read_text()).items()
    }
    path = folder / f"notes-{number}.jsonl"
    before = notes_of(path)
    by_job: dict[str, list[Json]] = {}
    for one in before:
        by_job.setdefault(one["job"], []).append(one)
    outputs = [one for one in before if one["kind"] == "computed"]
    with path.open("ab", buffering=0) as file:
        file.write(b"\n")  # whatever a kill cut off ends here

        def note(what: Json) -> None:
            if what["kind"] == "computed":
                outputs.append(what)
            file.write(json.dumps(what).encode() + b"\n")

        player = Player(Keyholder(socket), plan["request"], blobs, note)
        for entry in plan["jobs"]:
            job = resumed(Job(entry["job"], entry["subjects"]), by_job.get(entry["job"], ()))
            player.finish(job, patience=plan["patience"])
            if outputs and random.random() < 0.3:  # noqa: S311
                _read_again(player, random.choice(outputs))  # noqa: S311
    return 0


def _read_again(player: Player, computed: Json) -> None:
    """A client that comes back for a result, perhaps after the patient stopped."""
    for text in computed["sealed"].values():
        sealed = bytes.fromhex(text)
        try:
            player.read(computed["job"], hashlib.sha256(sealed).hexdigest(), sealed)
        except GatewayError:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
