"""Bulk Data export with the real ledger, keyholder and child: what was consented leaves, de-identified."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from consent import requesters, review
from consent import services as consents
from consent.models import Consent, ConsentRequest, Patient, Requester
from gateway.analysis import exports, runner, tasks
from gateway.analysis.models import Job, Output
from gateway.api.fhir import resources
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.client import HOME
from tests.analysis.test_job_end_to_end import KINDS, Play, records
from tests.analysis.test_pce import measured
from tests.questions import reviewer

pytestmark = pytest.mark.django_db(transaction=True)
SCOPE = "system/*.rs"
COPIED = ["Patient", "Observation", "Condition"]


class Copies(Play):
    """Patients who are asked for a copy, and say yes."""

    def ask_copy(self, asked: Patient, kinds: list[str] = COPIED, **changed: Any) -> ConsentRequest:
        today = timezone.localdate()
        question = consents.ask(
            requester=self.helix,
            patient=asked,
            notice=self.notice,
            action=ConsentRequest.Action.DISCLOSE,
            model="",
            **{
                "purpose": "HRESCH",
                "use": ["HMB"],
                "kinds": kinds,
                "what_for": "To learn more about heart disease.",
                "share_until": today + timedelta(days=90),
                "answer_by": today + timedelta(days=9),
                **changed,
            },
        )
        if question.state == ConsentRequest.State.REVIEW:
            review.approve(request=question, by=reviewer())
        return question

    def yes_copy(
        self, asked: Patient, kinds: list[str] = COPIED, given: list[str] | None = None, **more: Any
    ) -> Consent:
        request = self.ask_copy(asked, kinds)
        consent = consents.grant(
            request=request, patient=asked, kinds=given or kinds, **{"duration": "until", **more}
        )
        self.settle()
        consent.refresh_from_db()
        assert consent.ledger_state == Consent.LedgerState.IN_FORCE
        return consent


@pytest.fixture
def play(installation: Any, helix: Requester, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Copies:
    settings.AUTO_APPROVE = False
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    return Copies({HOME: installation.ledger_url}, installation.keyholder_socket, helix)


class Bulk:
    """A Bulk Data client with one token."""

    def __init__(self, token: str, play: Copies) -> None:
        self.headers, self.play = {"Authorization": f"Bearer {token}"}, play

    def get(self, path: str, **headers: str) -> Any:
        return Client().get(path, headers={**self.headers, **headers})

    def kick_off(self, path: str = "/fhir/$export") -> Any:
        return self.get(path, Prefer="respond-async", Accept="application/fhir+json")

    def export(self, path: str = "/fhir/$export") -> tuple[str, dict[str, Any]]:
        """The status' path and the manifest of an export that a worker ran."""
        begun = self.kick_off(path)
        assert begun.status_code == 202, begun.content
        status = begun["Content-Location"].removeprefix("http://localhost:8000")
        assert self.get(status).status_code == 202
        runner.run(Job.objects.latest("created_at").pk, keyholder=self.play.keyholder)
        done = self.get(status)
        assert done.status_code == 200, done.content
        return status, done.json()

    def files(self, manifest: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        return {each["type"]: self.lines(each["url"]) for each in manifest["output"]}

    def lines(self, url: str) -> list[dict[str, Any]]:
        answer = self.get(url.removeprefix("http://localhost:8000"))
        assert answer.status_code == 200, answer.content
        assert answer["Content-Type"] == "application/fhir+ndjson"
        return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]


@pytest.fixture
def bulk(application: Any, token_for: Callable[..., str], play: Copies) -> Callable[..., Bulk]:
    return lambda scope=SCOPE: Bulk(token_for(application, scope=scope), play)


def test_what_was_consented_leaves_de_identified_and_nothing_else(play: Copies, bulk: Any) -> None:
    alice = play.someone(*records(), name="Alice Example")
    bea = play.someone(*records(), name="Bea Example")
    play.yes_copy(alice)
    play.ask_copy(bea)  # who does not answer
    client = bulk()
    _, manifest = client.export()
    assert manifest["requiresAccessToken"] is True
    assert manifest["request"].endswith("/fhir/$export")
    found = client.files(manifest)
    assert sorted(found) == sorted(COPIED)
    assert len(found["Observation"]) == 4
    assert len(found["Patient"]) == len(found["Condition"]) == 1
    (patient,) = found["Patient"]
    hers = patient["id"].partition("-")[0]
    assert all(each["id"].startswith(f"{hers}-") for lines in found.values() for each in lines)
    text = json.dumps(found)
    for name in ("Example", "Alice", alice.id, str(alice.record_id), "o-2093-3", "Patient/p"):
        assert name not in text
    assert AuditRow.objects.filter(kind="result.read", subject=alice.pseudonym).count() == 3
    assert not AuditRow.objects.filter(kind="result.read", subject=bea.pseudonym).exists()


