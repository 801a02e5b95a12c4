"""Calls to addresses that a client gave us: its key set, its webhooks. None of them reaches our own network.

https only, to a public address that was checked and is the one connected to (no second look-up), no
redirect, bounded in size and time. `settings.OUTBOUND_ALLOWED` names exceptions as "host:port"; they may
be plain http, as in a sandbox on one machine.
"""

import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from ledger.errors import GatewayError, InvalidInput

SECONDS = 5.0
LIMIT = 1 << 17
# Public by their number, yet each carries an IPv4 address that need not be (6to4, NAT64, Teredo), or was for
# sites of their own (RFC 3879) and may still be.
NOT_PUBLIC = [
    ipaddress.ip_network(net)
    for net in ("2002::/16", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "fec0::/10")
]

Resolve = Callable[[str, int], Sequence[str]]


class Unreachable(GatewayError):
    """The address did not answer as it must: asked again later."""

    code = "address_unreachable"
    status = 503


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def check_address(url: str) -> SplitResult:
    """The parts of an address that may be called. Raises InvalidInput (`address`). Nothing is looked up."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput(_("This is not an address."), code="address") from None
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidInput(_("An address has a host, no user name and no fragment."), code="address")
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > 500:
        raise InvalidInput(_("An address is at most 500 visible ASCII characters."), code="address")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_exception(parts.hostname, port or 80)):
        return parts
    raise InvalidInput(_("An address begins with https://."), code="address")


def call(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    resolve: Resolve | None = None,
) -> Answer:
    """One request, at most 5 s and 128 KiB of answer. Raises InvalidInput (`address`), Unreachable.

    An address that stands for any host that is not public is refused, whatever else it stands for.
    """
    parts = check_address(url)
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    deadline = time.monotonic() + SECONDS
    target = _public_address(host, port, resolve or _resolve)
    connection = _Pinned(host, port, target=target, deadline=deadline, tls=parts.scheme == "https")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {
        "Host": parts.netloc,
        "User-Agent": "consent-gateway",
        "Accept-Encoding": "identity",
        **(headers or {}),
    }
    try:
        connection.request(method, path, body=body, headers=sent)
        answer = connection.getresponse()
        received = bytearray()
        while part := answer.read1(LIMIT):
            received += part
            if len(received) > LIMIT:
                raise Unreachable(_("The answer of this address is too long."))
        return Answer(
            answer.status, {name.lower(): value for name, value in answer.getheaders()}, bytes(received)
        )
    except (OSError, http.client.HTTPException, ValueError):
        raise Unreachable(_("The address did not answer.")) from None
    finally:
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """To the address that was checked, over TLS with the certificate of the name; all of it by `deadline`."""

    def __init__(self, host: str, port: int, *, target: str, deadline: float, tls: bool) -> None:
        super().__init__(host, port)
        self._target, self._deadline, self._tls = target, deadline, tls

    def connect(self) -> None:
        sock = socket.create_connection((self._target, self.port), _left(self._deadline))
        try:
            sock.settimeout(_left(self._deadline))
            if self._tls:
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)
            sock.settimeout(_left(self._deadline))
        except BaseException:
            sock.close()
            raise
        self.sock: Any = _ReadUntil(sock, self._deadline)


class _ReadUntil:
    """A socket whose answer is read until the deadline, however often a little of it comes."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline = sock, deadline

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_Timed(self._sock, self._deadline))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Timed(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline = sock, deadline
        self._file: Any = sock.makefile("rb", buffering=0)  # keeps the socket open until it is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._deadline))
        return int(self._file.readinto(buffer) or 0)

    def close(self) -> None:
        self._file.close()
        super().close()


def _left(deadline: float) -> float:
    """Seconds. Raises TimeoutError."""
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    return left


def _public_address(host: str, port: int, resolve: Resolve) -> str:
    try:
        found = resolve(host, port)
    except (OSError, UnicodeError):
        raise Unreachable(_("The host of this address cannot be found.")) from None
    if not found:
        raise Unreachable(_("The host of this address cannot be found."))
    if not _is_exception(host, port) and not all(is_public(each) for each in found):
        raise InvalidInput(_("This address is not on the public internet."), code="address")
    return found[0]


def is_public(address: str) -> bool:
    """Whether an IP address is one that anyone may reach."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in net for net in NOT_PUBLIC):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _resolve(host: str, port: int) -> Sequence[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _is_exception(host: str, port: int) -> bool:
    return f"{host}:{port}" in settings.OUTBOUND_ALLOWED
