"""`consentctl`: the gateway from a terminal. JSON on stdout, progress and errors on stderr.

With `--json` each answer is one JSON value on one line, errors too, and no progress is shown.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from consentctl.gateway import Gateway, Problem
from consentctl.keys import Key

PROFILE = Path(os.environ.get("CONSENTCTL_PROFILE", Path.home() / ".config" / "consentctl.json"))
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
COPIES = "system/*.rs"  # the scope of Bulk Data
JOB, PROOFS, SUMMARIES = "job.json", "proofs", "summaries"  # in a folder of results
Told = Callable[[int, int], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when it is done, 1 when the gateway refused, 2 for a wrong command line; `verify` says its own."""
    given = _parser().parse_args(arguments)
    try:
        answer = given.run(given)
    except Problem as problem:
        told = f" (request {problem.request_id})" if problem.request_id else ""
        return _failed(given, problem.code, f"{problem.detail}{told}")
    except (OSError, ValueError, KeyError) as error:
        return _failed(given, "consentctl", str(error))
    if isinstance(answer, SystemExit):
        return int(str(answer))
    if isinstance(answer, str) and not given.json:
        sys.stdout.write(answer + "\n")
    elif answer is not None:
        sys.stdout.write(json.dumps(answer, indent=None if given.json else 2) + "\n")
    return 0


