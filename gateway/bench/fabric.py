"""`manage.py bench fabric`: the product's Fabric client beside the official Node client, on one network.

A network of two organisations on loopback, both endorse. Both clients take turns at the same grants and
queries; then patients stop while a real keyholder is asked for their keys without a pause.
"""

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import IO

from gateway.bench import NotInstalled
from gateway.bench.fabric_stops import FHIR, Stops, measure_stops
from ledger.contract import canonical, times
from ledger.contract.consents import commitment, compile_consent
from ledger.contract.state import Json
from ledger.errors import LedgerError
from ledger.fabric.client import FabricLedger

BLOCK_SECONDS = 0.2  # BatchTimeout: a transaction waits this long for its block to be cut
# What is measured: (kind, calls at once). An anchoring is so many consents in one transaction.
ANCHORING = {"grant": 1, "anchor 100": 100, "anchor 1000": 1000}
ROWS = [
    *(("grant", at_once) for at_once in (1, 32, 128)),
    ("anchor 100", 4),
    ("anchor 1000", 4),
    *(("evaluate", at_once) for at_once in (1, 32, 128)),
]
TURN_SECONDS = 3.0
# Transactions that are made ready for a turn.
READY = {"grant": 1200, "anchor 100": 120, "anchor 1000": 16}
PEER = Path(__file__).with_name("fabric_peer.mjs")
PACKAGES = ("@hyperledger/fabric-gateway@1", "@grpc/grpc-js@1")

Grant = tuple[str, Json, bytes]


def new_grants(count: int, *, each: int = 1) -> list[Grant]:
    """Name, arguments and openings of as many transactions, each of so many new consents."""
    return [_together([_new_consent() for _ in range(each)]) for _ in range(count)]


def _together(consents: list[tuple[Json, Json]]) -> Grant:
    consents.sort(key=lambda one: str(one[0]["consent"]))
    openings = canonical.dumps([opening for _, opening in consents])
    if len(consents) == 1:
        return "GrantConsent", consents[0][0], openings
    return "GrantConsents", {"grants": [args for args, _ in consents]}, openings


def _new_consent() -> tuple[Json, Json]:
    consent, key = secrets.token_hex(32), secrets.token_bytes(32)
    compiled = compile_consent(FHIR, consent=consent, patient=secrets.token_hex(32))
    args = {
        "commitment": commitment(key, canonical.dumps(compiled)),
        "consent": consent,
        "expires": times.day_after(compiled["expires"]),
    }
    return args, {"consent": compiled, "key": key.hex()}


@dataclass
class Turns:
    """What the turns of one client at one load add up to, `each` consents a transaction. Times in seconds."""

    each: int = 1
    rates: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    cpu: float = 0.0
    failed: int = 0

    def add(self, turn: Json) -> None:
        self.rates.append(self.each * len(turn["times"]) / turn["took"])
        self.times += turn["times"]
        self.cpu += turn["cpu"]
        self.failed += turn["failed"]

    def as_json(self) -> Json | None:
        if len(self.times) < 2:
            return None
        return {
            "cpu_ms": round(self.cpu / len(self.times) / self.each * 1e3, 3),
            "failed": self.failed,
            "p50_ms": round(median(self.times) * 1e3, 1),
            "p95_ms": round(quantiles(self.times, n=20, method="inclusive")[-1] * 1e3, 1),
            "rate": round(median(self.rates), 1),
        }


Client = Callable[[str, int, list[Grant]], Json]


def product(ledger: FabricLedger) -> Client:
    """Turns of the product's own client, on threads, in this process."""

    def turn(kind: str, at_once: int, grants: list[Grant]) -> Json:
        waiting = iter(grants)
        times: list[float] = []
        failed: list[str] = []
        cpu, began = time.process_time(), time.perf_counter()

        def act() -> bool:
            if kind == "evaluate":
                ledger.evaluate(["organisations"])
                return True
            if (given := next(waiting, None)) is None:
                return False
            envelope = ledger.prepare(given[0], given[1], {"openings": given[2]})
            ledger.send(envelope)
            if not (outcome := ledger.outcome(envelope.tx_id, timeout=30)).is_valid:
                raise LedgerError(outcome.validity)
            return True

        def work(_: int) -> None:
            while (start := time.perf_counter()) - began < TURN_SECONDS:
                try:
                    if not act():
                        return
                    times.append(time.perf_counter() - start)
                except LedgerError as error:
                    failed.append(error.code)

        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(work, range(at_once)))
        took = time.perf_counter() - began
        return {"cpu": time.process_time() - cpu, "failed": len(failed), "times": times, "took": took}

    return turn


