"""The facts of the history check, gathered where they lie: blocks, the keyholder's store, callers' notes.

What is read here is read beside the product's own code paths where that is possible: the embedded blocks and
the log straight from their files, Fabric's blocks from a peer. It judges nothing; `history.py` does.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import zstandard

from gateway.drills.history import Acknowledged, History, Key, Opening, Result, Seen, Write
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.signing import committed
from gateway.keyholder.store import Store
from ledger.client import HOME, Answer, Proof, Trust
from ledger.contract.state import Json
from ledger.errors import GatewayError
from ledger.rpc import from_b64

MAX_PROOF = 256 * 1024 * 1024


def embedded_writes(folder: Path) -> list[Write]:
    """Every write of the embedded ledger's valid transactions, from its file."""
    found = []
    with closing(_read_only(folder / "ledger.sqlite3")) as db:
        rows = db.execute(
            "SELECT block, position, envelope FROM transactions WHERE validity = 'VALID'"
            " ORDER BY block, position"
        )
        for block, position, envelope in rows:
            body = orjson.loads(envelope)["body"]
            for key, value in sorted(body["writes_b64"].items()):
                policy = body["policies"].get(key)
                raised = policy is not None and policy["needed"] == len(policy["orgs"])
                found.append(Write((block, position), key, from_b64(value), raised))
    return found


def embedded_transactions(folder: Path) -> list[tuple[str, str]]:
    """(tx_id, validity) of all of them, in the ledger's order."""
    with closing(_read_only(folder / "ledger.sqlite3")) as db:
        return db.execute("SELECT tx_id, validity FROM transactions ORDER BY block, position").fetchall()


def fabric_writes(blocks: Iterable[Any], *, chaincode: str) -> Iterator[Write]:
    """The same from a channel's blocks (`common.Block`). That a policy was set is all that is read of it."""
    from ledger.fabric.blocks import transactions

    for block in blocks:
        for entry in transactions(block):
            if not entry.is_valid:
                continue
            own = [write for write in entry.writes if write.chaincode == chaincode]
            raised = {write.key for write in own if write.policy}
            for write in own:
                if not write.policy:
                    yield Write((entry.block, entry.index), write.key, write.value, write.key in raised)


def openings(folder: Path, *, channel: str = HOME) -> list[Opening]:
    """The keyholder's log of records and results on a channel, oldest first."""
    with closing(_read_only(folder / "keyholder.sqlite3")) as db:
        lines = [orjson.loads(line) for (line,) in db.execute("SELECT line FROM openings ORDER BY id")]
    # A person's access rests on no consent and no door of a job.
    lines = [one for one in lines if one["attempt"] is not None]
    return [
        Opening(
            at=one["at"],
            ground=one["ground"],
            job=one["reference"],
            attempt=one["attempt"],
            part=one["part"],
            consents=tuple(one["consents"]),
            opened=tuple(one["opened"]),
            proof=one["proof"],
        )
        for one in lines
        if one["attempt"] is not None and (one["channel"] or HOME) == channel
    ]


def proofs(folder: Path, trusted: Trust) -> dict[str, Seen]:
    """Every kept reading by its digest, its signatures verified."""
    with closing(_read_only(folder / "keyholder.sqlite3")) as db:
        rows = db.execute("SELECT digest, proof FROM proofs").fetchall()
    return {digest: _seen(packed, trusted) for digest, packed in rows}


def _seen(packed: bytes, trusted: Trust) -> Seen:
    body = orjson.loads(zstandard.ZstdDecompressor().decompress(packed, max_output_size=MAX_PROOF))
    answers = tuple(
        Answer(
            one["org"],
            from_b64(one["payload_b64"]),
            from_b64(one["signature_b64"]),
            from_b64(one["signer_b64"]),
        )
        for one in body["answers"]
    )
    try:
        proof = Proof(body["kind"], answers)
        readings = trusted.check(proof, keys=body["keys"], nonce=bytes.fromhex(body["nonce"]))
    except GatewayError:
        readings = []
    return Seen(body["nonce"], tuple(readings), max(1, trusted.needed))


def commitments(folder: Path, *, channel: str = HOME) -> dict[str, str]:
    """By consent, the commitment of the opening that the keyholder keeps. No keyholder may run."""
    store = Store(folder, FileKEK(folder / "kek"))
    try:
        return commitments_of(store, channel=channel)
    finally:
        store.close()


def commitments_of(store: Store, *, channel: str = HOME) -> dict[str, str]:
    with store.transaction() as db:
        consents = [consent for (consent,) in db.execute("SELECT consent FROM consents")]
    kept = [opening for consent in consents if (opening := store.opening(consent)) is not None]
    return {one.consent: committed(one) for one in kept if one.channel == channel}


def noted(notes: Iterable[Json]) -> tuple[list[Key], list[Result]]:
    """What callers received, by their own notes."""
    keys, results = [], []
    for note in notes:
        told = {name: value for name, value in note.items() if name != "kind"}
        if note["kind"] == "key":
            keys.append(Key(**told))
        elif note["kind"] == "result":
            results.append(Result(**told))
    return keys, results


def gather(
    writes: Sequence[Write],
    keyholder: Path,
    trusted: Trust,
    notes: Iterable[Json],
    *,
    stops: Sequence[Acknowledged],
    revocations: Sequence[Acknowledged],
    kept: dict[str, str] | None = None,
    delta: float = 1.0,
    channel: str = HOME,
) -> History:
    """One channel's history. `keyholder` is the keyholder's folder; `kept` its commitments, if it runs.

    `writes`, `notes`, `stops` and `revocations` are of that channel alone.
    """
    keys, results = noted(notes)
    return History(
        writes=writes,
        openings=openings(keyholder, channel=channel),
        proofs=proofs(keyholder, trusted),
        keys=keys,
        results=results,
        stops=stops,
        revocations=revocations,
        commitments=commitments(keyholder, channel=channel) if kept is None else kept,
        delta=delta,
    )


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
