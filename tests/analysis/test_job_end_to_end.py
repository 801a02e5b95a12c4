"""Jobs with the real ledger, keyholder and job child: from a yes to a result, and what stops it."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from consent import notices, review
from consent import services as consents
from consent.models import Consent, ConsentRequest, News, Patient, Requester, random_id
from gateway.analysis import jobs, runner, sandbox, services, tasks
from gateway.analysis.catalogue import find
from gateway.analysis.catalogue.model import Model
from gateway.analysis.children import JobChild
from gateway.analysis.fhir import resource_pseudonym
from gateway.analysis.models import AIModel, Job, JobSubject, Output
from gateway.keyholder.client import ChunkHeader, Keyholder
from gateway.keyholder.envelope import seal_chunk
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.opening import DELTA_SECONDS
from gateway.keyholder.service import Service
from gateway.keyholder.store import Store
from gateway.records.models import Chunk
from ledger import outbox
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.channels import HOME, Channels
from ledger.client import Envelope, Ledger, trust
from ledger.embedded.client import EmbeddedLedger
from ledger.errors import AccessDenied, RefusedTransition, SendError
from tests.analysis.bodies import condition, measured, patient, smoking
from tests.faults.house import descendants
from tests.questions import reviewer

PCE = find("pce")
KINDS = sorted(PCE.reads - {"Medication"})
State = Job.State

pytestmark = pytest.mark.django_db(transaction=True)


class Play:
    """The cast's acts, on real processes. `settle` does what the relay does, on every channel."""

    def __init__(self, urls: Mapping[str, str], socket: str, helix: Requester) -> None:
        self.keyholder = Keyholder(socket)
        self.channels = Channels.open(urls, identity="gateway")
        self.ledger: Ledger = self.channels.home.ledger
        self.helix = helix
        self.notice = notices.current()
        self.model: Model = PCE

    @property
    def kinds(self) -> list[str]:
        return sorted(self.model.reads - {"Medication"})

    def settle(self) -> None:
        handlers = {
            "ConsentGranted": consents.record_granted,
            "ConsentRevoked": consents.record_revoked,
            "ModelRegistered": services.record_model_registered,
        }
        for name, channel in self.channels.items():
            outbox.send_pending(channel.ledger, through_keyholder=self._grant, channel=name)
            outbox.follow(channel.ledger, listener="test", handlers=handlers, wait=0.0, channel=name)

    def _grant(self, row: Any) -> Any:
        consent = consents.consent_of(row)
        return self.keyholder.grant(consent=consent.id, patient=consent.patient_id, fhir=consent.fhir)

    def register(self) -> None:
        with transaction.atomic():
            row = services.register_model(model=PCE, provider=self.helix, by=Actor.system("command"))
        self.settle()
        # The ledger outlives the test: there the model may stand already, for another provider's row.
        AIModel.objects.filter(pk=row.pk).update(state=AIModel.State.APPROVED, pending_on=[])

    def someone(self, *resources: dict[str, Any], name: str = "p", channel: str = HOME) -> Patient:
        """A patient with sealed records, one chunk for each type."""
        found = Patient.objects.create(
            name=name, record_id=random_id(), proofed_at=timezone.now(), channel=channel
        )
        self.keyholder.enrol(patient=found.id, channel=channel)
        by_type: dict[str, list[dict[str, Any]]] = {}
        for resource in resources:
            by_type.setdefault(resource["resourceType"], []).append(resource)
        headers: list[ChunkHeader] = [
            {"chunk": random_id(), "resource_type": kind, "labels": ["N"], "count": len(held), "version": 1}
            for kind, held in by_type.items()
        ]
        keys = self.keyholder.new_chunks(patient=found.id, chunks=headers)["keys"]
        for header in headers:
            lines = b"\n".join(orjson.dumps(each) for each in by_type[header["resource_type"]])
            blob = seal_chunk(
                keys[header["chunk"]], lines, patient=found.id, chunk=header["chunk"], version=1
            )
            Chunk.objects.create(id=header["chunk"], patient=found, blob=blob, confirmed_at=timezone.now())
        self.keyholder.confirm_chunks(
            chunks=[{"chunk": header["chunk"], "version": header["version"]} for header in headers]
        )
        return found

    def ask(self, asked: Patient, requester: Requester | None = None) -> ConsentRequest:
        today = timezone.localdate()
        question = consents.ask(
            requester=requester or self.helix,
            patient=asked,
            notice=self.notice,
            model=self.model.digest(),
            purpose="TREAT",
            use=["HMB"],
            kinds=self.kinds,
            what_for="To see your risk of heart disease.",
            share_until=today + timedelta(days=90),
            answer_by=today + timedelta(days=9),
        )
        review.approve(request=question, by=reviewer())
        return question

    def yes(self, asked: Patient, kinds: list[str] | None = None, duration: str = "until") -> Consent:
        request = self.ask(asked)
        consent = consents.grant(request=request, patient=asked, kinds=kinds or self.kinds, duration=duration)
        self.settle()
        consent.refresh_from_db()
        assert consent.ledger_state == Consent.LedgerState.IN_FORCE
        return consent

    def stop(self, consent: Consent) -> None:
        consents.revoke(
            consent=consent,
            patient=consent.patient,
            stop_now=lambda id: self.keyholder.stop(consent=id),
        )

    def submit(self, *requests: str) -> Job:
        return services.submit(
            requester=self.helix,
            model=self.model.digest(),
            purpose="TREAT",
            use=["HMB"],
            subjects=requests,
        )

    def run(self, job: Job, keyholder: Any = None) -> Job:
        runner.run(job.id, keyholder=keyholder or self.keyholder)
        job.refresh_from_db()
        return job

    def result(self, job: Job, number: int = 0) -> dict[str, Any]:
        subject = job.subjects.get(number=number)
        bundle = services.result(job=job, subject=subject.id, requester=self.helix, keyholder=self.keyholder)
        found: dict[str, Any] = json.loads(bundle)
        return found