@contextmanager
def node_client(settings: Json, folder: Path) -> Iterator[Client]:
    """Turns of the official client, one Node process. Raises NotInstalled."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise NotInstalled("not installed: install Node.js 20 with npm, then run this again")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *PACKAGES]
    try:
        subprocess.run(install, check=True, capture_output=True, timeout=300)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise NotInstalled(f"not installed: `npm install {' '.join(PACKAGES)}` fails here") from None
    script = shutil.copy(PEER, folder / PEER.name)
    with subprocess.Popen(
        [node, script, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        to, back = process.stdin, process.stdout
        assert to is not None
        assert back is not None
        try:
            yield node_turns(to, back, folder / "grants.jsonl")
        finally:
            to.close()
            process.terminate()


def node_turns(to: IO[str], back: IO[str], inputs: Path) -> Client:
    """Each turn is one line to the Node process and one line back; grants go through the file `inputs`."""

    def turn(kind: str, at_once: int, grants: list[Grant]) -> Json:
        lines = [
            json.dumps([name, canonical.dumps(args).decode(), openings.decode()])
            for name, args, openings in grants
        ]
        inputs.write_text("\n".join(lines))
        order = {"atOnce": at_once, "inputs": str(inputs), "kind": kind, "seconds": TURN_SECONDS}
        to.write(json.dumps(order) + "\n")
        to.flush()
        if not (line := back.readline()):
            raise RuntimeError("The Node client ended.")
        answer: Json = json.loads(line)
        return answer

    return turn


@dataclass
class Report:
    """Everything that was measured; `rows` is by (kind, at once) and client."""

    machine: str
    fabric: str
    rows: dict[tuple[str, int], dict[str, Turns]]
    peer_missing: str
    stops: Stops
    memory: dict[str, int]
    load: tuple[float, float]

    def as_json(self) -> Json:
        return {
            "block_ms": BLOCK_SECONDS * 1e3,
            "fabric": self.fabric,
            "load": self.load,
            "machine": self.machine,
            "memory_mb": self.memory,
            "peer_missing": self.peer_missing or None,
            "rows": [self._row(key) for key in self.rows],
            "stop": self.stops.as_json(),
        }

    def _failed(self) -> str:
        failed = {
            f"{client} {kind} at {at_once}": turns.failed
            for (kind, at_once), clients in self.rows.items()
            for client, turns in clients.items()
            if turns.failed
        }
        return ", ".join(f"{count} failed of {name}" for name, count in failed.items()) or "nothing failed"

    def _row(self, key: tuple[str, int]) -> Json:
        kind, at_once = key
        ours, theirs = (self.rows[key][name].as_json() for name in ("product", "peer"))
        # Each client waits for its transactions' block, so no more than these fit in one.
        each = ANCHORING.get(kind)
        limit = round(each * at_once / BLOCK_SECONDS, 1) if each else None
        both = ours is not None and theirs is not None
        return {
            "at_once": at_once,
            "kind": kind,
            "limit": limit,
            "of_limit": round(ours["rate"] / limit, 2) if ours and limit else None,
            "over_block_ms": round(ours["p50_ms"] - BLOCK_SECONDS * 1e3, 1) if ours and limit else None,
            "peer": theirs,
            "product": ours,
            "times_peer": round(ours["rate"] / theirs["rate"], 2) if both and ours and theirs else None,
            "times_peer_at_equal_cpu": round(theirs["cpu_ms"] / ours["cpu_ms"], 2)
            if ours and theirs and ours["cpu_ms"]
            else None,
        }

    def table(self) -> str:
        head = [
            "", "at once", "product", "p50", "p95", "CPU each", "peer", "p50", "CPU each", "× peer",
            "× at equal CPU", "limit", "of limit", "over block time",
        ]  # fmt: skip
        lines = [head, ["---"] * len(head)]
        for key in self.rows:
            row = self._row(key)
            ours, theirs = row["product"], row["peer"]
            lines.append(
                [
                    row["kind"],
                    str(row["at_once"]),
                    *_cells(ours, ("rate", "/s"), ("p50_ms", "ms"), ("p95_ms", "ms"), ("cpu_ms", "ms")),
                    *_cells(theirs, ("rate", "/s"), ("p50_ms", "ms"), ("cpu_ms", "ms")),
                    _or_dash(row["times_peer"]),
                    _or_dash(row["times_peer_at_equal_cpu"]),
                    _or_dash(row["limit"], "/s"),
                    _or_dash(row["of_limit"]),
                    _or_dash(row["over_block_ms"], "ms"),
                ]
            )
        said = [
            f"{self.machine}; Fabric {self.fabric}, two organisations, "
            f"BatchTimeout {BLOCK_SECONDS * 1e3:.0f} ms; load average {self.load[0]:.1f} before, "
            f"{self.load[1]:.1f} after. CPU is the client's own; {self._failed()}.",
            f"- peer: the official Node client; {self.peer_missing or 'installed for this run'}",
            "- rates, limits and CPU are for each consent, times for each transaction",
            f"- {self.stops.as_text()}",
            "- memory (MB): " + ", ".join(f"{name} {size}" for name, size in self.memory.items()),
        ]
        return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", *said])


def _cells(found: Json | None, *wanted: tuple[str, str]) -> list[str]:
    return [_or_dash(found[name] if found else None, unit) for name, unit in wanted]


def _or_dash(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:,g} {unit}".strip()


class FabricReport:
    """A report of its own form: named in full on the command line, never part of "every row"."""

    name = "fabric"

    def steps(self, rounds: int) -> int:
        return rounds * len(ROWS) * 2 + 1

    def run(self, rounds: int, machine: str, step: Callable[[], None]) -> Report:
        """Raises NotInstalled where Fabric's binaries are not found."""
        from deploy.fabric.binaries import Binaries, BinariesMissing
        from deploy.fabric.network import Network

        try:
            Binaries.find()
        except BinariesMissing as reason:
            raise NotInstalled(str(reason)) from None
        before = os.getloadavg()[0]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-fabric-")))
            network = Network.make(
                folder / "network", bound=True, batch_timeout=f"{BLOCK_SECONDS * 1e3:.0f}ms"
            )
            stack.callback(network.down)
            network.up()
            ledger = network.ledger("keyholder")
            stack.callback(ledger.close)
            clients: dict[str, Client] = {"product": product(ledger)}
            without_peer = ""
            try:
                clients["peer"] = stack.enter_context(
                    node_client(_settings(network.profile), folder / "node")
                )
            except NotInstalled as reason:
                without_peer = str(reason)
            rows = _in_turns(clients, rounds, step)
            gateway = network.ledger("gateway")
            stack.callback(gateway.close)
            stops = measure_stops(network.url, folder / "keyholder", gateway)
            step()
            names = network.processes.names()
            memory = {name: _megabytes(network.processes.pid(name)) for name in names}
            memory |= {"keyholder": stops.keyholder_megabytes, "this client": _megabytes(os.getpid())}
            version = ".".join(str(part) for part in network.binaries.version())
        return Report(machine, version, rows, without_peer, stops, memory, (before, os.getloadavg()[0]))


