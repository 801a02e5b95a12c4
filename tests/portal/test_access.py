"""/access: every use and every blocked try of this patient's records, and of no other's."""

import csv
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from consent.models import ConsentRequest, Patient, Requester
from gateway.analysis.models import Job, JobSubject, Leg
from gateway.documents.tables import plain_cell
from gateway.portal.access import PAGE
from gateway.portal.uses import RESULTS
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditRow
from tests.questions import ask, in_force

pytestmark = pytest.mark.django_db


def log(kind: str, patient: Patient, question: ConsentRequest | None = None, **more: Any) -> AuditRow:
    details: dict[str, Any] = {}
    if question is not None:
        details = {
            "requester": str(question.requester_id),
            "request": question.id,
            "purpose": question.purpose,
        }
    with transaction.atomic():
        return record(kind=kind, actor=Actor.system("worker"), subject=patient.pseudonym, **details, **more)


def body(browser: Client, query: str = "") -> str:
    return browser.get(f"/access{query}").content.decode()


def test_uses_and_blocked_tries_are_listed_in_plain_words(
    browser: Client, alice: Any, charlie: Any, question: ConsentRequest
) -> None:
    log("job.released", alice, question)
    log("job.denied", alice, question)
    log("job.denied", charlie, question)
    page = body(browser)
    assert page.count('scope="row"') == 2
    assert "Helix AI" in page
    assert question.what_for in page
    assert "Allowed" in page
    assert "Blocked" in page
    assert "Waiting to be sealed" in page
    AuditRow.objects.filter(kind="job.released").update(leaf=1)
    assert "Sealed" in body(browser)


def test_a_stopped_job_says_that_its_result_was_not_released(browser: Client, alice: Any) -> None:
    log("job.stopped", alice)
    assert "Its result was not released" in body(browser)


@pytest.mark.parametrize("kind", RESULTS)
def test_every_kind_of_use_has_words(browser: Client, alice: Any, kind: str) -> None:
    log(kind, alice)
    assert str(RESULTS[kind][0]) in body(browser)


def test_a_result_that_the_clinic_read_is_not_told_as_read_by_who_got_it(
    browser: Client, alice: Any, question: ConsentRequest
) -> None:
    told = {"requester": str(question.requester_id), "subject_id": "aa" * 32}
    for kind, actor in (("job.delivered", Actor.system("worker")), ("result.read", Actor.staff(1))):
        with transaction.atomic():
            record(kind=kind, actor=actor, subject=alice.pseudonym, **told)
    page = body(browser)
    assert "Result sent. Your clinic read it" in page
    assert "Result sent and read" not in page
    assert "Computer program" in page
    assert "Person" not in page
    with transaction.atomic():
        record(
            kind="result.read",
            actor=Actor.client(question.requester_id),
            subject=alice.pseudonym,
            **told,
        )
        record(kind="result.read", actor=Actor.staff(1), subject=alice.pseudonym, **told)
    listed = browser.get("/access/list.csv").content.decode()
    assert "Result sent and read" in listed
    assert "Your clinic read it" not in listed


def test_a_copy_that_was_sent_is_told_as_a_copy(
    browser: Client, alice: Any, question: ConsentRequest
) -> None:
    for kind in ("job.released", "job.delivered"):
        row = log(kind, alice, question, subject_id="aa" * 32, job="bb" * 32)
    page = body(browser)
    assert "Copy sent" in page
    assert "A copy of records" in page
    assert "Result sent" not in page
    page = browser.get(f"/access/{row.step_of}").content.decode()
    assert "A copy of your records was sent. It cannot be called back." in page
    assert "its result was sent" not in page
    (listed,) = json.loads(browser.get("/access/list.json").content)["uses"]
    assert listed["kind"] == "copy"


def test_the_steps_of_one_use_are_one_row_with_its_latest_result(
    browser: Client, alice: Any, question: ConsentRequest
) -> None:
    for kind in ("job.released", "job.delivered"):
        log(kind, alice, question, subject_id="aa" * 32)
    log("job.released", alice, question, subject_id="bb" * 32)
    log("result.read", alice, question, subject_id="aa" * 32)
    page = body(browser)
    assert page.count('scope="row"') == 2
    assert re.search(r"<dt>Uses</dt><dd>2</dd>", page)
    tags = re.findall(r'govuk-tag--\w+">([^<]+)<', page)
    assert tags == ["Result sent and read", "Allowed"]
    assert "3 steps" in page
    steps = page.partition("gw-steps")[2].partition("</details>")[0]
    assert [steps.index(word) for word in ("Allowed", "Result sent", "Result sent and read")] == sorted(
        steps.index(word) for word in ("Allowed", "Result sent", "Result sent and read")
    )
    home = browser.get("/home").content.decode()
    assert re.search(r"New uses since your last visit</dt><dd>2</dd>", home)


