"""A whole installation as a hospital runs it, every process of it real, for tests that break it.

The test's own process looks at its database and acts as its patients and its AI client; whatever is
killed, stopped or filled here is a process of the installation, never the test.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import ConnectionHandler, connections
from django.test import override_settings
from django.utils import timezone

from consent.models import Patient
from gateway import installation
from gateway import settings as own
from gateway.analysis.models import Job, JobSubject
from gateway.demo import people
from gateway.demo.home import free_port
from gateway.demo.story import Story
from gateway.processes import Processes
from ledger.audit.models import AuditRow

PATIENTS = 5
REPOSITORY = Path(__file__).resolve().parents[2]
MAKE = "import django; django.setup(); from gateway import installation as i, settings; i.make(settings.HOME)"


class House(Story):
    """The installation, its cast, and ways to harm it. What the story's people do, they do here too."""

    patients: list[Patient]
    asked: dict[str, str]
    consents: dict[str, str]
    public_url: str

    def move_in(self) -> None:
        """Seal the records of some patients, each of whom says yes to Helix AI."""
        self.cast = people.gather(self.data, count=PATIENTS)
        self.patients = self.cast.patients
        self.model = self._model_is_approved(self.cast.helix)
        self.sign_in()
        self.asked = {patient.pk: self.ask(patient) for patient in self.patients}
        self.consents = {
            patient.pk: self._say_yes(patient, self.asked[patient.pk]) for patient in self.patients
        }

    def sign_in(self) -> None:
        """A fresh token: one lives for five minutes."""
        self.token = self._token(self.cast.client_id, self.cast.client_key)

    def ask(self, patient: Patient) -> str:
        return self._ask(self.cast.helix, patient)

    def yes(self, patient: Patient, request: str) -> str:
        return self._say_yes(patient, request)

    def stop(self, patient: Patient, consent: str) -> None:
        self._say_stop(patient, consent)

    # Jobs

    def start_job(self) -> str:
        """A job over everyone."""
        return self._start_job(list(self.asked.values()))

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        return self._call(method, path, body)

    def settled(self, job: str) -> Job:
        self.until(lambda: Job.objects.get(pk=job).state in Job.SETTLED, "the job ends")
        return Job.objects.get(pk=job)

    def delivered(self, job: str) -> int:
        """How many subjects of the job the API names as delivered, with a result that opens."""
        entries = [entry for entry in self._results(job) if entry["state"] == "delivered"]
        for entry in entries:
            status, bundle = self._call("GET", f"/api/v1/jobs/{job}/results/{entry['subject']}")
            assert (status, bundle["resourceType"]) == (200, "Bundle")
        return len(entries)

    def deliveries_logged(self, job: str) -> int:
        rows = AuditRow.objects.filter(kind="job.delivered").values_list("line", flat=True)
        return sum(job.encode() in bytes(line) for line in rows)

    @contextmanager
    def job_under_way(self) -> Iterator[str]:
        """A job whose worker and child wait for the keyholder, which is held, with records still to open."""
        for _ in range(5):
            job = self.start_job()
            self.until(lambda job=job: self._released(job).exists(), "records are opened")  # type: ignore[misc]
            keyholder = self.processes.pid("keyholder")
            os.kill(keyholder, signal.SIGSTOP)
            try:
                time.sleep(0.1)
                if Job.objects.get(pk=job).state == Job.State.RUNNING and self._released(job).exists():
                    yield job
                    return
            finally:
                if self.processes.is_alive("keyholder"):
                    os.kill(keyholder, signal.SIGCONT)
            self.settled(job)
        raise AssertionError("five jobs in a row were quicker than the look at them")

    def _released(self, job: str) -> Any:
        return JobSubject.objects.filter(job=job, state=JobSubject.State.RELEASED)

    def time_passes(self, *jobs: str) -> None:
        """For these jobs: leases end, pauses are over, and what was handed to the broker is long ago."""
        past = timezone.now() - timedelta(hours=1)
        waiting = Job.objects.filter(pk__in=jobs).exclude(state__in=Job.SETTLED)
        waiting.update(enqueued_at=past)
        waiting.exclude(retry_at=None).update(retry_at=past)
        waiting.exclude(lease_until=None).update(lease_until=past)

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < deadline, f"waited in vain until {what}"
            time.sleep(0.005)

    def command(self, *arguments: str) -> int:
        """The exit status of `manage.py …` in this installation."""
        return self._command(*arguments).returncode

    # Processes

    def job_children(self) -> list[int]:
        """The children of jobs under way, and what wraps them; not those that wait for a job, which are the
        last that each of the worker's processes started."""
        running = [
            pid
            for pid in descendants(self.processes.pid("worker"))
            if "gateway.analysis.child" in command(pid)
        ]
        started: dict[int, list[int]] = {}
        for pid in sorted(running):
            with suppress(OSError):
                if (by := parent(pid)) not in running:
                    started.setdefault(by, []).append(pid)
        at_work = [pid for pids in started.values() for pid in pids[:-1]]
        return [each for pid in at_work for each in (pid, *descendants(pid))]

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """A process and what it started stand still."""
        group = self.processes.pid(name)
        os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)

    @contextmanager
    def full_disk(self, name: str) -> Iterator[None]:
        """No file of a process and its children may grow any more: RLIMIT_FSIZE stands for the disk.

        Job children write no file: they give up even the right to it when they start.
        """
        import resource

        pids = [self.processes.pid(name), *descendants(self.processes.pid(name))]
        limits = {
            pid: resource.prlimit(pid, resource.RLIMIT_FSIZE)
            for pid in pids
            if "gateway.analysis.child" not in command(pid)
        }
        try:
            for pid, (_, hard) in limits.items():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
            yield
        finally:
            for pid, limit in limits.items():
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)

    def mend(self, *, without: str = "") -> None:
        """Every process runs again, whatever happened before; but for one, if it is named."""
        for spec in self.specs:
            if spec.name != without and not self.processes.is_alive(spec.name):
                self.processes.kill(spec.name)
                self.processes.start(spec)
        self.sign_in()

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """One POST as it is, without following where it leads."""
        request = urllib.request.Request(f"{self.url}{path}", data=body, headers=headers, method="POST")
        try:
            with urllib.request.build_opener(Stay).open(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    specs: list[Any]


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@contextmanager
def open_house() -> Iterator[House]:
    """Make the installation, start it, let everyone in; nothing of it is left at the end."""
    home = Path(tempfile.mkdtemp(prefix="gh-"))
    # These installations keep their data in SQLite, whatever the suite runs on.
    port = free_port()
    public_url = f"http://localhost:{port}"
    environment = {
        "DATABASE_URL": "",
        "GATEWAY_COHORT_FEWEST": "2",  # a house has few people
        "GATEWAY_LOG_LEVEL": "WARNING",
        "GATEWAY_URL": public_url,
    }
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        subprocess.run(
            [sys.executable, "-c", MAKE],
            env={
                **os.environ,
                **environment,
                "GATEWAY_HOME": str(home),
                "DJANGO_SETTINGS_MODULE": "gateway.settings",
            },
            cwd=REPOSITORY,
            check=True,
        )
        stack.enter_context(living_at(home))
        processes = stack.enter_context(Processes(home, environment))
        specs = installation.specs(home, port=port)
        for spec in specs:
            processes.start(spec)
        house = House(home, f"http://127.0.0.1:{port}", processes, lambda _: None, home / "data")
        house.specs, house.public_url = specs, public_url
        house.move_in()
        yield house


@contextmanager
def living_at(home: Path) -> Iterator[None]:
    """This process's settings and database are those of the installation in `home`."""
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": home / "db.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
    before = connections["default"]
    connections["default"] = ConnectionHandler({"default": database})["default"]
    try:
        with override_settings(
            HOME=home,
            COHORT_FEWEST=2,
            PASSWORD_HASHERS=own.PASSWORD_HASHERS,  # the web process checks what is made here
            SECRET_KEY=(home / "secret_key").read_text().strip(),
            LEDGER_URL=f"embedded://{home / 'ledger'}",
            KEYHOLDER_SOCKET=str(home / "keyholder" / "keyholder.sock"),
            OWN_BROKER=home / "broker" / "broker.sock",
            CELERY_BROKER_URL=f"redis+socket://{home / 'broker' / 'broker.sock'}",
        ):
            yield
    finally:
        connections["default"].close()
        connections["default"] = before


def descendants(pid: int) -> list[int]:
    """Processes that `pid` started, and those that they started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2]
            except OSError:
                continue
            parents.setdefault(int(after_name.split()[1]), []).append(int(entry.name))
    found, look = [], [pid]
    while look:
        started = parents.get(look.pop(), [])
        found += started
        look += started
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
