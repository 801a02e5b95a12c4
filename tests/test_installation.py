"""An installation's processes start together or not at all, and end in order."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway import installation
from gateway.processes import ProcessError, listens_on
from tests.test_demo import REPOSITORY, environment, heed_interrupts, processes_of

__all__ = ["environment"]  # a fixture


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    """Whoever listens there would be taken for our own web process."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ProcessError, match=f"Port {port} is taken"):
            installation.start(tmp_path, port=port)
    assert not (tmp_path / "logs").exists()


MAKES = """
import django
django.setup()
from django.conf import settings
from gateway import installation
before = settings.SECRET_KEY
installation.make(settings.HOME)
print(before, settings.SECRET_KEY)
"""


def test_who_makes_an_installation_goes_by_its_secret(environment: dict[str, str], tmp_path: Path) -> None:
    """The demonstration names its staff in the audit log as the site names them afterwards."""
    home = tmp_path / "home"
    there = {**environment, "GATEWAY_HOME": str(home), "DJANGO_SETTINGS_MODULE": "gateway.settings"}

    def make(**more: str) -> list[str]:
        ran = subprocess.run(
            [sys.executable, "-c", MAKES], cwd=REPOSITORY, env={**there, **more}, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        return ran.stdout.split()

    before, after = make()
    assert after == (home / "secret_key").read_text() != before
    assert make() == [after, after]
    assert make(GATEWAY_SECRET_KEY="given") == ["given", "given"]


CHILD = """
import pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def end(*_):
    with (folder / "ended").open("a") as told:
        told.write(name)
    sys.exit()
signal.signal(signal.SIGTERM, end)
(folder / name).touch()
time.sleep(60)
"""
SUPERVISOR = """
import pathlib, sys, time
from gateway.processes import Processes, Spec, python, stop_by_sigterm
home = pathlib.Path(sys.argv[1])
stop_by_sigterm()
try:
    with Processes(home) as processes:
        for name, serves in ("a", True), ("b", True), ("c", False), ("d", False):
            command = python("-c", sys.argv[2], name, str(home))
            processes.start(Spec(name, command, (home / name).exists, serves))
        print("ready", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_end_ends_its_children_before_those_that_serve_them(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Whatever serves no other ends at once; the rest was started after what it needs, and ends before it."""
    with supervisor("-c", SUPERVISOR, str(tmp_path), CHILD) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(30) == 7
    assert (tmp_path / "ended").read_text() in ("cdba", "dcba")


def test_an_installation_that_is_told_to_end_leaves_no_process(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """As a service manager does: `manage.py run` until SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ("manage.py", "run", "--port", str(port))
    with supervisor(*command, environment=environment) as process:
        assert process.stdout is not None
        assert any("Consent Gateway serves" in line for line in process.stdout)
        assert len(processes_of(str(tmp_path))) >= 2  # ledger and keyholder name their folders
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert processes_of(str(tmp_path)) == []
    assert not listens_on(port)()


@contextmanager
def supervisor(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=REPOSITORY, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        preexec_fn=heed_interrupts,  # noqa: PLW1509 (as in tests/test_demo.py)
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
