"""`manage.py bench [ROW…]`: how fast, beside what one would use instead, and beside what is possible."""

import contextlib
import json
import os
import platform
import signal
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from gateway import bench
from gateway.bench.databases import temporary_database


class Command(BaseCommand):
    help = "Measure the product's own paths beside a peer and a limit, interleaved; print medians."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of: {', '.join(_names())}")
        parser.add_argument("--rounds", type=int, default=7, help="turns of each path (default 7)")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the database is stopped too
        known = bench.rows()
        named = [each for name in options["rows"] for each in bench.GROUPS.get(name, (name,))]
        options["rows"] = list(dict.fromkeys(named))
        if unknown := [name for name in options["rows"] if name not in _names()]:
            raise CommandError(f"No such row: {unknown[0]}. There are: {', '.join(_names())}.")
        if options["rounds"] < 1:
            raise CommandError("At least one round is needed.")
        machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
        reports = bench.reports()
        for name in options["rows"]:
            if name in reports:
                self._report(reports[name], machine, options)
        chosen = [known[name] for name in options["rows"] or known if name in known]
        if not chosen:
            return
        results = []
        with (
            contextlib.ExitStack() as stack,
            tqdm(total=len(chosen) * options["rounds"] * 3, unit="turn") as bar,
        ):
            database = ""
            for row in chosen:
                if row.needs_database and not database:
                    bar.set_description("database")
                    database = stack.enter_context(temporary_database())
                bar.set_description(row.name)
                used = database if row.needs_database else ""
                results.append(
                    bench.run(row, rounds=options["rounds"], database=used, step=lambda: _forward(bar))
                )
        if options["json"]:
            answer = {"machine": machine, "rounds": options["rounds"], "rows": [r.as_json() for r in results]}
            self.stdout.write(json.dumps(answer, ensure_ascii=False))
        else:
            self.stdout.write(
                _table(results, f"{machine}; medians of {options['rounds']} rounds (least–most)")
            )

    def _report(self, report: bench.Report, machine: str, options: dict[str, Any]) -> None:
        rounds = options["rounds"]
        try:
            with tqdm(total=report.steps(rounds), unit="turn", desc=report.name) as bar:
                measured = report.run(rounds, machine, lambda: _forward(bar))
        except bench.NotInstalled as missing:
            raise CommandError(str(missing)) from None
        self.stdout.write(json.dumps(measured.as_json()) if options["json"] else measured.table())


def _names() -> list[str]:
    return [*bench.rows(), *bench.reports(), *bench.GROUPS]


def _forward(bar: "tqdm[Any]") -> None:
    bar.update(1)


def _table(results: list[bench.Result], caption: str) -> str:
    head = ["Operation", "Product", "Peer", "Limit", "Of limit", "× peer", "Goal", "Database"]
    lines = [head, ["---"] * len(head)]
    for result in results:
        row = result.row
        rates = [_rate(result.paths[path], row.unit) for path in bench.PATHS]
        ratios = [_ratio(result.ratio("limit")), _ratio(result.ratio("peer"))]
        lines.append([row.name, *rates, *ratios, row.goal, result.database or "–"])
    said = [
        f"- {r.row.name}: product = {r.row.product_is}; peer = {r.row.peer_is}; limit = {r.row.limit_is}"
        for r in results
    ]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", caption, *said])


def _rate(rate: bench.Rate, unit: str) -> str:
    if rate.median is None:
        return rate.missing
    return f"{_number(rate.median)} {unit}/s ({_number(min(rate.rates))}–{_number(max(rate.rates))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
