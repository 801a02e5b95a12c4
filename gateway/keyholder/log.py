"""The log of openings: one hash-chained row for each, written before the answer is given.

A row names the signed answers of the ledger that the opening rested on, kept once for all that did,
so that years later it can be shown, offline and without us, that the ledger allowed it then:
`python -m gateway.keyholder.log FOLDER --ledger URL` verifies all of it.
"""

import argparse
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import orjson
import zstandard

from gateway.keyholder.store import Store, read_only
from ledger.channels import named, pairs
from ledger.client import HOME, Answer, Proof, Trust, trust
from ledger.contract.in_force import consent_key
from ledger.contract.organisations import emergency_key
from ledger.contract.state import Json
from ledger.errors import EnvelopeError, GatewayError
from ledger.rpc import from_b64, to_b64

REGROUP, RELABEL = "regroup", "relabel"
INSIDE = frozenset({REGROUP, RELABEL})  # what was opened here was sealed again here: it rests on no door
FIRST = bytes(32)
_MAX_PROOF = 256 * 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """One opening. `ground` is release, output, emergency or subject; ids are hex; `at` is seconds.

    Or one regrouping or relabelling (INSIDE), which rests on no door because nothing leaves: it has no proof.
    """

    at: int
    ground: str
    reference: str  # the job, the access or the regrouping
    attempt: int | None
    part: int | None
    subjects: tuple[str, ...]
    consents: tuple[str, ...]
    opened: tuple[str, ...]  # chunk/version, or the digest of an output
    tx_id: str  # the door's transaction, as we submitted it
    channel: str | None = None  # by whose word; home is not said


def append(db: sqlite3.Connection, entry: Entry, *, proof: bytes, digest: str) -> None:
    """Add a row within the caller's transaction; `proof` and its `digest` as `packed` gives them."""
    last = db.execute("SELECT digest FROM openings ORDER BY id DESC LIMIT 1").fetchone()
    line = orjson.dumps(
        {
            **asdict(entry),
            "previous": (FIRST if last is None else last[0]).hex(),
            "proof": digest,
        },
        option=orjson.OPT_SORT_KEYS,
    )
    for subject in entry.subjects:
        db.execute(
            "INSERT OR IGNORE INTO opened VALUES (?, ?, ?, ?)",
            (entry.reference, entry.attempt or 0, subject, entry.ground),
        )
    if not db.execute("SELECT 1 FROM proofs WHERE digest = ?", (digest,)).fetchone():
        db.execute("INSERT INTO proofs VALUES (?, ?)", (digest, proof))
    db.execute(
        "INSERT INTO openings (line, digest, proof) VALUES (?, ?, ?)", (line, sha256(line).digest(), digest)
    )


def packed(keys: Sequence[str], nonce: bytes, proof: Proof) -> tuple[bytes, str]:
    """A proof with the question that it answers, as it is kept, and its digest."""
    kept = zstandard.ZstdCompressor(level=3).compress(orjson.dumps(_proof_json(keys, nonce, proof)))
    return kept, sha256(kept).hexdigest()


def opened_subjects(store: Store, *, job: str, attempt: int) -> set[str]:
    """The subjects whose records were opened for this attempt."""
    with store.transaction() as db:
        rows = db.execute(
            "SELECT subject FROM opened WHERE reference = ? AND attempt = ? AND ground = 'release'",
            (job, attempt),
        ).fetchall()
    return {subject for (subject,) in rows}


