"""Groups records into chunks (one patient, one type, one set of labels) and seals them, before the database.

What is set aside until the file is complete is ciphertext and keyed digests only, on disk past a bound.
"""

import hmac
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import NamedTuple, Self

from consent.models import random_id
from gateway.keyholder.client import ChunkHeader, Keyholder
from gateway.keyholder.envelope import seal_chunk, seal_notes
from gateway.keyholder.regrouping import MAX_CHUNK_BYTES, Note, notes_of
from gateway.labels.labelling import UNLABELLED
from gateway.labels.rules import STATEMENTS
from gateway.labels.rules import VERSION as RULES_VERSION
from gateway.records.intake import Record
from gateway.records.lines import pack

_IN_MEMORY_BYTES = 32 * 1024 * 1024


class Fresh(NamedTuple):
    """A record that is not here yet, with the digest of its version, the name of its resource, and of this
    version of it ("": its source gave it no versionId)."""

    record: Record
    digest: str
    name: str
    version: str


@dataclass(frozen=True)
class SealedChunk:
    """A chunk before it is in the database. `digests`, `names` and `versions` are those of its resources'
    versions, and `rules` (rules_of) is the same for all of them."""

    id: str
    patient: str
    rules: str
    digests: list[str]
    names: list[str]
    versions: list[str]
    size: int
    notes_size: int


class Spool:
    """Sealed chunks in the order in which they were added. A context manager; its file has no name."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._file.close()

    def add(self, chunk: SealedChunk, blob: bytes, notes: bytes) -> None:
        self._file.write(json.dumps(asdict(chunk)).encode() + b"\n" + blob + notes)
        self.count += 1

    def __iter__(self) -> Iterator[tuple[SealedChunk, bytes, bytes]]:
        self._file.seek(0)
        while line := self._file.readline():
            chunk = SealedChunk(**json.loads(line))
            yield chunk, self._file.read(chunk.size), self._file.read(chunk.notes_size)


def digests(index_key: bytes, records: Sequence[Record]) -> list[str]:
    """The keyed digest of each record's version. Who lacks the key can neither link nor test one."""
    return [hmac.digest(index_key, record.name, "sha256").hex() for record in records]


def seal(keyholder: Keyholder, patient: str, records: Iterable[Fresh], spool: Spool) -> None:
    """Seal the records of one patient into the spool. Raises GatewayError, OSError."""
    pieces = [(random_id(), kind, labels, piece) for kind, labels, piece in _pieces(records)]
    headers: list[ChunkHeader] = [
        {
            "chunk": chunk,
            "resource_type": kind,
            "labels": list(labels),
            "count": len(piece),
            "version": 1,
        }
        for chunk, kind, labels, piece in pieces
    ]
    keys = keyholder.new_chunks(patient=patient, chunks=headers)["keys"]
    for chunk, _, _, piece in pieces:
        lines, noted = pack(one.record.raw for one in piece), notes_of(note_of(one.record) for one in piece)
        blob = seal_chunk(keys[chunk], lines, patient=patient, chunk=chunk, version=1)
        notes = seal_notes(keys[chunk], noted, patient=patient, chunk=chunk, version=1)
        sealed = SealedChunk(
            id=chunk,
            patient=patient,
            rules=rules_of(piece[0].record),
            digests=[one.digest for one in piece],
            names=[one.name for one in piece],
            versions=[one.version for one in piece],
            size=len(blob),
            notes_size=len(notes),
        )
        spool.add(sealed, blob, notes)


def rules_of(record: Record) -> str:
    """Of which version its labels are: of none where it is withheld, and what it must follow may yet be found
    among the records that are stored (relabelling.py)."""
    statement = STATEMENTS.get(record.kind)
    is_open = record.labels == (UNLABELLED,) and statement is not None and statement.must
    return "" if is_open else RULES_VERSION


def note_of(record: Record) -> Note:
    """What is noted of a record when it comes in."""
    return Note(
        record.labels,
        record.basis,
        rules_of(record),
        updated=record.updated,
        version=record.version,
        codes=record.codes,
    )


Piece = list[Fresh]


def _pieces(records: Iterable[Fresh]) -> Iterator[tuple[str, tuple[str, ...], Piece]]:
    """Type, labels and records of each chunk, none above MAX_CHUNK_BYTES unless one resource is."""
    groups: dict[tuple[str, tuple[str, ...]], Piece] = defaultdict(list)
    for one in records:
        groups[one.record.kind, one.record.labels].append(one)
    for (kind, labels), group in groups.items():
        piece: Piece = []
        size = 0
        for one in group:
            if piece and size + len(one.record.raw) > MAX_CHUNK_BYTES:
                yield kind, labels, piece
                piece, size = [], 0
            piece.append(one)
            size += len(one.record.raw)
        yield kind, labels, piece
