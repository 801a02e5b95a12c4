"""The frame of the benchmark. What is fast is measured there, never asserted here."""

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from gateway import bench


class Toy(bench.Row):
    name, unit, goal = "toy", "turns", "none"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def setup(self) -> None:
        self.calls.append("setup")

    def teardown(self) -> None:
        self.calls.append("teardown")

    def product(self) -> int:
        self.calls.append("product")
        return 10

    def limit(self) -> int:
        self.calls.append("limit")
        return 1_000_000


def test_paths_take_turns_and_a_missing_peer_is_said() -> None:
    row = Toy()
    result = bench.run(row, rounds=2, database="")
    assert row.calls == ["setup", "product", "limit", "limit", "product", "teardown"]
    answer = result.as_json()
    assert answer["peer"] == {"missing": "none"}
    assert answer["times_peer"] is None
    assert answer["product"]["min"] <= answer["product"]["median"] <= answer["product"]["max"]
    assert 0 < (result.ratio("limit") or 0) < 1
    assert result.ratio("peer") is None


def test_a_failing_row_is_torn_down() -> None:
    row = Toy()
    row.limit = lambda: 1 // 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        bench.run(row, rounds=1, database="")
    assert row.calls[-1] == "teardown"


def test_the_command_measures_a_real_row(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("bench", "open and parse", "--rounds", "1", "--json")
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["row"] == "open and parse"
    assert row["product"]["median"] > 0
    assert row["peer"]["median"] > 0
    call_command("bench", "one decision", "--rounds", "1")
    assert "| one decision |" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["no such row"], ["--rounds", "0"]])
def test_wrong_options(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("bench", *arguments)


def test_every_row_says_what_it_measures() -> None:
    rows: dict[str, Any] = dict(bench.rows())
    expected = {"audit append", "audit sealing", "export", "verify", "one decision", "open and parse"}
    assert expected <= set(rows)
    for row in rows.values():
        assert row.unit
        assert row.goal
        assert row.product_is
        assert row.limit_is