def _failed(given: argparse.Namespace, code: str, detail: str) -> int:
    told = json.dumps({"code": code, "detail": detail}) if given.json else f"{code}: {detail}"
    sys.stderr.write(told + "\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="consentctl", description="Consent Gateway from a terminal.")
    parser.add_argument("--json", action="store_true", help="one JSON value on one line, and no progress")
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
    token.set_defaults(run=lambda given: _gateway(given.scope).token())

    ask = groups.add_parser("ask", help="ask a patient: a question as JSON (docs/api.md)")
    ask.add_argument("question", help="file, or - for stdin")
    ask.set_defaults(run=lambda given: _gateway().ask(json.loads(_read(given.question))))

    _models(groups.add_parser("models", help="model versions"))
    _cohorts(groups.add_parser("cohorts", help="ask many: the hospital finds whom, and tells numbers"))
    _jobs(groups.add_parser("jobs", help="jobs"))
    _sandbox(groups.add_parser("sandbox", help="synthetic patients to try things out with"))

    export = groups.add_parser("export", help="a copy instead of results: NDJSON files into a folder")
    export.add_argument("folder")
    export.add_argument("--group", help="whom you asked, such as HRESCH-HMB; your only group by default")
    export.add_argument("--type", action="append", default=[], help="FHIR type; may be repeated")
    export.set_defaults(run=_export)

    verify = groups.add_parser("verify", help="verify results, a proof or an export, without any server")
    verify.add_argument("path", help="a folder of results, or the folder, .zip or .json that you were given")
    verify.add_argument("--trust", required=True, help="the ledger's key or the organisations' roots")
    verify.add_argument("--of", metavar="FILE", help="the one result that a proof is of")
    verify.set_defaults(run=_verify)
    return parser


def _models(parser: argparse.ArgumentParser) -> None:
    models = parser.add_subparsers(required=True, metavar="COMMAND")
    models.add_parser("list", help="yours, and how far each is approved").set_defaults(
        run=lambda given: _gateway().models()
    )
    register = models.add_parser(
        "register", help="a new version: digest, card and test as JSON (docs/api.md)"
    )
    register.add_argument("model", help="file, or - for stdin")
    register.set_defaults(run=lambda given: _gateway().register_model(json.loads(_read(given.model))))


def _cohorts(parser: argparse.ArgumentParser) -> None:
    cohorts = parser.add_subparsers(required=True, metavar="COMMAND")
    ask = cohorts.add_parser("ask", help="propose a question to many, as JSON (docs/api.md); prints its id")
    ask.add_argument("question", help="file, or - for stdin")
    ask.set_defaults(run=lambda given: str(_gateway().ask_cohort(json.loads(_read(given.question)))["id"]))
    show = cohorts.add_parser("show", help="how far it is, and the two numbers")
    show.add_argument("cohort")
    show.set_defaults(run=lambda given: _gateway().cohort(given.cohort))
    cohorts.add_parser("list", help="yours").set_defaults(run=lambda given: _gateway().cohorts())


def _jobs(parser: argparse.ArgumentParser) -> None:
    jobs = parser.add_subparsers(required=True, metavar="COMMAND")
    submit = jobs.add_parser("submit", help="start a job; prints its id")
    submit.add_argument("--model", help="digest")
    submit.add_argument("--purpose", help="v3-ActReason code")
    submit.add_argument("--use", action="append", default=[], help="DUO code; may be repeated")
    submit.add_argument("--request", action="append", help="consent request; may be repeated; all by default")
    submit.add_argument("--cohort", help="its id, in the place of the four before: its question says them")
    submit.add_argument(
        "--kind", action="append", default=[], help="of a cohort, who gave this FHIR type; may be repeated"
    )
    submit.add_argument("--given-since", metavar="DATE", help="of a cohort, who said yes then or later")
    submit.add_argument("--index-date", metavar="DATE", help="the model sees nothing later; today by default")
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
    download = jobs.add_parser(
        "download", help="each result into a folder, its proof into proofs/, a summary into summaries/"
    )
    download.add_argument("job")
    download.add_argument("folder")
    download.set_defaults(run=_download)


def _sandbox(parser: argparse.ArgumentParser) -> None:
    sandbox = parser.add_subparsers(required=True, metavar="COMMAND")
    up = sandbox.add_parser("up", help="make one and serve it, from a clone of the gateway, until Ctrl-C")
    up.add_argument("--clone", default=".", help="folder of the clone (default: this one)")
    up.set_defaults(run=_sandbox_up)
    advance = sandbox.add_parser("advance", help="move its clock ahead")
    advance.add_argument("by", help="such as 90m, 12h, 30d or 2w")
    advance.set_defaults(run=lambda given: _gateway().advance(_seconds(given.by)))
    fault = sandbox.add_parser("fault", help="make a part of it fail, or work again")
    fault.add_argument("name", help="ledger, keyholder, rate or slow")
    fault.add_argument("state", choices=["on", "off"])
    fault.set_defaults(run=lambda given: _gateway().fault(given.name, on=given.state == "on"))
    sandbox.add_parser("show", help="its clock and its faults").set_defaults(
        run=lambda given: _gateway().sandbox()
    )


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


def _submit(given: argparse.Namespace) -> Any:
    named = given.model or given.purpose or given.use or given.request
    of_cohort = given.kind or given.given_since
    if given.cohort and not named:
        job = _gateway().submit_over_cohort(
            given.cohort, kinds=given.kind, given_since=given.given_since, index_date=given.index_date
        )
    elif given.model and given.purpose and not given.cohort and not of_cohort:
        job = _gateway().submit(
            model=given.model,
            purpose=given.purpose,
            use=given.use,
            requests=given.request,
            index_date=given.index_date,
        )
    else:
        raise ValueError("Name --model and --purpose, or --cohort alone, with --kind and --given-since.")
    return str(job["id"])


def _wait(given: argparse.Namespace) -> Any:
    gateway = _gateway()
    with _progress(given, "job", "patient") as told:
        job = gateway.wait(given.job, told=told)
    states = [entry["state"] for entry in gateway.subjects(job)]
    return {"state": job["state"], "code": job["code"], "delivered": states.count("delivered")}


def _download(given: argparse.Namespace) -> Any:
    gateway = _gateway()
    job = gateway.job(given.job)
    folder = _folder(given.folder)
    proofs = _folder(folder / PROOFS)
    # What the results stand on: the ledger's transactions, and the digest of each as the ledger has it.
    (folder / JOB).write_text(json.dumps(job, indent=2))
    delivered = sum(entry["state"] == "delivered" for entry in gateway.subjects(job))
    results = tqdm(gateway.files(job), total=delivered, unit="result", file=sys.stderr, disable=given.json)
    had = []
    for subject, content in results:
        (folder / f"{_id(subject)}.json").write_bytes(content)
        had.append(subject)
    summaries = 0
    for digest, content in gateway.summaries(job):
        (_folder(folder / SUMMARIES) / f"{_id(digest)}.json").write_bytes(content)
        summaries += 1
    for subject in tqdm(had, unit="proof", file=sys.stderr, disable=given.json):
        (proofs / f"{subject}.json").write_bytes(gateway.proof(job, subject))
    return {"results": len(had), "proofs": len(had), "summaries": summaries} if given.json else None


def _export(given: argparse.Namespace) -> Any:
    gateway, folder = _gateway(COPIES), _folder(given.folder)
    status = gateway.start_export(group=given.group, types=given.type)
    with _progress(given, "export", "patient") as told:
        manifest = gateway.wait_export(status, told=told)
    lines: dict[str, int] = {}
    with tqdm(unit="B", unit_scale=True, desc="files", file=sys.stderr, disable=given.json) as bar:
        for each in manifest["output"]:
            with (folder / f"{_name(each['type'])}.ndjson").open("wb") as file:
                for piece in gateway.file(each["url"]):
                    file.write(piece)
                    lines[each["type"]] = lines.get(each["type"], 0) + piece.count(b"\n")
                    bar.update(len(piece))
    return {"resources": lines}


def _verify(given: argparse.Namespace) -> Any:
    """The auditor's own program, which needs `cryptography`; its exit status is ours."""
    from consentctl import verifier

    path = Path(given.path)
    if (path / PROOFS).is_dir():
        return _verify_results(given, path)
    arguments = [given.path, "--trust", given.trust, *(["--of", given.of] if given.of else [])]
    return SystemExit(verifier.main([*arguments, *(["--json"] if given.json else [])]))


def _verify_results(given: argparse.Namespace, folder: Path) -> Any:
    """Each result of a folder against its proof: 0 all verified, 1 one was tampered with, 2 cannot tell."""
    from consentctl import verifier

    verdicts = {}
    for result in sorted(set(folder.glob("*.json")) - {folder / JOB}):
        report = verifier.verify(folder / PROOFS / result.name, given.trust, of=result)
        verdicts[result.stem] = report.verdict
        if report.exit and not given.json:
            told = " ".join(said for check in report.checks for said in check.says)
            sys.stderr.write(f"{result.stem}: {report.verdict}. {told}\n")
    found = list(verdicts.values())
    if given.json:
        sys.stdout.write(json.dumps(verdicts) + "\n")
    else:
        sys.stdout.write(f"{found.count('verified')} of {len(found)} results verified.\n")
    return SystemExit(1 if "tampered" in found else 2 if set(found) != {"verified"} else 0)


def _sandbox_up(given: argparse.Namespace) -> Any:
    """In the foreground, with the clone's own environment, which make sets up."""
    if not (Path(given.clone) / "manage.py").is_file():
        raise ValueError("Name a clone of Consent Gateway with --clone.")
    try:
        done = subprocess.run(["make", "-C", given.clone, "sandbox"], check=False)  # noqa: S607
    except KeyboardInterrupt:
        return None
    return SystemExit(done.returncode)


@contextmanager
def _progress(given: argparse.Namespace, what: str, unit: str) -> Iterator[Told]:
    with tqdm(unit=unit, file=sys.stderr, desc=what, disable=given.json) as bar:

        def told(done: int, of: int) -> None:
            bar.total, bar.n = of, done
            bar.refresh()

        yield told
        if bar.total:  # the last answer has no progress: it is the end
            told(bar.total, bar.total)


def _gateway(scope: str | None = None) -> Gateway:
    if not PROFILE.exists():
        raise ValueError("Sign in first: consentctl login URL --client ID --key FILE")
    told = json.loads(PROFILE.read_text())
    more = {"scope": scope} if scope else {}
    return Gateway(told["url"], client=told["client"], key=Key.read(told["key"]), **more)


def _folder(name: str | Path) -> Path:
    folder = Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _name(kind: object) -> str:
    """A type as the name of a file. Raises ValueError: a manifest names no path of ours."""
    if not isinstance(kind, str) or not re.fullmatch("[A-Za-z]{1,64}", kind):
        raise ValueError("The manifest names a type that is none.")
    return kind


def _id(subject: object) -> str:
    """A subject as the name of a file. Raises ValueError: an answer names no path of ours."""
    if not isinstance(subject, str) or not re.fullmatch("[0-9a-f]{64}", subject):
        raise ValueError("The job names a subject that is none.")
    return subject


def _seconds(text: str) -> int:
    """`30d` in seconds. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if not found:
        raise ValueError("Say how far, such as 90m, 12h, 30d or 2w.")
    return int(found[1]) * UNITS[found[2]]


def _read(name: str) -> str:
    return sys.stdin.read() if name == "-" else Path(name).read_text()