def check_log(folder: Path, trusted: Mapping[str, Trust]) -> Iterator[Json]:
    """Every row, oldest first, verified: the chain, and each proof against its channel's pinned trust.

    Reads the store's file alone, also while a keyholder holds it; neither key nor ledger is needed.
    Raises EnvelopeError (`log_tampered`) with the number of the first bad row, ProofError for a proof.
    """
    with closing(read_only(folder)) as db:

        @lru_cache(maxsize=256)
        def proven(digest: str, channel: str, *, is_emergency: bool) -> frozenset[str]:
            """The keys that a kept proof speaks of, once that channel's answers verify.

            For an emergency our own organisation's answer is enough, where its key was asked for.
            """
            pinned = trusted[channel]
            found = db.execute("SELECT proof FROM proofs WHERE digest = ?", (digest,)).fetchone()
            if found is None or sha256(found[0]).hexdigest() != digest:
                return frozenset()
            keys, nonce, proof = _proof(found[0])
            if is_emergency and emergency_key(pinned.own) in keys:
                pinned.check_own(proof, keys=keys, nonce=nonce)
            else:
                pinned.check(proof, keys=keys, nonce=nonce)
            return frozenset(keys)

        rows = db.execute("SELECT id, line, digest FROM openings ORDER BY id")
        for number, entry in enumerate(chained(rows), start=1):
            # 4. its proof is kept and verifies, 5. and speaks of the row's door and of all its consents;
            # a regrouping has no door, and names no consent and no subject
            if entry["ground"] in INSIDE and not entry["consents"] and not entry["subjects"]:
                yield entry
                continue
            door = f"access/{entry['reference']}"
            if entry["attempt"] is not None:
                door = f"release/{entry['reference']}/{entry['attempt']}"
            channel = entry.get("channel") or HOME
            shown = proven(entry["proof"], channel, is_emergency=entry["ground"] == "emergency")
            if not shown >= {door, *map(consent_key, entry["consents"])}:
                raise _tampered(number)
            yield entry


def chained(
    rows: Iterable[tuple[int, bytes, bytes]], *, after: int = 0, previous: bytes = FIRST
) -> Iterator[Json]:
    """These rows (number, line, digest) of the log as they read, each held against the one before it.

    `previous` is the digest of the row `after`. Raises EnvelopeError (`log_tampered`) with the number of the
    first row that does not hold.
    """
    for number, (row, line, digest) in enumerate(rows, start=after + 1):
        # 1. the row is what was hashed, 2. rows follow each other without a gap, 3. and each names the one
        # before it
        entry = orjson.loads(line) if sha256(line).digest() == digest else {}
        if row != number or entry.get("previous") != previous.hex():
            raise _tampered(number)
        previous = digest
        yield entry


def _tampered(number: int) -> EnvelopeError:
    return EnvelopeError(f"Row {number} of the log of openings was changed.", code="log_tampered")


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: every row holds; 1: one does not, or the log cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.keyholder.log", description="Verify the log of openings, offline."
    )
    parser.add_argument("folder", type=Path, help="the keyholder's folder")
    parser.add_argument("--ledger", required=True, metavar="URL", help="whose pinned keys are trusted")
    parser.add_argument(
        "--channel", action="append", metavar="NAME=URL", default=[], help="another channel than home"
    )
    options = parser.parse_args(arguments)
    from gateway.keyholder.shelves import differing, filed_shelves  # which are made of this log

    count = 0
    try:
        urls = named(options.ledger, pairs(" ".join(options.channel)))
        trusted = {name: trust(url) for name, url in urls.items()}
        for count, _ in enumerate(check_log(options.folder, trusted), start=1):  # noqa: B007
            pass
        with closing(read_only(options.folder)) as db:
            shelves = filed_shelves(db)
            bad = next(differing(db, range(1, shelves + 1)), None)
    except GatewayError as error:
        print(f"{error.message} ({error.code}) {count} rows before it hold.", file=sys.stderr)
        return 1
    except (sqlite3.DatabaseError, orjson.JSONDecodeError, zstandard.ZstdError, LookupError, ValueError):
        print(f"The log of openings is damaged after row {count}. (log_tampered)", file=sys.stderr)
        return 1
    if bad is not None:
        print(f"All rows hold, but what is filed of shelf {bad} differs. (files_differ)", file=sys.stderr)
        return 1
    print(f"{count} openings verified.")
    if shelves:
        print(f"{shelves} shelves are filed as their rows say.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
