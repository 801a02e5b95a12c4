"""Making an export: what is in it, and what is said when it cannot be made."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from ledger import verify
from ledger.audit import sealing
from ledger.audit.bundle import ExportFailed
from ledger.audit.export import Export
from ledger.audit.models import AuditBatch, AuditRow
from ledger.embedded.folder import read_public_key
from ledger.errors import InvalidInput
from tests.audit.conftest import ALICE, CHARLIE

pytestmark = pytest.mark.django_db

Exporter = Callable[..., Export]
Act = Callable[..., Any]


def statuses(report: verify.Report) -> dict[str, str]:
    return {check.name: check.status for check in report.checks}


@pytest.fixture
def trust(ledger_folder: Path) -> str:
    return str(ledger_folder / "ledger.pub")


@pytest.mark.parametrize("name", ["export", "export.zip"])
def test_the_whole_log(
    act: Act, export_to: Exporter, relay: Any, trust: str, tmp_path: Path, name: str
) -> None:
    act(5)
    sealing.seal()
    relay()
    act(4, subject=CHARLIE)
    made = export_to(tmp_path / name)
    assert (made.rows, made.size) == (9, 10)
    report = verify.verify(tmp_path / name, trust)
    assert (report.exit, report.verdict) == (0, "verified"), report.checks
    text = " ".join(line for check in report.checks for line in check.says)
    assert "whole log" in text
    assert "log of 9 rows" in text  # the earlier checkpoint that consistency is shown with
    assert os.listdir(tmp_path) == [name]


def test_the_rows_are_the_lines_as_they_were_logged(act: Act, export_to: Exporter, tmp_path: Path) -> None:
    act(3)
    export_to(tmp_path / "out")
    logged = [
        bytes(line) + b"\n" for line in AuditRow.objects.order_by("leaf").values_list("line", flat=True)
    ]
    assert (tmp_path / "out" / "rows.ndjson").read_bytes() == b"".join(logged[:3])
    record = json.loads(logged[3])
    manifest = (tmp_path / "out" / "manifest.json").read_bytes()
    assert record["kind"] == "export.made"
    assert record["details"]["manifest"] == hashlib.sha256(manifest).hexdigest()
    assert (tmp_path / "out" / "verify.py").read_bytes() == Path(verify.__file__).read_bytes()


def test_a_first_export_has_no_earlier_checkpoint(
    act: Act, export_to: Exporter, trust: str, tmp_path: Path
) -> None:
    sealing.seal()
    export_to(tmp_path / "out")
    report = verify.verify(tmp_path / "out", trust)
    assert report.exit == 0
    assert "first checkpoint" in report.checks[3].says[0]


def test_rows_about_one_person(act: Act, export_to: Exporter, trust: str, tmp_path: Path) -> None:
    for _ in range(6):
        act(1)
        act(3, subject=CHARLIE)
        act(2)
    sealing.seal()
    made = export_to(tmp_path / "out", subject=CHARLIE)
    assert made.rows == 18
    rows = (tmp_path / "out" / "rows.ndjson").read_text().splitlines()
    assert {json.loads(row)["subject"] for row in rows} == {CHARLIE}
    assert (tmp_path / "out" / "leaves.txt").read_text().splitlines()[:2] == ["1 4", "7 10"]
    report = verify.verify(tmp_path / "out", trust)
    assert report.exit == 0, report.checks
    assert "cannot show" in report.checks[4].says[0]


def test_a_period_holds_every_row_of_it(act: Act, export_to: Exporter, trust: str, tmp_path: Path) -> None:
    act(12)
    now = timezone.now().replace(microsecond=0)
    for row in AuditRow.objects.all():
        AuditRow.objects.filter(pk=row.pk).update(recorded_at=now - timedelta(hours=row.pk % 4))
    for _ in range(4):
        sealing.seal(limit=3)
    made = export_to(tmp_path / "out", since=now - timedelta(hours=2), until=now)
    inside = AuditRow.objects.filter(recorded_at__gte=now - timedelta(hours=2), recorded_at__lt=now)
    leaves = sorted(leaf for leaf in inside.values_list("leaf", flat=True) if leaf is not None)
    assert (tmp_path / "out" / "leaves.txt").read_text() == f"{leaves[0]} {leaves[-1] + 1}\n"
    assert made.rows == leaves[-1] + 1 - leaves[0]
    assert verify.verify(tmp_path / "out", trust).exit == 0


def test_a_period_without_rows(act: Act, export_to: Exporter, trust: str, tmp_path: Path) -> None:
    act(3)
    made = export_to(tmp_path / "out", since=timezone.now() + timedelta(days=1))
    assert made.rows == 0
    assert verify.verify(tmp_path / "out", trust).exit == 0


def test_consistency_with_a_named_checkpoint(
    act: Act, export_to: Exporter, relay: Any, trust: str, tmp_path: Path
) -> None:
    for _ in range(3):
        act(3)
        sealing.seal()
        relay()
    export_to(tmp_path / "out", compare_with=3)
    report = verify.verify(tmp_path / "out", trust)
    assert report.exit == 0
    assert f"log of 3 rows in block {AuditBatch.objects.get(size=3).block}" in report.checks[3].says[0]
    with pytest.raises(InvalidInput, match="No earlier checkpoint"):
        export_to(tmp_path / "other", compare_with=4)


def test_pages_are_joined(
    act: Act, export_to: Exporter, trust: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.audit.export.PAGE", 7)
    monkeypatch.setattr("ledger.audit.export.SELECTED_PAGE", 3)
    act(20)
    seen: list[int] = []
    export_to(tmp_path / "a", progress=seen.append)
    export_to(tmp_path / "b", subject=ALICE)
    assert sum(seen) == 20
    assert len(seen) == 3
    assert [verify.verify(tmp_path / name, trust).exit for name in "ab"] == [0, 0]


def test_nothing_is_overwritten(act: Act, export_to: Exporter, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidInput, match="already something"):
        export_to(tmp_path / "out")


def test_a_checkpoint_that_does_not_come(
    act: Act, export_to: Exporter, relay: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.outbox.send_pending", lambda *_, **__: None)
    act(2)
    with pytest.raises(ExportFailed, match=r"manage\.py relay") as caught:
        export_to(tmp_path / "out.zip", timeout=0.1)
    assert caught.value.code == "checkpoint_late"
    assert os.listdir(tmp_path) == []


def test_a_gap_in_the_sealed_rows(act: Act, export_to: Exporter, tmp_path: Path) -> None:
    from ledger.audit.tree import TreeDamaged

    act(9)
    sealing.seal()
    AuditRow.objects.filter(leaf=4).delete()
    with pytest.raises(TreeDamaged):
        export_to(tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_an_export_is_not_readable_by_others(act: Act, export_to: Exporter, tmp_path: Path) -> None:
    act()
    export_to(tmp_path / "out")
    export_to(tmp_path / "out.zip")
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0
    assert (tmp_path / "out.zip").stat().st_mode & 0o077 == 0


def test_a_stranger_verifies_with_the_copy_alone(
    act: Act, export_to: Exporter, ledger_folder: Path, tmp_path: Path
) -> None:
    """The program from the bundle, in another folder, without our code, by each form of the key."""
    act(3)
    export_to(tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extract("verify.py", tmp_path)
    key = read_public_key(ledger_folder)
    fingerprint = hashlib.sha256(bytes.fromhex(key)).hexdigest()
    assert fingerprint in (zipfile.ZipFile(tmp_path / "out.zip").read("README.txt").decode())
    for form in (key, fingerprint, str(ledger_folder / "ledger.pub")):
        done = subprocess.run(
            [sys.executable, "-P", "verify.py", "out.zip", "--trust", form, "--json"],
            check=False,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        assert done.returncode == 0, done
        answer = json.loads(done.stdout)
        assert answer["verdict"] == "verified"
        assert {check["status"] for check in answer["checks"].values()} == {"verified"}
