"""/access: every use and every blocked try of this patient's records, and of no other's."""

from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from consent.models import ConsentRequest, Patient
from gateway.portal.access import PAGE, RESULTS
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditRow

pytestmark = pytest.mark.django_db


def log(kind: str, patient: Patient, question: ConsentRequest | None = None) -> AuditRow:
    details: dict[str, Any] = {}
    if question is not None:
        details = {
            "requester": str(question.requester_id),
            "request": question.id,
            "purpose": question.purpose,
        }
    with transaction.atomic():
        return record(kind=kind, actor=Actor.system("worker"), subject=patient.pseudonym, **details)


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
    for _ in range(PAGE * 2):
        log("job.released", alice, question)
    with django_assert_max_num_queries(7):
        body(browser)
