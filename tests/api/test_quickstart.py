"""docs/quickstart.md, word for word, against a whole installation; and the client library it stands on."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.analysis.catalogue import find
from tests.faults.house import House, open_house

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "deploy" / "client"


@pytest.fixture(scope="module")
def house(django_db_blocker: Any) -> Iterator[House]:
    with django_db_blocker.unblock(), open_house() as found:
        yield found


@pytest.fixture
def shell(house: House, tmp_path: Path) -> dict[str, str]:
    """What the demonstration prints, as variables; and the command on the PATH."""
    assert house.cast is not None
    key = tmp_path / "helix.jwk.json"
    key.write_text(json.dumps(house.cast.client_key))
    command = tmp_path / "consentctl"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m consentctl "$@"\n')
    command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(CLIENT),
        "CONSENTCTL_PROFILE": str(tmp_path / "profile.json"),
        "URL": house.url,
        "CLIENT": house.cast.client_id,
        "KEY": str(key),
        "MODEL": find("pce").digest(),
    }


def run(line: str, shell: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], env=shell, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_four_commands_lead_to_results(house: House, shell: dict[str, str], tmp_path: Path) -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text()
    commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0].splitlines()
    assert len(commands) == 4
    for command in commands:
        done = run(command, shell, tmp_path)
        assert done.returncode == 0, (command, done.stderr)
    results = list((tmp_path / "results").glob("*.json"))
    assert len(results) == len(house.consents)
    for path in results:
        bundle = json.loads(path.read_text())
        assert bundle["entry"][0]["resource"]["resourceType"] == "RiskAssessment"


def test_what_is_refused_is_said_with_its_code(shell: dict[str, str], tmp_path: Path) -> None:
    first = run("consentctl jobs list", shell, tmp_path)
    assert (first.returncode, "Sign in first" in first.stderr) == (1, True)
    wrong = run("consentctl login $URL --client nobody --key $KEY", shell, tmp_path)
    assert (wrong.returncode, "invalid_client" in wrong.stderr) == (1, True)
    run("consentctl login $URL --client $CLIENT --key $KEY", shell, tmp_path)
    refused = run(
        f"consentctl jobs submit --model {'0' * 64} --purpose HRESCH --request {'1' * 64}", shell, tmp_path
    )
    assert (refused.returncode, "model_not_approved" in refused.stderr) == (1, True)
    unknown = run(f"consentctl jobs show {'0' * 64}", shell, tmp_path)
    assert (unknown.returncode, "not_available" in unknown.stderr) == (1, True)
    assert "Traceback" not in refused.stderr + unknown.stderr + wrong.stderr


def test_a_key_is_made_once_and_kept_private(shell: dict[str, str], tmp_path: Path) -> None:
    from gateway.accounts import key_sets

    made = run("consentctl keys mine.json", shell, tmp_path)
    assert key_sets.check(json.loads(made.stdout))
    assert (tmp_path / "mine.json").stat().st_mode & 0o777 == 0o600
    again = run("consentctl keys mine.json", shell, tmp_path)
    assert again.returncode == 1
    assert "d" not in json.loads(made.stdout)["keys"][0]
