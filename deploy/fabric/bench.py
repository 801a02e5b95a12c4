"""`python -m deploy.fabric.bench FOLDER`: a running network's figures, as a table in Markdown.

RegisterModel is the transaction (no opening, one key), `evaluate` one key from one peer, `read` one key
proven by every organisation and checked.
"""

import argparse
import secrets
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.fabric.network import Network
from ledger.client import Trust, trust
from ledger.errors import LedgerError
from ledger.fabric.client import FabricLedger

Act = Callable[[], object]


def _submit(ledger: FabricLedger) -> Act:
    def act() -> None:
        args = {
            "model": secrets.token_hex(32),
            "card": secrets.token_hex(32),
            "provider": "Bench",
            "state": "approved",
        }
        envelope = ledger.prepare("RegisterModel", args)
        ledger.send(envelope)
        outcome = ledger.outcome(envelope.tx_id, timeout=30)
        if not outcome.is_valid:
            raise LedgerError(outcome.validity)

    return act


def _read(ledger: FabricLedger, believed: Trust) -> Act:
    def act() -> None:
        nonce = secrets.token_bytes(32)
        believed.check(ledger.read(["organisations"], nonce=nonce), keys=["organisations"], nonce=nonce)

    return act


def measure(act: Act, *, at_once: int, seconds: float) -> str:
    """One row: how many a second, and how long one took (ms: median and 95th percentile)."""
    ends = time.monotonic() + seconds
    times: list[float] = []
    failures: list[str] = []

    def work(_: int) -> None:
        while (begin := time.monotonic()) < ends:
            try:
                act()
            except LedgerError as error:
                failures.append(error.code)
                continue
            times.append(time.monotonic() - begin)

    begin = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(work, range(at_once)))
    took = time.monotonic() - begin
    if len(times) < 2:
        return f"none, {len(failures)} failed"
    p95 = statistics.quantiles(times, n=20)[-1]
    failed = f", {len(failures)} failed" if failures else ""
    return (
        f"{len(times) / took:,.0f} /s | {statistics.median(times) * 1e3:.0f} ms | {p95 * 1e3:.0f} ms{failed}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.fabric.bench", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 32, 128])
    options = parser.parse_args()
    network = Network.load(options.folder)
    ledger = network.ledger("gateway")
    acts = {
        "submit": _submit(ledger),
        "evaluate": lambda: ledger.evaluate(["organisations"]),
        "read, checked": _read(ledger, trust(network.url)),
    }
    print("| | at once | rate | median | p95 |\n|---|---|---|---|---|")
    for name, act in acts.items():
        for at_once in options.at_once:
            print(
                f"| {name} | {at_once} | {measure(act, at_once=at_once, seconds=options.seconds)} |",
                flush=True,
            )
    ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
