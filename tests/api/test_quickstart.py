"""docs/quickstart.md, word for word, against a whole installation; and the client library it stands on."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from consent import asking, cohorts, notices, services
from consent.models import Cohort, Consent, ConsentRequest, Patient
from gateway.analysis.catalogue import find
from gateway.demo import patients, people
from gateway.keyholder.client import Keyholder
from gateway.records import ingest
from tests.faults.house import House, open_house

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "deploy" / "client"


@pytest.fixture(scope="module")
def house(django_db_blocker: Any) -> Iterator[House]:
    with django_db_blocker.unblock(), open_house() as found:
        yield found


@pytest.fixture
def shell(house: House, tmp_path: Path) -> dict[str, str]:
    """What the demonstration prints, as variables; and the command on the PATH."""
    assert house.cast is not None
    key = tmp_path / "helix.jwk"
    key.write_text(json.dumps(house.cast.client_key))
    command = tmp_path / "consentctl"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m consentctl "$@"\n')
    command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(CLIENT),
        "CONSENTCTL_PROFILE": str(tmp_path / "profile.json"),
        "URL": house.url,
        "CLIENT": house.cast.client_id,
        "KEY": str(key),
        "MODEL": find("pce").digest(),
    }


def run(line: str, shell: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], env=shell, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_four_commands_lead_to_results(house: House, shell: dict[str, str], tmp_path: Path) -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text()
    commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0].splitlines()
    assert len(commands) == 4
    for command in commands:
        done = run(command, shell, tmp_path)
        assert done.returncode == 0, (command, done.stderr)
    results = [path for path in (tmp_path / "results").glob("*.json") if path.name != "job.json"]
    assert len(results) == len(house.consents)
    told = json.loads((tmp_path / "results" / "job.json").read_text())
    assert {path.stem for path in results} == {each["subject"] for each in told["subjects"]}
    for path in results:
        bundle = json.loads(path.read_text())
        assert bundle["entry"][0]["resource"]["resourceType"] == "RiskAssessment"


def test_the_program_leads_to_the_same(house: House, shell: dict[str, str], tmp_path: Path) -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "program.py").write_text(program)
    done = run(f"{sys.executable} program.py", shell, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(house.consents)
    assert all("'outcome'" in line for line in done.stdout.splitlines())


def test_what_was_downloaded_verifies_offline(house: House, shell: dict[str, str], tmp_path: Path) -> None:
    run("consentctl login $URL --client $CLIENT --key $KEY", shell, tmp_path)
    run("consentctl jobs submit --model $MODEL --purpose HRESCH --use HMB > job", shell, tmp_path)
    run("consentctl jobs wait $(cat job)", shell, tmp_path)
    told = run("consentctl --json jobs download $(cat job) results", shell, tmp_path)
    many = len(house.consents)
    assert json.loads(told.stdout) == {"results": many, "proofs": many, "summaries": 0}
    shell = {**shell, "TRUST": str(house.home / "ledger" / "ledger.pub"), "URL": ""}
    good = run("consentctl verify results --trust $TRUST", shell, tmp_path)
    assert (good.returncode, good.stdout) == (0, f"{many} of {many} results verified.\n"), good.stderr
    one, other, *_ = sorted(path.name for path in (tmp_path / "results" / "proofs").iterdir())
    alone = f"consentctl verify results/proofs/{one} --of results/{one} --trust $TRUST"
    assert run(alone, shell, tmp_path).returncode == 0
    assert run(alone.replace(f"--of results/{one}", f"--of results/{other}"), shell, tmp_path).returncode == 1

    content = (tmp_path / "results" / one).read_bytes()
    (tmp_path / "results" / one).write_bytes(content.replace(b"final", b"ended"))
    bad = run("consentctl --json verify results --trust $TRUST", shell, tmp_path)
    verdicts = json.loads(bad.stdout)
    assert (bad.returncode, verdicts.pop(Path(one).stem)) == (1, "tampered")
    assert set(verdicts.values()) == {"verified"}
    (tmp_path / "results" / one).write_bytes(content)
    (tmp_path / "results" / "proofs" / one).unlink()
    assert run("consentctl verify results --trust $TRUST", shell, tmp_path).returncode == 2


def test_a_cohort_is_asked_and_a_job_goes_over_it(
    house: House, shell: dict[str, str], tmp_path: Path
) -> None:
    assert house.cast is not None
    assert house.cast.clinician is not None
    assert house.cast.reviewer is not None
    assert house.cast.officer is not None
    # Who was asked about this model before is not asked again: three more come.
    records = patients.write(
        tmp_path / "records", count=3, reference_date=people.REFERENCE_DATE, seed=patients.SEED + 1
    )
    ingest.ingest([tmp_path / "records"])
    for each in Patient.objects.filter(record_id__in=records):
        services.proof_identity(patient=each, by=house.cast.clinician, method="in_person")
    today = timezone.localdate()
    question = {
        "wish": "Everyone with laboratory values.", "model": shell["MODEL"], "purpose": "HRESCH",
        "use": ["HMB"], "kinds": ["Patient", "Observation", "Condition", "MedicationRequest"],
        "what_for": "Use a computer program to find out how likely a heart attack is.",
        "who_sees": "Your heart clinic. A person checks every result before it is used.",
        "what_can_go_wrong": "The program is wrong for about 8 out of every 100 people.",
        "share_until": str(today + timedelta(days=200)), "answer_by": str(today + timedelta(days=30)),
    }  # fmt: skip
    (tmp_path / "question.json").write_text(json.dumps(question))
    run("consentctl login $URL --client $CLIENT --key $KEY", shell, tmp_path)
    asked = run("consentctl cohorts ask question.json", shell, tmp_path)
    assert asked.returncode == 0, asked.stderr
    id = asked.stdout.strip()
    assert json.loads(run(f"consentctl cohorts show {id}", shell, tmp_path).stdout)["state"] == "waiting"

    # What the hospital and its patients do, on their own pages.
    cohort, keyholder = Cohort.objects.get(), Keyholder(settings.KEYHOLDER_SOCKET)
    cohorts.write(
        cohort=cohort,
        criteria=cohorts.Criteria(),
        by=house.cast.reviewer,
        with_kinds=keyholder.with_kinds,
    )
    cohorts.approve(cohort=cohort, by=house.cast.officer)
    house.until(lambda: cohort.requests.count() == 3, "the relay has asked everyone")
    for each in cohort.requests.select_related("patient"):
        services.grant(request=each, patient=each.patient, kinds=question["kinds"], duration="until")
    given = Consent.objects.filter(request__cohort=cohort)
    house.until(
        lambda: {one.ledger_state for one in given.all()} == {Consent.LedgerState.IN_FORCE}, "they share"
    )

    (listed,) = json.loads(run("consentctl --json cohorts list", shell, tmp_path).stdout)
    assert (listed["id"], listed["state"]) == (id, "asked")
    assert run(f"consentctl jobs submit --cohort {id} --model $MODEL", shell, tmp_path).returncode == 1
    started = run(f"consentctl jobs submit --cohort {id} --kind Observation > job", shell, tmp_path)
    assert started.returncode == 0, started.stderr
    told = json.loads(run("consentctl --json jobs wait $(cat job)", shell, tmp_path).stdout)
    assert (told["state"], told["delivered"]) == ("done", 3)
    had = json.loads(run("consentctl --json jobs download $(cat job) all", shell, tmp_path).stdout)
    assert had["results"] == had["proofs"] == 3


def test_what_is_refused_is_said_with_its_code(shell: dict[str, str], tmp_path: Path) -> None:
    first = run("consentctl jobs list", shell, tmp_path)
    assert (first.returncode, "Sign in first" in first.stderr) == (1, True)
    wrong = run("consentctl login $URL --client nobody --key $KEY", shell, tmp_path)
    assert (wrong.returncode, "invalid_client" in wrong.stderr) == (1, True)
    run("consentctl login $URL --client $CLIENT --key $KEY", shell, tmp_path)
    refused = run(
        f"consentctl jobs submit --model {'0' * 64} --purpose HRESCH --request {'1' * 64}", shell, tmp_path
    )
    assert (refused.returncode, "model_not_approved" in refused.stderr) == (1, True)
    unknown = run(f"consentctl jobs show {'0' * 64}", shell, tmp_path)
    assert (unknown.returncode, "not_available" in unknown.stderr) == (1, True)
    assert "Traceback" not in refused.stderr + unknown.stderr + wrong.stderr


def test_a_key_is_made_once_and_kept_private(shell: dict[str, str], tmp_path: Path) -> None:
    from gateway.accounts import key_sets

    made = run("consentctl keys mine.json", shell, tmp_path)
    assert key_sets.check(json.loads(made.stdout))
    assert (tmp_path / "mine.json").stat().st_mode & 0o777 == 0o600
    again = run("consentctl keys mine.json", shell, tmp_path)
    assert again.returncode == 1
    assert "d" not in json.loads(made.stdout)["keys"][0]
    kept = json.loads((tmp_path / "mine.json").read_text())
    assert (kept["alg"], kept["key_ops"]) == ("ES384", ["sign"])  # smart-fetch looks for both
    assert json.loads(made.stdout)["keys"][0]["key_ops"] == ["verify"]


def test_a_copy_is_waited_for_and_downloaded(house: House, shell: dict[str, str], tmp_path: Path) -> None:
    assert house.cast is not None
    someone, today = house.patients[0], timezone.localdate()
    question = asking.ask(
        requester=house.cast.helix,
        patient=someone,
        notice=notices.current(),
        action=ConsentRequest.Action.DISCLOSE,
        model="",
        purpose="HRESCH",
        use=["HMB"],
        kinds=["Observation", "Patient"],
        what_for="To learn more about heart disease.",
        what_can_go_wrong="Someone may find out that it is you.",
        share_until=today + timedelta(days=90),
        answer_by=today + timedelta(days=9),
    )
    house.yes(someone, question.pk)
    run("consentctl login $URL --client $CLIENT --key $KEY", shell, tmp_path)
    done = run("consentctl --json export copy --group HRESCH-HMB --type Observation", shell, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "copy" / "Observation.ndjson").read_text().splitlines()
    assert json.loads(done.stdout) == {"resources": {"Observation": len(lines)}}
    assert {json.loads(line)["resourceType"] for line in lines} == {"Observation"}
    assert someone.name not in "".join(lines)
    assert (done.stderr, [path.name for path in (tmp_path / "copy").iterdir()]) == (
        "",
        ["Observation.ndjson"],
    )


def test_with_json_each_answer_is_one_line(shell: dict[str, str], tmp_path: Path) -> None:
    run("consentctl login $URL --client $CLIENT --key $KEY", shell, tmp_path)
    listed = run("consentctl --json jobs list", shell, tmp_path)
    assert (len(listed.stdout.splitlines()), type(json.loads(listed.stdout))) == (1, list)
    refused = run(f"consentctl --json jobs show {'0' * 64}", shell, tmp_path)
    assert (refused.returncode, json.loads(refused.stderr)["code"]) == (1, "not_available")
    assert isinstance(json.loads(run("consentctl --json token", shell, tmp_path).stdout), str)


def test_an_export_is_verified_and_a_flipped_bit_is_found(
    house: House, shell: dict[str, str], tmp_path: Path
) -> None:
    assert house.command("export_audit", str(tmp_path / "log")) == 0
    line = f"consentctl verify log --trust {house.home / 'ledger' / 'ledger.pub'}"
    assert run(line, shell, tmp_path).returncode == 0
    rows = tmp_path / "log" / "rows.ndjson"
    content = bytearray(rows.read_bytes())
    content[len(content) // 2] ^= 1
    rows.write_bytes(content)
    assert run(line, shell, tmp_path).returncode == 1
    assert run("consentctl verify nowhere --trust " + "0" * 64, shell, tmp_path).returncode == 2


def test_only_https_or_this_machine_is_called(shell: dict[str, str], tmp_path: Path) -> None:
    for url in ("http://gateway.example", "file://localhost/etc/passwd", "ftp://localhost"):
        refused = run(f"consentctl login {url} --client $CLIENT --key $KEY", shell, tmp_path)
        assert (refused.returncode, "Only https, or this machine" in refused.stderr) == (1, True)


def test_model_versions_are_listed_and_a_wrong_one_is_refused(shell: dict[str, str], tmp_path: Path) -> None:
    run("consentctl login $URL --client $CLIENT --key $KEY", shell, tmp_path)
    (listed,) = json.loads(run("consentctl --json models list", shell, tmp_path).stdout)
    assert (listed["digest"], listed["state"]) == (shell["MODEL"], "approved")
    (tmp_path / "model.json").write_text('{"digest": "no"}')
    refused = run("consentctl --json models register model.json", shell, tmp_path)
    assert (refused.returncode, json.loads(refused.stderr)["code"]) == (1, "invalid_input")
