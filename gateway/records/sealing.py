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
from typing import Self

from consent.models import random_id
from gateway.keyholder.client import ChunkHeader, Keyholder
from gateway.keyholder.envelope import seal_chunk
from gateway.records.intake import Record
from gateway.records.lines import pack

# Under whose key the keyholder keeps resources of no patient. No consent names it, so no job opens them.
CUSTODIAN = "0" * 64
MAX_CHUNK_BYTES = 8 * 1024 * 1024
_IN_MEMORY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class SealedChunk:
    """A chunk before it is in the database. `digests` are those of its resources' versions."""

    id: str
    patient: str
    digests: list[str]
    size: int


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

    def add(self, chunk: SealedChunk, blob: bytes) -> None:
        self._file.write(json.dumps(asdict(chunk)).encode() + b"\n" + blob)
        self.count += 1

    def __iter__(self) -> Iterator[tuple[SealedChunk, bytes]]:
        self._file.seek(0)
        while line := self._file.readline():
            chunk = SealedChunk(**json.loads(line))
            yield chunk, self._file.read(chunk.size)


def digests(index_key: bytes, records: Sequence[Record]) -> list[str]:
    """The keyed digest of each record's version. Who lacks the key can neither link nor test one."""
    return [hmac.digest(index_key, record.name, "sha256").hex() for record in records]


def seal(keyholder: Keyholder, patient: str, records: Iterable[tuple[Record, str]], spool: Spool) -> None:
    """Seal the records (with their digests) of one patient into the spool. Raises GatewayError, OSError."""
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
        lines = pack(record.raw for record, _ in piece)
        blob = seal_chunk(keys[chunk], lines, patient=patient, chunk=chunk, version=1)
        spool.add(SealedChunk(chunk, patient, [digest for _, digest in piece], len(blob)), blob)


Piece = list[tuple[Record, str]]


def _pieces(records: Iterable[tuple[Record, str]]) -> Iterator[tuple[str, tuple[str, ...], Piece]]:
    """Type, labels and records of each chunk, none above MAX_CHUNK_BYTES unless one resource is."""
    groups: dict[tuple[str, tuple[str, ...]], Piece] = defaultdict(list)
    for record, digest in records:
        groups[record.kind, record.labels].append((record, digest))
    for (kind, labels), group in groups.items():
        piece: Piece = []
        size = 0
        for record, digest in group:
            if piece and size + len(record.raw) > MAX_CHUNK_BYTES:
                yield kind, labels, piece
                piece, size = [], 0
            piece.append((record, digest))
            size += len(record.raw)
        yield kind, labels, piece