def test_a_use_is_sealed_when_its_every_step_is(
    browser: Client, alice: Any, question: ConsentRequest
) -> None:
    first = log("job.released", alice, question, subject_id="aa" * 32)
    second = log("job.delivered", alice, question, subject_id="aa" * 32)
    AuditRow.objects.filter(pk=first.pk).update(leaf=1)
    proof = re.compile(r'data-label="Proof"><a[^>]+>([^<]+)<')
    assert proof.findall(body(browser)) == ["Waiting to be sealed"]
    AuditRow.objects.filter(pk=second.pk).update(leaf=2)
    assert proof.findall(body(browser)) == ["Sealed"]


def test_a_filter_finds_a_use_by_any_step_and_shows_all_of_it(
    browser: Client, alice: Any, question: ConsentRequest
) -> None:
    log("job.released", alice, question, subject_id="aa" * 32)
    log("job.stopped", alice, question, subject_id="aa" * 32)
    for show in ("used", "blocked"):
        page = body(browser, f"?show={show}")
        assert page.count('scope="row"') == 1
        assert "Stopped" in page
        assert "2 steps" in page
    assert 'scope="row"' not in body(browser, "?show=emergency")


def test_a_use_that_went_on_later_stands_on_one_page_only(
    browser: Client, alice: Any, question: ConsentRequest
) -> None:
    log("job.released", alice, question, subject_id="aa" * 32)
    rows = [log("job.denied", alice, question) for _ in range(PAGE)]
    log("result.read", alice, question, subject_id="aa" * 32)
    assert "Result sent and read" in body(browser)
    older = body(browser, f"?before={rows[1].pk}")
    assert older.count('scope="row"') == 1
    assert "Allowed" not in older


def test_filters_by_get(browser: Client, alice: Any, question: ConsentRequest) -> None:
    log("job.released", alice, question)
    log("job.denied", alice, question)
    log("access.emergency", alice)
    rows = {
        show: body(browser, f"?show={show}").count('scope="row"')
        for show in ("all", "used", "blocked", "emergency", "x")
    }
    assert rows == {"all": 3, "used": 1, "blocked": 1, "emergency": 1, "x": 3}


def test_older_entries_are_on_the_next_page(browser: Client, alice: Any, question: ConsentRequest) -> None:
    rows = [log("job.released", alice, question) for _ in range(PAGE + 2)]
    first = body(browser)
    assert first.count('scope="row"') == PAGE
    assert f"before={rows[2].pk}" in first
    assert body(browser, f"?before={rows[2].pk}").count('scope="row"') == 2
    assert body(browser, "?before=x").count('scope="row"') == PAGE


def test_an_emergency_stands_on_the_home_page(browser: Client, alice: Any) -> None:
    assert "in an emergency" not in browser.get("/home").content.decode()
    log("access.emergency", alice)
    assert "in an emergency" in browser.get("/home").content.decode()


def test_filters_by_requester_and_period(
    browser: Client, alice: Any, helix: Any, question: ConsentRequest
) -> None:
    acme = Requester.objects.create(name="Acme")
    ask(acme, alice)
    for number, requester in enumerate((helix, acme, acme)):
        job = Job.objects.create(
            requester=requester, model="ab" * 32, purpose="HRESCH", index_date="2026-01-01"
        )
        leg = Leg.objects.create(job=job)
        subject = JobSubject.objects.create(job=job, leg=leg, number=0, asked=question.id, patient=alice)
        row = log("job.released", alice, question, subject_id=subject.id)
        day = datetime(2026, 3, 10 + number, 12, tzinfo=UTC)
        AuditRow.objects.filter(pk=row.pk).update(recorded_at=day)

    def listed(query: str) -> int:
        return body(browser, query).count('scope="row"')

    assert listed("") == 3
    assert listed(f"?who={acme.pk}") == 2
    assert listed(f"?who={helix.pk}&show=used") == 1
    assert listed("?since=2026-03-11") == 2
    assert listed("?since=2026-03-11&until=2026-03-11") == 1
    assert listed("?until=2026-03-09") == 0
    assert listed("?who=nobody&since=yesterday&until=2026-99-99") == 3
    assert f"who={acme.pk}&amp;since=2026-03-11" in body(browser, f"?who={acme.pk}&since=2026-03-11")


