"""The command `export_audit`."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from ledger import verify

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def here(ledger_folder: Path, relay: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the test's ledger; the relay runs while it waits."""
    settings.LEDGER_URL = f"embedded://{ledger_folder}"
    monkeypatch.setattr("ledger.audit.export.time.sleep", lambda _: relay())


def test_it_exports_and_says_how_to_verify(
    act: Any, ledger_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act(3)
    call_command("export_audit", tmp_path / "out.zip")
    assert "3 rows in" in capsys.readouterr().out
    assert verify.verify(tmp_path / "out.zip", str(ledger_folder / "ledger.pub")).exit == 0


def test_about_one_patient(alice: Any, act: Any, ledger_folder: Path, tmp_path: Path) -> None:
    act(2)
    act(2, subject=alice.pseudonym)
    call_command("export_audit", tmp_path / "out", "--patient", alice.pk)
    assert (tmp_path / "out" / "leaves.txt").read_text() == "2 4\n"
    assert alice.name not in (tmp_path / "out" / "rows.ndjson").read_text()
    assert verify.verify(tmp_path / "out", str(ledger_folder / "ledger.pub")).exit == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--from", "yesterday"], "written 2026-05-31"),
        (["--until", "2026-13-45"], "written 2026-05-31"),
        (["--subject", "alice"], "64 lower-case hex"),
        (["--patient", "ab" * 32], "no patient"),
        (["--patient", "ab" * 32, "--subject", "ab" * 32], "not both"),
        (["--compare", "5"], "No earlier checkpoint"),
    ],
)
def test_wrong_options(act: Any, tmp_path: Path, options: list[str], says: str) -> None:
    act()
    with pytest.raises(CommandError, match=says):
        call_command("export_audit", tmp_path / "out", *options)
    assert not list(tmp_path.iterdir())


def test_a_ledger_that_is_down(act: Any, tmp_path: Path, settings: Any, ledger_folder: Path) -> None:
    act()
    (ledger_folder / "ledger.sock").unlink()
    with pytest.raises(CommandError, match="ledger_unavailable"):
        call_command("export_audit", tmp_path / "out")
    assert not list(tmp_path.iterdir())
