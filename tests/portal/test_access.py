"""/access: every use and every blocked try of this patient's records, and of no other's."""

import re
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from consent.models import ConsentRequest, Patient
from gateway.portal.access import PAGE, RESULTS
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditRow

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
    assert tags == ["Result read", "Allowed"]
    assert "3 steps" in page
    steps = page[page.index("<details") : page.index("</details>")]
    assert [steps.index(word) for word in ("Allowed", "Result sent", "Result read")] == sorted(
        steps.index(word) for word in ("Allowed", "Result sent", "Result read")
    )
    home = browser.get("/home").content.decode()
    assert re.search(r"New uses since your last visit</dt><dd>2</dd>", home)


def test_a_use_is_sealed_when_its_every_step_is(
    browser: Client, alice: Any, question: ConsentRequest
) -> None:
    first = log("job.released", alice, question, subject_id="aa" * 32)
    second = log("job.delivered", alice, question, subject_id="aa" * 32)
    AuditRow.objects.filter(pk=first.pk).update(leaf=1)
    proof = re.compile(r'data-label="Proof">([^<]+)<')
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
    assert "Result read" in body(browser)
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


def test_many_rows_take_as_many_queries_as_few(
    browser: Client, alice: Any, question: ConsentRequest, django_assert_max_num_queries: Any
) -> None:
    for number in range(PAGE * 2):
        for kind in ("job.released", "job.delivered", "result.read"):
            log(kind, alice, question, subject_id=f"{number:064x}")
    with django_assert_max_num_queries(8):
        body(browser)
