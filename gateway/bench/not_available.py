"""Whether time tells apart what one answer hides: a refusal, a stop, a question that waits, an end, nobody.

`manage.py bench "not available"`, against an installation of its own. Each kind has its turn in a new order;
what is measured is what a client can see: how long a decision takes over one connection (the median of ten in
a row, which share what the machine does meanwhile), and how long a job took by its own two times. A pair of
kinds is told apart by how often one takes longer than the other (Mann-Whitney): beyond `BY_CHANCE` standard
errors, over the ten pairs, chance comes in one run of a hundred.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from statistics import median, quantiles
from typing import Any

from gateway.bench import Measured
from gateway.bench.served import Served

# The sandbox's people, by what they did.
HIDDEN = {"refused": "Ruth", "stopped": "Stan", "waiting": "Paul", "ended": "Eva"}
UNKNOWN = "unknown"
DECISIONS = 10  # in each turn
BY_CHANCE = 3.3

Times = Mapping[str, Sequence[float]]
"""Seconds, by kind."""


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """By how many standard errors the first takes longer than the second more often, or less often, than
    half of the times; ties count half."""
    longer = sum((a > b) + (a == b) / 2 for a in one for b in other)
    pairs = len(one) * len(other)
    error: float = ((len(one) + len(other) + 1) / (12 * pairs)) ** 0.5
    return (longer / pairs - 0.5) / error


def most_apart(times: Times) -> float:
    return max(abs(apart(times[one], times[other])) for one, other in combinations(times, 2))


@dataclass(frozen=True)
class Found:
    machine: str
    times: Mapping[str, Times]

    def as_json(self) -> dict[str, Any]:
        return {
            "by_chance": BY_CHANCE,
            "machine": self.machine,
            "measured": {
                what: {
                    "ms": {kind: _quartiles(taken) for kind, taken in times.items()},
                    "most_apart": round(most_apart(times), 2),
                    "times": len(next(iter(times.values()))),
                }
                for what, times in self.times.items()
            },
            "report": "not available",
        }

    def table(self) -> str:
        kinds = [*HIDDEN, UNKNOWN]
        lines = ["| | " + " | ".join(kinds) + " | Most apart |", "|---" * (len(kinds) + 2) + "|"]
        for what, found in self.as_json()["measured"].items():
            told = [f"{ms[1]:.1f} ms ({ms[0]:.1f}–{ms[2]:.1f})" for ms in map(found["ms"].get, kinds)]
            lines.append(f"| {what}, {found['times']} each | {' | '.join(told)} | {found['most_apart']} |")
        said = f"medians and quartiles; up to {BY_CHANCE} standard errors is chance"
        return "\n".join([*lines, "", f"{self.machine}; {said}"])


def _quartiles(taken: Sequence[float]) -> list[float]:
    return [round(each * 1e3, 2) for each in quantiles(taken, n=4, method="inclusive")]


class NotAvailable:
    name = "not available"

    def steps(self, rounds: int) -> int:
        return rounds * 10

    def run(self, rounds: int, machine: str, step: Callable[[], None]) -> Measured:
        served = Served(crowd=0)
        try:
            asked = {kind: served.request_of(name) for kind, name in HIDDEN.items()}
            asked[UNKNOWN] = "0" * 64
            decisions: dict[str, list[float]] = {kind: [] for kind in asked}
            jobs: dict[str, list[float]] = {kind: [] for kind in asked}
            for _ in range(self.steps(rounds)):
                served.sign_in()
                for kind in random.sample(list(asked), len(asked)):
                    decisions[kind].append(median(_decision(served, asked[kind]) for _ in range(DECISIONS)))
                    jobs[kind].append(_job(served, asked[kind]))
                step()
        finally:
            served.close()
        return Found(machine, {"decision": decisions, "job": jobs})


def _decision(served: Served, request: str) -> float:
    one = {"request": request, "model": served.model, "purpose": "HRESCH", "use": ["HMB"]}
    begun = time.perf_counter()
    status, answer = served.call(
        "POST", "/api/v1/decisions", {"decisions": [{**one, "resources": ["Observation"]}]}
    )
    taken = time.perf_counter() - begun
    if status != 200 or b'"not_available"' not in answer:
        raise RuntimeError(f"A decision was answered with {status}.")
    return taken


def _job(served: Served, request: str) -> float:
    job = served.run_job([request])
    if [each["state"] for each in job["subjects"]] != ["not_available"]:
        raise RuntimeError("A result came where none was to come.")
    begun, ended = (datetime.fromisoformat(job[name]) for name in ("created_at", "settled_at"))
    return (ended - begun).total_seconds()


REPORT = NotAvailable()
