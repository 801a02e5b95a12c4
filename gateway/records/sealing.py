"""Groups records into chunks (one patient, one type, one set of labels) and seals them, before the database.

What is set aside until the file is complete is ciphertext and keyed digests only, on disk past a bound.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

import orjson

from consent.models import random_id
from gateway.keyholder.client import ChunkHeader, Keyholder
from gateway.keyholder.envelope import seal_chunk, seal_notes
from gateway.keyholder.regrouping import MAX_CHUNK_BYTES, Note, notes_of
from gateway.labels.labelling import UNLABELLED
from gateway.labels.rules import STATEMENTS
from gateway.labels.rules import VERSION as RULES_VERSION
from gateway.records.fresh import Fresh
from gateway.records.intake import Record
from gateway.records.lines import pack

_IN_MEMORY_BYTES = 32 * 1024 * 1024

Piece = list[Fresh]


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._file.close()

    def add(self, chunk: SealedChunk, blob: bytes, notes: bytes) -> None:
        self._file.write(orjson.dumps(chunk) + b"\n" + blob + notes)

    def __iter__(self) -> Iterator[tuple[SealedChunk, bytes, bytes]]:
        self._file.seek(0)
        while line := self._file.readline():
            chunk = SealedChunk(**orjson.loads(line))
            yield chunk, self._file.read(chunk.size), self._file.read(chunk.notes_size)


def seal(keyholder: Keyholder, fresh: Mapping[str, Iterable[Fresh]], spool: Spool) -> None:
    """Seal each patient's records into the spool. Raises GatewayError, OSError."""
    pieces = {patient: list(_pieces(records)) for patient, records in fresh.items()}
    headers = {patient: list(map(_header, own)) for patient, own in pieces.items()}
    keys = keyholder.new_chunks_many(chunks=headers)
    for patient, own in pieces.items():
        for header, piece in zip(headers[patient], own, strict=True):
            chunk = header["chunk"]
            lines = pack(one.record.raw for one in piece)
            noted = notes_of(note_of(one.record) for one in piece)
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


def _header(piece: Piece) -> ChunkHeader:
    record = piece[0].record
    return {
        "chunk": random_id(),
        "resource_type": record.kind,
        "labels": list(record.labels),
        "count": len(piece),
        "version": 1,
    }


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


def _pieces(records: Iterable[Fresh]) -> Iterator[Piece]:
    """The records of each chunk: of one type and one set of labels, none above MAX_CHUNK_BYTES unless one
    resource is."""
    groups: dict[tuple[str, tuple[str, ...]], Piece] = defaultdict(list)
    for one in records:
        groups[one.record.kind, one.record.labels].append(one)
    for group in groups.values():
        piece: Piece = []
        size = 0
        for one in group:
            if piece and size + len(one.record.raw) > MAX_CHUNK_BYTES:
                yield piece
                piece, size = [], 0
            piece.append(one)
            size += len(one.record.raw)
        yield piece
