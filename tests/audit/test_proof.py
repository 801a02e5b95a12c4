"""The proof of single rows: what a person keeps, checked by the program that a third party runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger import verify
from ledger.audit import sealing
from ledger.audit.incidents import PROOF_DIFFERS, open_incident
from ledger.audit.log import Actor
from ledger.audit.models import AuditBatch, AuditRow, Incident
from ledger.audit.proof import Verdict, build_proof, judge_file, judge_rows, trust_of
from ledger.client import Ledger
from ledger.embedded.folder import make_ledger

pytestmark = pytest.mark.django_db


@pytest.fixture
def url(ledger_folder: Path) -> str:
    return f"embedded://{ledger_folder}"


@pytest.fixture
def sealed(act: Callable[..., Any], relay: Callable[[], None]) -> list[AuditRow]:
    """Rows 3 and 8 of a log of 11, in two batches that the ledger holds."""
    for count in (6, 5):
        act(count)
        sealing.seal()
        relay()
    return list(AuditRow.objects.filter(leaf__in=[3, 8]).order_by("leaf"))


@pytest.fixture
def proof(sealed: list[AuditRow], ledger: Ledger) -> bytes:
    found = build_proof(sealed, ledger.evidence)
    assert found is not None
    return found


def test_a_proof_verifies_offline_with_the_ledgers_key_alone(
    proof: bytes, ledger_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "proof.json"
    file.write_bytes(proof)
    assert verify.main([str(file), "--trust", str(ledger_folder / "ledger.pub")]) == 0
    make_ledger(tmp_path / "other")
    assert verify.main([str(file), "--trust", str(tmp_path / "other" / "ledger.pub")]) == 1
    assert verify.main([str(file)]) == 2


def test_a_flipped_bit_anywhere_does_not_verify(proof: bytes, url: str) -> None:
    trust = trust_of(url)
    for at in range(len(proof)):
        changed = bytearray(proof)
        changed[at] ^= 1
        assert verify.verify_rows(bytes(changed), trust).exit != 0, at
    assert judge_file(bytes(changed), url) == (Verdict.UNKNOWN, [])


def test_our_own_rows_are_sealed_or_wait(
    sealed: list[AuditRow], proof: bytes, ledger: Ledger, url: str, act: Callable[..., Any]
) -> None:
    assert judge_rows(sealed, ledger.evidence, url) == (Verdict.SEALED, proof)
    assert judge_rows([*sealed, act()], ledger.evidence, url) == (Verdict.WAITING, None)
    AuditBatch.objects.update(tx_id="")
    assert judge_rows(sealed, ledger.evidence, url) == (Verdict.WAITING, None)


@pytest.mark.parametrize("column", ["line", "kind", "subject", "step_of", "recorded_at", "root", "gone"])
def test_what_was_changed_in_the_database_does_not_match(
    sealed: list[AuditRow], ledger: Ledger, url: str, column: str
) -> None:
    """Whatever of a row is changed, what is shown from it or what was hashed, and the batch's root."""
    row = sealed[0]
    others = AuditRow.objects.filter(pk=row.pk)
    match column:
        case "root":
            AuditBatch.objects.update(root="00" * 32)
        case "gone":
            AuditRow.objects.filter(leaf=4).delete()
        case "line":
            others.update(line=bytes(row.line).replace(b"job.queued", b"job.denied"))
        case "recorded_at":
            others.update(recorded_at=sealed[0].recorded_at.replace(year=2001))
        case _:
            others.update(**{column: "job.denied" if column == "kind" else "ab" * 32})
    verdict, _ = judge_rows(list(AuditRow.objects.filter(leaf__in=[3, 8])), ledger.evidence, url)
    assert verdict == Verdict.DIFFERS


def test_the_first_checkpoint_that_may_be_shown_is_taken(
    sealed: list[AuditRow], ledger: Ledger, act: Callable[..., Any], relay: Callable[[], None]
) -> None:
    act()
    sealing.seal()
    relay()
    first, second = AuditBatch.objects.filter(size__gt=8).order_by("size")

    def but_the_first(evidence: Any) -> bool:
        return bool(evidence != ledger.evidence(first.tx_id))

    found = build_proof(sealed, ledger.evidence, may_show=but_the_first)
    assert json.loads(found or b"")["checkpoint"]["size"] == second.size
    assert build_proof(sealed, ledger.evidence, may_show=lambda evidence: False) is None


def test_a_kept_proof_shows_that_the_log_was_rewritten(proof: bytes, url: str) -> None:
    verdict, lines = judge_file(proof, url)
    assert verdict == Verdict.SEALED
    assert [line["kind"] for line in lines] == ["job.queued"] * 2
    row = AuditRow.objects.get(leaf=8)
    AuditRow.objects.filter(leaf=8).update(line=bytes(row.line).replace(b"queued", b"denied"))
    assert judge_file(proof, url)[0] == Verdict.DIFFERS
    AuditRow.objects.filter(leaf=8).update(line=row.line)
    assert judge_file(proof, url)[0] == Verdict.SEALED
    AuditBatch.objects.all().delete()
    assert judge_file(proof, url)[0] == Verdict.DIFFERS


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b'{"format":1}', b"[" * 100_000, b'{"a":1,"a":2}', b"1e999"]
)
def test_what_is_no_proof_is_unknown(data: bytes, url: str) -> None:
    assert judge_file(data, url)[0] in (Verdict.UNKNOWN, Verdict.FOREIGN)


def test_rows_in_another_order_or_twice_do_not_verify(proof: bytes, url: str) -> None:
    value = json.loads(proof)
    for rows in (value["rows"][::-1], value["rows"][:1] * 2, []):
        changed = verify.canonical({**value, "rows": rows})
        assert judge_file(changed, url)[0] in (Verdict.FOREIGN, Verdict.UNKNOWN)


def test_an_incident_is_opened_once(db: None) -> None:
    for _ in range(2):
        open_incident(code=PROOF_DIFFERS, place="row 4", by=Actor.system("web"))
    assert Incident.objects.count() == 1
    assert AuditRow.objects.filter(kind="incident.opened").count() == 1
