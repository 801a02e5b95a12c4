"""`manage.py demo --once` as a stranger to the project runs it: in an environment of its own."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PROMISES = {
    "granted", "released", "delivered", "denied_after_revoke", "stopped_running_job", "ledger", "export",
}  # fmt: skip


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Nothing of ours but the interpreter; on PostgreSQL, an empty database of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    with empty_database() as database:
        yield {**kept, **database, "GATEWAY_HOME": str(tmp_path)}


@contextmanager
def empty_database() -> Iterator[dict[str, str]]:
    """None where the suite runs on SQLite: an installation makes its own file."""
    url = os.environ.get("DATABASE_URL")
    if url is None:
        yield {}
        return
    import psycopg

    name = f"demo_{os.urandom(6).hex()}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
        address, options = url.split("?", 1)
        yield {"DATABASE_URL": f"{address.rsplit('/', 1)[0]}/{name}?{options}"}
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[call-overload]


def play(
    environment: dict[str, str], when: str = "", then: Callable[[], None] = lambda: None
) -> tuple[int, str, str]:
    """Exit status, the last line on stdout, and all of stderr. At the line with `when` on stderr, `then`."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "demo", "--once"],
        cwd=REPOSITORY, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509 (no thread of the suite holds a lock that it needs)
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    told = []
    try:
        for line in process.stderr:
            told.append(line)
            if when and when in line:
                then()
        out = process.stdout.read().splitlines()
        return process.wait(), out[-1] if out else "", "".join(told)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def heed_interrupts() -> None:
    """As in a terminal: a suite that runs in the background hands on that SIGINT is to be ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.exhaustive  # the next one plays it to the end as well, and so does .ci/run
def test_every_promise_is_kept(environment: dict[str, str], tmp_path: Path) -> None:
    status, last, told = play(environment)
    assert status == 0, told
    seen = json.loads(last)
    assert set(seen) >= PROMISES
    assert all(seen[promise] is True for promise in PROMISES)
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


def test_a_ledger_that_somebody_rewrites_meanwhile_is_told(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Somebody who owns the machine changes the first block while the story is told."""

    def rewrite() -> None:
        (ledger,) = tmp_path.glob("once-*/ledger/ledger.sqlite3")
        with sqlite3.connect(ledger, timeout=20) as sql:
            assert sql.execute("UPDATE blocks SET header = header || x'20' WHERE number = 1").rowcount == 1
        sql.close()

    status, last, told = play(environment, "An auditor exports", rewrite)
    assert status == 1, told
    assert last, told
    seen = json.loads(last)
    assert seen["ledger"] is False
    assert seen["denied_after_revoke"] is True  # what was seen before stays seen


def test_a_story_that_cannot_go_on_says_where(environment: dict[str, str], tmp_path: Path) -> None:
    """The keyholder dies in the middle: no promise is claimed, and nothing is left running."""

    def kill() -> None:
        (socket,) = tmp_path.glob("once-*/keyholder/keyholder.sock")
        (keyholder,) = processes_of(str(socket.parent))
        os.kill(keyholder, signal.SIGKILL)

    status, last, told = play(environment, "runs the heart risk model", kill)
    assert status == 1
    assert "keyholder ended before the job ends" in told, told
    assert last == ""
    assert processes_of(str(tmp_path)) == []


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive)]
)
def test_a_story_that_is_interrupted_leaves_nothing(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    status, last, told = play(environment, "Sealing the records", signalled(tmp_path, number))
    assert (status, last) == (130, "")
    assert told.endswith("Stopped.\n")
    assert processes_of(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_second_demonstration_leaves_the_first_alone(environment: dict[str, str], tmp_path: Path) -> None:
    """It would begin by emptying the folder that the first one serves from."""
    command = [sys.executable, "manage.py", "demo", "--port", "0"]
    first = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert first.stderr is not None
        assert any("Starting its processes" in line for line in first.stderr)
        second = subprocess.run(
            command, cwd=REPOSITORY, env=environment, text=True, capture_output=True, check=False
        )
        assert second.returncode == 1
        (line,) = second.stderr.splitlines()
        assert f"A demonstration is served from {tmp_path / 'demo'} already" in line
        assert (tmp_path / "demo" / "db.sqlite3").exists() or "DATABASE_URL" in environment
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        assert first.stderr.read().endswith("Stopped.\n")
        assert first.wait() == 0
    finally:
        if first.poll() is None:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
    assert processes_of(str(tmp_path)) == []


def signalled(folder: Path, number: signal.Signals) -> Callable[[], None]:
    """The process that tells the story, whose home is in `folder`, gets the signal."""

    def send() -> None:
        mine = f"GATEWAY_HOME={folder}/"
        (demo,) = [
            process
            for process in processes()
            if "manage.py demo" in " ".join(read(process, "cmdline"))
            and any(each.startswith(mine) for each in read(process, "environ"))
        ]
        os.kill(demo, number)

    return send


def processes_of(folder: str) -> list[int]:
    """Those whose command line names a path in `folder`."""
    return [each for each in processes() if any(word.startswith(folder) for word in read(each, "cmdline"))]


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def read(process: int, name: str) -> list[str]:
    """What the system tells of a process, word by word; nothing of one that has ended meanwhile."""
    try:
        return Path(f"/proc/{process}/{name}").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
