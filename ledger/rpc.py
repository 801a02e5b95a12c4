"""The one way two processes on a machine talk: calls over a Unix socket, within this installation.

A frame is a 4-byte big-endian length and that many bytes of canonical JSON, at most 64 MiB.
`{"method", "params"}` is answered by `{"result"}` or `{"error": {class, code, message, status, validity}}`.
Bytes travel as base64 strings under keys that end in `_b64`. Parameters are never logged.
"""

import base64
import binascii
import contextlib
import errno
import fcntl
import grp
import logging
import os
import socket
import stat
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from ledger import errors
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.errors import GatewayError, InvalidInput, LedgerError, NotCommitted

Method = Callable[[Json, int], Json]
"""What a server offers: gets the parameters and the caller's uid, answers an object."""

MAX_FRAME = 64 * 1024 * 1024
FRAME_SECONDS = 30.0  # for the rest of a frame, once its first byte is there
IDLE_SOCKETS = 8
PATH_BYTES = 100  # sockaddr_un holds 108, with a terminator

log = logging.getLogger(__name__)


class AlreadyServed(GatewayError):
    """Another process serves this socket."""

    code = "already_served"
    status = 503


class _Broken(Exception):
    """The connection ended before a whole frame was there."""


# Values


def to_b64(data: bytes) -> str:
    """Bytes as the base64 string (RFC 4648 section 4) that stands under a key ending in `_b64`."""
    return base64.b64encode(data).decode("ascii")


def from_b64(text: Any) -> bytes:
    """The bytes of such a string. Raises InvalidInput."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InvalidInput("A field that ends in _b64 is not base64.") from None


def _encode(value: Json) -> bytes:
    """One frame. Raises InvalidInput for what is not JSON, or larger than a frame may be."""
    try:
        body = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER)
    except (TypeError, orjson.JSONEncodeError):
        raise InvalidInput("A value cannot be written as JSON.", code="not_json") from None
    if len(body) > MAX_FRAME:
        raise InvalidInput("The message is larger than 64 MiB.", code="frame_too_large")
    return struct.pack(">I", len(body)) + body


def _decode(body: bytes | bytearray) -> Json:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidInput("The message is not JSON.", code="not_json") from None
    if not isinstance(value, dict):
        raise InvalidInput("The message is not a JSON object.", code="not_json")
    return value


# Errors


def _known(error: type[BaseException]) -> str:
    """The name of the nearest class that both ends know."""
    for parent in error.__mro__:
        if parent is Refused or getattr(errors, parent.__name__, None) is parent:
            return parent.__name__
    return GatewayError.__name__


def _error_as_json(error: GatewayError | Refused) -> Json:
    value: Json = {"class": _known(type(error)), "code": error.code, "message": error.message}
    if isinstance(error, GatewayError):
        value["status"] = error.status
    if isinstance(error, NotCommitted):
        value["validity"] = error.validity
    return value


def _error_from_json(value: Any) -> Exception:
    """The error as it was raised on the other side. What is malformed becomes a GatewayError."""
    if not isinstance(value, dict):
        return GatewayError("The other process answered something that is not an error.")
    code, message = str(value.get("code", "error")), str(value.get("message", ""))
    if value.get("class") == "Refused":
        return Refused(code, message)
    if value.get("class") == "NotCommitted":
        return NotCommitted(message, validity=str(value.get("validity", "")))
    kind = getattr(errors, str(value.get("class")), GatewayError)
    if not (isinstance(kind, type) and issubclass(kind, GatewayError)):
        kind = GatewayError
    error: GatewayError = kind(message, code=code)
    error.is_remote = True
    if isinstance(status := value.get("status"), int):
        error.status = status
    return error


# Sockets


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """A name for `path` that fits into a socket address, while the context lasts."""
    if len(os.fsencode(path)) <= PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def peer_uid(sock: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel says it."""
    if sys.platform == "darwin":  # struct xucred of LOCAL_PEERCRED: version, uid, …
        return int(struct.unpack("II", sock.getsockopt(0, 1, 8))[1])
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _receive(sock: socket.socket, length: int) -> bytearray:
    buffer = bytearray(length)
    view = memoryview(buffer)
    filled = 0
    while filled < length:
        got = sock.recv_into(view[filled:])
        if got == 0:
            raise _Broken
        filled += got
    return buffer