@pytest.fixture
def play(installation: Any, helix: Requester, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    found = Play({HOME: installation.ledger_url}, installation.keyholder_socket, helix)
    found.register()
    return found


def records() -> list[dict[str, Any]]:
    born = f"{timezone.localdate().year - 56}-01-01"
    return [
        patient(birthDate=born),
        measured("2093-3", 213, "mg/dL"),
        measured("2085-9", 50, "mg/dL"),
        measured("8480-6", 120, "mm[Hg]"),
        smoking("266919005"),
        condition("38341003"),
    ]


def lapse(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1), retry_at=None)


def assessment(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["entry"][0]["resource"]
    return found


# The main line


def test_a_consented_subject_gets_a_risk_assessment_with_its_provenance(play: Play) -> None:
    someone = play.someone(*records())
    job = play.run(play.submit(play.yes(someone).request_id))
    assert (job.state, job.error_code) == (State.DONE, "")
    told = play.result(job)
    risk, provenance = (entry["resource"] for entry in told["entry"])
    expected = PCE.score(
        {"age": 56, "sex": "female", "race": "white", "total_cholesterol": 213, "hdl_cholesterol": 50,
         "systolic_bp": 120, "bp_treated": False, "diabetes": False, "smoker": False}
    )  # fmt: skip
    assert expected.value is not None
    assert risk["prediction"][0]["probabilityDecimal"] == float(expected.value)
    assert (risk["resourceType"], risk["status"]) == ("RiskAssessment", "final")
    assert risk["meta"]["security"][0]["code"] == provenance["meta"]["security"][0]["code"] == "AIAST"
    assert risk["subject"]["identifier"]["value"] == job.subjects.get().id
    assert risk["method"]["coding"][0]["code"] == PCE.digest()
    assert provenance["agent"][0]["who"]["identifier"]["value"] == PCE.digest()
    # The hospital can tell which resources were used; nobody else can.
    used = {entity["what"]["identifier"]["value"] for entity in provenance["entity"]}
    digests = [hashlib.sha256(orjson.dumps(each)).hexdigest() for each in records()[:5]]
    assert used == {resource_pseudonym(job.subjects.get().id, digest) for digest in digests}
    told_to_her = News.objects.filter(patient=someone, about=job.subjects.get().id).order_by("pk")
    assert [each.kind for each in told_to_her] == ["use", "result"]
    manifest = services.client_view(job)
    assert manifest["subjects"][0]["state"] == "delivered"
    assert manifest["subjects"][0]["digest"] == Output.objects.get().digest
    assert Output.objects.get().sent is not None
    assert len(manifest["release_tx"]) == len(manifest["deliver_tx"]) == 64


def test_the_result_is_valid_fhir_and_names_no_record(play: Play) -> None:
    from fhir.resources.R4B import get_fhir_model_class

    someone = play.someone(*records(), name="Alice Example")
    other = play.someone(patient(), name="Bob Example")
    job = play.run(play.submit(play.yes(someone).request_id, play.yes(other).request_id))
    for number in range(2):
        told = play.result(job, number)
        get_fhir_model_class("Bundle").model_validate_json(json.dumps(told))
        text = json.dumps(told)
        for name in ("Example", someone.id, other.id, "o-2093-3", "Patient/p", someone.record_id):
            assert str(name) not in text


def test_what_has_not_the_inputs_gets_the_reasons_instead(play: Play) -> None:
    someone = play.someone(*[each for each in records() if each.get("id", "")[:8] != "o-2093-3"])
    job = play.run(play.submit(play.yes(someone).request_id))
    risk, _, outcome = (entry["resource"] for entry in play.result(job)["entry"])
    assert "probabilityDecimal" not in risk["prediction"][0]
    assert risk["prediction"][0]["_probabilityDecimal"]["extension"][0]["valueCode"] == "unknown"
    codes = [issue["details"]["coding"][0]["code"] for issue in outcome["issue"]]
    assert codes == ["total_cholesterol.missing"]


@pytest.mark.parametrize("wrapped", [True, False], ids=["bubblewrap", "plain"])
def test_units_are_converted_inside_the_walls(
    play: Play, monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    if wrapped and not sandbox.has_bubblewrap():
        pytest.skip("bubblewrap is not installed or refused here")
    monkeypatch.setattr(sandbox, "has_bubblewrap", lambda: wrapped)
    converted = measured("2093-3", 5.5088, "mmol/L")
    someone = play.someone(
        converted, *[each for each in records() if not str(each["id"]).startswith("o-2093")]
    )
    job = play.run(play.submit(play.yes(someone).request_id))
    assert "probabilityDecimal" in assessment(play.result(job))["prediction"][0]


def test_a_kind_that_was_not_given_is_missing_not_absent(play: Play) -> None:
    someone = play.someone(*records(), condition("44054006"))
    kinds = [kind for kind in KINDS if kind != "Condition"]
    job = play.run(play.submit(play.yes(someone, kinds).request_id))
    outcome = play.result(job)["entry"][2]["resource"]
    assert [issue["details"]["coding"][0]["code"] for issue in outcome["issue"]] == ["diabetes.missing"]


def test_a_patient_without_records_gets_reasons(play: Play) -> None:
    job = play.run(play.submit(play.yes(play.someone()).request_id))
    assert job.state == State.DONE
    assert "OperationOutcome" in json.dumps(play.result(job))


def test_the_patient_finds_every_step_in_the_log(play: Play) -> None:
    someone = play.someone(*records())
    job = play.run(play.submit(play.yes(someone).request_id))
    play.result(job)
    kinds = AuditRow.objects.filter(subject=someone.pseudonym, kind__regex="^(job|result)").order_by("id")
    assert [row.kind for row in kinds] == ["job.released", "job.delivered", "result.read"]


# Refused, revoked, never asked, unknown


def test_refused_revoked_never_asked_and_unknown_are_one_answer(play: Play) -> None:
    refused, revoked, silent, strangers = (play.someone(*records()) for _ in range(4))
    said_no = play.ask(refused)
    consents.refuse(request=said_no, patient=refused)
    said_stop = play.yes(revoked)
    play.stop(said_stop)
    play.settle()
    waits = play.ask(silent)
    other = Requester.objects.create(name="Other AI")
    not_ours = play.ask(strangers, requester=other)
    seen = []
    for request in (said_no.id, said_stop.request_id, waits.id, not_ours.id, "no such request"):
        job = play.run(play.submit(request))
        assert job.state == State.DENIED
        told = services.client_view(job)
        for name in ("id", "created_at", "settled_at", "results_until"):
            del told[name]
        del told["subjects"][0]["subject"], told["subjects"][0]["request"]
        seen.append(told)
        with pytest.raises(AccessDenied) as answer:
            play.result(job)
        assert answer.value.code == "not_available"
    assert all(told == seen[0] for told in seen)
    assert seen[0]["state"] == "done"


class Counted:
    """A keyholder that notes which calls are made to it, in their order."""

    def __init__(self, keyholder: Any) -> None:
        self._keyholder, self.calls = keyholder, list[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._keyholder, name)


def not_available(play: Play) -> list[str]:
    """Requests that were refused, revoked, not answered and another's, and one that there is not."""
    refused, revoked, silent, strangers = (play.someone(*records()) for _ in range(4))
    said_no = play.ask(refused)
    consents.refuse(request=said_no, patient=refused)
    said_stop = play.yes(revoked)
    play.stop(said_stop)
    play.settle()
    others = play.ask(strangers, requester=Requester.objects.create(name="Other AI"))
    return [said_no.id, said_stop.request_id, play.ask(silent).id, others.id, "no such request"]


def test_refused_revoked_never_asked_and_unknown_take_the_same_steps(play: Play) -> None:
    """The same queries in the same order, and the same calls to the keyholder: from taking the job to its
    end, and to the reading of a result that is not there."""
    steps = []
    for request in not_available(play):
        keyholder = Counted(play.keyholder)
        with CaptureQueriesContext(connection) as taken:
            job = play.run(play.submit(request), keyholder=keyholder)
            services.client_view(job)
            with pytest.raises(AccessDenied):
                play.result(job)
        steps.append((keyholder.calls, [_form(each["sql"]) for each in taken.captured_queries]))
    calls, queries = steps[0]
    assert calls == ["release"]
    assert len(queries) > 20
    for other_calls, other_queries in steps[1:]:
        assert other_calls == calls
        assert other_queries == queries


def test_they_take_the_same_steps_behind_the_keyholder(
    own_installation: Any, helix: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same calls to the ledger in the same order, for as many keys, and no wait. The keyholder is in this
    process, and so is each of its calls and sleeps."""
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    play = Play({HOME: own_installation.ledger_url}, own_installation.keyholder_socket, helix)
    play.register()
    requests = not_available(play)
    own_installation.processes.kill("keyholder")
    folder = own_installation.home / "keyholder"
    store = Store(folder, FileKEK(folder / "kek"))
    ledger = EmbeddedLedger(own_installation.home / "ledger", identity="keyholder")
    asked: list[tuple[str, int]] = []

    def call(method: str, params: Any, *, timeout: float) -> Any:
        asked.append((method, len(params.get("keys", ()))))
        return connection_of(method, params, timeout=timeout)

    connection_of, slept = ledger._connection.call, list[float]()
    monkeypatch.setattr(ledger._connection, "call", call)
    # The only place behind the keyholder that waits: before a transaction that lost to another is sent again.
    monkeypatch.setattr(
        "gateway.keyholder.submit.time", SimpleNamespace(**{**vars(time), "sleep": slept.append})
    )
    keyholder = Service(store, Channels.single(ledger, trust(own_installation.ledger_url)))
    steps = []
    for request in requests:
        job = play.submit(request)
        asked.clear()
        play.run(job, keyholder=keyholder)
        assert job.state == State.DENIED
        with pytest.raises(AccessDenied):
            play.result(job)
        steps.append(list(asked))
    store.close()
    assert slept == []
    assert {method for method, _ in steps[0]} >= {"read", "prepare", "send", "outcome"}
    assert all(each == steps[0] for each in steps[1:]), steps


def _form(sql: str) -> str:
    """A query without its values: what it does, to which tables. Either way a savepoint ends in one."""
    sql = re.sub("^(RELEASE|ROLLBACK TO) SAVEPOINT", "END OF SAVEPOINT", sql)
    return re.sub(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32}|\d+|NULL)\b|x?'[^']*'|\"?s\d+_x\d+\"?", "?", sql)


def test_one_who_said_no_does_not_keep_the_others(play: Play) -> None:
    given, not_given = play.someone(*records()), play.someone(*records())
    waits = play.ask(not_given)
    job = play.run(play.submit(waits.id, play.yes(given).request_id))
    assert job.state == State.DONE
    assert [each["state"] for each in services.manifest(job)["subjects"]] == ["not_available", "delivered"]
    assert "probabilityDecimal" in assessment(play.result(job, 1))["prediction"][0]


def test_a_result_cannot_be_read_after_the_stop(play: Play) -> None:
    consent = play.yes(play.someone(*records()))
    job = play.run(play.submit(consent.request_id))
    play.result(job)
    play.stop(consent)
    with pytest.raises(AccessDenied):
        play.result(job)


def test_a_consent_for_one_time_gives_one_result(play: Play) -> None:
    consent = play.yes(play.someone(*records()), duration="once")
    first, second = (play.run(play.submit(consent.request_id)) for _ in range(2))
    play.result(first)
    with pytest.raises(AccessDenied):
        play.result(second)
    play.settle()
    assert play.run(play.submit(consent.request_id)).state == State.DENIED


# In the middle of a job


class Between:
    """The real keyholder, with something done before or after the n-th call of a method."""

    def __init__(
        self, keyholder: Keyholder, method: str, number: int, act: Callable[[], None], *, after: bool
    ) -> None:
        self._keyholder, self._method, self._left = keyholder, method, number
        self._act, self._after = act, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._keyholder, name)
        if name != self._method:
            return real

        def call(**given: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                self._act()
            answer = real(**given)
            if self._left == 0 and self._after:
                self._act()
            return answer

        return call


def test_a_stop_in_the_middle_stops_at_the_next_chunk(play: Play) -> None:
    consent = play.yes(play.someone(*records()))
    job = play.submit(consent.request_id)
    between = Between(play.keyholder, "open_chunks", 1, lambda: play.stop(consent), after=True)
    play.run(job, between)
    assert job.state == State.STOPPED
    assert not Output.objects.exists()
    assert job.subjects.get().reasons == ["consent_stopped"]
    assert services.client_view(job)["state"] == "done"


def test_a_stop_that_only_the_ledger_knows_stops_it_too(play: Play) -> None:
    consent = play.yes(play.someone(*records()))
    job = play.submit(consent.request_id)

    def revoke() -> None:
        consents.revoke(consent=consent, patient=consent.patient, stop_now=lambda _: None)
        play.settle()
        time.sleep(DELTA_SECONDS)

    play.run(job, Between(play.keyholder, "open_chunks", 2, revoke, after=False))
    assert job.state == State.STOPPED
    assert services.manifest(job)["deliver_tx"] is None


def test_a_stop_before_the_delivery_withholds_that_one_alone(play: Play) -> None:
    first, second = play.yes(play.someone(*records())), play.yes(play.someone(*records()))
    job = play.submit(first.request_id, second.request_id)
    play.run(job, Between(play.keyholder, "deliver", 1, lambda: play.stop(first), after=False))
    assert job.state == State.DONE
    assert [each["state"] for each in services.manifest(job)["subjects"]] == ["not_available", "delivered"]


def test_a_cancelled_job_stops_at_the_next_chunk(play: Play) -> None:
    job = play.submit(play.yes(play.someone(*records())).request_id)
    cancel = lambda: services.cancel(job=job, requester=play.helix)  # noqa: E731
    play.run(job, Between(play.keyholder, "open_chunks", 1, cancel, after=True))
    assert job.state == State.CANCELLED
    assert not Output.objects.exists()


class Killed(BaseException):
    """What kill -9 leaves: nothing is caught, nothing is written."""


def die() -> None:
    raise Killed


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("method", "number"), [("release", 1), ("open_chunks", 1), ("open_chunks", 2), ("deliver", 1)]
)
def test_a_worker_killed_anywhere_is_replaced_and_nothing_is_lost(
    play: Play, method: str, number: int, after: bool
) -> None:
    job = play.submit(play.yes(play.someone(*records())).request_id)
    with pytest.raises(Killed):
        play.run(job, Between(play.keyholder, method, number, die, after=after))
    job.refresh_from_db()
    assert job.state in Job.UNDER_WAY
    assert play.run(job).state in Job.UNDER_WAY  # its lease lasts: nobody else takes it
    lapse(job)
    assert play.run(job).state == State.DONE
    assert "probabilityDecimal" in assessment(play.result(job))["prediction"][0]
    assert AuditRow.objects.filter(kind="job.delivered").count() == 1


def test_a_worker_that_comes_back_from_the_dead_changes_nothing(play: Play) -> None:
    job = play.submit(play.yes(play.someone(*records())).request_id)

    def taken_over() -> None:
        lapse(job)
        assert play.run(job).state == State.DONE

    before = taken_over
    play.run(job, Between(play.keyholder, "open_chunks", 1, before, after=True))
    assert job.state == State.DONE
    assert job.legs.get().attempts.count() == 2
    assert AuditRow.objects.filter(kind="job.delivered").count() == 1


def test_an_older_attempt_is_refused(play: Play) -> None:
    job = play.submit(play.yes(play.someone(*records())).request_id)
    with pytest.raises(Killed):
        play.run(job, Between(play.keyholder, "open_chunks", 1, die, after=True))
    lapse(job)
    with pytest.raises(Killed):
        play.run(job, Between(play.keyholder, "open_chunks", 1, die, after=True))
    assert list(job.legs.get().attempts.values_list("number", flat=True).order_by("number")) == [1, 2]
    subject = job.subjects.get().id
    with pytest.raises(AccessDenied) as told:
        play.keyholder.open_chunks(job=job.id, attempt=1, part=0, subject=subject)
    assert told.value.code == "attempt_superseded"
    with pytest.raises(RefusedTransition):
        play.keyholder.deliver(job=job.id, attempt=1, outputs=[{"subjects": [subject], "digest": "a" * 64}])


def test_an_attempt_that_another_took_the_place_of_is_begun_anew(play: Play) -> None:
    job = play.submit(play.yes(play.someone(*records())).request_id)
    subject = job.subjects.get()

    def another() -> None:
        patient = {"subject": subject.id, "patient": subject.keyholder_patient}
        play.keyholder.release(
            job=job.id,
            attempt=2,
            request=services.request_of(job),
            parts=[{"part": 0, "key": "ab" * 32, "subjects": [patient]}],  # type: ignore[list-item]
        )

    play.run(job, Between(play.keyholder, "open_chunks", 2, another, after=False))
    assert (job.state, job.error_code) == (State.QUEUED, "attempt_over")
    lapse(job)
    assert play.run(job).state == State.DONE
    assert AuditRow.objects.filter(kind="job.delivered").count() == 1


# What is spoilt or down


def test_a_flipped_byte_fails_the_job_and_releases_nothing(play: Play) -> None:
    consent = play.yes(play.someone(*records()))
    chunk = Chunk.objects.filter(patient=consent.patient)[0]
    blob = bytearray(chunk.blob)
    blob[20] ^= 1
    Chunk.objects.filter(pk=chunk.pk).update(blob=bytes(blob))
    job = play.run(play.submit(consent.request_id))
    assert (job.state, job.error_code) == (State.FAILED, "envelope_tampered")
    assert services.client_view(job)["state"] == "failed"
    assert not Output.objects.exists()


def test_swapped_and_missing_chunks_fail_the_job(play: Play) -> None:
    one, other = play.yes(play.someone(*records())), play.yes(play.someone(*records()))
    mine, theirs = (Chunk.objects.filter(patient=each.patient)[0] for each in (one, other))
    Chunk.objects.filter(pk=mine.pk).update(blob=bytes(theirs.blob))
    Chunk.objects.filter(patient=other.patient).delete()
    assert play.run(play.submit(one.request_id)).error_code == "envelope_tampered"
    assert play.run(play.submit(other.request_id)).error_code == "chunk_missing"


def test_another_models_code_computes_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    job = play.submit(play.yes(play.someone(*records())).request_id)
    real = JobChild.call

    def call(self: Any, name: str, given: dict[str, Any], **more: Any) -> Any:
        return real(self, name, {**given, "model": "0" * 64} if name == "start" else given, **more)

    monkeypatch.setattr(JobChild, "call", call)
    assert play.run(job).error_code == "unknown_model"


def test_a_child_that_dies_fails_the_job_with_a_clear_code(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    job = play.submit(play.yes(play.someone(*records())).request_id)
    real = JobChild.call

    def call(self: Any, name: str, given: dict[str, Any], **more: Any) -> Any:
        if name == "finish":
            for pid in [*descendants(self.pid), self.pid]:  # in bubblewrap, the child is not the first
                os.kill(pid, signal.SIGKILL)
        return real(self, name, given, **more)

    monkeypatch.setattr(JobChild, "call", call)
    assert (play.run(job).state, job.error_code) == (State.FAILED, "child_failed")


@pytest.mark.parametrize("process", ["keyholder", "ledger"])
def test_a_process_that_dies_in_mid_job_leaves_it_to_be_finished(
    own_installation: Any, helix: Requester, monkeypatch: pytest.MonkeyPatch, process: str
) -> None:
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    play = Play({HOME: own_installation.ledger_url}, own_installation.keyholder_socket, helix)
    play.register()
    job = play.submit(play.yes(play.someone(*records())).request_id)

    def kill() -> None:
        own_installation.processes.kill(process)
        time.sleep(DELTA_SECONDS)  # no reading of the ledger from before is rested on

    play.run(job, Between(play.keyholder, "open_chunks", 2, kill, after=False))
    assert job.state == State.QUEUED
    assert job.error_code == ("keyholder_unavailable" if process == "keyholder" else "ledger_unavailable")
    assert services.client_view(job)["code"] == job.error_code
    own_installation.processes.restart(process)
    lapse(job)
    assert play.run(job).state == State.DONE
    assert "probabilityDecimal" in assessment(play.result(job))["prediction"][0]


class Unsent(EmbeddedLedger):
    """A ledger that takes no envelope: what it endorsed stays behind in the keyholder's store."""

    def send(self, envelope: Envelope) -> None:
        raise SendError("The ledger is busy.")


def test_a_release_that_was_left_behind_does_not_hold_the_job_up(
    own_installation: Any, helix: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    play = Play({HOME: own_installation.ledger_url}, own_installation.keyholder_socket, helix)
    play.register()
    job = play.submit(play.yes(play.someone(*records())).request_id)
    # A worker, its child and the keyholder die between storing the release's envelope and sending it.
    own_installation.processes.kill("keyholder")
    folder = own_installation.home / "keyholder"
    store = Store(folder, FileKEK(folder / "kek"))
    ledger = Unsent(own_installation.home / "ledger", identity="keyholder")
    dead = Service(store, Channels.single(ledger, trust(own_installation.ledger_url)))
    subject = {"subject": job.subjects.get().id, "patient": job.subjects.get().keyholder_patient}
    with pytest.raises(SendError):
        dead.release(
            job=job.id,
            attempt=1,
            request=services.request_of(job),
            parts=[{"part": 0, "key": "ab" * 32, "subjects": [subject]}],
        )
    store.close()
    own_installation.processes.restart("keyholder")
    assert (play.run(job).state, job.error_code) == (State.DONE, "")
    assert list(job.legs.get().attempts.values_list("number", flat=True)) == [2]


def test_two_workers_at_once_run_a_job_once(play: Play) -> None:
    job = play.submit(play.yes(play.someone(*records())).request_id)
    claim = jobs.claim(job.id)
    assert claim is not None
    assert play.run(job).state == State.RELEASING
    assert not JobSubject.objects.exclude(state=JobSubject.State.QUEUED).exists()
