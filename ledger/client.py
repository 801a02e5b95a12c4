"""The seam to the ledger: `prepare -> send -> outcome`, evaluate, signed reads, events.

What is above this file cannot tell the embedded ledger from a Fabric channel. The envelope is
stored by the caller *before* it is sent, because an orderer's acknowledgement is not durable: on
an unknown outcome the same envelope is sent again, and the state changes once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from ledger.contract.state import Json

# The channel of LEDGER_URL, and of all that was written before there were several (ledger/channels.py).
HOME = "home"

VALID = "VALID"
MVCC_READ_CONFLICT = "MVCC_READ_CONFLICT"
ENDORSEMENT_POLICY_FAILURE = "ENDORSEMENT_POLICY_FAILURE"

# These say that somebody else's transaction came first: a new one may succeed.
CONFLICTS = frozenset({MVCC_READ_CONFLICT, "PHANTOM_READ_CONFLICT"})
# So may this: who must endorse a key can change with a transaction of the same block, and the peers look at
# endorsements before versions. After so many in a row it is what it says: the organisations refuse.
POLICY_TRIES = 3


def may_prepare_again(validity: str, policy_failures: int) -> bool:
    """Whether a new transaction may do what this invalid one did not.

    `policy_failures` counts the ENDORSEMENT_POLICY_FAILURE so far in a row, this one included.
    """
    return validity in CONFLICTS or (
        validity == ENDORSEMENT_POLICY_FAILURE and policy_failures < POLICY_TRIES
    )


@dataclass(frozen=True)
class Envelope:
    """A signed transaction, ready to send; it carries no transient data.

    `result` is what the contract answered to the endorsers; it counts only once committed.
    `data` is opaque bytes of the ledger's own form; keep them and send exactly them.
    """

    tx_id: str
    data: bytes
    result: Json


@dataclass(frozen=True)
class Outcome:
    """What became of a transaction: `validity` in Fabric's words, and the block that says so."""

    tx_id: str
    validity: str
    block: int

    @property
    def is_valid(self) -> bool:
        return self.validity == VALID


@dataclass(frozen=True)
class Event:
    """An event of a *valid* transaction. `(block, index)` orders events and is the checkpoint.

    `channel` is the name of the channel that it was heard on.
    """

    block: int
    index: int
    tx_id: str
    name: str
    payload: Json
    channel: str = HOME


@dataclass(frozen=True)
class Answer:
    """One organisation's signed answer to a read: everything needed to verify it later, offline."""

    org: str
    payload: bytes
    signature: bytes
    signer: bytes


@dataclass(frozen=True)
class Proof:
    """The answers of the organisations that answered. `kind` is "embedded" or "fabric"."""

    kind: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Reading:
    """One organisation's verified view: its height (blocks), and value or None for each key asked.

    `blocks` has the number of the block that wrote each key that has a value, where the ledger signs it.
    """

    org: str
    height: int
    values: Mapping[str, bytes | None]
    blocks: Mapping[str, int] = field(default_factory=dict)


class Trust(Protocol):
    """Whom we believe. Pinned at installation; needs no connection.

    `identity` names the ledger that is meant, in words that stay the same as long as it is that one; `own` is
    our organisation on it (MSP id).
    """

    needed: int
    identity: str
    own: str

    def check(self, proof: Proof, *, keys: Sequence[str], nonce: bytes) -> list[Reading]:
        """The verified readings of at least `needed` distinct organisations.

        An answer that does not hold counts for nothing. Raises ProofError when fewer than `needed`
        hold. A fresh nonce is not a fresh state: the caller still refuses if *any* reading shows a
        revocation or a gap.
        """
        ...

    def check_own(self, proof: Proof, *, keys: Sequence[str], nonce: bytes) -> Reading:
        """The verified reading of our own organisation, whoever else answered. Raises ProofError.

        It is one witness: enough for what that organisation alone may write.
        """
        ...


class Ledger(Protocol):
    """One identity's connection to one ledger (on Fabric: one channel and chaincode)."""

    def prepare(self, name: str, args: Json, transient: Mapping[str, bytes] | None = None) -> Envelope:
        """Have the transaction simulated and endorsed. Raises Refused, PrepareError."""
        ...

    def send(self, envelope: Envelope) -> None:
        """Hand the envelope to be ordered; harmless to repeat. Raises SendError."""
        ...

    def outcome(self, tx_id: str, *, timeout: float) -> Outcome:
        """Wait (seconds) until the transaction stands in a block. Raises OutcomeUnknown."""
        ...

    def read(self, keys: Sequence[str], *, nonce: bytes) -> Proof:
        """Signed answers over (keys, values, height, nonce), not yet verified. Raises LedgerError."""
        ...

    def read_own(self, keys: Sequence[str], *, nonce: bytes) -> Proof:
        """As `read`, of our own organisation alone: nobody else's silence takes time. Raises LedgerError."""
        ...

    def evaluate(self, keys: Sequence[str]) -> list[bytes | None]:
        """Committed values from one peer: for pages, never for an opening. Raises LedgerError."""
        ...

    def events(self, after: tuple[int, int], *, wait: float) -> Iterator[Event]:
        """Events after the checkpoint `(block, index)`, oldest first; `(-1, -1)` is the beginning.

        Ends when none came for `wait` seconds and all that the ledger had at first was looked through; else
        raises LedgerError. The caller makes its checkpoint durable together
        with what it did, and handles an event that comes twice.
        """
        ...

    def height(self) -> int:
        """Number of blocks. Raises LedgerError."""
        ...

    def evidence(self, tx_id: str) -> Json:
        """What shows a third party, offline, that a committed transaction stands on the ledger.

        Its `kind` says how `ledger/verify.py` checks it. Raises LedgerError.
        """
        ...

    def close(self) -> None: ...


def connect(url: str, *, identity: str) -> Ledger:
    """Open `embedded:///path/to/ledger/folder` or `fabric:///path/to/profile.json` as `identity`.

    `identity` is the name of a key pair of this installation ("keyholder", "gateway", "admin").
    """
    parts = urlsplit(url)
    if parts.scheme == "embedded":
        from ledger.embedded.client import EmbeddedLedger

        return EmbeddedLedger(parts.path, identity=identity)
    if parts.scheme == "fabric":
        from ledger.fabric.client import FabricLedger

        return FabricLedger.from_profile(parts.path, identity=identity)
    raise ValueError("LEDGER_URL must start with embedded:// or fabric://")


def trust(url: str) -> Trust:
    """The pinned trust that belongs to `url`."""
    parts = urlsplit(url)
    if parts.scheme == "embedded":
        from ledger.embedded.trust import EmbeddedTrust

        return EmbeddedTrust.from_folder(parts.path)
    if parts.scheme == "fabric":
        from ledger.fabric.trust import FabricTrust

        return FabricTrust.from_profile(parts.path)
    raise ValueError("LEDGER_URL must start with embedded:// or fabric://")


def public_keys(url: str) -> list[bytes]:
    """What a third party trusts: the embedded ledger's key (32 bytes), or the organisations' roots (DER)."""
    parts = urlsplit(url)
    if parts.scheme == "embedded":
        from ledger.embedded.folder import read_public_key

        return [bytes.fromhex(read_public_key(Path(parts.path)))]
    if parts.scheme == "fabric":
        from ledger.fabric.trust import root_certificates

        return root_certificates(parts.path)
    raise ValueError("LEDGER_URL must start with embedded:// or fabric://")
