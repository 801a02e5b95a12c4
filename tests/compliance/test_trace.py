"""Trace, with a real ledger, keyholder and child: which packets a job opened, what came of it, and back."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from consent.models import Patient, Representative, Requester, random_id
from gateway.analysis import exports, tasks
from gateway.analysis.models import Job, JobSubject, Output
from gateway.compliance import trace
from gateway.compliance.trace import Traced
from gateway.emergency import services as emergencies
from gateway.keyholder.client import Keyholder
from gateway.portal.visitor import ACTS_AS, MADE_FOR
from gateway.records import settling
from gateway.records.ingest import ingest
from gateway.records.models import Chunk, Gone, Moved
from gateway.records.whereabouts import reference_of, standing
from ledger.audit import sealing
from ledger.audit.models import AuditRow
from ledger.client import HOME
from ledger.errors import InvalidInput
from tests.analysis.test_job_end_to_end import PCE, Play, records
from tests.api.test_export import Copies
from tests.records.conftest import patient
from tests.records.test_updates import version
from tests.representing import represent
from tests.staff.conftest import member

__all__ = ["member"]  # a fixture

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def play(own_installation: Any, helix: Requester, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Copies:
    settings.AUTO_APPROVE = False
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    found = Copies({HOME: own_installation.ledger_url}, own_installation.keyholder_socket, helix)
    found.register()
    return found


@pytest.fixture
def job(play: Play) -> Job:
    """One patient's, with a packet of each of three kinds that the model reads."""
    return play.run(play.submit(play.yes(play.someone(*records())).request_id))


def packets(patient: Patient) -> set[str]:
    return set(Chunk.objects.filter(patient=patient).values_list("pk", flat=True))


def opened(use: Traced) -> set[str]:
    return {record.partition("/")[0] for record in use.records}


def test_from_a_packet_to_the_result_and_back(play: Play, job: Job) -> None:
    subject = job.subjects.get()
    assert subject.patient is not None
    mine, digest = packets(subject.patient), Output.objects.get().digest
    play.result(job)
    for chunk in mine:
        (use,) = trace.of_packet(chunk, play.keyholder)
        assert (use.key, use.job, use.model, use.output) == (subject.pk, job.pk, PCE.digest(), digest)
        assert (use.state, use.read, use.kind) == ("delivered", 1, "analyse")
    for beginning in (
        trace.of_output(digest, play.keyholder),
        trace.of_job(job.pk, play.keyholder),
        trace.of_model(PCE.digest(), play.keyholder),
        trace.of_patient(subject.patient, play.keyholder),
        trace.of_requester(job.requester_id, play.keyholder),
    ):
        (back,) = beginning
        assert opened(back) == mine
    totals = trace.Totals()
    totals.add(back)
    assert totals.as_json() == {
        "uses": 1, "results": 1, "patients": 1, "jobs": 1, "records": 3, "models": {PCE.digest(): 1},
    }  # fmt: skip


def test_what_was_not_given_is_not_in_it(play: Play) -> None:
    """A kind that the patient did not give was not opened: its packet leads nowhere."""
    someone = play.someone(*records())
    job = play.run(play.submit(play.yes(someone, kinds=["Observation", "Patient"]).request_id))
    (use,) = trace.of_job(job.pk, play.keyholder)
    assert len(opened(use)) == 2 < len(packets(someone))
    left = packets(someone) - opened(use)
    assert all(not list(trace.of_packet(chunk, play.keyholder)) for chunk in left)


def test_what_was_refused_opened_nothing(play: Play) -> None:
    someone = play.someone(*records())
    consent = play.yes(someone)
    play.stop(consent)
    play.settle()
    play.run(play.submit(consent.request_id))
    assert list(trace.of_patient(someone, play.keyholder)) == []


def test_a_result_that_was_deleted_is_still_traced(play: Play, job: Job) -> None:
    Output.objects.all().delete()
    (use,) = trace.of_job(job.pk, play.keyholder)
    assert (use.output, use.state, len(use.records)) == ("", "delivered", 3)


def test_an_erased_patient_s_uses_lead_to_nobody(play: Play, job: Job) -> None:
    JobSubject.objects.update(patient=None, request=None)
    (use,) = trace.of_model(PCE.digest(), play.keyholder)
    assert use.patient is None
    assert len(use.records) == 3


