"""`/fhir/AuditEvent`: what a client did with records, by the names that it has itself."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from consent.models import Patient, Requester
from gateway.analysis import exports
from gateway.analysis.jobs import details
from gateway.analysis.models import Job, JobSubject, Leg
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditRow
from tests.questions import ask_unread

pytestmark = pytest.mark.django_db

Call = Callable[..., Any]
SCOPE = "system/AuditEvent.rs"
WORKER = Actor.system("worker")


def a_use(requester: Requester, patient: Patient, *, read: bool = True, **fields: Any) -> JobSubject:
    """A job about one patient that was delivered, and its result read, as runner and services log it."""
    question = ask_unread(requester, patient)
    done = {"state": "done", "settled_at": timezone.now(), "index_date": timezone.localdate()}
    whole = {"model": "ab" * 32, "purpose": "HRESCH", **done, **fields}
    job = Job.objects.create(requester=requester, **whole)
    subject = JobSubject.objects.create(
        job=job,
        leg=Leg.objects.create(job=job),
        number=0,
        asked=question.pk,
        request=question,
        patient=patient,
        state="delivered",
    )
    log("job.released", subject, WORKER)
    log("job.delivered", subject, WORKER, tx_id="cd" * 32)
    if read:
        log("result.read", subject, Actor.client(requester.pk), output="ef" * 32)
    return subject


def log(kind: str, subject: JobSubject, by: Actor, **more: Any) -> None:
    assert subject.patient is not None
    with transaction.atomic():
        record(
            kind=kind,
            actor=by,
            subject=subject.patient.pseudonym,
            subject_id=subject.pk,
            request=subject.request_id,
            **details(subject.job),
            **more,
        )


def events(fhir: Call, query: str = "") -> list[dict[str, Any]]:
    answer = fhir(f"/fhir/AuditEvent{query}", SCOPE)
    assert answer.status_code == 200, answer.content
    return [each["resource"] for each in answer.json().get("entry", [])]


def test_a_delivery_and_a_reading_are_each_an_event(fhir: Call, helix: Requester, alice: Patient) -> None:
    from fhir.resources.R4B.auditevent import AuditEvent

    subject = a_use(helix, alice)
    read, delivered = events(fhir)
    for each in (read, delivered):
        AuditEvent.model_validate_json(json.dumps(each))
        assert each["purposeOfEvent"][0]["coding"][0]["code"] == "HRESCH"
        patient, consent, data = each["entity"]
        assert patient["what"]["identifier"]["value"] == subject.pk
        assert consent["what"]["identifier"]["value"] == subject.request_id
        assert data["what"]["identifier"]["value"] == subject.job_id
    assert (delivered["type"]["code"], delivered["subtype"][0]["code"]) == ("110113", "AuthZ-Consent")
    assert (read["type"]["code"], read["subtype"][0]["code"]) == ("110106", "disclose")
    assert delivered["entity"][2]["detail"][1] == {"type": "ledger-transaction", "valueString": "cd" * 32}


def test_nothing_of_the_patient_is_in_it(fhir: Call, helix: Requester, alice: Patient) -> None:
    a_use(helix, alice)
    text = json.dumps(events(fhir))
    for secret in (alice.pk, alice.name, alice.record_id, alice.pseudonym):
        assert str(secret) not in text


def test_an_export_names_the_patient_as_its_resources_do(
    fhir: Call, helix: Requester, alice: Patient
) -> None:
    subject = a_use(helix, alice, kind="export", model="")
    event = events(fhir)[0]
    name = exports.pseudonym(exports.key_of(helix), subject)
    assert event["entity"][0]["what"]["identifier"]["value"] == name
    assert event["entity"][2]["detail"][0]["valueString"].endswith(f"/fhir/bulk-status/{subject.job_id}")


def test_what_came_to_nothing_another_did_or_staff_read_is_not_in_it(
    fhir: Call, helix: Requester, alice: Patient, charlie: Patient
) -> None:
    a_use(Requester.objects.create(name="Other AI"), alice)
    denied = a_use(helix, charlie)
    JobSubject.objects.filter(pk=denied.pk).update(state="not_available")
    running = a_use(helix, alice, state="running", settled_at=None)
    mine = a_use(helix, alice, read=False)
    log("result.read", mine, Actor.staff(1), output="ef" * 32)
    (only,) = events(fhir)
    assert only["entity"][0]["what"]["identifier"]["value"] == mine.pk
    for hidden in (denied, running):
        assert events(fhir, f"?patient={hidden.pk}") == []


def test_few_of_a_cohort_are_not_in_it(
    fhir: Call, helix: Requester, alice: Patient, charlie: Patient, pce: Any, settings: Any
) -> None:
    from consent import cohorts
    from tests.questions import cohort_question

    made = cohorts.propose(requester=helix, question=cohort_question(pce.digest), wish="Everyone.")
    first = a_use(helix, alice, cohort=made)
    JobSubject.objects.filter(pk=first.pk).update(asked="")
    type(first.request).objects.filter(pk=first.request_id).update(cohort=made)
    assert events(fhir) == []
    settings.COHORT_FEWEST = 1
    event = events(fhir)[0]
    assert event["entity"][1]["what"]["identifier"]["value"] == made.pk
    assert str(first.request_id) not in json.dumps(event)


def test_it_is_searched_by_subject_and_by_date(
    fhir: Call, helix: Requester, alice: Patient, charlie: Patient
) -> None:
    first, second = a_use(helix, alice), a_use(helix, charlie)
    assert len(events(fhir)) == 4
    assert len(events(fhir, f"?patient={first.pk}")) == 2
    assert len(events(fhir, f"?patient=Patient/{first.pk}")) == 2
    assert events(fhir, f"?patient={alice.pk}") == []
    yesterday = timezone.now() - timedelta(days=1)
    AuditRow.objects.filter(step_of=second.pk).update(recorded_at=yesterday)
    day = f"{yesterday:%Y-%m-%d}"
    assert {len(events(fhir, f"?date={prefix}{day}")) for prefix in ("", "eq", "le")} == {2}
    assert len(events(fhir, f"?date=gt{day}")) == 2
    assert len(events(fhir, f"?date=ge{day}&date=lt{timezone.now():%Y-%m-%d}")) == 2


def test_pages_go_on_and_their_marks_say_nothing_of_others(
    fhir: Call, helix: Requester, alice: Patient
) -> None:
    for _ in range(3):
        a_use(helix, alice)
        a_use(Requester.objects.create(name="Other AI"), alice)
    everything = [each["id"] for each in events(fhir)]
    found: list[str] = []
    path = "/fhir/AuditEvent?_count=4"
    while path:
        page = fhir(path, SCOPE).json()
        found += [each["resource"]["id"] for each in page.get("entry", [])]
        links = {each["relation"]: each["url"] for each in page["link"]}
        path = links.get("next", "").removeprefix("http://localhost:8000")
    assert len(everything) == 6
    assert found == everything
    assert events(fhir, f"?_after={'0' * 64}.{'0' * 64}") == []


@pytest.mark.parametrize(
    "query", ["?agent=x", "?date=yesterday", "?date=ge2026-13-01", "?_count=0", "?_count=99999", "?_count=x"]
)
def test_what_is_not_understood_is_refused(fhir: Call, query: str) -> None:
    answer = fhir(f"/fhir/AuditEvent{query}", SCOPE)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "parameter"


def test_without_the_scope_it_is_forbidden(fhir: Call) -> None:
    assert fhir("/fhir/AuditEvent", "system/Observation.rs").status_code == 403


def test_a_page_asks_as_often_however_many_there_are(
    fhir: Call, helix: Requester, alice: Patient, django_assert_max_num_queries: Any
) -> None:
    for _ in range(6):
        a_use(helix, alice)
    fhir("/fhir/AuditEvent", SCOPE)
    with django_assert_max_num_queries(25):  # a token is got, too
        assert len(events(fhir)) == 12
