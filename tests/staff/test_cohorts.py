"""`/staff/cohorts`: a reviewer writes whom a question for many is put to, another one approves."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent import cohorts
from consent.models import Cohort, ConsentRequest, Patient, Requester
from gateway.accounts.models import User
from gateway.analysis.models import AIModel
from gateway.keyholder.client import Keyholder
from tests.questions import cohort_question

pytestmark = pytest.mark.django_db


@pytest.fixture
def cohort(helix: Requester, model: AIModel, settings: Any) -> Cohort:
    settings.COHORT_FEWEST = 3
    for number in range(4):
        Patient.objects.create(name=f"Person {number}", record_id=f"r{number}", proofed_at=timezone.now())
    return cohorts.propose(
        requester=helix, question=cohort_question(model.digest), wish="Adults with a cholesterol value."
    )


def at(name: str, cohort: Cohort) -> str:
    return reverse(name, args=[cohort.pk])


def text(page: Any) -> str:
    return " ".join(page.content.decode().split())


def test_two_reviewers_find_whom_to_ask(
    member: Callable[..., Client], cohort: Cohort, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keyholder, "with_kinds", lambda self, patients, kinds: patients)
    client = member("reviewer")
    assert "Adults with a cholesterol value." in text(client.get(reverse("staff_cohorts")))
    page = text(client.get(at("staff_cohort", cohort)))
    assert "Find whom they fit" in page
    assert "Approve: ask" not in page
    page = text(client.post(at("staff_write_cohort", cohort), {"kinds": ["Observation"]}, follow=True))
    assert "Found. Somebody else approves it now." in page
    assert "You wrote these criteria. Somebody else approves them." in page
    assert "Person 0" not in page
    refused = client.post(at("staff_approve_cohort", cohort))
    assert refused.status_code == 409
    assert "Somebody else has to approve" in text(refused)
    Cohort.objects.update(written_by=user("otto", is_staff=True))
    assert "Approve: ask 4 people" in text(client.get(at("staff_cohort", cohort)))
    client.post(at("staff_approve_cohort", cohort))
    assert cohorts.ask_next() == 4
    assert ConsentRequest.objects.filter(state="pending", cohort=cohort).count() == 4
    assert "Asked" in text(client.get(at("staff_cohort", cohort)))


def test_what_asks_for_more_than_the_model_reads_takes_a_tick(
    member: Callable[..., Client], cohort: Cohort, user: Any
) -> None:
    question = {**cohort.question, "kinds": [*cohort.question["kinds"], "Procedure"]}
    Cohort.objects.filter(pk=cohort.pk).update(question=question)
    cohort.refresh_from_db()
    cohorts.write(
        cohort=cohort, criteria=cohorts.Criteria(), by=user("otto"), with_kinds=lambda patients, _: patients
    )
    client = member("reviewer")
    answer = client.post(at("staff_approve_cohort", cohort))
    assert (answer.status_code, Cohort.objects.get().state) == (400, "written")
    client.post(at("staff_approve_cohort", cohort), {"beyond": "yes"})
    assert Cohort.objects.get().state == "asking"


def test_without_an_approved_model_nobody_is_asked(
    member: Callable[..., Client], cohort: Cohort, model: AIModel, user: Any
) -> None:
    cohorts.write(
        cohort=cohort, criteria=cohorts.Criteria(), by=user("otto"), with_kinds=lambda patients, _: patients
    )
    AIModel.objects.update(state="suspended")
    answer = member("reviewer").post(at("staff_approve_cohort", cohort))
    assert answer.status_code == 400
    assert "not approved for this provider" in text(answer)


def test_it_is_sent_back_with_reasons(member: Callable[..., Client], cohort: Cohort) -> None:
    client = member("reviewer")
    assert client.post(at("staff_send_back_cohort", cohort)).status_code == 400
    page = client.post(at("staff_send_back_cohort", cohort), {"reasons": ["risk_unclear"]}, follow=True)
    assert "It was sent back. Nobody was asked." in text(page)
    assert "Why it was sent back" in text(page)


@pytest.mark.parametrize("fields", [{"age_from": "x"}, {"age_to": "-1"}, {"kinds": "Procedure"}])
def test_criteria_that_are_not_understood_change_nothing(
    member: Callable[..., Client], cohort: Cohort, fields: dict[str, str]
) -> None:
    answer = member("reviewer").post(at("staff_write_cohort", cohort), fields)
    assert answer.status_code == 400
    assert "There is a problem" in text(answer)
    assert Cohort.objects.get().state == "proposed"


def test_an_auditor_looks_and_changes_nothing(member: Callable[..., Client], cohort: Cohort) -> None:
    client = member("auditor")
    assert "Write the criteria" not in text(client.get(at("staff_cohort", cohort)))
    assert client.post(at("staff_write_cohort", cohort)).status_code == 403


def test_the_list_goes_on_page_by_page(
    member: Callable[..., Client], cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.staff.paging.PAGE", 1)
    older = cohort
    newer = cohorts.propose(
        requester=older.requester, question=cohort_question(older.question["model"]), wish="Children."
    )
    Cohort.objects.filter(pk=newer.pk).update(created_at=older.created_at)  # in the same moment
    first, second = sorted((older, newer), key=lambda each: each.pk, reverse=True)
    client = member("reviewer")
    page = text(client.get(reverse("staff_cohorts")))
    assert first.wish in page
    assert second.wish not in page
    page = text(client.get(reverse("staff_cohorts") + f"?before={first.pk}"))
    assert second.wish in page
    assert first.wish not in page


def test_a_page_asks_as_often_however_many_there_are(
    member: Callable[..., Client], cohort: Cohort, user: User, django_assert_max_num_queries: Any
) -> None:
    client = member("reviewer")
    client.get(at("staff_cohort", cohort))
    with django_assert_max_num_queries(15):
        client.get(at("staff_cohort", cohort))
    with django_assert_max_num_queries(15):
        client.get(reverse("staff_cohorts"))
