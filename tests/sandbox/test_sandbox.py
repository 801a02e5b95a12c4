"""The sandbox, whole: its people, its clock, its faults; and no way of any of it into production."""

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from consent.models import ConsentRequest
from gateway.demo.home import free_port
from gateway.demo.states import STATES
from gateway.demo.states.stage import as_of
from gateway.sandbox import control
from gateway.sandbox.catalogue import FAULTS, PEOPLE
from tests.faults.house import living_at

ROOT = Path(__file__).resolve().parents[2]


class Sandbox:
    """One that `manage.py sandbox up` serves, and `consentctl` signed in to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "sandbox"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
            "GATEWAY_HOME": str(folder),
            "DATABASE_URL": "",
            "PYTHONPATH": str(ROOT / "deploy" / "client"),
            "CONSENTCTL_PROFILE": str(folder / "profile.json"),
        }

    def manage(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "manage.py", *arguments], more)

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "consentctl", "--json", *arguments], {})

    def said(self, *arguments: str) -> Any:
        """What `consentctl` answers; it has to be done."""
        done = self.ctl(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def shell(self) -> dict[str, str]:
        """What `. sandbox/shell` sets."""
        told = (self.home / "shell").read_text().split()
        return dict(each.split("=", 1) for each in told if "=" in each)

    def run_job(self) -> dict[str, Any]:
        job = self.said(
            "jobs", "submit", "--model", self.shell()["MODEL"], "--purpose", "HRESCH", "--use", "HMB"
        )
        self.said("jobs", "wait", job)
        found: dict[str, Any] = self.said("jobs", "show", job)
        return found

    def delivered(self, job: dict[str, Any]) -> set[str]:
        """The states of those whose result came, by the hospital's own records."""
        asked = {each["request"] for each in job["subjects"] if each["state"] == "delivered"}
        names = {each.name: key for key, each in PEOPLE.items()}
        found = ConsentRequest.objects.filter(pk__in=asked).select_related("patient")
        return {names[each.patient.name.split()[0]] for each in found}

    def _run(self, command: list[str], more: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env={**self.environment, **more},
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def sandbox(django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    found = Sandbox(tmp_path_factory.mktemp("s"))
    with (found.folder / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "sandbox", "up", "--port", str(free_port())],
            cwd=ROOT, env=found.environment, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while "Ctrl-C stops it." not in (text := (found.folder / "out").read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
        told = found.shell()
        assert (
            found.ctl("login", told["URL"], "--client", told["CLIENT"], "--key", told["KEY"]).returncode == 0
        )
        with django_db_blocker.unblock(), living_at(found.home):
            yield found
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_a_day_in_the_sandbox(sandbox: Sandbox) -> None:
    """In one test, in its order: a clock that moved does not go back."""
    # 1. Of twelve people those give a result whose consent is in force.
    assert (len(PEOPLE), set(FAULTS)) == (12, set(control.FAULTS))
    assert {key: each.name for key, each in PEOPLE.items()}.items() <= {
        key: each.name for key, each in STATES.items()
    }.items()
    now = {key for key, of in PEOPLE.items() if of.delivered}
    assert sandbox.delivered(sandbox.run_job()) == now

    # 2. Without the ledger a job waits, and says for what; with it again, it goes on by itself.
    sandbox.said("sandbox", "fault", "ledger", "on")
    until(lambda: not (sandbox.home / "ledger" / "ledger.sock").exists() or is_stopped(sandbox, "ledger"))
    job = sandbox.said(
        "jobs", "submit", "--model", sandbox.shell()["MODEL"], "--purpose", "HRESCH", "--use", "HMB"
    )
    until(lambda: "ledger" in sandbox.said("jobs", "show", job)["code"])
    sandbox.said("sandbox", "fault", "ledger", "off")
    assert sandbox.said("jobs", "wait", job)["state"] == "done"

    # 3. The keyholder away: nothing opens, not even what was delivered.
    sandbox.said("sandbox", "fault", "keyholder", "on")
    until(lambda: sandbox.ctl("jobs", "download", job, str(sandbox.folder / "none")).returncode == 1)
    assert json.loads(sandbox.ctl("jobs", "download", job, str(sandbox.folder / "none")).stderr)["code"] == (
        "keyholder_unavailable"
    )
    assert sandbox.manage("sandbox", "fault", "keyholder", "off").returncode == 0
    until(lambda: sandbox.ctl("jobs", "download", job, str(sandbox.folder / "some")).returncode == 0)
    assert len(list((sandbox.folder / "some").glob("*.json"))) == len(now) + 1

    # 4. One call too many, and answers that take their time.
    sandbox.said("sandbox", "fault", "rate", "on")
    assert json.loads(sandbox.ctl("jobs", "list").stderr)["code"] == "too_many_requests"
    sandbox.said("sandbox", "fault", "rate", "off")
    sandbox.said("sandbox", "fault", "slow", "on")
    begun = time.monotonic()
    sandbox.said("jobs", "list")
    assert time.monotonic() - begun >= 3
    sandbox.said("sandbox", "fault", "slow", "off")

    # 5. The clock goes ahead: what was given for 90 days has ended, then everything has.
    assert sandbox.said("sandbox", "advance", "91d")["ahead_seconds"] == 91 * 86_400
    for_ninety_days = {"partly", "replaced"}
    assert sandbox.delivered(sandbox.run_job()) == now - for_ninety_days
    assert json.loads(sandbox.manage("sandbox", "advance", "111d").stdout)["ahead_seconds"] == 202 * 86_400
    assert sandbox.delivered(sandbox.run_job()) == set()


def test_what_is_not_understood_changes_nothing(sandbox: Sandbox) -> None:
    before = sandbox.said("sandbox", "show")
    for wrong in (["advance", "1y"], ["advance", "0d"], ["fault", "sun", "on"]):
        refused = sandbox.ctl("sandbox", *wrong)
        assert refused.returncode == 1, refused.stdout
        assert "Traceback" not in refused.stderr
    after = sandbox.said("sandbox", "show")
    assert (after["ahead_seconds"], after["faults"]) == (before["ahead_seconds"], before["faults"])


def is_stopped(sandbox: Sandbox, name: str) -> bool:
    from gateway.processes import listens_at

    return not listens_at(sandbox.home / name / f"{name}.sock")()


def until(is_so: Any) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


# In production there is none of it.


@pytest.mark.parametrize("act", [["up"], ["advance", "1d"], ["fault", "ledger", "on"], ["show"]])
def test_a_production_refuses_the_command(act: list[str], tmp_path: Path) -> None:
    done = Sandbox(tmp_path).manage("sandbox", *act, GATEWAY_PRODUCTION="1", GATEWAY_SECRET_KEY="x" * 50)
    assert done.returncode == 1
    assert "never a production" in done.stderr
    assert not (tmp_path / "sandbox").exists()


def test_a_production_refuses_its_settings(tmp_path: Path) -> None:
    more = {"GATEWAY_PRODUCTION": "1", "GATEWAY_SECRET_KEY": "x" * 50}
    done = Sandbox(tmp_path).manage("check", DJANGO_SETTINGS_MODULE="gateway.sandbox.settings", **more)
    assert done.returncode == 1
    assert "never in production" in done.stderr


def test_a_production_refuses_its_clock(tmp_path: Path) -> None:
    code = "from gateway.sandbox.moved import main; main(['-m', 'ledger.embedded', '.'])"
    done = Sandbox(tmp_path)._run([sys.executable, "-c", code], {"GATEWAY_PRODUCTION": "1"})
    assert done.returncode == 1
    assert "never in production" in done.stderr


def test_nothing_of_the_product_names_the_sandbox() -> None:
    """Its own command starts it, and the developer pages list its people; no other file imports it."""
    allowed = {"gateway/management/commands/sandbox.py", "gateway/api/developers.py"}
    for path in [
        *(ROOT / "gateway").rglob("*.py"),
        *(ROOT / "ledger").rglob("*.py"),
        *(ROOT / "consent").rglob("*.py"),
    ]:
        name = str(path.relative_to(ROOT))
        if name.startswith("gateway/sandbox/") or name in allowed:
            continue
        tree = ast.walk(ast.parse(path.read_text()))
        modules = [each.module or "" for each in tree if isinstance(each, ast.ImportFrom)]
        assert not any(module.startswith("gateway.sandbox") for module in modules), name


def test_the_products_addresses_have_no_switch(client: Any) -> None:
    assert client.get("/sandbox/").status_code == 404
    assert client.post("/sandbox/advance", {"seconds": 1}, content_type="application/json").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_what_is_asked_in_the_past_is_seen_by_no_relay_half_way() -> None:
    with as_of(timezone.now() - timedelta(days=40)):
        assert connection.in_atomic_block
        assert timezone.localdate() < date.today()
    assert not connection.in_atomic_block
