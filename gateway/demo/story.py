"""The story that the demonstration plays, on the real parts of an installation that is running.

A patient says yes, an AI job runs on her sealed records, she says stop, a job under way stops with
her, the next job gets nothing, and the export of all of it verifies. Patients act through the portal's
own pages, the AI company through the API over HTTP. Each claim in `Seen` is set only from what the
ledger, the API or the verifier answered, never from what was meant to happen.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent import referrals, review
from consent.models import Consent, ConsentRequest, Patient, Requester
from gateway.analysis.models import AIModel, Job, JobSubject
from gateway.demo import client, people
from gateway.demo.pages import say_yes
from gateway.processes import Processes
from ledger.client import connect
from ledger.contract.canonical import loads

KINDS = ["Patient", "Observation", "Condition", "MedicationRequest"]
PATIENTS = 12
WAIT = 60.0


@dataclass
class Seen:
    """What was observed. `ledger`: every block, root and state was derived again and held."""

    granted: bool = False
    released: bool = False
    delivered: bool = False
    denied_after_revoke: bool = False
    stopped_running_job: bool = False
    ledger: bool = False
    export: bool = False

    @property
    def whole(self) -> bool:
        return all(asdict(self).values())


class Story:
    """One telling. `say` gets a sentence at a time; `url` is where the API is served."""

    def __init__(
        self, home: Path, url: str, processes: Processes, say: Callable[[str], None], data: Path
    ) -> None:
        self.home, self.url, self.processes, self.say, self.data = home, url, processes, say, data
        self.ledger = connect(settings.LEDGER_URL, identity="gateway")
        self.seen = Seen()
        self.token = self.model = ""
        self.cast: people.Cast | None = None
        self._keys = 0

    def play(self) -> Seen:
        self.say("Sealing the records of synthetic patients")
        cast = self.cast = people.gather(self.data, count=PATIENTS)
        self.say(f"{len(cast.patients)} patients, {cast.resources} FHIR resources, sealed as received")
        helix, alice = cast.helix, cast.alice
        self.model = self._model_is_approved(helix)
        self.token = self._token(cast.client_id, cast.client_key)

        self.say("Helix AI asks Alice; a reviewer passes the question on, and she says yes in the portal")
        asked = {patient.pk: self._ask(helix, patient) for patient in cast.patients}
        hers = self._say_yes(alice, asked[alice.pk])
        self.seen.granted = self._in_force_on_ledger(hers)

        self.say("Helix AI runs the heart risk model on Alice's records")
        job = self._run_job([asked[alice.pk]])
        self._look_at(job)

        self.say("The others say yes too; a job over all of them starts, and one of them stops it midway")
        for patient in cast.patients[1:]:
            self._say_yes(patient, asked[patient.pk])
        self.seen.stopped_running_job = self._stop_in_the_middle(cast.patients, asked)

        self.say("Alice says stop; Helix AI tries again")
        self._say_stop(alice, hers)
        refused = self._run_job([asked[alice.pk]])
        self.seen.denied_after_revoke = self._was_denied(refused) and self._result_is_gone(job)

        self.say("An auditor exports the log, verifies it offline, and tampers with a copy")
        self.seen.export = self._export_verifies()
        self.seen.ledger = self._command("fsck").returncode == 0
        self._ask(helix, alice)  # something to answer, for whoever signs in next
        return self.seen

    # What the AI company does, over HTTP

    def _token(self, client_id: str, key: dict[str, Any]) -> str:
        return client.token(self.url, client_id=client_id, key=key)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        self._keys += 1
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                "Idempotency-Key": f"demo-{self._keys}",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def _ask(self, helix: Requester, patient: Patient) -> str:
        today = timezone.localdate()
        status, answer = self._call(
            "POST",
            "/api/v1/consent-requests",
            {
                "referral_code": referrals.issue(patient=patient, requester=helix, by=people.SETUP),
                "model": self.model,
                "purpose": "HRESCH",
                "use": ["HMB"],
                "kinds": KINDS,
                "what_for": "Use a computer program to work out your risk of heart disease.",
                "who_sees": "Your heart clinic. A person checks every result before it is used.",
                "what_can_go_wrong": "The program is wrong for about 8 out of every 100 people.",
                "share_until": (today + timedelta(days=200)).isoformat(),
                "answer_by": (today + timedelta(days=30)).isoformat(),
            },
        )
        if status != 201:
            raise StoryError(f"asking was answered with {status} {answer['code']}")
        self._pass_review(str(answer["id"]))
        return str(answer["id"])

    def _start_job(self, requests: Sequence[str]) -> str:
        status, answer = self._call(
            "POST",
            "/api/v1/jobs",
            {"model": self.model, "purpose": "HRESCH", "use": ["HMB"], "requests": list(requests)},
        )
        if status != 202:
            raise StoryError(f"the job was answered with {status} {answer['code']}")
        return str(answer["id"])

    def _run_job(self, requests: Sequence[str]) -> str:
        job = self._start_job(requests)
        self._until(lambda: self._call("GET", f"/api/v1/jobs/{job}")[0] == 200, "the job ends")
        return job

    def _results(self, job: str) -> list[dict[str, Any]]:
        return list(self._call("GET", f"/api/v1/jobs/{job}")[1].get("subjects", []))

    def _pass_review(self, request: str) -> None:
        """Rita reads the question; only then is the patient asked."""
        assert self.cast is not None
        assert self.cast.reviewer is not None
        review.approve(
            request=ConsentRequest.objects.select_related("patient", "notice").get(pk=request),
            by=self.cast.reviewer,
        )

    # What patients do, on the portal's pages

    @contextmanager
    def _portal(self, patient: Patient) -> Iterator[Client]:
        browser = Client(HTTP_HOST="localhost")
        assert patient.user is not None
        browser.force_login(patient.user, backend="django.contrib.auth.backends.ModelBackend")
        yield browser

    def _say_yes(self, patient: Patient, request: str) -> str:
        asked = ConsentRequest.objects.get(pk=request)
        with self._portal(patient) as browser:
            say_yes(browser, request, {"kinds": asked.kinds, "duration": "until"})
        consent = Consent.objects.filter(request=asked).first()
        if consent is None:
            raise StoryError("the portal did not take the yes")
        self._until(lambda: self._state_of(consent.pk) == Consent.LedgerState.IN_FORCE, "the yes is sealed")
        return consent.pk

    def _say_stop(self, patient: Patient, consent: str) -> None:
        with self._portal(patient) as browser:
            browser.post(reverse("stop", args=[consent]))
        self._until(lambda: self._state_of(consent) == Consent.LedgerState.REVOKED, "the stop is sealed")

    # What was observed

    def _in_force_on_ledger(self, consent: str) -> bool:
        [value] = self.ledger.evaluate([f"consent/{consent}"])
        return value is not None and loads(value)["state"] == "active"

    def _look_at(self, job: str) -> None:
        """The two doors on the ledger, and the result as the API hands it out."""
        release, deliver = self.ledger.evaluate([f"release/{job}/1", f"deliver/{job}"])
        self.seen.released = release is not None and loads(release)["decision"] == "permit"
        [entry] = self._results(job)
        status, bundle = self._call("GET", f"/api/v1/jobs/{job}/results/{entry['subject']}")
        self.seen.delivered = deliver is not None and status == 200
        for resource in (part["resource"] for part in bundle.get("entry", ())):
            if resource["resourceType"] == "RiskAssessment" and resource.get("prediction"):
                risk = resource["prediction"][0].get("probabilityDecimal")
                self.say(f"  Result: a risk of {float(risk):.1f} % within ten years, as FHIR RiskAssessment")

    def _stop_in_the_middle(self, patients: Sequence[Patient], asked: dict[str, str]) -> bool:
        """Hold the worker still while somebody stops, let it go on, and see what became of her part."""
        for _ in range(3):
            job = self._start_job([asked[patient.pk] for patient in patients])
            with self._worker_held_once(lambda job=job: self._is_under_way(job)) as held:  # type: ignore[misc]
                waiting = JobSubject.objects.filter(job=job, state=JobSubject.State.RELEASED)
                subject = waiting.exclude(patient=patients[0]).last()
                if held and subject is not None and subject.patient is not None:
                    consent = Consent.objects.get(request=subject.request, ledger_state="in_force")
                    self._say_stop(subject.patient, consent.pk)
            self._until(lambda job=job: self._call("GET", f"/api/v1/jobs/{job}")[0] == 200, "the job ends")  # type: ignore[misc]
            if not held or subject is None:
                continue  # the job was quicker than we looked
            states = {entry["subject"]: entry["state"] for entry in self._results(job)}
            others = [state for id, state in states.items() if id != subject.pk]
            self.say(f"  Her result was not released; {others.count('delivered')} others were")
            return states[subject.pk] == "not_available" and "delivered" in others
        return False

    def _is_under_way(self, job: str) -> bool:
        return JobSubject.objects.filter(job=job, state=JobSubject.State.RELEASED).exists()

    @contextmanager
    def _worker_held_once(self, ready: Callable[[], bool]) -> Iterator[bool]:
        group = os.getpgid(self.processes.pid("worker"))
        deadline = time.monotonic() + WAIT
        held = False
        while not held and time.monotonic() < deadline:
            if ready():
                os.killpg(group, signal.SIGSTOP)
                held = ready()
                break
            time.sleep(0.002)
        try:
            yield held
        finally:
            os.killpg(group, signal.SIGCONT)

    def _was_denied(self, job: str) -> bool:
        """Nothing came out, nothing was opened, and the denial itself stands on the ledger."""
        [entry] = self._results(job)
        [release] = self.ledger.evaluate([f"release/{job}/1"])
        denied = release is not None and loads(release)["decision"] == "deny"
        return (
            denied and entry["state"] == "not_available" and Job.objects.get(pk=job).state == Job.State.DENIED
        )

    def _result_is_gone(self, job: str) -> bool:
        """After the stop, not even the result that was delivered before is opened again."""
        subject = JobSubject.objects.get(job=job)
        return self._call("GET", f"/api/v1/jobs/{job}/results/{subject.pk}")[0] == 404

    def _export_verifies(self) -> bool:
        export = self.home / "export"
        shutil.rmtree(export, ignore_errors=True)
        if self._command("export_audit", str(export)).returncode != 0:
            return False
        if self._verify(export) != 0:
            return False
        copy = self.home / "export-tampered"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(export, copy)
        rows = copy / "rows.ndjson"
        content = bytearray(rows.read_bytes())
        content[len(content) // 2] ^= 1
        rows.write_bytes(content)
        return self._verify(copy) == 1

    def _verify(self, export: Path) -> int:
        return subprocess.run(
            [sys.executable, "-m", "ledger.verify", str(export), "--trust", str(people.trusted())],
            capture_output=True,
            check=False,
            cwd=settings.BASE_DIR,
        ).returncode

    def _command(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            capture_output=True,
            check=False,
            cwd=settings.BASE_DIR,
            env=self.processes.environment,
        )

    def _state_of(self, consent: str) -> str:
        return Consent.objects.values_list("ledger_state", flat=True).get(pk=consent)

    def _model_is_approved(self, helix: Requester) -> str:
        model = people.register_model(helix)
        self._until(
            lambda: AIModel.objects.filter(digest=model, state=AIModel.State.APPROVED).exists(),
            "the model is registered on the ledger",
        )
        return model

    def _until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT
        while not is_so():
            if ended := self.processes.ended():
                raise StoryError(f"{', '.join(ended)} ended before {what}. See its log")
            if time.monotonic() > deadline:
                raise StoryError(f"waited {WAIT:.0f} seconds in vain until {what}")
            time.sleep(0.02)


class StoryError(Exception):
    """The story could not go on; the message says where."""