def test_a_person_s_reading_is_in_it(play: Play, bob: Any) -> None:
    someone = play.someone(*records())
    opened_at_night = emergencies.open_emergency(
        patient=someone,
        by=bob,
        reason="ETREAT",
        explanation="Found unconscious at the bus stop.",
        keyholder=play.keyholder,
    )
    emergencies.read(emergency=opened_at_night, kind="Observation", by=bob, keyholder=play.keyholder)
    (use,) = trace.of_patient(someone, play.keyholder)
    assert (use.kind, use.key, len(use.records)) == ("emergency", opened_at_night.pk, 1)
    (chunk,) = opened(use)
    assert [each.key for each in trace.of_packet(chunk, play.keyholder)] == [use.key]


class Ward:
    """A patient whose records come in file by file, and are read in emergencies between."""

    def __init__(self, play: Play, bob: Any, folder: Path) -> None:
        self.play, self.bob, self.folder, self.name = play, bob, folder, random_id()
        self.take_in(patient(self.name))
        self.patient = Patient.objects.get(record_id=self.name)

    def take_in(self, *resources: Any) -> None:
        path = self.folder / f"{random_id()}.ndjson"
        path.write_text("\n".join(map(json.dumps, resources)))
        assert ingest([path]).refused == []

    def version(self, number: int, id: str = "a") -> None:
        self.take_in(version(f"{id}-{self.name[:8]}", self.name, str(number), f"2024-0{number}-01T00:00:00Z"))

    def reference(self, number: int | None = None, id: str = "a") -> str:
        of_one = "" if number is None else f"/_history/{number}"
        return f"Observation/{id}-{self.name[:8]}{of_one}"

    def read(self) -> str:
        """The key of this use."""
        opened = emergencies.open_emergency(
            patient=self.patient,
            by=self.bob,
            reason="ETREAT",
            explanation="Found unconscious at the bus stop.",
            keyholder=self.play.keyholder,
        )
        emergencies.read(emergency=opened, kind="Observation", by=self.bob, keyholder=self.play.keyholder)
        emergencies.end(emergency=opened, by=self.bob, keyholder=self.play.keyholder)
        return str(opened.pk)

    def held(self, reference: str) -> dict[str, str]:
        return {use.key: use.held for use in trace.of_record(reference, self.play.keyholder)}


@pytest.fixture
def ward(play: Play, bob: Any, tmp_path: Path) -> Ward:
    return Ward(play, bob, tmp_path)


def test_a_record_leads_to_what_opened_a_packet_that_held_it(ward: Ward) -> None:
    """And one version of it to what opened a packet that held this version."""
    ward.version(1)
    first = ward.read()
    ward.version(2)
    second = ward.read()
    assert ward.held(ward.reference(1)) == {first: "yes"}
    assert ward.held(ward.reference(2)) == {second: "yes"}
    assert ward.held(ward.reference()) == {first: "yes", second: "yes"}


def test_a_record_that_moved_between_packets_leads_to_all_that_held_it(ward: Ward) -> None:
    """Its neighbour got a newer version: the packet was sealed anew without the old one, and with it."""
    ward.take_in(
        version(f"a-{ward.name[:8]}", ward.name, "1", "2024-01-01T00:00:00Z"),
        version(f"b-{ward.name[:8]}", ward.name, "1", "2024-01-01T00:00:00Z"),
    )
    before = packets(ward.patient)
    first = ward.read()
    ward.version(2)
    assert standing(ward.patient) != before
    second = ward.read()
    assert ward.held(ward.reference(1, "b")) == {first: "yes", second: "yes"}
    Chunk.objects.exclude(retired_at=None).delete()
    assert ward.held(ward.reference(1, "b")) == {first: "yes", second: "yes"}


