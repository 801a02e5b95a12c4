"""`LEDGER=fabric manage.py demo --once`: the whole story on a channel of two organisations."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.test_demo import PROMISES, REPOSITORY, environment, play, processes_of, signalled

__all__ = ["environment"]


def on_fabric(environment: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("FABRIC_BIN_DIR", "FABRIC_CFG_PATH") if name in os.environ}
    return {**environment, **kept, "LEDGER": "fabric"}


def test_every_promise_is_kept_on_a_channel(environment: dict[str, str], tmp_path: Path) -> None:
    status, last, told = play(on_fabric(environment))
    assert status == 0, told
    seen = json.loads(last)
    assert all(seen[promise] is True for promise in PROMISES)
    assert seen["ledger_kind"] == "fabric"
    assert list(tmp_path.iterdir()) == []
    assert processes_of(str(tmp_path)) == []


def test_what_is_interrupted_takes_its_network_down(environment: dict[str, str], tmp_path: Path) -> None:
    send = signalled(tmp_path, signal.SIGTERM)
    status, _, told = play(on_fabric(environment), "Making an installation", send)
    assert status == 130, told
    assert processes_of(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_without_fabric_it_says_how_to_get_it(environment: dict[str, str], tmp_path: Path) -> None:
    nowhere = {**environment, "LEDGER": "fabric", "FABRIC_BIN_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "manage.py", "demo", "--once"],
        cwd=REPOSITORY, env=nowhere, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "install-fabric.sh" in done.stderr
    assert "Traceback" not in done.stderr
