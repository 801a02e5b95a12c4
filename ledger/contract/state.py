"""What a contract function may touch: the transaction that runs it, and the world state.

Nothing else enters this room: no clock, no random source, no file, no float. The embedded ledger
and a Fabric peer each hand in their own `State`; the functions cannot tell them apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Json = dict[str, Any]


class State(Protocol):
    """The world state as a transaction sees it: the last committed one.

    A transaction does not read its own writes (Fabric's rule, kept by every ledger here).
    """

    def get(self, key: str) -> bytes | None:
        """The committed value of `key`, or None."""
        ...

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The committed values of `keys`, in their order. One round trip where the peer can."""
        ...

    def range(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        """Committed pairs with start <= key < end, in key order."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Write `value` at commit."""
        ...

    def require(self, key: str, policy: "Endorsers") -> None:
        """From commit on, writing `key` needs these endorsements (Fabric: VALIDATION_PARAMETER)."""
        ...


@dataclass(frozen=True)
class Endorsers:
    """Key-level endorsement: at least `needed` of `orgs` (MSP ids, sorted) must endorse a write."""

    needed: int
    orgs: tuple[str, ...]


@dataclass(frozen=True)
class Transaction:
    """One proposed transaction.

    args      canonical JSON values; they are public and stand on the ledger for ever
    transient secret inputs (consent openings, the request); they never reach the ledger
    tx_id     lower-case hex
    time      the transaction's timestamp, whole seconds since 1970 UTC
    org       MSP id of the submitter
    role      what the submitter's identity may do: "keyholder", "gateway" or "admin"
    """

    name: str
    args: Json
    tx_id: str
    time: int
    org: str
    role: str
    transient: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a transaction answers: `payload` to the caller, `event` (name, payload) to listeners.

    Both are canonical JSON and public.
    """

    payload: Json
    event: tuple[str, Json] | None = None