def test_where_several_packets_became_one_it_may_have_been_in_either(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.version(1, "a")
    first = ward.read()
    for id in "bcd":
        ward.version(1, id)
    monkeypatch.setattr(settling, "MOST_CHUNKS", 4)
    ward.version(1, "e")
    second = ward.read()
    for id in "ab":
        assert ward.held(ward.reference(1, id)) == {first: "maybe", second: "yes"}


def test_what_was_sealed_anew_before_it_was_written_down_may_have_been_anywhere(ward: Ward) -> None:
    ward.version(1)
    first = ward.read()
    ward.version(2)
    Moved.objects.update(old="")
    Gone.objects.update(name="", version="", chunk="")
    assert ward.held(ward.reference()) == {first: "maybe"}


def test_another_record_s_uses_are_not_its_own(ward: Ward) -> None:
    ward.version(1)
    ward.read()
    assert ward.held(f"Patient/{ward.name}") == {}


def test_what_is_no_record_here(play: Play) -> None:
    for typed in ("Observation/unknown", "Observation/unknown/_history/1"):
        with pytest.raises(InvalidInput) as refusal:
            trace.of_record(typed, play.keyholder)
        assert refusal.value.code == "unknown_record"
        assert "unknown" not in refusal.value.message


@pytest.mark.parametrize(
    "typed", ["observation", "", '{"resourceType": "Observation"}', "{", "A/1/_history/"]
)
def test_what_names_no_record(typed: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        reference_of(typed)
    assert refusal.value.code == "record_reference"


def test_a_record_is_named_by_its_own_json() -> None:
    resource = {"resourceType": "Condition", "id": "1", "meta": {"versionId": "3"}}
    assert reference_of(json.dumps(resource)) == "Condition/1/_history/3"
    assert reference_of(" Condition/1\n") == "Condition/1"


def test_a_regrouped_packet_leads_to_uses_of_those_before_it(ward: Ward) -> None:
    """A newer version came after a reading: what was sealed anew leads to the reading, other kinds do not."""
    ward.take_in(
        version(f"a-{ward.name[:8]}", ward.name, "1", "2024-01-01T00:00:00Z"),
        version(f"b-{ward.name[:8]}", ward.name, "1", "2024-01-01T00:00:00Z"),
    )
    before = packets(ward.patient)
    first = ward.read()
    ward.version(2)
    keyholder = ward.play.keyholder
    moved = Moved.objects.get(patient=ward.patient)
    assert [use.key for use in trace.of_packet(moved.new, keyholder)] == [first]
    Chunk.objects.exclude(retired_at=None).delete()
    assert [use.key for use in trace.of_packet(moved.old, keyholder)] == [first]
    (untouched,) = standing(ward.patient) & before
    assert list(trace.of_packet(untouched, keyholder)) == []
    Moved.objects.update(old="")
    assert [use.key for use in trace.of_packet(moved.new, keyholder)] == [first]


def test_the_command(play: Play, job: Job, capsys: pytest.CaptureFixture[str], settings: Any) -> None:
    subject = job.subjects.get()
    assert subject.patient is not None
    call_command("trace", "patient", subject.patient.record_id, "--json")
    use, summary = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (use["key"], use["model"], use["consent"]) == (subject.pk, PCE.digest(), subject.consent)
    assert summary["summary"]["records"] == len(use["records"]) == 3
    call_command("trace", "packet", use["records"][0].partition("/")[0])
    assert "1 uses of 3 sealed packets of 1 patients, in 1 jobs: 1 results" in capsys.readouterr().out
    for beginning in trace.KNOWN.keys() | {"record"}:
        with pytest.raises(CommandError):
            call_command("trace", beginning, "00" * 32)
    settings.KEYHOLDER_SOCKET = "/nowhere"
    with pytest.raises(SystemExit) as ended:
        call_command("trace", "job", job.pk)
    assert ended.value.code == 2


def test_it_can_be_checked_against_the_other_stores(
    play: Play, job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.management.commands.trace.PAUSE", 0.0)
    sealing.seal()
    play.settle()
    call_command("trace", "job", job.pk, "--check")
    Job.objects.filter(pk=job.pk).update(model="ab" * 32)
    with pytest.raises(SystemExit) as ended:
        call_command("trace", "job", job.pk, "--check")
    assert ended.value.code == 1
    assert "release_differs: attempt" in capsys.readouterr().err


def test_as_many_queries_for_many_as_for_few(play: Play, job: Job) -> None:
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            found = list(trace.of_model(PCE.digest(), play.keyholder))
        counts.append(len(queries))
        if len(found) == 1:
            many = play.run(play.submit(*[play.yes(play.someone(*records())).request_id for _ in range(3)]))
            assert many.state == Job.State.DONE
    assert len(found) == 4
    assert counts[0] == counts[1] == 3


def test_the_command_reads_a_record_from_standard_input(
    ward: Ward, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.version(1)
    key = ward.read()
    monkeypatch.setattr("sys.stdin", StringIO(ward.reference(1)))
    call_command("trace", "record", "-", "--json")
    use, summary = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (use["key"], use["held"], summary["summary"]["held"]) == (key, "yes", 1)
    monkeypatch.setattr("sys.stdin", StringIO(ward.reference(1)))
    call_command("trace", "record", "-")
    assert "1 of these uses opened a packet that held the record" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", StringIO(f"Patient/{ward.name}"))
    call_command("trace", "record", "-", "--json")
    (told,) = capsys.readouterr().out.splitlines()
    assert json.loads(told)["summary"]["held"] == 0
    with pytest.raises(CommandError, match="record_reference"):
        call_command("trace", "record", ward.reference(1))


# The pages


def test_the_officer_s_pages(play: Play, job: Job, member: Callable[..., Client]) -> None:
    subject = job.subjects.get()
    assert subject.patient is not None
    officer = member("compliance")
    assert officer.post("/staff/trace", {"kind": "job", "what": "00" * 32}).status_code == 400
    typed = {"kind": "patient", "what": subject.patient.record_id}
    answer = officer.post("/staff/trace", typed)
    assert answer["Location"] == f"/staff/trace/patient/{subject.patient.pk}"
    page = officer.get(answer["Location"]).content.decode()
    assert f"<bdi>{subject.patient.name}, {subject.patient.record_id}</bdi>" in page
    assert "None was released" not in page
    for kind, id in (
        ("job", job.pk),
        ("model", PCE.digest()),
        ("output", Output.objects.get().digest),
        ("packet", packets(subject.patient).pop()),
    ):
        assert f"/staff/trace/{kind}/" in page
        assert officer.get(f"/staff/trace/{kind}/{id}").status_code == 200
    table = b"".join(officer.get(f"{answer['Location']}.csv").streaming_content).decode().splitlines()  # type: ignore[arg-type]
    assert len(table) == 2
    assert table[1].endswith(" ".join(next(trace.of_job(job.pk, play.keyholder)).records))
    for path in (f"/staff/trace/consent/{job.pk}", f"/staff/trace/job/{'00' * 32}"):
        assert officer.get(path).status_code == 404
    assert member("auditor").get(answer["Location"]).status_code == 403


def test_a_table_that_cannot_be_begun_leaves_nothing_open(
    ward: Ward, member: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.version(1)
    opened, closed = list[Keyholder](), list[Keyholder]()

    class Noted(Keyholder):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            opened.append(self)

        def close(self) -> None:
            super().close()
            closed.append(self)

    monkeypatch.setattr("gateway.staff.tracing.Keyholder", Noted)
    officer = member("compliance")
    for what, status in (("Observation/nobody", 400), (ward.reference(1), 200)):
        answer = officer.post("/staff/trace", {"kind": "record", "what": what, "table": "yes"})
        assert answer.status_code == status
        if status == 200:
            b"".join(answer.streaming_content)  # type: ignore[arg-type]
        assert opened == closed
    assert len(opened) == 2


def test_the_officer_s_page_of_a_record(ward: Ward, member: Callable[..., Client]) -> None:
    ward.version(1)
    ward.read()
    officer = member("compliance")
    typed = {"kind": "record", "what": ward.reference(1)}
    rows = AuditRow.objects.count()
    answer = officer.post("/staff/trace", typed)
    assert answer.status_code == 200  # no address has it
    page = answer.content.decode()
    assert "The record was in them" in page
    assert "it is not known in which one it was" in page
    table = b"".join(officer.post("/staff/trace", {**typed, "table": "yes"}).streaming_content)  # type: ignore[arg-type]
    assert b",yes," in table
    for wrong in ("Observation/nobody", "x"):
        answer = officer.post("/staff/trace", {"kind": "record", "what": wrong})
        assert answer.status_code == 400
        assert "govuk-error-message" in answer.content.decode()
        assert (
            officer.post("/staff/trace", {"kind": "record", "what": wrong, "table": "yes"}).status_code == 400
        )
    assert AuditRow.objects.count() == rows
    assert member("auditor").post("/staff/trace", typed).status_code == 403


def test_her_page_of_a_record(ward: Ward, user: Any, client: Client, settings: Any) -> None:
    ward.version(1)
    ward.read()
    ward.patient.user = user("alma")
    ward.patient.save()
    client.force_login(ward.patient.user, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/models/record").status_code == 200
    page = client.post("/models/record", {"record": ward.reference()}).content.decode()
    assert "A person, in an emergency" in page
    assert 'data-label="In the packet">Yes<' in page
    # Her own copy sends the words of a record along.
    page = client.post("/models/record", {"record": f"{ward.reference()} Hay fever"}).content.decode()
    assert "<bdi>Hay fever</bdi></h2>" in page
    assert "A person, in an emergency" in page
    # Another's record and none look the same.
    another = Ward(ward.play, ward.bob, ward.folder)
    another.version(1)
    for wrong in (another.reference(), "Observation/nobody"):
        answer = client.post("/models/record", {"record": wrong})
        assert answer.status_code == 400
        assert "We have no record of yours with this name" in answer.content.decode()
    settings.KEYHOLDER_SOCKET = "/nowhere"
    answer = client.post("/models/record", {"record": ward.reference()})
    assert answer.status_code == 503
    assert "We cannot look this up now" in answer.content.decode()


def test_who_acts_for_her_looks_up_the_kinds_that_they_decide_about(
    ward: Ward, user: Any, client: Client
) -> None:
    ward.version(1)
    ana = user("ana")
    representative = represent(ward.patient, ana, kinds=["Observation"])
    client.force_login(ana, backend="django.contrib.auth.backends.ModelBackend")
    session = client.session
    session[ACTS_AS] = representative.pk
    session.save()
    typed = {"record": ward.reference(), MADE_FOR: ward.patient.pk}
    assert client.post("/models/record", typed).status_code == 200
    Representative.objects.update(kinds=["Condition"])
    answer = client.post("/models/record", typed)
    assert answer.status_code == 400
    assert "We have no record of yours with this name" in answer.content.decode()


def test_her_own_page(play: Play, job: Job, user: Any, client: Client) -> None:
    someone = job.subjects.get().patient
    assert someone is not None
    someone.user = user("alma")
    someone.save()
    client.force_login(someone.user, backend="django.contrib.auth.backends.ModelBackend")
    assert f"/models/{PCE.digest()}" in client.get("/models").content.decode()
    page = client.get(f"/models/{PCE.digest()}").content.decode()
    assert "Result sent" in page
    assert 'data-label="Packets it opened">3<' in page
    assert f"/access/{job.subjects.get().pk}/proof" in page
    assert client.get(f"/models/{'00' * 32}").status_code == 404


def test_her_page_without_the_keyholder(
    play: Play, job: Job, user: Any, client: Client, settings: Any
) -> None:
    someone = job.subjects.get().patient
    assert someone is not None
    someone.user = user("alma")
    someone.save()
    client.force_login(someone.user, backend="django.contrib.auth.backends.ModelBackend")
    settings.KEYHOLDER_SOCKET = "/nowhere"
    page = client.get(f"/models/{PCE.digest()}").content.decode()
    assert "We cannot count the packets now" in page
    assert "Result sent" in page


def test_her_copies(play: Copies, user: Any, client: Client, helix: Requester) -> None:
    someone = play.someone(*records())
    someone.user = user("alma")
    someone.save()
    play.yes_copy(someone)
    play.run(exports.submit(requester=helix, group=None, address="x", types=["Observation"]))
    client.force_login(someone.user, backend="django.contrib.auth.backends.ModelBackend")
    assert "/models/copies" in client.get("/models").content.decode()
    page = client.get("/models/copies").content.decode()
    assert "The copy left" in page
    assert helix.name in page
    assert "None that we know of" in page


def test_the_keyholder_is_asked_by_ids_alone(play: Play, job: Job) -> None:
    subject = job.subjects.get()
    found = play.keyholder.openings_of(places=[(subject.leg_id, subject.pk)])
    assert {one["ground"] for one in found} == {"release"}
    assert not list(play.keyholder.openings_of(places=[(subject.leg_id, "00" * 32)]))