def _length(header: bytes | bytearray) -> int:
    length = int(struct.unpack(">I", header)[0])
    if length > MAX_FRAME:
        raise InvalidInput("The message is larger than 64 MiB.", code="frame_too_large")
    return length


class Server:
    """Serves `methods` on a socket file until `close()`: one thread for each connection.

    mode 0600, or 0660 when `group` (name or number) is given. Only `uids` may connect (default:
    this process's own), whatever the file's mode allows. Raises AlreadyServed, LedgerError.
    """

    def __init__(
        self,
        path: str | Path,
        methods: Mapping[str, Method],
        *,
        uids: Collection[int] | None = None,
        group: str | int | None = None,
        max_connections: int = 200,
    ) -> None:
        self.path = Path(path)
        self._methods = dict(methods)
        self._uids = frozenset(uids) if uids is not None else frozenset({os.geteuid()})
        self._max = max_connections
        self._threads: dict[threading.Thread, socket.socket] = {}
        self._guard = threading.Lock()
        self._closing = False
        self._lock_file = self._lock()
        try:
            self._listener = self._bind(group)
        except OSError as error:
            os.close(self._lock_file)
            raise LedgerError(f"The socket cannot be made: {error.strerror}.", code="socket_failed") from None
        self._acceptor = threading.Thread(target=self._accept, name="rpc-accept", daemon=True)
        self._acceptor.start()

    def _lock(self) -> int:
        """Hold the lock file for as long as we serve; the system frees it when we die."""
        try:
            file = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(f"The socket cannot be made: {error.strerror}.", code="socket_failed") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise AlreadyServed("Another process already serves this socket. Stop it first.") from None
        return file

    def _bind(self, group: str | int | None) -> socket.socket:
        # We hold the lock, so a socket file that is still there belongs to a process that died.
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise OSError(errno.EEXIST, "a file that is not a socket is in its place")
            self.path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(OSError):
                os.fchmod(listener.fileno(), 0o600)  # Linux makes the file with this mode
            with _address(self.path) as name:
                listener.bind(name)
            if group is not None:
                os.chown(self.path, -1, grp.getgrnam(group).gr_gid if isinstance(group, str) else group)
            self.path.chmod(0o600 if group is None else 0o660)
            listener.listen(128)
        except KeyError:
            listener.close()
            raise OSError(errno.EINVAL, "no such group") from None
        except OSError:
            listener.close()
            raise
        return listener

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if self._closing or error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                    return
                time.sleep(0.05)
                continue
            thread = threading.Thread(target=self._converse, args=(sock,), name="rpc", daemon=True)
            with self._guard:
                if self._closing or len(self._threads) >= self._max:
                    sock.close()
                    continue
                self._threads[thread] = sock
            thread.start()

    def _converse(self, sock: socket.socket) -> None:
        """Answer one connection's calls in turn until it ends."""
        try:
            uid = peer_uid(sock)
            if uid not in self._uids:
                log.warning("refused a connection of uid %d", uid)
                sock.settimeout(FRAME_SECONDS)
                refusal = errors.AccessDenied("This account may not use this socket.", code="account_refused")
                sock.sendall(_encode({"error": _error_as_json(refusal)}))
                return
            while True:
                sock.settimeout(None)
                first = sock.recv(1)
                if not first:
                    return
                sock.settimeout(FRAME_SECONDS)
                if not self._answer(sock, first, uid):
                    return
        except (OSError, _Broken):
            return  # the caller went away; what it asked for is done or was never whole
        finally:
            sock.close()
            with self._guard:
                self._threads.pop(threading.current_thread(), None)

    def _answer(self, sock: socket.socket, first: bytes, uid: int) -> bool:
        """Read one frame and answer it; false when the stream cannot go on."""
        whole = False
        try:
            body = _receive(sock, _length(first + _receive(sock, 3)))
            whole = True
            answer = _encode({"result": self._call(_decode(body), uid)})
        except (GatewayError, Refused) as error:
            answer = _encode({"error": _error_as_json(error)})
        sock.sendall(answer)
        return whole

    def _call(self, request: Json, uid: int) -> Json:
        method, params = self._methods.get(str(request.get("method"))), request.get("params")
        if method is None:
            raise InvalidInput("This process has no such method.", code="unknown_method")
        if not isinstance(params, dict):
            raise InvalidInput("The parameters are not a JSON object.", code="not_json")
        try:
            return method(params, uid)
        except (GatewayError, Refused):
            raise
        except Exception as error:
            # Only where it happened: the error's text may quote what was sent.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s at %s:%s", type(error).__name__, Path(frame.filename).name, frame.lineno)
            raise GatewayError(
                "The process failed to answer; its log says where.", code="internal_error"
            ) from None

    def close(self, *, timeout: float = 5.0) -> None:
        """Stop accepting, let calls under way finish (at most `timeout` seconds), remove the socket file."""
        with self._guard:
            if self._closing:
                return
            self._closing = True
            threads = dict(self._threads)
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in threads.values():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)  # a call that is whole is still answered
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._acceptor.join(1.0)
        os.close(self._lock_file)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    path: str | Path,
    methods: Mapping[str, Method],
    *,
    uids: Collection[int] | None = None,
    group: str | int | None = None,
) -> Server:
    """Start to serve `methods` on the socket file `path`, in threads of this process. See Server."""
    return Server(path, methods, uids=uids, group=group)


