"""One run of the contract on the last committed state, and what it read and would write.

As on a Fabric peer: no transaction sees its own writes; every key read is recorded with the version
it had (absent keys too), every range with a digest of the keys and versions in it.
"""

from collections.abc import Callable, Iterator, Sequence

from ledger.contract.state import Endorsers, Json, Result, State, Transaction
from ledger.embedded.blocks import ORG, policy_json, range_digest
from ledger.embedded.store import View
from ledger.errors import PrepareError
from ledger.rpc import to_b64

Contract = Callable[[State, Transaction], Result]
MAX_KEY = 400


class Simulation:
    """The `State` that the contract is given, over one snapshot."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._reads: dict[str, list[int] | None] = {}
        self._ranges: list[Json] = []
        self._writes: dict[str, bytes] = {}
        self._policies: dict[str, Endorsers] = {}

    def get(self, key: str) -> bytes | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        for key in keys:
            _check_key(key)
        found = self._view.entries(keys)
        for key in keys:
            entry = found.get(key)
            self._reads[key] = None if entry is None else list(entry.version)
        return [found[key].value if key in found else None for key in keys]

    def range(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        entries = self._view.scan(start, end)
        self._ranges.append(
            {
                "start": start,
                "end": end,
                "digest": range_digest([(key, entry.version) for key, entry in entries]),
            }
        )
        return iter([(key, entry.value) for key, entry in entries])

    def put(self, key: str, value: bytes) -> None:
        _check_key(key)
        if not isinstance(value, bytes) or not value:
            raise PrepareError("The contract wrote something that is not bytes.", code="contract_broken")
        self._writes[key] = value

    def require(self, key: str, policy: Endorsers) -> None:
        _check_key(key)
        if not 0 < policy.needed <= len(set(policy.orgs)):
            raise PrepareError("The contract set a policy nobody can meet.", code="contract_broken")
        self._policies[key] = policy

    def body(self, proposal: Json, result: Result) -> Json:
        """What is endorsed: the run's inputs that are public, what it read, what it would write."""
        for key in self._policies:
            if key not in self._writes and not self._view.entries([key]):
                raise PrepareError("The contract set a policy on an absent key.", code="contract_broken")
        event = None if result.event is None else {"name": result.event[0], "payload": result.event[1]}
        return {
            "event": event,
            "org": ORG,
            "policies": {key: policy_json(policy) for key, policy in self._policies.items()},
            "proposal": proposal,
            "ranges": self._ranges,
            "reads": self._reads,
            "result": result.payload,
            "writes_b64": {key: to_b64(value) for key, value in self._writes.items()},
        }


def _check_key(key: str) -> None:
    if not (isinstance(key, str) and 0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise PrepareError("The contract used a key that is not printable ASCII.", code="contract_broken")
