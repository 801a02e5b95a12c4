"""`manage.py ingest --background` and `--status`: how far a run is, what became of it, and going on."""

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from gateway.records import imports
from gateway.records.models import ImportRun
from tests.conftest import Installation
from tests.records.conftest import observation, patient

Write = Callable[..., Path]
pytestmark = pytest.mark.django_db


@pytest.fixture
def ingests(installation: Installation, settings: Any) -> None:
    settings.KEYHOLDER_SOCKET = installation.keyholder_socket


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("ingest", *arguments, stdout=out)
    return out.getvalue()


def begun(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[str, list[str]]:
    """The run, and the command that its process would run."""
    commands: list[list[str]] = []

    def opened(command: list[str], **options: Any) -> None:
        assert options["start_new_session"]  # it outlives whoever began it
        commands.append(command)

    monkeypatch.setattr(imports.subprocess, "Popen", opened)
    run = json.loads(said("--background", "--json", *arguments))["run"]
    ((_, manage, *command),) = commands
    assert manage == str(imports.ROOT / "manage.py")
    return run, command


def test_a_run_in_the_background(
    ingests: None, write: Write, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process's own command is run here, so that it writes into the test's database."""
    write("1.ndjson", patient(alice_id))
    bad = write("2.ndjson", {"resourceType": "Observation", "id": "x"})
    run, command = begun(monkeypatch, str(bad.parent))
    assert "running  0 %  0 of 2 files" in said("--status")
    with pytest.raises(SystemExit):
        call_command(*command, stdout=StringIO())
    told = json.loads(said("--status", run[:12], "--json"))
    assert (told["state"], told["percent"], told["files_done"]) == ("done", 100, 2)
    assert (told["report"]["resources"], told["report"]["files"]["refused"]) == (1, 1)
    text = said("--status", run)
    assert "refused: file 2 line 1: Observation.status is required" in text
    assert bad.name not in text + json.dumps(ImportRun.objects.get().report)


def test_the_same_files_again_go_on(
    ingests: None, write: Write, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write("1.ndjson", patient(alice_id))
    call_command("ingest", str(first), stdout=StringIO())
    write("2.ndjson", observation("o", f"Patient/{alice_id}"))
    run, command = begun(monkeypatch, str(first.parent))
    call_command(*command, stdout=StringIO())
    report = json.loads(said("--status", run, "--json"))["report"]
    assert (report["files"]["repeated"], report["files"]["taken"], report["sealed"]) == (1, 1, 1)


def test_a_run_that_cannot_go_on_says_why(
    write: Write, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KEYHOLDER_SOCKET = str(tmp_path / "nobody.sock")
    run, command = begun(monkeypatch, str(write("1.ndjson", patient())))
    with pytest.raises(SystemExit):
        call_command(*command, stdout=StringIO())
    assert f"{run[:12]}  failed, keyholder_unavailable" in said("--status")


def test_a_run_of_which_nothing_is_heard_is_lost(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = begun(monkeypatch, str(write("1.ndjson", patient())))
    ImportRun.objects.update(seen_at=timezone.now() - imports.SILENT - timedelta(seconds=1))
    assert f"{run[:12]}  lost" in said("--status")
    imports.note(run, {}, files_done=0, bytes_done=1)  # it was only slow
    assert f"{run[:12]}  running" in said("--status")


def test_what_cannot_be_begun_or_found(tmp_path: Path) -> None:
    for arguments, words in (
        (["--background", str(tmp_path)], "There is no"),
        (["--status", "0" * 64], "no such import"),
        ([], "Name a file"),
    ):
        with pytest.raises(CommandError, match=words):
            said(*arguments)
    assert not ImportRun.objects.exists()
