"""One verified reading of the ledger for the openings of a part's next subjects, for a fraction of δ.

A worker opens the subjects of a part one after another. Each reading brings the release and the
consents, with all their marks, of the subject asked for and of those that follow it; the deny list,
the log and the decision stay with each opening.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.keyholder.reading import Look, Reader
from gateway.keyholder.store import Release, Store
from ledger.contract.release import deliver_key, release_key
from ledger.contract.state import Json
from ledger.errors import AccessDenied

# So many consents are read at once: what a worker opens in half a second, and few enough for a slow peer.
CONSENTS_AT_ONCE = 100
MOST_PARTS = 64


def job_keys(job: str, attempt: int) -> tuple[str, ...]:
    """The keys that say whether this attempt is released, the last one, and not delivered."""
    return release_key(job, attempt), release_key(job, attempt + 1), deliver_key(job)


@dataclass(frozen=True)
class Part:
    """One part of a release as we asked for it; `subjects` by id, in the order in which they were asked.

    `block` is where the release was committed, by our own store.

    `looks` has readings by subject. None is older than `made`, and they go with the part.
    """

    job: str
    attempt: int
    release: Release
    block: int
    key: bytes
    subjects: dict[str, Json]
    made: float
    looks: dict[str, Look] = field(default_factory=dict)


class Parts:
    """Parts and their readings, none used when older than `seconds` by `monotonic`. Safe for threads."""

    def __init__(
        self, store: Store, reader: Reader, *, seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._reader, self._seconds, self._monotonic = store, reader, seconds, monotonic
        self._parts: OrderedDict[tuple[str, int, int], Part] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, job: str, attempt: int, number: int) -> Part:
        """Raises AccessDenied (`release_unknown`, `part_not_released`)."""
        name = job, attempt, number
        with self._guard:
            part = self._parts.get(name)
        if part is None or self._monotonic() - part.made > self._seconds:
            part = self._make(job, attempt, number)
            with self._guard:
                self._parts[name] = part
                self._parts.move_to_end(name)
                while len(self._parts) > MOST_PARTS:
                    self._parts.popitem(last=False)
        return part

    def look(self, part: Part, subject: str) -> Look:
        """A reading for the subject, from before or fresh. Raises LedgerError, AccessDenied."""
        look = part.looks.get(subject)
        if look is None:
            subjects, consents = _following(part, subject)
            look = self._reader.look(job_keys(part.job, part.attempt), consents, after=part.block)
            part.looks.update(dict.fromkeys(subjects, look))
        return look

    def forget(self, job: str) -> None:
        """Another door of this job was passed: what was read before no longer counts."""
        with self._guard:
            for name in [name for name in self._parts if name[0] == job]:
                del self._parts[name]

    def _make(self, job: str, attempt: int, number: int) -> Part:
        release = self._store.release(job, attempt)
        if release is None:
            raise AccessDenied("This release was not asked for here.", code="release_unknown")
        body = next((one for one in release.body["parts"] if one["part"] == number), None)
        if body is None:
            raise AccessDenied("The release names no such part.", code="part_not_released")
        subjects = {one["subject"]: one for one in body["subjects"]}
        block = self._store.block(f"release/{job}/{attempt}")
        return Part(job, attempt, release, block, bytes.fromhex(body["key"]), subjects, self._monotonic())


def _following(part: Part, subject: str) -> tuple[Sequence[str], Sequence[str]]:
    """The subject and those after it, and their consents, as many as are read at once."""
    order = list(part.subjects)
    subjects: list[str] = []
    consents: list[str] = []
    for one in order[order.index(subject) :]:
        own = part.subjects[one]["consents"]
        if subjects and len(consents) + len(own) > CONSENTS_AT_ONCE:
            break
        subjects.append(one)
        consents += own
    return subjects, consents
