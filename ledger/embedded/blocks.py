"""What stands in the embedded ledger, to the byte: proposals, envelopes, blocks, and their signatures.

No database and no process here; whoever verifies a block offline needs this file alone. All values
are canonical JSON; hashes are SHA-256, signatures Ed25519 (RFC 8032), both lower-case hex in JSON.

    proposal  {args, identity, name, nonce, time, version}            tx_id = SHA-256(tag ‖ proposal)
    body      {event, org, policies, proposal, ranges, reads, result, writes_b64}
    envelope  {body, endorsements: [{key, org, signature}], signature}  no transient data
    header    {config, count, number, previous, state, time, transactions, version}

`transactions` is the Merkle root (RFC 9162 section 2.1) over leaves `validity ‖ LF ‖ envelope`.
`state` is a hash chain: SHA-256(tag ‖ the previous block's root ‖ the block's valid writes), so it
commits to every write in order, costs one hash a block, and is derived again by replaying them.
`config` is the digest of the configuration in force: the ledger's key and the identities' keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.audit.merkle import leaf_hash, root_of
from ledger.contract.state import Endorsers, Json
from ledger.errors import InvalidInput, SendError
from ledger.rpc import from_b64

ORG = "Embedded"
ZERO = "0" * 64
MAX_DEPTH = 64

# What a signature is over begins with its purpose, so that none can be used for another.
PROPOSAL = b"consent-gateway proposal\x00"
ENDORSEMENT = b"consent-gateway endorsement\x00"
ENVELOPE = b"consent-gateway envelope\x00"
BLOCK = b"consent-gateway block\x00"
STATE = b"consent-gateway state\x00"
READ = b"consent-gateway read\x00"

Version = tuple[int, int]
"""(block, position in the block) of the transaction that wrote a key last."""


def canonical(value: Any) -> bytes:
    """The bytes of `ledger.contract.canonical.dumps`, ten times as fast: every envelope passes here often.

    Raises InvalidInput for what has no canonical form.
    """
    _check(value, 0)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER)
    except (TypeError, orjson.JSONEncodeError):
        raise InvalidInput("A value cannot be written as canonical JSON.", code="not_canonical") from None


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInput("A value is nested too deeply.", code="not_canonical")
    if value is None or isinstance(value, str | int):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not (isinstance(key, str) and key.isascii()):
                raise InvalidInput("A key of a value is not ASCII.", code="not_canonical")
            _check(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1)
    else:
        raise InvalidInput("A value cannot be written as canonical JSON.", code="not_canonical")


def parse(data: bytes) -> Json:
    """The object that `data` is the canonical JSON of. Raises InvalidInput."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise InvalidInput("This is not canonical JSON.", code="not_canonical") from None
    if not isinstance(value, dict) or canonical(value) != bytes(data):
        raise InvalidInput("This is not canonical JSON.", code="not_canonical")
    return value


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


# Signatures


def public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def verifies(public: str, signature: Any, message: bytes) -> bool:
    """Whether `signature` (hex) over `message` is by the key `public` (hex)."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def tx_id_of(proposal: Json) -> str:
    return digest(PROPOSAL + canonical(proposal))


def proposal_message(proposal: Json, transient: Json) -> bytes:
    """What the submitter signs to ask for an endorsement; binds the transient data, which is not kept."""
    return PROPOSAL + sha256(canonical(proposal)).digest() + sha256(canonical(transient)).digest()


def endorsement_message(body: Json) -> bytes:
    return ENDORSEMENT + sha256(canonical(body)).digest()


def envelope_message(body: Json, endorsements: Sequence[Json]) -> bytes:
    """What the submitter signs last: what was endorsed, and by whom."""
    return ENVELOPE + sha256(canonical({"body": body, "endorsements": endorsements})).digest()


# Transactions


@dataclass(frozen=True)
class Endorsed:
    """A transaction whose signatures hold, ready to be judged and applied."""

    data: bytes
    tx_id: str
    orgs: frozenset[str]
    event: tuple[str, Json] | None
    reads: dict[str, Version | None]
    ranges: tuple[tuple[str, str, str], ...]
    writes: dict[str, bytes]
    policies: dict[str, Endorsers]


def open_envelope(data: bytes, config: Json) -> Endorsed:
    """The transaction in an envelope, once every signature on it holds. Raises SendError.

    1. the envelope is canonical JSON of the known form
    2. this ledger's key endorsed the body
    3. the identity named in the proposal is configured, and signed the envelope
    """
    try:
        # 1
        envelope = parse(data)
        body, endorsements = envelope["body"], envelope["endorsements"]
        proposal = body["proposal"]
        if set(envelope) != {"body", "endorsements", "signature"} or len(endorsements) != 1:
            raise ValueError
        # 2
        by = endorsements[0]
        if (by["org"], by["key"]) != (config["org"], config["ledger"]):
            raise ValueError
        if not verifies(by["key"], by["signature"], endorsement_message(body)):
            raise ValueError
        # 3
        identity = config["identities"][proposal["identity"]]
        if not verifies(identity["key"], envelope["signature"], envelope_message(body, endorsements)):
            raise ValueError
        event = body["event"]
        return Endorsed(
            data=bytes(data),
            tx_id=tx_id_of(proposal),
            orgs=frozenset({by["org"]}),
            event=None if event is None else (event["name"], event["payload"]),
            reads={key: None if at is None else (at[0], at[1]) for key, at in body["reads"].items()},
            ranges=tuple((span["start"], span["end"], span["digest"]) for span in body["ranges"]),
            writes={key: from_b64(value) for key, value in body["writes_b64"].items()},
            policies={
                key: Endorsers(policy["needed"], tuple(policy["orgs"]))
                for key, policy in body["policies"].items()
            },
        )
    except (InvalidInput, KeyError, TypeError, ValueError, IndexError):
        raise SendError(
            "The envelope is not one that this ledger endorsed and its submitter signed.",
            code="envelope_invalid",
        ) from None


def range_digest(versions: Sequence[tuple[str, Version]]) -> str:
    """What a range read saw: keys and the versions they had, in key order."""
    return digest(canonical([[key, *version] for key, version in versions]))


# Blocks


@dataclass(frozen=True)
class Block:
    """One block as it is stored; `config` only where this block changes the configuration."""

    number: int
    header: bytes
    signature: bytes
    config: bytes | None

    @property
    def hash(self) -> str:
        return digest(self.header)


def transactions_root(transactions: Sequence[tuple[str, bytes]]) -> str:
    """The Merkle root over (validity, envelope) in the block's order."""
    return root_of(
        [leaf_hash(validity.encode() + b"\n" + envelope) for validity, envelope in transactions]
    ).hex()


Change = tuple[str, int, bytes | None, Endorsers | None]
"""(key, position, new value or None if kept, new policy or None if kept)"""


def next_state_root(previous: str, changes: Sequence[Change]) -> str:
    """The state root after a block whose valid transactions made `changes`."""
    listed = [
        [key, position, None if value is None else digest(value), policy and policy_json(policy)]
        for key, position, value, policy in sorted(changes, key=lambda change: change[:2])
    ]
    return digest(STATE + bytes.fromhex(previous) + canonical(listed))


def policy_json(policy: Endorsers) -> Json:
    return {"needed": policy.needed, "orgs": list(policy.orgs)}


def sign_header(header: Json, key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    data = canonical(header)
    return data, key.sign(BLOCK + data)
