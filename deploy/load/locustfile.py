"""Load on the API as AI companies make it: reads mostly, decisions, now and then a job to its end.

    pip install locust ./deploy/client
    . var/sandbox/shell
    locust -f deploy/load/locustfile.py --host $URL

docs/performance.md says with what, and what to look at. One user is one program of the client's: it signs in
by itself and waits as `Retry-After` says. A 429 is an answer and no failure, unless it does not say when to
come again; a job that has not ended after LONGEST_JOB is one.
"""

import os
import secrets
import time
from typing import Any

from consentctl import Gateway, Key
from locust import HttpUser, between, task

CLIENT, KEY, MODEL = os.environ["CLIENT"], Key.read(os.environ["KEY"]), os.environ["MODEL"]
LONGEST_JOB = 300.0  # seconds
WORK = {"model": MODEL, "purpose": "HRESCH", "use": ["HMB"]}


class Program(HttpUser):
    wait_time = between(0.05, 0.5)

    def on_start(self) -> None:
        self.gateway = Gateway(self.host, client=CLIENT, key=KEY)
        self.asked: list[str] = []

    @task(20)
    def list_jobs(self) -> None:
        self.call("GET", "/api/v1/jobs")

    @task(5)
    def decide(self) -> None:
        request = self.asked[0] if self.asked else "0" * 64
        one = {**WORK, "request": request, "resources": ["Observation"]}
        self.call("POST", "/api/v1/decisions", {"decisions": [one] * 100})

    @task(1)
    def run_job(self) -> None:
        """To its end, and every result of it."""
        answer = self.call("POST", "/api/v1/jobs", WORK)
        if answer.status_code != 202:
            return
        path, begun = answer.headers["Content-Location"], time.monotonic()
        while answer.status_code in (202, 429) and time.monotonic() < begun + LONGEST_JOB:
            time.sleep(float(answer.headers.get("Retry-After", 1)))
            answer = self.call("GET", path, name="/api/v1/jobs/[id]")
        job = answer.json() if answer.status_code == 200 else {"state": f"answer {answer.status_code}"}
        subjects = job.get("subjects", [])
        failed = None if job["state"] == "done" else RuntimeError(f"the job is {job['state']}")
        self.environment.events.request.fire(
            request_type="JOB", name="submit to end", exception=failed, context={},
            response_time=(time.monotonic() - begun) * 1000, response_length=len(subjects),
        )  # fmt: skip
        self.asked = [each["request"] for each in subjects]
        for each in subjects:
            if each["state"] == "delivered":
                self.call("GET", f"{path}/results/{each['subject']}", name="/api/v1/jobs/[id]/results/[id]")

    def call(self, method: str, path: str, body: Any = None, name: str | None = None) -> Any:
        headers = {
            "Authorization": f"Bearer {self.gateway.token()}",
            "Idempotency-Key": secrets.token_hex(16),
        }
        with self.client.request(
            method, path, json=body, headers=headers, name=name, catch_response=True
        ) as answer:
            if answer.status_code == 429 and "Retry-After" in answer.headers:
                answer.success()
            return answer