def test_a_yes_to_a_program_is_no_yes_to_a_copy_and_the_other_way_round(play: Copies, bulk: Any) -> None:
    play.register()
    program, copy = play.someone(*records()), play.someone(*records())
    play.yes(program)
    play.ask_copy(program, purpose="TREAT")
    consent = play.yes_copy(copy)
    ConsentRequest.objects.filter(pk=consent.request_id).update(purpose="TREAT")
    client = bulk()
    _, manifest = client.export()
    assert manifest["output"] == []
    job = play.run(play.submit(consent.request_id))
    assert job.state == Job.State.DENIED


def test_a_kind_that_was_not_given_is_not_in_it(play: Copies, bulk: Any) -> None:
    play.yes_copy(play.someone(*records()), given=["Observation"])
    found = bulk().files(bulk().export()[1])
    assert found["Patient"] == found["Condition"] == []
    assert found["Observation"]


def test_a_stop_ends_what_was_delivered_and_what_comes(play: Copies, bulk: Any) -> None:
    consent = play.yes_copy(play.someone(*records()))
    client = bulk()
    _, manifest = client.export()
    play.stop(consent)
    assert all(not lines for lines in client.files(manifest).values())
    assert client.get("/fhir/Observation").json().get("entry") is None
    _, later = client.export()
    assert later["output"] == []


def test_a_provider_that_is_suspended_reads_nothing_more(play: Copies, bulk: Any, helix: Requester) -> None:
    """Neither files nor searches, whenever they were delivered; what it is to delete it still may."""
    play.yes_copy(play.someone(*records()))
    client = bulk()
    _, manifest = client.export()
    files = [each["url"].removeprefix("http://localhost:8000") for each in manifest["output"]]
    id = next(each["resource"]["id"] for each in client.get("/fhir/Observation").json()["entry"])
    asked = [*files, "/fhir/Observation", f"/fhir/Observation/{id}"]
    assert all(client.get(path).status_code == 200 for path in asked)
    requesters.suspend(requester=helix, by=Actor.staff(1))
    for path in asked:
        answer = client.get(path)
        assert answer.status_code == 409, path
        assert b"suspended" in answer.content
    requesters.resume(requester=helix, by=Actor.staff(1))
    assert all(client.get(path).status_code == 200 for path in asked)


def test_without_a_yes_nothing_leaves_and_the_answer_looks_the_same(play: Copies, bulk: Any) -> None:
    refused, waiting, stopped = (play.someone(*records()) for _ in range(3))
    consents.refuse(request=play.ask_copy(refused), patient=refused)
    play.ask_copy(waiting)
    play.stop(play.yes_copy(stopped))
    _, manifest = bulk().export()
    assert manifest["output"] == []


def test_scopes_and_type_filters_narrow_what_a_consent_gives(play: Copies, bulk: Any) -> None:
    play.yes_copy(play.someone(*records()))
    narrow = bulk("system/Observation.rs?code=http://loinc.org|2093-3 system/Patient.rs")
    _, manifest = narrow.export()
    found = narrow.files(manifest)
    assert sorted(found) == ["Observation", "Patient"]
    assert [each["code"]["coding"][0]["code"] for each in found["Observation"]] == ["2093-3"]
    wide = bulk()
    _, filtered = wide.export("/fhir/$export?_type=Observation&_typeFilter=Observation%3Fcode%3D2085-9")
    assert [each["code"]["coding"][0]["code"] for each in wide.files(filtered)["Observation"]] == ["2085-9"]
    # A token with less reads less of what is there, too.
    assert len(narrow.files(filtered)["Observation"]) == 0
    refused = bulk("system/Patient.rs").get(
        filtered["output"][0]["url"].removeprefix("http://localhost:8000")
    )
    assert refused.status_code == 403