def test_what_is_filtered_can_be_kept_as_a_file(
    browser: Client, alice: Any, question: ConsentRequest
) -> None:
    for number in range(PAGE * 2):
        log("job.released", alice, question, subject_id=f"{number:064x}")
    log("job.denied", alice, question, subject_id="ff" * 32)

    answer = browser.get("/access/list.csv?show=used")
    assert answer["Content-Disposition"].startswith("attachment")
    rows = list(csv.reader(answer.content.decode().splitlines()))
    assert len(rows) == 1 + PAGE * 2
    assert rows[1][1:5] == ["Helix AI", "Computer program", question.what_for, "Allowed"]

    found = json.loads(browser.get("/access/list.json").content)["uses"]
    assert len(found) == PAGE * 2 + 1
    assert found[0]["steps"][0]["what"] == "job.denied"

    pdf = browser.get("/access/list.pdf?show=blocked").content
    assert pdf.startswith(b"%PDF")
    assert b"StructTreeRoot" in pdf
    assert browser.get("/access/list.exe").status_code == 404


def test_a_file_of_more_than_is_read_at_once_is_whole(
    browser: Client, alice: Any, question: ConsentRequest, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gateway.portal.access.AT_ONCE", 3)
    keys = [f"{number:064x}" for number in range(8)]
    for key in keys:
        log("job.released", alice, question, subject_id=key)
    found = json.loads(browser.get("/access/list.json").content)["uses"]
    assert [each["id"] for each in found] == keys[::-1]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", " =1", "\t=1", "\r1"])
def test_a_cell_is_never_a_formula(text: str) -> None:
    assert plain_cell(text) == f"'{text}"
    assert plain_cell("Helix AI") == "Helix AI"
    # Where a spreadsheet parts cells at a semicolon, another cell begins there.
    assert plain_cell(f"Helix;{text}") == f"Helix;'{text}"


def test_one_use_in_plain_words(browser: Client, alice: Any, question: ConsentRequest) -> None:
    consent = in_force(question)
    for kind in ("job.released", "job.delivered"):
        log(kind, alice, question, subject_id="aa" * 32, consent=consent.id)
    log("job.denied", alice, question, subject_id="bb" * 32)
    page = browser.get(f"/access/{'aa' * 32}").content.decode()
    assert "its result was sent" in page
    assert page.count("It opened, as chosen.") == 2
    assert "Test results" in page
    assert "Medicines" not in page
    page = browser.get(f"/access/{'bb' * 32}").content.decode()
    assert "Nothing was opened" in page
    assert page.count("It stayed shut.") == 2
    assert "Records it asked for" in page


def test_anothers_use_looks_like_none(
    browser: Client, stranger: Client, alice: Any, question: ConsentRequest
) -> None:
    row = log("job.denied", alice, question)
    log("job.denied", alice, question, subject_id="aa" * 32)
    for key in (row.pk, "aa" * 32):
        for path in (f"/access/{key}", f"/access/{key}/proof", f"/access/{key}/proof.json"):
            assert browser.get(path).status_code != 404
            assert stranger.get(path).status_code == 404
    assert browser.get(f"/access/{'cc' * 32}").status_code == 404


@pytest.mark.parametrize(
    "path", ["/access", "/access/list.json", f"/access/{7:064x}", f"/access/{7:064x}/proof"]
)
def test_ten_thousand_rows_take_as_many_queries_as_few(
    browser: Client, alice: Any, question: ConsentRequest, path: str
) -> None:
    def fill(first: int, end: int) -> None:
        AuditRow.objects.bulk_create(
            AuditRow(
                line=row.line,
                kind=row.kind,
                subject=row.subject,
                step_of=f"{n:064x}",
                recorded_at=row.recorded_at,
            )
            for n in range(first, end)
            for row in like
        )

    like = [log(kind, alice, question, subject_id="aa" * 32) for kind in ("job.released", "job.delivered")]
    fill(0, 10)
    browser.get("/access")  # the session notes when it was begun
    counts = []
    for first, end in ((10, 11), (11, 5_000)):
        fill(first, end)
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(path).status_code in (200, 503)
        counts.append(len(queries))
    # A file reads its pages one after another.
    assert counts[0] <= 15
    assert counts[1] == counts[0] or path.endswith("json")
