"""The log of openings: one hash-chained row for each, written before the answer is given.

A row keeps the signed answers of the ledger that the opening rested on, so that years later it can
be shown, offline and without us, that the ledger allowed it then.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

import orjson
import zstandard

from gateway.keyholder.store import Store
from ledger.client import Answer, Proof, Trust
from ledger.contract.state import Json
from ledger.errors import EnvelopeError
from ledger.rpc import from_b64, to_b64

_FIRST = bytes(32)
_MAX_PROOF = 256 * 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """One opening. `ground` is release, output, emergency or subject; ids are hex; `at` is seconds."""

    at: int
    ground: str
    reference: str  # the job or the access
    attempt: int | None
    part: int | None
    subjects: tuple[str, ...]
    consents: tuple[str, ...]
    opened: tuple[str, ...]  # chunk/version, or the digest of an output
    tx_id: str  # the door's transaction, as we submitted it


def append(db: sqlite3.Connection, entry: Entry, *, keys: Sequence[str], nonce: bytes, proof: Proof) -> None:
    """Add a row within the caller's transaction."""
    kept = zstandard.ZstdCompressor(level=3).compress(orjson.dumps(_proof_json(keys, nonce, proof)))
    last = db.execute("SELECT digest FROM openings ORDER BY id DESC LIMIT 1").fetchone()
    line = orjson.dumps(
        {
            **asdict(entry),
            "previous": (_FIRST if last is None else last[0]).hex(),
            "proof": sha256(kept).hexdigest(),
        },
        option=orjson.OPT_SORT_KEYS,
    )
    for subject in entry.subjects:
        db.execute(
            "INSERT OR IGNORE INTO opened VALUES (?, ?, ?, ?)",
            (entry.reference, entry.attempt or 0, subject, entry.ground),
        )
    db.execute(
        "INSERT INTO openings (line, digest, proof) VALUES (?, ?, ?)", (line, sha256(line).digest(), kept)
    )


def was_opened(store: Store, *, job: str, attempt: int, subject: str) -> bool:
    """Whether records of this subject were opened for this attempt."""
    with store.transaction() as db:
        row = db.execute(
            "SELECT 1 FROM opened WHERE reference = ? AND attempt = ? AND subject = ? AND ground = 'release'",
            (job, attempt, subject),
        ).fetchone()
    return row is not None


def check_log(store: Store, trust: Trust) -> Iterator[Json]:
    """Every row, oldest first, verified: the chain, and each proof against the pinned trust.

    Raises EnvelopeError (`log_tampered`) with the number of the first bad row, ProofError for a proof.
    """
    previous = _FIRST
    with store.transaction() as db:
        rows = db.execute("SELECT id, line, digest, proof FROM openings ORDER BY id").fetchall()
    for number, (row, line, digest, kept) in enumerate(rows, start=1):
        # 1. rows follow each other without a gap, 2. and each names the one before it
        entry = orjson.loads(line)
        whole = row == number and entry["previous"] == previous.hex()
        # 3. the row is what was hashed, 4. and its proof the one that it names
        if not (whole and sha256(line).digest() == digest and sha256(kept).hexdigest() == entry["proof"]):
            raise EnvelopeError(f"Row {number} of the log of openings was changed.", code="log_tampered")
        # 5. the ledger's answers still verify
        keys, nonce, proof = _proof(kept)
        trust.check(proof, keys=keys, nonce=nonce)
        previous = digest
        yield entry


def _proof_json(keys: Sequence[str], nonce: bytes, proof: Proof) -> Json:
    answers = [
        {
            "org": answer.org,
            "payload_b64": to_b64(answer.payload),
            "signature_b64": to_b64(answer.signature),
            "signer_b64": to_b64(answer.signer),
        }
        for answer in proof.answers
    ]
    return {"answers": answers, "keys": list(keys), "kind": proof.kind, "nonce": nonce.hex()}


def _proof(kept: bytes) -> tuple[list[str], bytes, Proof]:
    body = orjson.loads(zstandard.ZstdDecompressor().decompress(kept, max_output_size=_MAX_PROOF))
    answers = tuple(
        Answer(
            answer["org"],
            from_b64(answer["payload_b64"]),
            from_b64(answer["signature_b64"]),
            from_b64(answer["signer_b64"]),
        )
        for answer in body["answers"]
    )
    return body["keys"], bytes.fromhex(body["nonce"]), Proof(body["kind"], answers)
