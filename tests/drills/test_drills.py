"""`manage.py drill` on real processes: every promise kept, and a broken one is an exit status."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from gateway.drills import catalogue
from gateway.drills.report import Report

REPOSITORY = Path(__file__).resolve().parents[2]
LONG = {"history", "ledger-gone", "keyholder-killed", "disk-full", "lost-kek", "lost-keyholder"}


def drilled(name: str, ledger: str, **options: Any) -> None:
    report = Report(name, ledger)
    catalogue.run(catalogue.drills()[name], ledger, report, options)
    assert report.is_kept, report.as_table()


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", "drill", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] if name in LONG else [])
        for name, drill in catalogue.drills().items()
        if "embedded" in drill.ledgers and name != "history"
    ],
)
def test_on_the_embedded_ledger(name: str, request: pytest.FixtureRequest) -> None:
    if name in ("ledger-gone", "edited-rows", "hammer"):  # they bring a database of their own
        request.getfixturevalue("django_db_blocker").unblock()
    drilled(name, "embedded")


def test_a_short_history() -> None:
    drilled("history", "embedded", jobs=40, stops=10, kills=4)


@pytest.mark.exhaustive
def test_a_thousand_jobs_and_two_hundred_stops() -> None:
    drilled("history", "embedded", jobs=1000, stops=200, kills=30)


def test_the_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("drill", "--list")
    printed = capsys.readouterr().out
    assert all(name in printed for name in catalogue.drills())


def test_the_command_prints_a_table_or_json() -> None:
    done = run("same-envelope-four-times", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kept"] is True
    assert [row["kept"] for row in found["rows"]].count(False) == 0


@pytest.mark.parametrize("arguments", [("no-such-drill",), ("disk-full", "--ledger", "fabric")])
def test_the_command_refuses_what_it_does_not_know(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        call_command("drill", *arguments)


def test_a_broken_promise_is_an_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(drill: Any, ledger: str, report: Report, options: Any) -> None:
        report.promise("one", True, "yes")
        report.promise("two", False, "no")

    monkeypatch.setattr(catalogue, "run", broken)
    with pytest.raises(SystemExit) as found:
        call_command("drill", "mvcc-storm")
    assert found.value.code == 1


def test_a_drill_that_cannot_end_is_a_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ValueError

    monkeypatch.setattr(catalogue, "run", fails)
    with pytest.raises(SystemExit) as found:
        call_command("drill", "mvcc-storm")
    assert found.value.code == 1


def test_a_report_that_promised_nothing_is_not_kept() -> None:
    report = Report("it", "embedded")
    report.saw("something", 1)
    assert not report.is_kept
