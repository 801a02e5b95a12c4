"""Inside an opened chunk: one resource a line, the bytes as received. The job child uses this: no Django.

A resource that came over several lines is put on one: a carriage return always carries the byte that
says what stood there. Raw line breaks cannot stand inside a JSON string, so the line is still JSON.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from ledger.contract.items import item_of as item

__all__ = ["as_received", "item", "pack", "portable", "resources", "unpack"]


def pack(received: Iterable[bytes]) -> bytes:
    """NDJSON of resources as received: `\\r` becomes `\\r` + space, then `\\n` becomes `\\r` + tab."""
    return b"".join(_line(raw) + b"\n" for raw in received)


def unpack(ndjson: bytes) -> Iterator[bytes]:
    """The lines, each one JSON object."""
    return filter(None, ndjson.split(b"\n"))


def as_received(line: bytes) -> bytes:
    """The bytes that the source sent: what digests and exports are made of."""
    if b"\r" not in line:
        return line
    return line.replace(b"\r\t", b"\n").replace(b"\r ", b"\r")


def portable(ndjson: bytes) -> bytes:
    """A chunk as NDJSON for anyone: a line break in a resource became a space, and its JSON says the same."""
    return ndjson.replace(b"\r\t", b" ").replace(b"\r ", b" ") if b"\r" in ndjson else ndjson


def resources(ndjson: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each resource of a chunk: its bytes as received, and parsed (validated at ingest, not again)."""
    lines = list(unpack(ndjson))
    # Looking for a carriage return once in all is cheaper than once in each.
    received = map(as_received, lines) if b"\r" in ndjson else lines
    return zip(received, map(orjson.loads, lines), strict=True)


def _line(raw: bytes) -> bytes:
    if b"\r" in raw:
        raw = raw.replace(b"\r", b"\r ")
    return raw.replace(b"\n", b"\r\t")
