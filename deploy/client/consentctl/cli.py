"""`consentctl`: the gateway from a terminal. JSON on stdout, progress and errors on stderr."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from consentctl.gateway import Gateway, Problem
from consentctl.keys import Key

PROFILE = Path(os.environ.get("CONSENTCTL_PROFILE", Path.home() / ".config" / "consentctl.json"))
Command = Callable[[argparse.Namespace], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when it is done, 1 when the gateway refused, 2 for a wrong command line."""
    given = _parser().parse_args(arguments)
    try:
        answer = given.run(given)
    except Problem as problem:
        told = f" (request {problem.request_id})" if problem.request_id else ""
        sys.stderr.write(f"{problem.code}: {problem.detail}{told}\n")
        return 1
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"consentctl: {error}\n")
        return 1
    if answer is not None:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="consentctl", description="Consent Gateway from a terminal.")
    groups = parser.add_subparsers(required=True, metavar="COMMAND")

    new = groups.add_parser("keys", help="make a key; prints the public set that the hospital registers")
    new.add_argument("path", help="where the private key goes (a new file)")
    new.set_defaults(run=_new_key)

    login = groups.add_parser("login", help="remember a gateway, a client id and a key, and try them")
    login.add_argument("url")
    login.add_argument("--client", required=True, help="client id")
    login.add_argument("--key", required=True, help="file of the private key (JWK)")
    login.set_defaults(run=_login)

    token = groups.add_parser("token", help="an access token for other tools")
    token.add_argument("--scope", default=None)
    token.set_defaults(run=_token)

    ask = groups.add_parser("ask", help="ask a patient: a question as JSON (docs/api.md)")
    ask.add_argument("question", help="file, or - for stdin")
    ask.set_defaults(run=lambda given: _gateway().ask(json.loads(_read(given.question))))

    jobs = groups.add_parser("jobs", help="jobs").add_subparsers(required=True, metavar="COMMAND")
    submit = jobs.add_parser("submit", help="start a job; prints its id")
    submit.add_argument("--model", required=True, help="digest")
    submit.add_argument("--purpose", required=True, help="v3-ActReason code")
    submit.add_argument("--use", action="append", default=[], help="DUO code; may be repeated")
    submit.add_argument("--request", action="append", help="consent request; may be repeated; all by default")
    submit.set_defaults(run=_submit)
    for name, run, what in (
        ("show", lambda given: _gateway().job(given.job), "the job"),
        ("wait", _wait, "until it has ended"),
        ("cancel", lambda given: _gateway().cancel(given.job), "stop it"),
    ):
        each = jobs.add_parser(name, help=what)
        each.add_argument("job")
        each.set_defaults(run=run)
    jobs.add_parser("list", help="all of them").set_defaults(run=lambda given: list(_gateway().jobs()))
    download = jobs.add_parser("download", help="each result into a folder, as <subject>.json")
    download.add_argument("job")
    download.add_argument("folder")
    download.set_defaults(run=_download)
    return parser


def _new_key(given: argparse.Namespace) -> Any:
    key = Key.new()
    key.write(given.path)
    return key.public_set()


def _login(given: argparse.Namespace) -> Any:
    Gateway(given.url, client=given.client, key=Key.read(given.key)).token()
    PROFILE.parent.mkdir(parents=True, exist_ok=True)
    told = {"url": given.url, "client": given.client, "key": str(Path(given.key).resolve())}
    PROFILE.write_text(json.dumps(told))
    sys.stderr.write(f"Signed in. Remembered in {PROFILE}.\n")


def _token(given: argparse.Namespace) -> Any:
    sys.stdout.write(_gateway(given.scope).token() + "\n")


def _submit(given: argparse.Namespace) -> Any:
    job = _gateway().submit(model=given.model, purpose=given.purpose, use=given.use, requests=given.request)
    sys.stdout.write(job["id"] + "\n")


def _wait(given: argparse.Namespace) -> Any:
    with tqdm(unit="patient", file=sys.stderr, desc="job") as bar:

        def told(done: int, of: int) -> None:
            bar.total, bar.n = of, done
            bar.refresh()

        job = _gateway().wait(given.job, told=told)
    states = [entry["state"] for entry in job["subjects"]]
    return {"state": job["state"], "code": job["code"], "delivered": states.count("delivered")}


def _download(given: argparse.Namespace) -> Any:
    gateway = _gateway()
    job = gateway.job(given.job)
    folder = Path(given.folder)
    folder.mkdir(parents=True, exist_ok=True)
    delivered = sum(entry["state"] == "delivered" for entry in job["subjects"])
    for subject, bundle in tqdm(gateway.results(job), total=delivered, unit="result", file=sys.stderr):
        (folder / f"{subject}.json").write_text(json.dumps(bundle, indent=2))
    return None


def _gateway(scope: str | None = None) -> Gateway:
    if not PROFILE.exists():
        raise ValueError("Sign in first: consentctl login URL --client ID --key FILE")
    told = json.loads(PROFILE.read_text())
    more = {"scope": scope} if scope else {}
    return Gateway(told["url"], client=told["client"], key=Key.read(told["key"]), **more)


def _read(name: str) -> str:
    return sys.stdin.read() if name == "-" else Path(name).read_text()