class Connection:
    """Calls to the process that serves `path`; safe for threads (a socket for each call) and forks.

    What cannot be reached, breaks or is late raises `unavailable` (a GatewayError class).
    """

    def __init__(self, path: str | Path, *, unavailable: type[GatewayError] = LedgerError) -> None:
        self.path = Path(path)
        self._unavailable = unavailable
        self._idle: list[socket.socket] = []
        self._guard = threading.Lock()
        self._pid = os.getpid()

    def call(self, method: str, params: Json, *, timeout: float = 10.0) -> Json:
        """The method's answer within `timeout` seconds; its error is raised again as it was raised there.

        A call is repeated once, on a new connection, only when it was not sent whole, so the other
        process cannot have acted on it. In any other doubt it raises, and the caller decides.
        """
        frame = _encode({"method": method, "params": params})
        deadline = time.monotonic() + timeout
        sock = self._take()
        try:
            if sock is None or not self._send(sock, frame, deadline):
                if sock is not None:
                    sock.close()
                sock = self._connect(deadline)
                self._send(sock, frame, deadline)  # where it is turned away, the reason can be heard
            answer = self._hear(sock, deadline)
        except TimeoutError:
            raise self._unavailable("The process did not answer in time. It may still act.") from None
        except (OSError, _Broken):
            raise self._unavailable(
                "The connection broke before the answer came. It may have acted."
            ) from None
        if "error" in answer:
            raise _error_from_json(answer["error"])
        result = answer.get("result")
        if not isinstance(result, dict):
            raise self._unavailable("The process answered something that is not a result.")
        return result

    def _take(self) -> socket.socket | None:
        with self._guard:
            if self._pid != os.getpid():  # after a fork, the parent goes on using its sockets
                self._pid, self._idle = os.getpid(), []
            return self._idle.pop() if self._idle else None

    def _connect(self, deadline: float) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(_left(deadline))
            with _address(self.path) as name:
                sock.connect(name)
        except TimeoutError:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            raise self._unavailable(
                f"No process listens on {self.path.name}: {error.strerror}. Start it first."
            ) from None
        return sock

    def _send(self, sock: socket.socket, frame: bytes, deadline: float) -> bool:
        """Whether the whole frame was handed over. If not, nothing was received."""
        try:
            sock.settimeout(_left(deadline))
            sock.sendall(frame)
        except TimeoutError:
            sock.close()
            raise
        except OSError:
            return False
        return True

    def _hear(self, sock: socket.socket, deadline: float) -> Json:
        try:
            sock.settimeout(_left(deadline))
            length = _length(_receive(sock, 4))
            sock.settimeout(_left(deadline))
            answer = _decode(_receive(sock, length))
        except BaseException:
            sock.close()
            raise
        with self._guard:
            if len(self._idle) < IDLE_SOCKETS and self._pid == os.getpid():
                self._idle.append(sock)
                return answer
        sock.close()
        return answer

    def close(self) -> None:
        with self._guard:
            idle, self._idle = self._idle, []
        for sock in idle:
            sock.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
