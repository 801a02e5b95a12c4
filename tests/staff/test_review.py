"""/staff/queue and /staff/requests/<id>: nothing reaches a patient unread."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent.models import ConsentRequest
from ledger.audit.models import AuditRow
from tests.questions import ask_unread

pytestmark = pytest.mark.django_db

Member = Callable[..., Client]


def at(name: str, question: ConsentRequest) -> str:
    return reverse(name, args=[question.id])


def kinds() -> list[str]:
    return list(AuditRow.objects.order_by("pk").values_list("kind", flat=True))


def hers(alice: Any) -> Client:
    client = Client()
    client.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_a_patient_sees_a_question_only_once_it_was_approved(
    member: Member, unread: ConsentRequest, alice: Any
) -> None:
    patient, rita = hers(alice), member("reviewer")
    assert patient.get(at("question", unread)).status_code == 404
    assert "Helix AI" not in patient.get(reverse("requests")).content.decode()
    assert "Helix AI" in rita.get(reverse("staff_queue")).content.decode()
    page = rita.get(at("staff_request", unread)).content.decode()
    assert "Alice" not in page
    assert "Easy enough" in page
    for _ in range(2):  # the same POST twice
        assert rita.post(at("staff_approve", unread))["Location"] == at("staff_request", unread)
    assert kinds().count("request.approved") == 1
    unread.refresh_from_db()
    assert (unread.state, unread.reviewed_by.username) == ("pending", "reviewer")
    assert patient.get(at("question", unread)).status_code == 200


def test_what_was_sent_back_never_reaches_the_patient_and_says_why(
    member: Member, unread: ConsentRequest, alice: Any
) -> None:
    rita = member("reviewer")
    assert rita.post(at("staff_send_back", unread)).status_code == 400
    for _ in range(2):
        rita.post(at("staff_send_back", unread), {"reasons": ["hard_to_read", "risk_unclear"]})
    assert kinds().count("request.sent_back") == 1
    unread.refresh_from_db()
    assert (unread.state, unread.send_back_reasons) == ("sent_back", ["hard_to_read", "risk_unclear"])
    rita.post(at("staff_approve", unread))
    unread.refresh_from_db()
    assert unread.asked_at is None
    assert hers(alice).get(at("question", unread)).status_code == 404
    assert "Helix AI" in rita.get(reverse("staff_queue") + "?show=information").content.decode()
    from gateway.api.consent_requests import consent_request_body

    review = consent_request_body(unread)["review"]
    assert review["state"] == "sent_back"
    assert [reason["code"] for reason in review["reasons"]] == ["hard_to_read", "risk_unclear"]


def test_the_page_says_what_became_of_the_question(member: Member, unread: ConsentRequest) -> None:
    rita = member("reviewer")
    for state, says in (("pending", "The patient was asked"), ("answered", "The patient answered")):
        ConsentRequest.objects.filter(pk=unread.pk).update(state=state, asked_at=timezone.now())
        assert says in rita.get(at("staff_request", unread)).content.decode()
    for state, says in (("withdrawn", "Taken back"), ("expired", "Time ran out")):
        ConsentRequest.objects.filter(pk=unread.pk).update(state=state)
        page = rita.get(at("staff_request", unread)).content.decode()
        assert says in page
        assert "The patient was asked" not in page


def test_a_reason_that_is_not_in_the_list_is_refused(member: Member, unread: ConsentRequest) -> None:
    assert member("reviewer").post(at("staff_send_back", unread), {"reasons": ["x"]}).status_code == 400
    unread.refresh_from_db()
    assert unread.state == "review"


def test_more_than_the_model_reads_is_flagged_and_takes_a_tick(
    member: Member, helix: Any, alice: Any, model: Any
) -> None:
    asked = ask_unread(helix, alice, model=model.digest, kinds=["Observation", "Claim"], sensitive=["PSY"])
    rita = member("reviewer")
    page = rita.get(at("staff_request", asked)).content.decode()
    assert '<strong class="govuk-tag govuk-tag--red">Bills</strong>' in page
    assert "Mental health" in page
    assert "It asks for more than the model reads" in page
    assert rita.post(at("staff_approve", asked)).status_code == 400
    asked.refresh_from_db()
    assert asked.state == "review"
    rita.post(at("staff_approve", asked), {"beyond": "yes"})
    asked.refresh_from_db()
    assert asked.state == "pending"
    assert b'"code":"beyond_minimum"' in bytes(AuditRow.objects.get(kind="request.approved").line)


def test_private_records_alone_are_not_called_more_than_the_model_reads(
    member: Member, helix: Any, alice: Any, model: Any
) -> None:
    asked = ask_unread(helix, alice, model=model.digest, kinds=["Observation"], sensitive=["PSY"])
    page = member("reviewer").get(at("staff_request", asked)).content.decode()
    assert "It asks for more private records" in page
    assert "more than the model reads" not in page


def test_staff_read_of_the_patient_and_not_of_themselves(member: Member, unread: ConsentRequest) -> None:
    page = member("reviewer").get(reverse("staff_request", args=[unread.id])).content.decode()
    assert "About the patient<br>" in page
    assert "About you" not in page


def test_staff_read_the_purpose_in_their_words_and_as_the_patient_will(
    member: Member, unread: ConsentRequest
) -> None:
    ConsentRequest.objects.filter(pk=unread.pk).update(purpose="TREAT")
    page = member("reviewer").get(at("staff_request", unread)).content.decode()
    assert page.index("To care for the patient") < page.index("To care for you")


def test_a_reviewer_can_require_a_signature_and_takes_none_away(
    member: Member, unread: ConsentRequest, helix: Any, alice: Any, model: Any
) -> None:
    rita = member("reviewer")
    assert "Not needed" in rita.get(at("staff_request", unread)).content.decode()
    rita.post(at("staff_approve", unread), {"signature": "required"})
    unread.refresh_from_db()
    assert unread.signature_required
    assert b'"signed":"required"' in bytes(AuditRow.objects.get(kind="request.approved").line)
    page = rita.get(at("staff_request", unread)).content.decode()
    assert "Needed: only a yes that the patient signs" in page
    wanted = ask_unread(
        helix, alice, model=model.digest, kinds=unread.kinds, sensitive=[], signature_required=True
    )
    assert 'name="signature"' not in rita.get(at("staff_request", wanted)).content.decode()
    rita.post(at("staff_approve", wanted))
    wanted.refresh_from_db()
    assert (wanted.state, wanted.signature_required) == ("pending", True)


def test_without_an_approved_model_nothing_is_passed_on(member: Member, helix: Any, alice: Any) -> None:
    asked = ask_unread(helix, alice)
    assert member("reviewer").post(at("staff_approve", asked), {"beyond": "yes"}).status_code == 400
    asked.refresh_from_db()
    assert asked.state == "review"


def test_a_copy_names_no_model_and_takes_a_tick(member: Member, unread: ConsentRequest, alice: Any) -> None:
    ConsentRequest.objects.update(action="disclose", model="")
    rita = member("reviewer")
    assert "A copy leaves" in rita.get(at("staff_request", unread)).content.decode()
    assert rita.post(at("staff_approve", unread)).status_code == 400
    rita.post(at("staff_approve", unread), {"beyond": "yes"})
    assert "What leaves the clinic" in hers(alice).get(at("question", unread)).content.decode()


def test_nobody_reviews_a_question_to_themselves(member: Member, unread: ConsentRequest, alice: Any) -> None:
    rita = member("reviewer")
    alice.user = unread.patient.user = None
    alice.save()
    from gateway.accounts.models import User

    alice.user = User.objects.get(username="reviewer")
    alice.save()
    answer = rita.post(at("staff_approve", unread))
    assert answer.status_code == 409
    assert "Somebody else" in answer.content.decode()


def test_taking_and_handing_over(member: Member, unread: ConsentRequest, user: Any) -> None:
    from django.contrib.auth.models import Group

    rita = member("reviewer")
    other = user("ravi", is_staff=True)
    stranger = user("mallory")
    other.groups.set(Group.objects.filter(name="reviewer"))
    me = rita.get(reverse("staff_queue")).wsgi_request.user.pk
    rita.post(at("staff_own", unread), {"to": me})
    assert "reviewer@example.org" in rita.get(reverse("staff_queue") + "?show=mine").content.decode()
    assert "show=mine" not in member("auditor").get(reverse("staff_queue")).content.decode()
    rita.post(at("staff_own", unread), {"to": other.pk})
    unread.refresh_from_db()
    assert unread.owner == other
    assert rita.post(at("staff_own", unread), {"to": stranger.pk}).status_code == 400
    rita.post(at("staff_own", unread), {"to": ""})
    unread.refresh_from_db()
    assert unread.owner is None
    assert kinds().count("request.owned") == 3


def fill(question: ConsentRequest, count: int) -> None:
    fields = {
        field.attname: getattr(question, field.attname)
        for field in ConsentRequest._meta.concrete_fields
        if field.attname != "id"
    }
    ConsentRequest.objects.bulk_create([ConsentRequest(**fields) for _ in range(count)])


def test_the_queue_takes_as_many_queries_for_many_rows_as_for_one(
    member: Member, unread: ConsentRequest, django_assert_max_num_queries: Any
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    rita = member("reviewer")
    rita.get(reverse("staff_queue"))
    with CaptureQueriesContext(
        connection,
    ) as few:
        rita.get(reverse("staff_queue"))
    fill(unread, 10_000)
    with CaptureQueriesContext(connection) as many:
        rita.get(reverse("staff_queue"))
    assert len(many) == len(few) <= 15


def test_pages_of_the_queue_show_each_question_once(member: Member, unread: ConsentRequest) -> None:
    import re

    fill(unread, 60)
    rita, url, seen = member("reviewer"), reverse("staff_queue"), []
    while url:
        html = rita.get(url).content.decode()
        seen += re.findall(r'href="/staff/requests/([0-9a-f]{64})"', html)
        after = re.search(r'href="([^"]*after=[^"]*)"', html)
        url = after[1].replace("&amp;", "&") if after else ""
    assert len(seen) == len(set(seen)) == 61


@pytest.mark.parametrize("after", ["x", "2026-13-01." + "a" * 64, "2026-01-01.x"])
def test_an_odd_position_starts_from_the_top(member: Member, unread: ConsentRequest, after: str) -> None:
    page = member("reviewer").get(reverse("staff_queue"), {"after": after}).content.decode()
    assert "Helix AI" in page


def test_due_soon(member: Member, unread: ConsentRequest) -> None:
    url = reverse("staff_queue") + "?show=soon"
    rita = member("reviewer")
    assert "Nothing waits here" in rita.get(url).content.decode()
    ConsentRequest.objects.update(review_by=timezone.localdate() + timedelta(days=1))
    assert "Due soon" in rita.get(url).content.decode()
    assert "Helix AI" in rita.get(url).content.decode()


def test_there_is_no_way_to_approve_many(member: Member, unread: ConsentRequest) -> None:
    page = member("reviewer").get(reverse("staff_queue")).content.decode()
    assert "approve" not in page.lower()
    assert member("reviewer2").post(reverse("staff_queue")).status_code in (403, 405)