def test_since_leaves_out_what_did_not_change(play: Copies, bulk: Any) -> None:
    old = {**measured("2093-3", 200, "mg/dL"), "meta": {"lastUpdated": "2024-01-01T00:00:00Z"}}
    new = {**measured("2085-9", 50, "mg/dL"), "meta": {"lastUpdated": "2026-01-01T00:00:00Z"}}
    play.yes_copy(play.someone(old, new), ["Observation"])
    client = bulk()
    _, manifest = client.export("/fhir/$export?_since=2025-01-01T00:00:00Z")
    (only,) = client.files(manifest)["Observation"]
    assert only["code"]["coding"][0]["code"] == "2085-9"


def test_groups_are_by_purpose_and_use(play: Copies, bulk: Any) -> None:
    play.yes_copy(play.someone(*records()))
    play.ask_copy(play.someone(*records()), purpose="PUBHLTH", use=[])
    client = bulk()
    assert client.kick_off().json()["issue"][0]["details"]["coding"][0]["code"] == "group"
    names = [each["resource"]["id"] for each in client.get("/fhir/Group").json()["entry"]]
    assert sorted(names) == ["HRESCH-HMB", "PUBHLTH"]
    group = client.get("/fhir/Group/HRESCH-HMB").json()
    assert (group["quantity"], "member" in group) == (1, False)
    _, manifest = client.export("/fhir/Group/HRESCH-HMB/$export")
    assert len(client.files(manifest)["Patient"]) == 1
    assert client.kick_off("/fhir/Group/NOTHING/$export").status_code == 404


def test_search_and_read_see_what_was_exported_and_no_more(play: Copies, bulk: Any) -> None:
    play.yes_copy(play.someone(*records()))
    client = bulk()
    assert client.get("/fhir/Observation").json().get("entry") is None
    client.export()
    (patient,) = [each["resource"] for each in client.get("/fhir/Patient").json()["entry"]]
    found = client.get(
        f"/fhir/Observation?patient=Patient/{patient['id']}&code=http://loinc.org|2093-3"
    ).json()
    (entry,) = found["entry"]
    read = client.get(entry["fullUrl"].removeprefix("http://localhost:8000"))
    assert read.json() == entry["resource"]
    assert client.get("/fhir/Observation?patient=nobody").json().get("entry") is None
    unknown = client.get(f"/fhir/Observation/{patient['id']}")
    assert (unknown.status_code, unknown.json()["resourceType"]) == (404, "OperationOutcome")
    assert client.get("/fhir/Observation?subject:missing=true").status_code == 400
    assert bulk("system/Patient.rs").get("/fhir/Observation").status_code == 403


