"""The gateway as an AI company's program sees it. Blocking calls over the standard library's HTTP."""

import json
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from consentctl.keys import Key

Json = dict[str, Any]
SCOPES = "consents jobs"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TIMEOUT = 60.0
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Problem(Exception):
    """What the gateway refused: `code` is stable, `status` HTTP's, `request_id` for whoever asks us."""

    def __init__(
        self, *, status: int, code: str, detail: str, request_id: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status, self.code, self.detail, self.request_id = status, code, detail, request_id
        self.retry_after = retry_after  # seconds, where it is worth trying again

    @property
    def passes(self) -> bool:
        """Whether the same call may be answered later."""
        return self.status in (429, 503)


class Gateway:
    """One gateway, one client. Tokens are had as they are needed and kept for as long as they live.

    Every method that creates takes `key`, the Idempotency-Key: with the same one a repeated call has one
    effect. Raises Problem for what the gateway refuses, OSError where it cannot be reached.
    """

    def __init__(self, url: str, *, client: str, key: Key, scope: str = SCOPES) -> None:
        self.url, self.client, self.key, self.scope = url.rstrip("/"), client, key, scope
        self._token, self._ends = "", 0.0

    # Asking

    def ask(self, question: Mapping[str, Any], *, key: str | None = None) -> Json:
        """Ask a patient; docs/api.md says what a question holds. Gives `id`, `available`, `review`."""
        return self._post("/api/v1/consent-requests", question, key=key)

    def request(self, id: str) -> Json:
        return self._get(f"/api/v1/consent-requests/{id}")

    def decide(self, decisions: Sequence[Mapping[str, Any]]) -> list[Json]:
        """Would this be permitted now? Up to 1,000 at once, answered in their order."""
        return list(self._post("/api/v1/decisions", {"decisions": list(decisions)})["decisions"])

    # Asking many: the hospital writes whom a wish fits, and tells numbers that are cut short

    def ask_cohort(self, question: Mapping[str, Any], *, key: str | None = None) -> Json:
        """Propose a question to many; docs/api.md says what it holds beside its `wish`. Gives `id`."""
        return self._post("/api/v1/cohorts", question, key=key)

    def cohort(self, id: str) -> Json:
        """How far it is, and the two numbers."""
        return self._get(f"/api/v1/cohorts/{id}")

    def cohorts(self) -> list[Json]:
        return list(self._get("/api/v1/cohorts")["cohorts"])

    def submit_over_cohort(
        self,
        cohort: str,
        *,
        kinds: Sequence[str] = (),
        given_since: str | None = None,
        index_date: str | None = None,
        key: str | None = None,
    ) -> Json:
        """Start a job over everyone of a cohort whose consent is in force, or over part of them."""
        filters = {"kinds": list(kinds), "given_since": given_since, "index_date": index_date}
        given = {name: value for name, value in filters.items() if value}
        return self._post("/api/v1/jobs", {"cohort": cohort, **given}, key=key)

    # Jobs

    def submit(
        self,
        *,
        model: str,
        purpose: str,
        use: Sequence[str] = (),
        requests: Sequence[str] | None = None,
        index_date: str | None = None,
        key: str | None = None,
    ) -> Json:
        """Start a job over `requests`, or over everyone whom you asked for this model."""
        body: Json = {"model": model, "purpose": purpose, "use": list(use)}
        if requests is not None:
            body["requests"] = list(requests)
        if index_date is not None:
            body["index_date"] = index_date
        return self._post("/api/v1/jobs", body, key=key)

    def jobs(self) -> Iterator[Json]:
        """All jobs, newest first."""
        before: str | None = ""
        while before is not None:
            page = self._get("/api/v1/jobs" + (f"?before={urllib.parse.quote(before)}" if before else ""))
            yield from page["jobs"]
            before = page["next"]

    def job(self, id: str) -> Json:
        return self._get(f"/api/v1/jobs/{id}")

    def cancel(self, id: str) -> Json:
        return self._post(f"/api/v1/jobs/{id}/cancel", None)

    def wait(self, id: str, *, told: Callable[[int, int], None] | None = None, seconds: float = 3600) -> Json:
        """Until the job has ended; `told(done, of)` each time it is asked. Raises TimeoutError."""
        return dict(json.loads(self._until_done(f"/api/v1/jobs/{id}", told, seconds)))

    def subjects(self, job: Mapping[str, Any]) -> Iterator[Json]:
        """Every subject of a job that has ended, page by page where there are more than a thousand."""
        while True:
            yield from job["subjects"]
            if job["next"] is None:
                return
            job = self._get(f"/api/v1/jobs/{job['id']}?after={job['next']}")

    def results(self, job: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
        """The FHIR Bundle of each subject that was delivered and is still there."""
        for subject, content in self.files(job):
            yield subject, json.loads(content)

    def files(self, job: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
        """The same, byte for byte as they come: what a proof is of."""
        for entry in self.subjects(job):
            if entry["state"] == "delivered":
                try:
                    yield entry["subject"], self._call("GET", _result(job, entry["subject"]))[2]
                except Problem as problem:
                    if problem.code != "not_available":  # stopped since
                        raise

    def summaries(self, job: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
        """What a model that summarises gave of everyone, by its digest, as long as nobody has stopped."""
        for digest in job["summaries"]:
            try:
                yield digest, self._call("GET", f"/api/v1/jobs/{job['id']}/summaries/{digest}")[2]
            except Problem as problem:
                if problem.code != "not_available":
                    raise

    def proof(self, job: Mapping[str, Any], subject: str, *, seconds: float = 120) -> bytes:
        """The proof of a result that you have read; waits until the ledger holds it, a few seconds.

        Raises TimeoutError."""
        return self._until_done(f"{_result(job, subject)}/proof", None, seconds)

    # Models

    def models(self) -> list[Json]:
        """Your model versions, and how far the hospital has approved each."""
        return list(self._get("/api/v1/models")["models"])

    def register_model(self, model: Mapping[str, Any], *, key: str | None = None) -> Json:
        """Register a model version: its digest, its card, your own test of it (docs/api.md)."""
        return self._post("/api/v1/models", model, key=key)

    # Copies: Bulk Data, with a token for `system/*.rs`

    def start_export(self, *, group: str | None = None, types: Sequence[str] = ()) -> str:
        """Kick off an export of a Group, or of the only one. Gives its status' path."""
        of = f"/fhir/Group/{urllib.parse.quote(group)}" if group else "/fhir"
        query = f"?_type={urllib.parse.quote(','.join(types))}" if types else ""
        _, headers, _ = self._call("GET", f"{of}/$export{query}", {"Prefer": "respond-async"})
        return urllib.parse.urlsplit(headers["Content-Location"]).path

    def wait_export(
        self, status: str, *, told: Callable[[int, int], None] | None = None, seconds: float = 3600
    ) -> Json:
        """Until it is done: the manifest. `told` as for `wait`."""
        return dict(json.loads(self._until_done(status, told, seconds)))

    def file(self, address: str) -> Iterator[bytes]:
        """One file of a manifest, piece by piece, as it is opened."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        with self._open("GET", self.url + urllib.parse.urlsplit(address).path, headers, None) as answer:
            while piece := answer.read(1 << 16):
                yield piece

    # The sandbox's own switches, which no other gateway has

    def sandbox(self) -> Json:
        """Its clock and its faults."""
        return dict(json.loads(self._send("GET", f"{self.url}/sandbox/", {}, None)[2]))

    def advance(self, seconds: int) -> Json:
        """Move the sandbox's clock ahead; tokens from before have ended then."""
        return self._switch("advance", {"seconds": seconds})

    def fault(self, name: str, *, on: bool) -> Json:
        """Make a part of the sandbox fail, or work again."""
        return self._switch("faults", {name: on})

    def _switch(self, name: str, body: Json) -> Json:
        headers = {"Content-Type": "application/json"}
        address = f"{self.url}/sandbox/{name}"
        return dict(json.loads(self._send("POST", address, headers, json.dumps(body).encode())[2]))

    # HTTP

    def token(self) -> str:
        """An access token that lives for another 30 seconds at least."""
        if time.monotonic() > self._ends - 30:
            told = json.loads(self._send("GET", f"{self.url}/.well-known/smart-configuration", {}, None)[2])
            form = {
                "grant_type": "client_credentials",
                "scope": self.scope,
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": self.key.assertion(client=self.client, audience=told["token_endpoint"]),
            }
            sent = urllib.parse.urlencode(form).encode()
            got = json.loads(self._send("POST", f"{self.url}/oauth/token", {}, sent)[2])
            self._token, self._ends = got["access_token"], time.monotonic() + got["expires_in"]
        return self._token

    def _until_done(self, path: str, told: Callable[[int, int], None] | None, seconds: float) -> bytes:
        """Ask until the answer is a 200: its body. What passes (429, 503) is waited for.

        Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                status, headers, body = self._call("GET", path)
            except Problem as problem:
                if not problem.passes:
                    raise
                status, headers, body = problem.status, {"Retry-After": str(problem.retry_after or 1)}, b""
            if status == 200:
                return body
            progress = headers.get("X-Progress")
            if told is not None and progress:
                done, _, of = progress.rpartition(", ")[2].partition(" of ")
                told(int(done), int(of))
            time.sleep(min(float(headers.get("Retry-After", 1)), max(0.0, deadline - time.monotonic())))
        raise TimeoutError("It has not ended.")

    def _get(self, path: str) -> Json:
        return dict(json.loads(self._call("GET", path)[2]))

    def _post(self, path: str, body: Any, *, key: str | None = None) -> Json:
        headers = {"Idempotency-Key": key or secrets.token_hex(16), "Content-Type": "application/json"}
        sent = b"" if body is None else json.dumps(body).encode()
        return dict(json.loads(self._call("POST", path, headers, sent)[2]))

    def _call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        signed = {"Authorization": f"Bearer {self.token()}", **(headers or {})}
        return self._send(method, self.url + path, signed, body)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        with self._open(method, url, headers, body) as answer:
            return answer.status, answer.headers, answer.read()

    def _open(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Any:
        """The answer, to be read and closed. Raises Problem, OSError."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in LOOPBACK):
            raise ValueError("Only https, or this machine.")
        request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)  # noqa: S310
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
        except urllib.error.HTTPError as error:
            raise _problem(error.code, error.headers, error.read()) from None


def _result(job: Mapping[str, Any], subject: str) -> str:
    return f"/api/v1/jobs/{job['id']}/results/{subject}"


def _problem(status: int, headers: Mapping[str, str], body: bytes) -> Problem:
    """A problem (RFC 9457), an OperationOutcome, or an error of the token address (RFC 6749)."""
    try:
        told = json.loads(body)
    except ValueError:
        told = {}
    if told.get("resourceType") == "OperationOutcome":
        issue = told["issue"][0]
        told = {"code": issue["details"]["coding"][0]["code"], "detail": issue["diagnostics"]}
    wait = headers.get("Retry-After", "")
    return Problem(
        status=status,
        code=str(told.get("code") or told.get("error") or "error"),
        detail=str(told.get("detail") or told.get("error_description") or "The gateway said no more."),
        request_id=str(told.get("request_id", "")),
        retry_after=float(wait) if wait.isdecimal() else None,
    )