def _in_turns(
    clients: dict[str, Client], rounds: int, step: Callable[[], None]
) -> dict[tuple[str, int], dict[str, Turns]]:
    """Every client has its turn at every load in each round, so that a busy machine slows all alike."""
    rows = {row: {name: Turns(each=ANCHORING.get(row[0], 1)) for name in ("product", "peer")} for row in ROWS}
    for client in clients.values():  # a process connects and compiles its code once in its life
        client("grant", 16, new_grants(64))
        client("evaluate", 16, [])
    for number in range(rounds):
        for (kind, at_once), turns in rows.items():
            order = list(clients) if number % 2 == 0 else list(reversed(clients))
            for name in order:
                most = READY.get(kind, 0) if at_once > 1 else int(12 * TURN_SECONDS)
                grants = new_grants(most, each=ANCHORING[kind]) if kind in ANCHORING else []
                turns[name].add(clients[name](kind, at_once, grants))
                step()
    return rows


def _settings(profile: Path) -> Json:
    """What the Node client needs of the connection profile, with whole paths."""
    raw = json.loads(profile.read_text())
    identity = raw["identities"]["keyholder"]
    organisation = raw["organisations"][identity["organisation"]]
    return {
        "address": organisation["peers"][0],
        "certificate": str(profile.parent / identity["certificate"]),
        "chaincode": raw["chaincode"],
        "channel": raw["channel"],
        "key": str(profile.parent / identity["key"]),
        "org": identity["organisation"],
        "tlsRoots": str(profile.parent / organisation["tls_roots"]),
    }


def _megabytes(pid: int | None) -> int:
    """VmRSS."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


REPORT = FabricReport()
