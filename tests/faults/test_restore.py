"""An old backup of the database comes back: no stopped consent is used again, and the pages become true."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from django.db import connection

from consent.models import Consent
from gateway.analysis.models import Job
from ledger.audit.models import AuditRow
from tests.faults.house import PATIENTS, House

READERS = ("web", "worker", "relay")


def back_up(house: House, to: Path) -> None:
    with sqlite3.connect(house.home / "db.sqlite3") as database, sqlite3.connect(to) as copy:
        database.backup(copy)
    database.close()
    copy.close()


def restore(house: House, backup: Path) -> None:
    """What reads the database is down meanwhile; web and worker come back, the relay not yet."""
    connection.close()
    for name in READERS:
        house.processes.kill(name)
    for suffix in ("", "-wal", "-shm"):
        (house.home / f"db.sqlite3{suffix}").unlink(missing_ok=True)
    shutil.copyfile(backup, house.home / "db.sqlite3")
    for name in ("web", "worker"):
        house.processes.restart(name)


def state_of(consent: str) -> str:
    return str(Consent.objects.get(pk=consent).ledger_state)


def replay(house: House, *arguments: str) -> tuple[int, dict[str, object]]:
    done = house._command("replayledger", "--json", *arguments)
    return done.returncode, json.loads(done.stdout or b"{}")


@pytest.mark.parametrize("way", ["the relay", "the command"])
def test_a_stop_survives_an_old_database(house: House, tmp_path: Path, way: str) -> None:
    alice = house.patients[0]
    consent = house.consents[alice.pk]
    if state_of(consent) != "in_force":  # a test before stopped her
        house.asked[alice.pk] = house.ask(alice)
        consent = house.consents[alice.pk] = house.yes(alice, house.asked[alice.pk])
    assert replay(house)[0] == 0
    back_up(house, tmp_path / "old")
    house.stop(alice, consent)
    asked = list(house.asked.values())
    restore(house, tmp_path / "old")
    house.sign_in()

    # 1. The old database says yes. The ledger said no: nothing is released before the relay has heard so.
    assert state_of(consent) == "in_force"
    job = house._start_job(asked)
    house.until(
        lambda: Job.objects.get(pk=job).error_code == "ledger_catching_up", "the job waits for the replay"
    )
    assert Job.objects.get(pk=job).state == Job.State.QUEUED

    # 2. The command finds it, and only it.
    status, found = replay(house)
    assert status == 1
    assert found["differences"] == [
        {
            "channel": "home",
            "code": "state_differs",
            "consent": consent,
            "here": "in_force",
            "ledger": "revoked",
        }
    ]

    # 3. The page becomes true: by the relay, whose cursor came back with the database, or by the command.
    if way == "the relay":
        house.processes.restart("relay")
        house.until(lambda: state_of(consent) == "revoked", "the relay has replayed the events")
        assert AuditRow.objects.filter(kind="consent.revoked", subject=alice.pseudonym).exists()
    else:
        status, found = replay(house, "--repair")
        assert (status, found["repaired"]) == (0, {"state_differs": 1})
        house.processes.restart("relay")
    assert state_of(consent) == "revoked"

    # 4. Now the job goes on, without her.
    assert house.settled(job).state == Job.State.DONE
    assert house.delivered(job) == PATIENTS - 1
    assert not AuditRow.objects.filter(kind="job.delivered", subject=alice.pseudonym, line__contains=job)
    assert replay(house) == (0, {"consents": found["consents"], "differences": [], "repaired": {}})