def test_one_search_opens_so_many_and_no_more(
    play: Copies, bulk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each opening asks the ledger: a search that finds nothing must not go through them all."""
    for _ in range(2):
        play.yes_copy(play.someone(*records()))
    client = bulk()
    client.export()
    monkeypatch.setattr(resources, "OPENED_AT_ONCE", 1)
    read = AuditRow.objects.filter(kind="result.read")
    following = "/fhir/Observation?code=0000-0"
    for number in (1, 2):
        before = read.count()
        found = client.get(following).json()
        assert "entry" not in found
        assert read.count() == before + 1
        links = {each["relation"]: each["url"] for each in found["link"]}
        following = links.get("next", "").removeprefix("http://localhost:8000")
        assert bool(following) == (number == 1)


@pytest.mark.parametrize(
    "given",
    [["x"], "x", {"name": "_type"}, [{"name": "_type"}], [{"name": 1, "valueString": "x"}], [None], [{}]],
)
def test_parameters_that_are_none_are_said_so(bulk: Any, given: Any) -> None:
    answer = Client().post(
        "/fhir/$export",
        {"resourceType": "Parameters", "parameter": given},
        content_type="application/json",
        headers={**bulk().headers, "Prefer": "respond-async"},
    )
    assert answer.status_code == 400, answer.content
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "parameter"


def test_a_client_ends_its_export(play: Copies, bulk: Any) -> None:
    play.yes_copy(play.someone(*records()))
    client = bulk()
    status, manifest = client.export()
    assert Client().delete(status, headers=client.headers).status_code == 202
    assert not Output.objects.exists()
    assert client.get(status).status_code == 404
    url = manifest["output"][0]["url"].removeprefix("http://localhost:8000")
    assert client.get(url).status_code == 404
    begun = client.kick_off()
    running = begun["Content-Location"].removeprefix("http://localhost:8000")
    assert Client().delete(running, headers=client.headers).status_code == 202
    assert client.get(running).status_code == 404
    assert Job.objects.latest("created_at").state == Job.State.CANCELLED


def test_an_export_runs_out(play: Copies, bulk: Any) -> None:
    consent = play.yes_copy(play.someone(*records()), duration="once")
    client = bulk()
    status, manifest = client.export()
    assert client.get(status)["Expires"].endswith("GMT")
    assert client.files(manifest)["Observation"], "the first file does not use a consent for one time up"
    assert client.files(manifest)["Observation"]
    Job.objects.update(settled_at=timezone.now() - timedelta(hours=25))
    assert client.get(status).json()["output"] == []
    assert exports.drop_old() == 1
    consent.refresh_from_db()
    assert consent.stopped_at is not None


@pytest.mark.parametrize(
    ("path", "prefer", "code"),
    [
        ("/fhir/$export", "", "prefer"),
        ("/fhir/$export?_type=Nonsense", "respond-async", "resource_type"),
        ("/fhir/$export?_outputFormat=text/csv", "respond-async", "output_format"),
        ("/fhir/$export?_since=soon", "respond-async", "since"),
        ("/fhir/$export?_elements=id", "respond-async", "parameter"),
        ("/fhir/$export?_typeFilter=Observation%3Fsubject%3Dx", "respond-async", "scope"),
        ("/fhir/$export?_typeFilter=Nonsense%3Fcode%3Dx", "respond-async", "type_filter"),
        ("/fhir/$export", "respond-async", "group"),
    ],
)
def test_what_cannot_be_exported_is_said_so(bulk: Any, path: str, prefer: str, code: str) -> None:
    answer = bulk().get(path, Prefer=prefer)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == code
    assert not Job.objects.exists()


@pytest.mark.parametrize("name", ["application/fhir%2Bndjson", "application/ndjson", "ndjson"])
def test_the_three_names_of_ndjson_are_taken(bulk: Any, play: Copies, name: str) -> None:
    play.ask_copy(play.someone())
    assert bulk().kick_off(f"/fhir/$export?_outputFormat={name}").status_code == 202


def test_the_manifest_has_its_form(play: Copies, bulk: Any) -> None:
    play.yes_copy(play.someone(*records()))
    _, manifest = bulk().export("/fhir/$export?_type=Patient")
    assert sorted(manifest) == [
        "deleted", "error", "output", "request", "requiresAccessToken", "transactionTime",
    ]  # fmt: skip
    assert manifest["request"] == "http://testserver/fhir/$export?_type=Patient"
    assert manifest["transactionTime"].endswith("+00:00")
    assert [sorted(each) for each in manifest["output"]] == [["type", "url"]]
    assert manifest["error"] == manifest["deleted"] == []


def test_without_a_token_or_a_scope_there_is_nothing(client: Client, bulk: Any, play: Copies) -> None:
    for path in ("/fhir/$export", "/fhir/Patient", "/fhir/Patient/x", "/fhir/Group", "/fhir/x/y/z"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["resourceType"]) == (401, "OperationOutcome")
        assert bulk("jobs").get(path).status_code == 403
    play.yes_copy(play.someone(*records()))
    status, _ = bulk().export()
    Job.objects.update(requester=Requester.objects.create(name="Other AI"))
    assert bulk().get(status).status_code == 404


def test_a_copy_names_no_model_and_says_so_to_the_patient(
    call: Callable[..., Any], question: dict[str, Any], alice: Patient, client: Client
) -> None:
    refused = call("POST", "consent-requests", {**question, "kind": "export"})
    assert (refused.status_code, refused.json()["code"]) == (400, "model")
    del question["model"]
    asked = call("POST", "consent-requests", {**question, "kind": "export"})
    assert asked.status_code == 201, asked.content
    row = ConsentRequest.objects.get()
    assert (row.action, row.model) == ("disclose", "")
    client.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(f"/requests/{row.pk}").content.decode()
    assert "What leaves the clinic" in page
    consents.grant(request=row, patient=alice, kinds=["Observation"], duration="until")
    provision = Consent.objects.get().fhir["provision"]
    assert provision["action"][0]["coding"][0]["code"] == "disclose"
    assert "extension" not in provision


assert set(COPIED) <= set(KINDS) | {"Patient"}
