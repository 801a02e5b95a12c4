"""The contract on a Fabric peer: one process for each organisation, `python -m ledger.chaincode`.

This file binds `ledger.contract` to `ledger.shim`: it reads who submits, holds the submitter's clock
against its own, hands the contract its state, and answers in canonical JSON. It decides nothing itself.
"""

import base64
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from ledger.contract import canonical
from ledger.contract.errors import Refused
from ledger.contract.state import Endorsers, Json, Result, State, Transaction
from ledger.shim import Response, Server, Stub, Tls

# Seconds that a transaction's time may be from this organisation's clock.
CLOCK_SECONDS = 10
# A wrong clock must not keep anyone from stopping.
CLOCK_EXEMPT = {"RevokeConsent"}
READ = "Read"
MAX_READ_KEYS = 10_000

ROLES = ("keyholder", "gateway", "admin")
# Where Fabric CA puts the attributes of a registered identity: {"attrs": {name: value}}.
ATTRIBUTES = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")
ROLE_ATTRIBUTE = "gateway.role"
ROLE_IN_NAME = re.compile(r"(?P<role>[a-z]+)[0-9]*(@.*)?")


Contract = Callable[[State, Transaction], Result]


def contract() -> Contract:
    """The rules that every ledger runs."""
    from ledger.contract.transactions import run

    return run


class Chaincode:
    """Runs one proposed transaction at a time on each calling thread. `clock` gives seconds since 1970."""

    def __init__(self, run: Contract, *, clock: Callable[[], float] = time.time) -> None:
        self._contract = run
        self._clock = clock

    def invoke(self, stub: Stub) -> Response:
        """200 with the result in canonical JSON, or 409 with `code: sentence` when the contract refuses."""
        try:
            name, args = arguments(stub)
            if name == READ:
                return Response(200, canonical.dumps(read(stub, args)))
            self._hold_to_clock(name, stub.seconds)
            transaction = Transaction(
                name=name,
                args=args,
                tx_id=stub.tx_id,
                time=stub.seconds,
                org=stub.msp,
                role=role_of(stub.certificate),
                transient=stub.transient,
            )
            result = self._contract(PeerState(stub), transaction)
        except Refused as refused:
            return Response(409, message=f"{refused.code}: {refused.message}")
        event = None
        if result.event is not None:
            event = (result.event[0], canonical.dumps(result.event[1]))
        return Response(200, canonical.dumps(result.payload), event=event)

    def _hold_to_clock(self, name: str, seconds: int) -> None:
        """Raises Refused when the submitter's clock is too far from ours: nobody can date back or ahead."""
        if name in CLOCK_EXEMPT:
            return
        if abs(seconds - self._clock()) > CLOCK_SECONDS:
            raise Refused(
                "clock_skew",
                f"The submitter's clock is more than {CLOCK_SECONDS} seconds from this organisation's clock. "
                "Set both by a time server.",
            )


def arguments(stub: Stub) -> tuple[str, Json]:
    """The transaction's name and its arguments, canonical JSON. Raises Refused."""
    args = canonical.load_canonical(stub.args[1]) if len(stub.args) == 2 else None
    if not isinstance(args, dict) or not stub.args[0].isascii():
        raise Refused("invalid_arguments", "A transaction takes its name and one JSON object.")
    return stub.args[0].decode("ascii"), args


def read(stub: Stub, args: Json) -> Json:
    """`Read {"keys", "nonce"}` answers `{"values": [base64 or null, …]}`, which the peer signs.

    A revoked consent is an answer of 200 like any other: Fabric signs nothing of 400 and above.
    """
    keys, nonce = args.get("keys"), args.get("nonce")
    if set(args) != {"keys", "nonce"} or not isinstance(nonce, str) or not isinstance(keys, list):
        raise Refused("invalid_arguments", "Read takes keys and a nonce.")
    if len(keys) > MAX_READ_KEYS or not all(isinstance(key, str) and key for key in keys):
        raise Refused("invalid_arguments", f"Read takes at most {MAX_READ_KEYS} keys, none of them empty.")
    values = stub.get_many(keys)
    return {"values": [None if value is None else base64.b64encode(value).decode() for value in values]}


@lru_cache(maxsize=256)
def role_of(certificate: bytes) -> str:
    """What the submitter may do, from its certificate (PEM); the peer has verified that already.

    1. The Fabric CA attribute `gateway.role`, where the certificate has attributes that name it.
    2. Else the common name up to `@` without trailing digits: `keyholder@hospital.example`, `Admin@…`.
    An unknown role is "", which the contract refuses wherever a role matters.
    """
    parsed = x509.load_pem_x509_certificate(certificate)
    role = ""
    names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) == 1 and (match := ROLE_IN_NAME.fullmatch(str(names[0].value).lower())):
        role = match["role"]
    try:
        extension = parsed.extensions.get_extension_for_oid(ATTRIBUTES).value
        attributes = json.loads(extension.public_bytes()).get("attrs", {})
        role = attributes.get(ROLE_ATTRIBUTE, role)
    except x509.ExtensionNotFound:
        pass
    return role if role in ROLES else ""


class PeerState:
    """The contract's `State` over one transaction of a peer."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    def get(self, key: str) -> bytes | None:
        return self._stub.get(key)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._stub.get_many(keys)

    def range(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        return self._stub.range(start, end)

    def put(self, key: str, value: bytes) -> None:
        self._stub.put(key, value)

    def require(self, key: str, policy: Endorsers) -> None:
        self._stub.require(key, policy.needed, policy.orgs)


def _pem(variable: str) -> bytes:
    try:
        return Path(os.environ[variable]).read_bytes()
    except (KeyError, OSError):
        raise SystemExit(
            f"{variable} must name a readable PEM file, or CHAINCODE_TLS_DISABLED be true"
        ) from None


def serve(chaincode: Chaincode) -> int:
    """Serve until SIGTERM. Settings are those of Fabric's own chaincode servers:

    CHAINCODE_ID (the package id), CHAINCODE_SERVER_ADDRESS, CHAINCODE_TLS_KEY, CHAINCODE_TLS_CERT and
    CHAINCODE_CLIENT_CA_CERT (PEM files: only peers with a certificate from the last may call), or
    CHAINCODE_TLS_DISABLED=true where both are on one machine.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    try:
        chaincode_id, address = os.environ["CHAINCODE_ID"], os.environ["CHAINCODE_SERVER_ADDRESS"]
    except KeyError as missing:
        raise SystemExit(f"{missing.args[0]} must be set") from None
    tls = None
    if os.environ.get("CHAINCODE_TLS_DISABLED", "false").lower() != "true":
        tls = Tls(_pem("CHAINCODE_TLS_KEY"), _pem("CHAINCODE_TLS_CERT"), _pem("CHAINCODE_CLIENT_CA_CERT"))
    server = Server(chaincode.invoke, chaincode_id=chaincode_id, address=address, tls=tls)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    server.start()
    logging.getLogger(__name__).info("listening on port %d", server.port)
    stopped.wait()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(serve(Chaincode(contract())))
