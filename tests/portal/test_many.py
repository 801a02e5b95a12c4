"""A patient who was asked 10,000 times: each page takes as many queries as for 30; every row is reached."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from consent import services
from consent.models import Consent, ConsentRequest, Patient, random_id
from gateway.demo.pages import to_check
from gateway.portal.paging import SIZE
from tests.questions import ask, in_force

pytestmark = pytest.mark.django_db

MOST = 15
FIELDS = ("requester_id", "patient_id", "notice_id", "model", "purpose", "kinds", "what_for", "share_until")
State = ConsentRequest.State


def many(question: ConsentRequest, count: int) -> None:
    """`count` questions in each state, and a choice in force for each that is answered."""
    today = timezone.localdate()
    answer_by = {State.EXPIRED: today - timedelta(days=1)}
    asked = [
        ConsentRequest(
            **{name: getattr(question, name) for name in FIELDS},
            id=random_id(),
            state=state,
            asked_at=timezone.now() - timedelta(minutes=number),
            answer_by=answer_by.get(state, today + timedelta(days=1 + number % 30)),
        )
        for number in range(count)
        for state in (State.PENDING, State.EXPIRED, State.ANSWERED)
    ]
    ConsentRequest.objects.bulk_create(asked)
    answered = [each for each in asked if each.state == State.ANSWERED]
    Consent.objects.bulk_create(
        Consent(
            id=random_id(),
            request=each,
            patient_id=question.patient_id,
            status=Consent.Status.ACTIVE,
            ledger_state=Consent.LedgerState.IN_FORCE,
            duration="until",
            kinds=["Observation"],
            fhir={},
            expires_at=timezone.now() + timedelta(days=9),
        )
        for each in answered
    )


def queries(browser: Client, address: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as seen:
        assert browser.get(address).status_code == 200
    return len(seen)


def test_each_page_takes_as_many_queries_with_10_000_rows_as_with_30(
    browser: Client, question: ConsentRequest, alice: Patient, helix: Any
) -> None:
    chosen, stopped = ask(helix, alice), in_force(ask(helix, alice))
    services.revoke(consent=stopped, patient=alice, stop_now=lambda _: None)
    kept = in_force(ask(helix, alice))
    to_check(browser, chosen.id, {"kinds": ["Observation"], "duration": "until"})
    addresses = [
        *(reverse(name) for name in ("home", "requests", "choices", "access")),
        *(reverse(name, args=[chosen.id]) for name in ("question", "choose", "check")),
        reverse("understand_one", args=[chosen.id, 2]),
        reverse("done", args=[kept.request_id]),
        *(reverse(name, args=[kept.id]) for name in ("choice", "change", "receipt_json", "receipt_pdf")),
        reverse("stop", args=[stopped.id]),
        reverse("notice", args=[question.notice.digest]),
    ]
    many(question, 10)
    first = [queries(browser, address) for address in addresses]  # a check page drafts the yes, once
    few = {address: queries(browser, address) for address in addresses}
    many(question, 3_330)
    assert {address: queries(browser, address) for address in addresses} == few
    assert max(first) <= MOST


@pytest.mark.parametrize(
    ("page", "next_page", "row"),
    [
        ("requests", r"\?(waiting=[0-9a-f]{64})", r'href="/requests/([0-9a-f]{64})"'),
        ("requests", r"\?(closed=[0-9a-f]{64})", r'href="/requests/([0-9a-f]{64})"'),
        ("choices", r"\?(after=[0-9a-f]{64})", r'href="/choices/([0-9a-f]{64})"'),
    ],
    ids=["waiting", "closed", "choices"],
)
def test_every_row_is_reached_page_by_page(
    browser: Client, question: ConsentRequest, page: str, next_page: str, row: str
) -> None:
    many(question, 60)
    expected = {
        "waiting": ConsentRequest.objects.filter(state=State.PENDING),
        "closed": ConsentRequest.objects.filter(state=State.EXPIRED),
        "after": Consent.objects.all(),
    }[re.sub(r"\W*(\w+)=.*", r"\1", next_page)]
    seen: list[str] = []
    address = reverse(page)
    for _ in range(9):
        html = browser.get(address).content.decode().partition("<main")[2]
        seen += re.findall(row, html)
        if not (more := re.search(next_page, html)):
            break
        address = f"{reverse(page)}?{more[1]}"
    ids = {each.pk for each in expected}
    found = [id for id in seen if id in ids]
    assert sorted(found) == sorted(ids)


def choices(browser: Client, **place: str) -> list[str]:
    html = browser.get(reverse("choices"), place).content.decode()
    return re.findall(r'href="/choices/([0-9a-f]{64})"', html)


def test_a_place_that_is_not_there_starts_from_the_top(
    browser: Client, stranger: Client, question: ConsentRequest
) -> None:
    many(question, 30)
    top = choices(browser)
    assert len(top) == SIZE
    for place in ("0" * 64, "x", question.id):
        assert choices(browser, after=place) == top
    other = Consent.objects.first()
    assert other is not None
    assert choices(stranger, after=other.pk) == []
