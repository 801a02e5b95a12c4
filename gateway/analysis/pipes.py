"""How a worker and its job child talk: frames on the child's standard input and output.

A frame is a 4-byte big-endian length and that many bytes of JSON. Bytes travel as base64 under keys
that end in `_b64`. Imported by the child: no Django.
"""

import os
import selectors
import time
from typing import Any

import orjson

from ledger.errors import GatewayError

Frame = dict[str, Any]

MAX_FRAME = 100 * 1024 * 1024  # a chunk of 64 MiB, in base64
_STEP = 1 << 16  # what a pipe holds


class ChildFailed(GatewayError):
    """The job child ended, was stopped by a limit, or did not keep to the protocol (500)."""

    code = "child_failed"


def write_frame(fd: int, frame: Frame, *, timeout: float | None = None) -> None:
    """Write one frame. Raises ChildFailed when the other end is gone or is not read in `timeout` seconds."""
    body = orjson.dumps(frame)
    data = memoryview(len(body).to_bytes(4, "big") + body)
    deadline = None if timeout is None else time.monotonic() + timeout
    while data:
        _wait(fd, selectors.EVENT_WRITE, deadline)
        try:
            data = data[os.write(fd, data[:_STEP] if timeout is not None else data) :]
        except BlockingIOError:
            continue
        except OSError:
            raise ChildFailed("The job child ended before its work was done.") from None


def read_frame(fd: int, *, timeout: float | None = None, limit: int = MAX_FRAME) -> Frame | None:
    """The next frame, or None at the end of the stream. Raises ChildFailed."""
    deadline = None if timeout is None else time.monotonic() + timeout
    head = _read(fd, 4, deadline)
    if not head:
        return None
    length = int.from_bytes(head, "big")
    if len(head) < 4 or length > limit:
        raise ChildFailed("The job child and its worker do not understand each other.")
    body = _read(fd, length, deadline)
    try:
        frame = orjson.loads(body) if len(body) == length else None
    except orjson.JSONDecodeError:
        frame = None
    if not isinstance(frame, dict):
        raise ChildFailed("The job child and its worker do not understand each other.")
    return frame


def _read(fd: int, length: int, deadline: float | None) -> bytes:
    """`length` bytes, or fewer at the end of the stream."""
    data = bytearray()
    while len(data) < length:
        _wait(fd, selectors.EVENT_READ, deadline)
        try:
            piece = os.read(fd, min(length - len(data), 1 << 20))
        except BlockingIOError:
            continue
        if not piece:
            break
        data += piece
    return bytes(data)


def _wait(fd: int, event: int, deadline: float | None) -> None:
    if deadline is None:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(fd, event)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise ChildFailed("The job child did not answer in time.", code="child_timeout")
