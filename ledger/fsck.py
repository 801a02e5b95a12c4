"""Checking a whole ledger again from its first block on: the report, and which ledger's check makes it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from ledger.contract.canonical import load_canonical
from ledger.contract.checkpoint import checkpoint_key, extends
from ledger.contract.state import Json

CHECKPOINTS = checkpoint_key("")

Progress = Callable[[int, int], None]
"""Called after each block with (done, total)."""


@dataclass(frozen=True)
class Report:
    """What was checked; `problem` and the first bad `block` (None: the ledger as a whole) when not good.

    `unchecked` says in words what this ledger gave no means to check.
    """

    good: bool
    blocks: int
    transactions: int
    keys: int
    block: int | None = None
    problem: str | None = None
    unchecked: tuple[str, ...] = ()

    def as_json(self) -> Json:
        return asdict(self)


def log_grew(key: str, args: Json, before: bytes | None, after: bytes) -> bool:
    """Whether a Checkpoint with these arguments, which wrote `after` where `before` stood, extends it.

    The contract that endorsed it found so; this finds it again from the ledger's own bytes.
    """
    if "proof" not in args:  # before checkpoints had proofs, each stood under a key of its own
        return key == f"checkpoint/{args['size']:016d}"
    was, now = None if before is None else load_canonical(before), load_canonical(after)
    told = was and {"root": was["root"], "size": was["size"]}
    return (
        key == checkpoint_key(args["origin"])
        and (now["size"], now["root"], now["previous"]) == (args["size"], args["root"], told)
        and now["size"] > (was["size"] if was else 0)
        and extends(was, args)
    )


def check(url: str, *, progress: Progress | None = None) -> Report:
    """The report on the ledger of this LEDGER_URL. Raises LedgerError when it cannot be read."""
    parts = urlsplit(url)
    if parts.scheme == "embedded":
        from ledger.embedded import fsck as embedded

        return embedded.check(parts.path, progress=progress)
    if parts.scheme == "fabric":
        from ledger.fabric import fsck as fabric

        return fabric.check(parts.path, progress=progress)
    raise ValueError("LEDGER_URL must start with embedded:// or fabric://")
