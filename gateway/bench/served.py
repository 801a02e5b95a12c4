"""An installation that is served while something is measured: the sandbox with a crowd, on its own."""

import http.client
import json
import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from gateway.demo import client
from gateway.demo.home import free_port

READY = "Ctrl-C stops it."
PATIENCE = 3600.0  # seconds: a crowd of hundreds on a busy machine
POLL = 0.02


class Served:
    """The sandbox, and Helix AI calling it over one connection. What it says while it is made, with a bar for
    a crowd, goes to standard error. Raises RuntimeError if it does not start."""

    def __init__(self, *, crowd: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-api-")
        self._home = home = Path(self._folder.name)
        environment = {
            **os.environ,
            "GATEWAY_HOME": str(home),
            "GATEWAY_API_RATE": "1000000/minute",
            "DATABASE_URL": "",
        }
        command = [
            sys.executable,
            "manage.py",
            "sandbox",
            "up",
            "--port",
            str(free_port()),
            "--crowd",
            str(crowd),
        ]
        with (home / "out").open("w") as out:
            self._process = subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment, stdout=out)
        deadline = time.monotonic() + PATIENCE
        while READY not in (home / "out").read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError("The sandbox did not start.")
            time.sleep(0.2)
        shell = (home / "sandbox" / "shell").read_text()
        told = dict(each.split("=", 1) for each in shell.split() if "=" in each)
        self.model, self._url, self._client = told["MODEL"], told["URL"], told["CLIENT"]
        self._key = json.loads(Path(told["KEY"]).read_text())
        self.sign_in()

    def sign_in(self) -> None:
        """A fresh token and a fresh connection: a token lives for five minutes."""
        token = client.token(self._url, client_id=self._client, key=self._key)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection("127.0.0.1", urlsplit(self._url).port or 80, timeout=60)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        headers = {**self._headers, "Idempotency-Key": secrets.token_hex(16)}
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, path, sent, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def run_job(self, requests: list[str] | None = None) -> dict[str, Any]:
        """A job from its submission to its end. Raises RuntimeError where it fails."""
        body = {"model": self.model, "purpose": "HRESCH", "use": ["HMB"]}
        status, answer = self.call(
            "POST", "/api/v1/jobs", body if requests is None else {**body, "requests": requests}
        )
        job, begun = json.loads(answer), time.monotonic()
        while status == 202:
            time.sleep(max(POLL, (time.monotonic() - begun) / 20))  # asking takes of what the job has
            status, answer = self.call("GET", f"/api/v1/jobs/{job['id']}")
            if status == 401:  # it took longer than the token lives
                self.sign_in()
                status = 202
        job = json.loads(answer)
        if status != 200 or job["state"] != "done":
            raise RuntimeError(f"The job did not end well: {status}")
        return dict(job)

    def request_of(self, name: str) -> str:
        """The consent request of the sandbox's patient of this first name: no client learns whose it is."""
        found = "SELECT r.id FROM consent_consentrequest r JOIN consent_patient p ON p.id = r.patient_id"
        with closing(sqlite3.connect(self._home / "sandbox" / "db.sqlite3")) as database:
            (id,) = database.execute(f"{found} WHERE p.name LIKE ?", [f"{name}%"]).fetchone()
        return str(id)

    def requests_of_crowd(self) -> list[str]:
        """The consent requests of the crowd, who alone have no account."""
        found = "SELECT r.id FROM consent_consentrequest r JOIN consent_patient p ON p.id = r.patient_id"
        with closing(sqlite3.connect(self._home / "sandbox" / "db.sqlite3")) as database:
            return [str(id) for (id,) in database.execute(f"{found} WHERE p.user_id IS NULL")]

    def close(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()
