"""A process dies in mid-job: nothing is opened that should not be, nothing is lost, the job is finished."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.analysis.models import Job, Leg
from gateway.compliance import services as compliance
from gateway.compliance.models import Export
from ledger.audit.log import Actor
from ledger.embedded.folder import read_public_key
from ledger.verify import verify
from tests.faults.house import PATIENTS, REPOSITORY, House, is_running, parent

State = Job.State


def is_done_once(house: House, job: str) -> None:
    """Everyone's result, each delivered once."""
    assert house.settled(job).state == State.DONE
    assert house.delivered(job) == house.deliveries_logged(job) == PATIENTS


def test_nothing_is_broken(house: House) -> None:
    is_done_once(house, house.start_job())


@pytest.mark.parametrize("whole_worker", [True, False], ids=["the whole worker", "the process with the job"])
def test_a_killed_worker_leaves_no_child_and_another_finishes_the_job(
    house: House, whole_worker: bool
) -> None:
    with house.job_under_way() as job:
        children = house.job_children()  # one, and in bubblewrap what wraps it
        (runner,) = {parent(child) for child in children} - set(children)
        if whole_worker:
            house.processes.kill("worker")
        else:
            os.kill(runner, signal.SIGKILL)
        house.until(lambda: not any(map(is_running, children)), "no orphan is left")
    if whole_worker:
        house.processes.restart("worker")
    assert Job.objects.get(pk=job).state == State.RUNNING  # until its lease ends, nobody else takes it
    house.time_passes(job)
    is_done_once(house, job)
    assert Leg.objects.get(job=job).attempts.count() == 2


def test_a_killed_keyholder_opens_nothing_and_the_job_goes_on_after_it(house: House) -> None:
    with house.job_under_way() as job:
        house.processes.kill("keyholder")
        house.until(lambda: Job.objects.get(pk=job).state == State.QUEUED, "the job is put back")
        status, seen = house.call("GET", f"/api/v1/jobs/{job}")
        assert (status, seen["state"], seen["code"]) == (202, "queued", "keyholder_unavailable")
        assert {entry["digest"] for entry in seen["subjects"]} == {None}
    house.processes.restart("keyholder")
    house.time_passes(job)
    is_done_once(house, job)


def test_a_killed_ledger_opens_nothing_and_the_job_goes_on_after_it(house: House) -> None:
    with house.job_under_way() as job:
        house.processes.kill("ledger")

    # One reading serves several openings: a quick job is stopped only where it delivers.
    put_back = {State.QUEUED: "ledger_unavailable", State.DELIVERING: "ledger_prepare_failed"}

    def row() -> Job:
        return Job.objects.get(pk=job)

    house.until(lambda: put_back.get(State(row().state)) == row().error_code, "the job is put back")
    seen = house.call("GET", f"/api/v1/jobs/{job}")[1]
    assert (seen["state"], seen["code"]) == ("queued", "ledger_unavailable")
    assert house.delivered(job) == 0
    house.processes.restart("ledger")
    house.time_passes(job)
    is_done_once(house, job)
    assert house.command("fsck") == 0


def test_a_killed_broker_loses_no_job(house: House) -> None:
    """Its queue is in memory and dies with it; while it is down, jobs are taken all the same."""
    with house.held("worker"):
        queued = [house.start_job(), house.start_job()]
        house.processes.kill("broker")
        queued.append(house.start_job())
        assert {Job.objects.get(pk=job).state for job in queued} == {State.QUEUED}
        house.processes.restart("broker")
    house.time_passes(*queued)
    for job in queued:
        is_done_once(house, job)


ASK = (
    "import django; django.setup(); from gateway.compliance import services;"
    " from ledger.audit.log import Actor;"
    " print(services.ask(kind='log', by=Actor.system('command'), language='en').pk)"
)


def test_an_export_is_made_by_a_worker_and_verifies(house: House, tmp_path: Path) -> None:
    """Asked for in one process, carried by the broker, made by Celery, checked by the ledger's key."""
    environment = {**house.processes.environment, "DJANGO_SETTINGS_MODULE": "gateway.settings"}
    asked = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, cwd=REPOSITORY, capture_output=True, check=True
    )
    id = asked.stdout.decode().strip()

    def export() -> Export:
        return Export.objects.get(pk=id)

    house.until(lambda: export().state in (Export.State.READY, Export.State.FAILED), "the worker made it")
    made = export()
    assert (made.state, made.error_code) == (Export.State.READY, "")
    assert made.written == made.rows > 0
    out = tmp_path / "log.zip"
    out.write_bytes(b"".join(compliance.read(export=made, by=Actor.system("command"))))
    assert verify(out, read_public_key(house.home / "ledger")).verdict == "verified"
