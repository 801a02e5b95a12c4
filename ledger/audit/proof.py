"""The proof of single rows: a small file that a person keeps, and that anyone checks without us.

It holds the rows' lines, the hashes that lead from each to the log's root (RFC 9162 section 2.1.3), and the
ledger's evidence for that root. `ledger/verify.py` checks it; so do our own pages, by the same function.
"""

import base64
from collections.abc import Callable, Sequence
from enum import StrEnum
from urllib.parse import urlsplit

from ledger import verify
from ledger.audit import merkle
from ledger.audit.log import step_of
from ledger.audit.models import AuditBatch, AuditRow
from ledger.audit.tree import SealedTree, TreeDamaged
from ledger.client import public_keys
from ledger.contract.canonical import dumps
from ledger.contract.state import Json

Evidence = Callable[[str], Json]
"""Gives the ledger's evidence for a transaction, as `Ledger.evidence` does."""

MayShow = Callable[[Json], bool]
"""Whether whoever gets the proof may see this evidence."""

MAX_BYTES = 4 << 20  # a Fabric block is in it, whole
LOOKED_AT = 16  # checkpoints after the row, for one that may be shown


class Verdict(StrEnum):
    SEALED = "sealed"
    WAITING = "waiting"  # not yet under a root that the ledger holds
    DIFFERS = "differs"  # the log is not what the ledger's root says: an incident
    FOREIGN = "foreign"  # changed, or of another ledger than ours: anybody can make such a file
    UNKNOWN = "unknown"  # not a proof that we can read


def any_block(evidence: Json) -> bool:
    return True


def shown_alone(evidence: Json) -> bool:
    """Whether the evidence shows the checkpoint's transaction and no other.

    A Fabric block is in it whole; with another transaction that may be a delivery, which names the consents
    that were withheld from a company.
    """
    if evidence.get("kind") != "fabric":
        return True
    return len(verify.each(verify.inside(base64.b64decode(evidence["block"]), 2), 1)) == 1


def build_proof(
    rows: Sequence[AuditRow], evidence: Evidence, *, may_show: MayShow = any_block
) -> bytes | None:
    """The proof of these rows as canonical JSON, or None where they wait to be sealed, under a checkpoint
    that may be shown: of the first few.

        {"checkpoint": {"evidence", "origin", "root", "size"}, "format", "rows": [{"leaf", "line", "path"}]}

    Raises LedgerError, and TreeDamaged where the log has a gap.
    """
    leaves = [row.leaf for row in rows if row.leaf is not None]
    if len(leaves) < len(rows) or not leaves:
        return None
    batches = AuditBatch.objects.filter(size__gt=max(leaves)).exclude(tx_id="").order_by("size")
    signed = ((batch, evidence(batch.tx_id)) for batch in batches[:LOOKED_AT])
    batch, shown = next((pair for pair in signed if may_show(pair[1])), (None, {}))
    if batch is None:
        return None
    nodes = SealedTree(batch.size)
    proved = [
        {
            "leaf": leaf,
            "line": bytes(row.line).decode(),
            "path": [node.hex() for node in merkle.inclusion_proof(leaf, batch.size, nodes)],
        }
        for leaf, row in sorted(zip(leaves, rows, strict=True), key=lambda pair: pair[0])
    ]
    checkpoint = {
        "evidence": shown,
        "origin": batch.origin,
        "root": batch.root,
        "size": batch.size,
    }
    return dumps({"checkpoint": checkpoint, "format": verify.PROOF_FORMAT, "rows": proved})


def judge_rows(
    rows: Sequence[AuditRow], evidence: Evidence, ledger_url: str, *, may_show: MayShow = any_block
) -> tuple[Verdict, bytes | None]:
    """Whether our own rows are what the ledger sealed, and their proof. Raises LedgerError.

    What pages show is read from a row's columns, so those have to agree with its line as well.
    """
    try:
        proof = build_proof(rows, evidence, may_show=may_show)
    except TreeDamaged:
        return Verdict.DIFFERS, None
    if proof is None:
        return Verdict.WAITING, None
    verdict = verify.verify_rows(proof, trust_of(ledger_url)).verdict
    if verdict == "cannot tell":
        return Verdict.UNKNOWN, None
    holds = verdict == "verified" and all(map(agrees, rows))
    return (Verdict.SEALED if holds else Verdict.DIFFERS), proof


def judge_file(data: bytes, ledger_url: str) -> tuple[Verdict, list[Json]]:
    """What a proof that somebody kept says, and its rows' lines where it holds. Nothing of it is stored.

    One that the ledger signed and our log does not bear out any more is DIFFERS: nobody can make one up.
    """
    report = verify.verify_rows(data, trust_of(ledger_url))
    if report.verdict != "verified":
        return (Verdict.FOREIGN if report.verdict == "tampered" else Verdict.UNKNOWN), []
    proof = verify.parse_canonical(data, "proof")
    lines = {row["leaf"]: row["line"].encode() for row in proof["rows"]}
    kept = {
        leaf: bytes(line)
        for leaf, line in AuditRow.objects.filter(leaf__in=lines).values_list("leaf", "line")
    }
    ours = AuditBatch.objects.filter(size=proof["checkpoint"]["size"]).first()
    same = ours is not None and ours.root == proof["checkpoint"]["root"] and kept == lines
    return (Verdict.SEALED if same else Verdict.DIFFERS), [
        verify.parse_canonical(line, "row") for line in lines.values()
    ]


def leaves_of(data: bytes) -> list[int]:
    """The places that a proof which holds is about."""
    return [row["leaf"] for row in verify.parse_canonical(data, "proof")["rows"]]


def trust_of(ledger_url: str) -> verify.Trust:
    """The trust that belongs to our own ledger, for the verifier."""
    if ledger_url.startswith("embedded:"):
        return verify.Trust(frozenset(key.hex() for key in public_keys(ledger_url)))
    from cryptography.x509 import load_pem_x509_certificate

    from ledger.fabric.profile import Profile

    members = Profile.load(urlsplit(ledger_url).path).organisations
    roots = tuple(
        (name, load_pem_x509_certificate(root)) for name, one in members.items() for root in one.roots
    )
    return verify.Trust(roots=roots, needed=len(members) // 2 + 1)


def agrees(row: AuditRow) -> bool:
    """Whether the columns, which pages and look-ups read, say what the row's line says."""
    try:
        line = verify.parse_canonical(bytes(row.line), "row")
        about = step_of(line["kind"], line["details"])
        told = f"{row.recorded_at:%Y-%m-%dT%H:%M:%SZ}"
        said = (line["kind"], line["subject"], about, line["time"])
    except (verify.Tampered, verify.CannotTell, KeyError, TypeError, AttributeError):
        return False
    return said == (row.kind, row.subject, row.step_of, told)
