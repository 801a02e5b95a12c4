"""The same request twice, a full disk, an old database put back: nothing doubled, nothing revived."""

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.test import Client
from django.urls import reverse

from consent.models import Consent, ConsentRequest, Patient, Progress
from gateway.analysis.models import Job, JobSubject
from gateway.demo.pages import show_again, to_check
from ledger.models import LedgerTransaction
from tests.faults.house import PATIENTS, House

State = Job.State


def at_once(count: int, act: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return [each.result() for each in [pool.submit(act) for _ in range(count)]]


def api(house: House, path: str, body: dict[str, Any], key: str) -> tuple[int, Any]:
    status, answer = house.post(
        path,
        json.dumps(body).encode(),
        {
            "Authorization": f"Bearer {house.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        },
    )
    return status, json.loads(answer)


def signed_in(patient: Patient) -> Client:
    browser = Client(HTTP_HOST="localhost")
    assert patient.user is not None
    browser.force_login(patient.user, backend="django.contrib.auth.backends.ModelBackend")
    return browser


def press(house: House, browser: Client, page: str, form: Mapping[str, str] | None = None) -> int:
    """The button of a page, pressed in that browser, over HTTP."""
    secret = "x" * 32
    cookie = f"csrftoken={secret}; sessionid={browser.cookies['sessionid'].value}"
    headers = {
        "Cookie": cookie,
        "X-CSRFToken": secret,
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return house.post(page, urlencode(form or {}).encode(), headers)[0]


def job_body(house: House) -> dict[str, Any]:
    return {"model": house.model, "purpose": "HRESCH", "use": ["HMB"], "requests": [*house.asked.values()]}


def test_the_same_job_sent_eight_times_at_once_runs_once(house: House) -> None:
    before = Job.objects.count()
    answers = at_once(8, lambda: api(house, "/api/v1/jobs", job_body(house), "the same"))
    assert {status for status, _ in answers} == {202}
    (job,) = {answer["id"] for _, answer in answers}
    assert Job.objects.count() == before + 1
    assert house.settled(job).state == State.DONE
    assert house.deliveries_logged(job) == PATIENTS


def test_the_same_yes_and_the_same_stop_sent_at_once_are_one(house: House) -> None:
    patient = house.patients[1]
    request = house.ask(patient)
    browser = signed_in(patient)
    kinds = ConsentRequest.objects.get(pk=request).kinds
    to_check(browser, request, {"kinds": kinds, "duration": "until"})
    shown = {"shown": Progress.objects.get(request=request).shown}
    check = reverse("check", args=[request])
    show_again(browser)
    assert set(at_once(8, lambda: press(house, browser, check, shown))) == {302}
    consent = Consent.objects.get(request=request).pk
    sent = LedgerTransaction.objects.filter(reference=f"consent/{consent}").order_by("pk")
    assert [row.name for row in sent] == ["GrantConsent"]

    stop = reverse("stop", args=[consent])
    assert set(at_once(8, lambda: press(house, browser, stop))) == {302}
    assert [row.name for row in sent.all()] == ["GrantConsent", "RevokeConsent"]
    house.until(lambda: state_of(consent) == Consent.LedgerState.REVOKED, "the stop is sealed")


def test_a_full_disk_is_said_and_the_same_request_succeeds_once_there_is_room(house: House) -> None:
    before = Job.objects.count()
    with house.full_disk("web"):
        status, answer = api(house, "/api/v1/jobs", job_body(house), "on a full disk")
        assert (status, answer["code"]) == (503, "database_unavailable")
        assert "again" in answer["detail"]
        assert Job.objects.count() == before
    status, answer = api(house, "/api/v1/jobs", job_body(house), "on a full disk")
    assert status == 202
    assert house.settled(answer["id"]).state == State.DONE
    assert house.delivered(answer["id"]) == PATIENTS


def test_a_disk_that_is_full_in_mid_job_opens_nothing_more_and_loses_nothing(house: House) -> None:
    with house.job_under_way() as job, house.full_disk("worker"):
        opened = JobSubject.objects.filter(job=job, state=JobSubject.State.COMPUTED).count()
        os.kill(house.processes.pid("keyholder"), signal.SIGCONT)  # it goes on; the worker cannot write
        house.until(lambda: house.job_children() == [], "the worker gives up")
        assert Job.objects.get(pk=job).state == State.RUNNING
        assert JobSubject.objects.filter(job=job, state=JobSubject.State.COMPUTED).count() == opened
    house.time_passes(job)
    assert house.settled(job).state == State.DONE
    assert house.delivered(job) == house.deliveries_logged(job) == PATIENTS


def test_an_old_database_put_back_revives_no_consent(house: House) -> None:
    """The copy still says that the consent is in force; the ledger and the keyholder do not."""
    patient = house.patients[0]
    consent = house.consents[patient.pk]
    earlier = house._run_job([house.asked[patient.pk]])
    assert house.delivered(earlier) == 1
    with an_old_copy(house, lambda: house.stop(patient, consent)):
        house.mend(without="relay")  # nothing tells the database yet that it is old
        assert state_of(consent) == Consent.LedgerState.IN_FORCE
        job = house._start_job([house.asked[patient.pk]])
        house.until(
            lambda: Job.objects.get(pk=job).error_code == "ledger_catching_up", "the job waits for the replay"
        )
        assert state_of(consent) == Consent.LedgerState.IN_FORCE
        assert house._result_is_gone(earlier)
        house.mend()  # the relay hears the ledger's events again, from where the old database was
        house.until(lambda: state_of(consent) == Consent.LedgerState.REVOKED, "the database has caught up")
        house.time_passes(job)  # on a slow machine its pause has grown to a minute
        house.settled(job)
        assert house._was_denied(job)


@contextmanager
def an_old_copy(house: House, meanwhile: Callable[[], None]) -> Iterator[None]:
    """Copy the database, let something happen, and put the copy back; at the end, the true one."""
    old, true = house.home / "old.sqlite3", house.home / "true.sqlite3"
    snapshot(house.home / "db.sqlite3", old)
    meanwhile()
    snapshot(house.home / "db.sqlite3", true)
    try:
        exchange(house, old)
        yield
    finally:
        exchange(house, true)
        house.mend()


def snapshot(database: Path, copy: Path) -> None:
    with sqlite3.connect(database) as now, sqlite3.connect(copy) as then:
        now.backup(then)
    now.close()
    then.close()


def exchange(house: House, copy: Path) -> None:
    for name in ("web", "relay", "worker"):
        house.processes.stop(name)
    connection.close()
    database = house.home / "db.sqlite3"
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    shutil.copy(copy, database)


def state_of(consent: str) -> str:
    return Consent.objects.get(pk=consent).ledger_state
