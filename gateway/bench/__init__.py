"""Benchmark rows: the product's own path, what a user would pick instead, and the limit, side by side.

One module for each row; it ends in `ROW = …`, or `SEVERAL`, where some share what they stand on. A
measurement that does not fit into a row ends in `REPORT = …` and is made only when it is named. `manage.py
bench` finds them. Nothing asserts a time.
"""

import importlib
import pkgutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

PATHS = ("product", "peer", "limit")


class NotInstalled(Exception):
    """The peer is an optional package that is not here; the message says how to get it."""


class Row:
    """One line of the table. Each path does its work once and answers how many units it did.

    The frame times the paths in turns. `setup` and `teardown` run once around all rounds; `before(path)`
    runs untimed before each turn.
    """

    name = ""
    unit = ""  # what a path counts: "rows"
    goal = ""
    product_is = ""
    peer_is = ""
    limit_is = ""
    needs_database = False

    def setup(self) -> None: ...

    def teardown(self) -> None: ...

    def before(self, path: str) -> None: ...

    def product(self) -> int:
        raise NotImplementedError

    def peer(self) -> int:
        raise NotInstalled("none")

    def limit(self) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class Rate:
    """Units a second over the rounds; `missing` says why there are none."""

    rates: tuple[float, ...]
    missing: str = ""

    @property
    def median(self) -> float | None:
        return median(self.rates) if self.rates else None

    def as_json(self) -> dict[str, Any]:
        if not self.rates:
            return {"missing": self.missing}
        return {
            "max": round(max(self.rates), 3),
            "median": round(median(self.rates), 3),
            "min": round(min(self.rates), 3),
        }


@dataclass(frozen=True)
class Result:
    row: Row
    paths: dict[str, Rate]
    database: str

    def ratio(self, other: str) -> float | None:
        ours, theirs = self.paths["product"].median, self.paths[other].median
        return ours / theirs if ours and theirs else None

    def as_json(self) -> dict[str, Any]:
        row = self.row
        return {
            "database": self.database or None,
            "goal": row.goal,
            "row": row.name,
            "unit": f"{row.unit}/s",
            "is": {"product": row.product_is, "peer": row.peer_is, "limit": row.limit_is},
            **{name: rate.as_json() for name, rate in self.paths.items()},
            "of_limit": _round(self.ratio("limit")),
            "times_peer": _round(self.ratio("peer")),
        }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


class Measured(Protocol):
    """What a report found."""

    def as_json(self) -> dict[str, Any]: ...

    def table(self) -> str: ...


class Report(Protocol):
    """A measurement with a table of its own. `run` calls `step` as often as `steps` says."""

    name: str

    def steps(self, rounds: int) -> int: ...

    def run(self, rounds: int, machine: str, step: Callable[[], None]) -> Measured: ...


def rows() -> dict[str, Row]:
    """Every row of this package, by name."""
    together = [row for several in _found("SEVERAL") for row in several]
    return {row.name: row for row in (*_found("ROW"), *together)}


# Rows that belong together, by one name.
GROUPS = {
    "audit": ("audit append", "audit sealing", "export", "verify", "report"),
    "api": ("api read", "job of one patient", "cohort job"),
}


def reports() -> dict[str, Report]:
    """Every report of this package, by name."""
    return {report.name: report for report in _found("REPORT")}


def _found(name: str) -> Iterator[Any]:
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda one: one.name):
        found = getattr(importlib.import_module(f"{__name__}.{module.name}"), name, None)
        if found is not None:
            yield found


def run(row: Row, *, rounds: int, database: str, step: Callable[[], None] = lambda: None) -> Result:
    """Measure one row: in each round every path has its turn, so that a busy machine slows all alike."""
    taken: dict[str, list[float]] = {path: [] for path in PATHS}
    missing: dict[str, str] = {}
    row.setup()
    try:
        for path in _turns(rounds):
            if path not in missing:
                try:
                    row.before(path)
                    start = time.perf_counter()
                    units = getattr(row, path)()
                    taken[path].append(units / (time.perf_counter() - start))
                except NotInstalled as reason:
                    missing[path] = str(reason)
            step()
    finally:
        row.teardown()
    return Result(row, {p: Rate(tuple(taken[p]), missing.get(p, "")) for p in PATHS}, database)


def _turns(rounds: int) -> Iterator[str]:
    for n in range(rounds):
        yield from PATHS if n % 2 == 0 else reversed(PATHS)
