"""The frame of the benchmark. What is fast is measured there, never asserted here."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from gateway import bench
from gateway.bench import fabric, fabric_stops, growth, ingest_memory, not_available


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


@pytest.mark.exhaustive
def test_the_rows_of_the_audit_log(capsys: pytest.CaptureFixture[str], django_db_blocker: Any) -> None:
    with django_db_blocker.unblock():  # the bench has a database of its own
        call_command("bench", "audit append", "audit sealing", "--rounds", "1", "--json")
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["row"] for row in rows] == ["audit append", "audit sealing"]
    assert all(row[path]["median"] > 0 for row in rows for path in ("product", "peer", "limit"))


def test_a_group_is_its_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "rows", lambda: {"toy": Toy(), "other": Toy()})
    monkeypatch.setattr(bench, "GROUPS", {"toys": ("toy",)})
    call_command("bench", "toys", "toy", "--rounds", "1", "--json")
    assert [row["row"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["toy"]


@pytest.mark.parametrize("arguments", [["no such row"], ["--rounds", "0"]])
def test_wrong_options(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("bench", *arguments)


def test_every_row_says_what_it_measures() -> None:
    rows: dict[str, Any] = dict(bench.rows())
    assert {name for names in bench.GROUPS.values() for name in names} <= set(rows)
    expected = {"audit append", "audit sealing", "export", "verify", "one decision", "open and parse"}
    assert expected <= set(rows)
    for row in rows.values():
        assert row.unit
        assert row.goal
        assert row.product_is
        assert row.limit_is


def test_a_report_is_made_only_when_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = fabric.Turns()
    made.add({"times": [0.3, 0.25], "took": 1.0, "cpu": 0.01, "failed": 1})

    class Found:
        def as_json(self) -> dict[str, Any]:
            return {"grant": made.as_json()}

        def table(self) -> str:
            return "a table"

    class Toys:
        name = "toys"

        def steps(self, rounds: int) -> int:
            return rounds

        def run(self, rounds: int, machine: str, step: Any) -> Found:
            step()
            return Found()

    monkeypatch.setattr(bench, "reports", lambda: {"toys": Toys()})
    call_command("bench", "toys", "--rounds", "1")
    assert capsys.readouterr().out == "a table\n"
    call_command("bench", "toys", "--rounds", "1", "--json")
    assert json.loads(capsys.readouterr().out) == {
        "grant": {"cpu_ms": 5.0, "failed": 1, "p50_ms": 275.0, "p95_ms": 297.5, "rate": 2.0}
    }
    monkeypatch.setattr(bench, "rows", lambda: {"toy": Toy()})
    call_command("bench", "--rounds", "1")
    assert "a table" not in capsys.readouterr().out


def test_fabric_without_binaries_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FABRIC_BIN_DIR", str(tmp_path))
    with pytest.raises(CommandError, match="FABRIC_BIN_DIR"):
        call_command("bench", "fabric")


def test_fabrics_figures_stand_beside_the_peer_and_the_limit() -> None:
    turns = {name: fabric.Turns() for name in ("product", "peer")}
    turns["product"].add({"times": [0.25] * 4, "took": 1.0, "cpu": 0.01, "failed": 0})
    turns["peer"].add({"times": [0.5] * 2, "took": 1.0, "cpu": 0.02, "failed": 0})
    stops = fabric_stops.Stops((0.2, 0.3), (0.4, 0.6), 60)
    report = fabric.Report("m", "3.1", {("grant", 1): turns}, "", stops, {"peer": 100}, (1.0, 2.0))
    (row,) = report.as_json()["rows"]
    assert (row["times_peer"], row["times_peer_at_equal_cpu"]) == (2.0, 4.0)
    assert (row["limit"], row["of_limit"], row["over_block_ms"]) == (5.0, 0.8, 50.0)
    assert report.as_json()["stop"]["last_key_ms"] == {"p50": 500, "p99": 598}
    report.rows[("grant", 1)]["peer"] = fabric.Turns()
    (row,) = report.as_json()["rows"]
    assert (row["peer"], row["times_peer"]) == (None, None)
    assert "| grant | 1 | 4 /s |" in report.table()


@pytest.mark.exhaustive  # an installation for each size
def test_the_export_that_memory_is_measured_with_is_taken_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_memory, "SIZES", (400, 800))
    measured = ingest_memory.REPORT.run(1, "here", lambda: None).as_json()
    assert [one["resources"] for one in measured["sizes"]] == [400, 800]
    assert all(one["peak_kib"] > 0 for one in measured["sizes"])


def test_growth_finds_and_decides_in_stores_of_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "TIMES", 20)
    monkeypatch.setattr(growth.StoreGrowth, "sizes", (100, 1_000))
    measured = growth.REPORT.run(1, "here", lambda: None)
    assert [one["consents"] for one in measured.as_json()["sizes"]] == [100, 1_000]
    assert "1.00 ×" in measured.table()


def test_what_takes_longer_is_told_apart_and_what_does_not_is_not() -> None:
    even = [n / 100 for n in range(100)]
    later = [each + 0.3 for each in even]
    assert not_available.apart(even, even) == 0
    assert not_available.apart(later, even) > not_available.BY_CHANCE
    assert not_available.apart(even, later) < -not_available.BY_CHANCE
    kinds = dict.fromkeys((*not_available.HIDDEN, not_available.UNKNOWN), even)
    same = not_available.Found("here", {"job": kinds}).as_json()["measured"]["job"]
    assert (same["most_apart"], same["times"]) == (0, 100)
    found = not_available.Found("here", {"job": {**kinds, "stopped": later}})
    assert found.as_json()["measured"]["job"]["most_apart"] > not_available.BY_CHANCE
    assert "| job, 100 each |" in found.table()
