"""Clients that know the standards and not us, from PyPI, against a whole installation.

They run where they are installed: in the folder that CLIENTS_BIN names (a virtual environment's `bin`), or
beside this Python. What counts is what they got, never their exit status.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from consent import asking, notices, review
from consent.models import ConsentRequest, Patient
from gateway.accounts import clients
from ledger.audit.log import Actor
from tests.faults.house import House, open_house
from tests.signing import Key, assertion, claims, key_set, new_key

ANY = shutil.which("smart-fetch", path=os.environ.get("CLIENTS_BIN", str(Path(sys.executable).parent)))
pytestmark = pytest.mark.clients
KINDS = ["Patient", "Observation", "Condition"]
BIN = Path(os.environ.get("CLIENTS_BIN", Path(sys.executable).parent))


def installed(module: str) -> str:
    """The Python that has this module. Skips, and says so, where there is none."""
    python = str(BIN / "python")
    has = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
    if has.returncode:
        pytest.skip(f"{module} is not installed (CLIENTS_BIN)")
    return python


class Company:
    """helix with a client of its own, three patients who said yes to a copy, and one who did not answer."""

    def __init__(self, house: House, key: Key, folder: Path) -> None:
        assert house.cast is not None
        self.house, self.key, self.base = house, key, f"{house.public_url}/fhir"
        made = clients.register(requester=house.cast.helix, by=Actor.staff(1), jwks=key_set(key))
        self.client_id = str(made.application.client_id)
        self.key_file = folder / "keys.jwks"
        private = {**key.as_dict(private=True), "key_ops": ["sign"], "alg": "ES384"}
        self.key_file.write_text(json.dumps({"keys": [private]}))
        self.given = house.patients[:3]
        for patient in self.given:
            house.yes(patient, self.ask(patient))
        self.ask(house.patients[3])

    def ask(self, patient: Patient) -> str:
        assert self.house.cast is not None
        assert self.house.cast.reviewer is not None
        today = timezone.localdate()
        question = asking.ask(
            requester=self.house.cast.helix,
            patient=patient,
            notice=notices.current(),
            action=ConsentRequest.Action.DISCLOSE,
            model="",
            purpose="HRESCH",
            use=["HMB"],
            kinds=KINDS,
            what_for="To learn more about heart disease.",
            what_can_go_wrong="Someone may find out that it is you.",
            share_until=today + timedelta(days=90),
            answer_by=today + timedelta(days=9),
        )
        review.approve(request=question, by=self.house.cast.reviewer, beyond=True)
        return question.pk

    def token(self) -> str:
        signed = assertion(self.key, claims(self.client_id, aud=f"{self.house.public_url}/oauth/token"))
        form = {
            "grant_type": "client_credentials",
            "scope": "system/*.rs",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": signed,
        }
        sent = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"{self.house.public_url}/oauth/token", data=sent, timeout=30) as answer:
            return str(json.load(answer)["access_token"])


@pytest.fixture(scope="module")
def company(django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with django_db_blocker.unblock(), open_house() as house:
        yield Company(house, new_key("helix-bulk"), tmp_path_factory.mktemp("clients"))


@pytest.mark.skipif(ANY is None, reason="smart-fetch is not installed (CLIENTS_BIN)")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--type", ",".join(KINDS), "--no-default-filters"], id="what was asked for"),
        # As it comes: every type that it knows, and its own filters of Observations.
        pytest.param(["--group", "HRESCH-HMB"], id="all of a group"),
    ],
)
def test_smart_fetch_gets_what_was_consented_and_nothing_else(
    company: Company, tmp_path: Path, options: list[str]
) -> None:
    assert ANY is not None
    done = subprocess.run(
        [
            ANY, "bulk", str(tmp_path / "out"), "--fhir-url", company.base, "--no-compression",
            "--smart-client-id", company.client_id, "--smart-key", str(company.key_file), *options,
        ],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {}
    for path in (tmp_path / "out").rglob("*.ndjson"):
        for line in path.read_text().splitlines():
            resource = json.loads(line)
            if "resourceType" in resource:
                found.setdefault(resource["resourceType"], []).append(resource)
    assert set(found) <= set(KINDS), done.stdout + done.stderr
    assert len(found.get("Patient", [])) == len(company.given), done.stdout + done.stderr
    assert len(found["Observation"]) > len(company.given)
    people = {each["id"].partition("-")[0] for each in found["Patient"]}
    assert {each["id"].partition("-")[0] for lines in found.values() for each in lines} == people
    text = json.dumps(found)
    for patient in company.house.patients:
        assert patient.name not in text
        assert str(patient.record_id) not in text


FHIRCLIENT = """
import json, sys
from fhirclient import client
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
base, token = sys.argv[1:]
smart = client.FHIRClient(settings={"app_id": "helix", "api_base": base})
smart.server.session.headers["Authorization"] = "Bearer " + token
patients = list(Patient.where({}).perform_resources(smart.server))
observations = list(Observation.where({"patient": patients[0].id}).perform_resources(smart.server))
one = Observation.read(observations[0].id, smart.server)
print(json.dumps([len(patients), len(observations), one.id == observations[0].id]))
"""
FHIRPY = """
import json, sys
from fhirpy import SyncFHIRClient
base, token = sys.argv[1:]
client = SyncFHIRClient(base, authorization="Bearer " + token)
patients = client.resources("Patient").fetch_all()
conditions = client.resources("Condition").search(patient=patients[0]["id"]).fetch()
print(json.dumps([len(patients), len(conditions)]))
"""


def asked(company: Company, module: str, program: str) -> list[Any]:
    done = subprocess.run(
        [installed(module), "-c", program, company.base, company.token()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_fhirclient_searches_and_reads_what_was_exported(company: Company, tmp_path: Path) -> None:
    export(company)
    patients, observations, same = asked(company, "fhirclient", FHIRCLIENT)
    assert (patients, same) == (len(company.given), True)
    assert observations > 0


def test_fhirpy_searches_what_was_exported(company: Company) -> None:
    export(company)
    patients, conditions = asked(company, "fhirpy", FHIRPY)
    assert patients == len(company.given)
    assert conditions >= 0


def export(company: Company) -> None:
    """One export, done, so that there is something to search."""
    from gateway.analysis import exports
    from gateway.analysis.models import Job

    assert company.house.cast is not None
    done = Job.objects.filter(kind=Job.Kind.EXPORT, state=Job.State.DONE)
    if not done.filter(discarded_at=None).exists():  # smart-fetch ends what it had with DELETE
        job = exports.submit(requester=company.house.cast.helix, group=None, address="x", types=KINDS)
        company.house.settled(job.pk)
