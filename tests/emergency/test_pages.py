"""/staff/emergency: the way in, what is shown, the way out, and the second person's page."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from consent.models import Patient
from gateway.accounts.models import User
from gateway.emergency.models import Emergency
from gateway.keyholder.client import Keyholder
from tests.emergency.conftest import WORDS, allergy, observation
from tests.staff.conftest import add_factor

pytestmark = pytest.mark.django_db

WHO = {"record_id": "alice-1", "birth_date": "1960-05-04"}
WHY = {"reason": "ETREAT", "explanation": WORDS}


def signed_in(person: User, role: str) -> Client:
    person.groups.set(Group.objects.filter(name=role))
    add_factor(person)
    client = Client()
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def bobs(ward: Any, alice: Any, charlie: Any) -> Client:
    Patient.objects.filter(pk=alice.pk).update(birth_date=date(1960, 5, 4))
    return signed_in(ward, "clinician")


@pytest.fixture
def danas(dana: Any, bobs: Client) -> Client:
    return signed_in(dana, "compliance")


def at(name: str, of: Any, *more: str) -> str:
    return reverse(name, args=[of.pk, *more])


def begin(client: Client, alice: Any) -> Emergency:
    client.post(at("staff_emergency_who", alice), WHO)
    client.post(at("staff_emergency_why", alice), WHY)
    return Emergency.objects.get()


def text(answer: Any) -> str:
    return str(answer.content.decode())


def test_the_whole_way(records: None, bobs: Client, alice: Any) -> None:
    page = bobs.get(at("staff_emergency", alice))
    assert "without their yes" in text(page)
    assert bobs.get(at("staff_emergency_why", alice))["Location"] == at("staff_emergency_who", alice)
    assert bobs.post(at("staff_emergency_who", alice), WHO)["Location"] == at("staff_emergency_why", alice)
    answer = bobs.post(at("staff_emergency_why", alice), WHY)
    found = Emergency.objects.get()
    assert answer["Location"] == at("staff_emergency_open", found)
    # The same POST twice, and the interruption again, lead to what is open.
    assert bobs.post(at("staff_emergency_why", alice), WHY)["Location"] == answer["Location"]
    assert bobs.get(at("staff_emergency", alice))["Location"] == answer["Location"]
    page = bobs.get(answer["Location"])
    assert text(page).index("Allergies") < text(page).index("Test results")
    assert "2&nbsp;items" in text(page)
    assert "Penicillin" not in text(page)
    page = bobs.get(at("staff_emergency_records", found, "Observation"))
    assert text(page).index("5.9 mmol/L") < text(page).index("4.1 mmol/L")
    assert "no-store" in page["Cache-Control"]
    assert "{" not in text(page).split("<main")[1].replace("{{", "")
    bobs.post(at("staff_emergency_end", found))
    assert bobs.get(at("staff_emergency_records", found, "Observation"))["Location"] == answer["Location"]
    assert "This access is over" in text(bobs.get(answer["Location"]))


@pytest.mark.parametrize(
    "typed", [{}, {**WHO, "birth_date": "1961-05-04"}, {**WHO, "record_id": "charlie-1"}]
)
def test_the_wrong_identifiers_lead_nowhere(bobs: Client, alice: Any, typed: dict[str, str]) -> None:
    assert bobs.post(at("staff_emergency_who", alice), typed).status_code == 200
    assert bobs.post(at("staff_emergency_why", alice), WHY)["Location"] == at("staff_emergency_who", alice)
    assert not Emergency.objects.exists()


def test_identifiers_of_one_patient_open_no_other(bobs: Client, alice: Any, charlie: Any) -> None:
    bobs.post(at("staff_emergency_who", alice), WHO)
    answer = bobs.post(at("staff_emergency_why", charlie), WHY)
    assert answer["Location"] == at("staff_emergency_who", charlie)


@pytest.mark.parametrize("said", [{**WHY, "explanation": "too short"}, {**WHY, "reason": "X"}, {}])
def test_without_a_reason_nothing_opens(bobs: Client, alice: Any, said: dict[str, str]) -> None:
    bobs.post(at("staff_emergency_who", alice), WHO)
    assert "There is a problem" in text(bobs.post(at("staff_emergency_why", alice), said))
    assert not Emergency.objects.exists()


def test_the_patient_sees_it_at_once(records: None, bobs: Client, alice: Any) -> None:
    begin(bobs, alice)
    hers = Client()
    hers.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    assert "opened your records in an emergency" in text(hers.get("/home"))
    assert "Emergency" in text(hers.get("/access?show=emergency"))


def test_where_the_keyholder_is_away_it_says_so_and_goes_on_later(
    records: None, bobs: Client, alice: Any, settings: Any, tmp_path: Any
) -> None:
    there = settings.KEYHOLDER_SOCKET
    settings.KEYHOLDER_SOCKET = str(tmp_path / "nobody.sock")
    bobs.post(at("staff_emergency_who", alice), WHO)
    assert bobs.post(at("staff_emergency_why", alice), WHY).status_code == 503
    found = Emergency.objects.get()
    assert "The ledger does not have this access yet" in text(bobs.get(at("staff_emergency_open", found)))
    settings.KEYHOLDER_SOCKET = there
    assert "Allergies" in text(bobs.get(at("staff_emergency_open", found)))


def test_what_a_colleague_opened_looks_like_nothing(
    records: None, bobs: Client, alice: Any, user: Callable[..., Any]
) -> None:
    found = begin(bobs, alice)
    other = signed_in(user("ben", is_staff=True), "clinician")
    for name, more in (
        ("staff_emergency_open", ()),
        ("staff_emergency_records", ("Observation",)),
    ):
        theirs = other.get(at(name, found, *more))
        absent = other.get(reverse(name, args=["0" * 64, *more]))
        assert (theirs.status_code, absent.status_code) == (404, 404)
    assert other.post(at("staff_emergency_end", found)).status_code == 404


def test_a_second_person_reviews_it(
    records: None, bobs: Client, danas: Client, alice: Any, dana: Any
) -> None:
    found = begin(bobs, alice)
    queue = text(danas.get(reverse("staff_queue") + "?show=emergency"))
    assert at("staff_emergency_review", found) in queue
    assert "Emergency access (1)" in queue
    page = text(danas.get(at("staff_emergency_review", found)))
    assert WORDS in page
    assert "Alice Example" in page
    danas.post(at("staff_emergency_own", found))
    assert dana.email in text(danas.get(reverse("staff_queue") + "?show=emergency"))
    judged = {"outcome": "justified", "reason": "The ward's notes say the same"}
    assert danas.post(at("staff_emergency_judge", found), {**judged, "reason": "ok"}).status_code == 400
    for _ in range(2):
        assert danas.post(at("staff_emergency_judge", found), judged).status_code == 302
    assert "Emergency access (0)" in text(danas.get(reverse("staff_queue")))
    bobs.post(at("staff_emergency_end", found))
    page = text(bobs.get(at("staff_emergency_open", found)))
    assert "A second person reviewed it: justified." in page
    assert "reviews it" not in page


def test_the_reviewer_sees_whether_the_other_organisations_saw_it(
    records: None, installation: Any, bobs: Client, danas: Client, alice: Any, settings: Any
) -> None:
    found = begin(bobs, alice)
    page = at("staff_emergency_review", found)
    assert "Not yet: the other organisations" in text(danas.get(page))
    Keyholder(installation.keyholder_socket).complete_emergencies()
    assert "Not yet: the other organisations" not in text(danas.get(page))
    assert "Completed on the ledger" in text(danas.get(page))
    settings.KEYHOLDER_SOCKET = "/nowhere.sock"
    assert "Completed on the ledger" not in text(danas.get(page))


def test_whoever_opened_it_does_not_review_it(records: None, bobs: Client, alice: Any, ward: Any) -> None:
    found = begin(bobs, alice)
    ward.groups.add(Group.objects.get(name="compliance"))
    assert "Somebody else has to review this" in text(bobs.get(at("staff_emergency_review", found)))
    judged = {"outcome": "justified", "reason": "I know that it was right"}
    assert bobs.post(at("staff_emergency_judge", found), judged).status_code == 409
    found.refresh_from_db()
    assert found.reviewed_at is None


def test_an_auditor_sees_that_it_was_and_not_whose(
    records: None, bobs: Client, alice: Any, user: Callable[..., Any]
) -> None:
    found = begin(bobs, alice)
    amir = signed_in(user("amir", is_staff=True), "auditor")
    page = text(amir.get(at("staff_emergency_review", found)))
    assert "bob@example.org" in page
    assert WORDS not in page
    assert "Alice" not in page


def test_due_soon_and_late(records: None, bobs: Client, danas: Client, alice: Any) -> None:
    begin(bobs, alice)
    for hours, tag in ((23, "Due soon"), (-1, "Late")):
        Emergency.objects.update(review_by=timezone.now() + timedelta(hours=hours))
        assert f">{tag}</strong>" in text(danas.get(reverse("staff_queue") + "?show=emergency"))


def test_one_that_nobody_asked_for_raises_an_alarm_in_the_queue(
    records: None, bobs: Client, danas: Client, alice: Any
) -> None:
    found = begin(bobs, alice)
    Emergency.objects.update(opened_by=None)
    assert "Nobody asked" in text(danas.get(reverse("staff_queue") + "?show=emergency"))
    assert "Treat it as an attack" in text(danas.get(at("staff_emergency_review", found)))


def test_pages_of_the_queue_show_each_once_in_as_many_queries(
    records: None, bobs: Client, danas: Client, alice: Any
) -> None:
    import re

    found = begin(bobs, alice)
    url, seen = reverse("staff_queue") + "?show=emergency", []
    danas.get(url)  # the first page of a session writes down when it was seen
    with CaptureQueriesContext(connection) as few:
        danas.get(url)
    fields = {
        field.attname: getattr(found, field.attname)
        for field in Emergency._meta.concrete_fields
        if field.attname != "id"
    }
    Emergency.objects.bulk_create([Emergency(**fields) for _ in range(60)])
    with CaptureQueriesContext(connection) as many:
        danas.get(url)
    assert len(many) == len(few) <= 15
    while url:
        html = text(danas.get(url))
        seen += re.findall(r'href="/staff/emergency/review/([0-9a-f]{64})"', html)
        after = re.search(r'href="([^"]*after=[^"]*)"', html)
        url = after[1].replace("&amp;", "&") if after else ""
    assert len(seen) == len(set(seen)) == 61


def test_reading_takes_few_queries_however_much_there_is(
    seal: Callable[..., None], bobs: Client, alice: Any
) -> None:
    seal(alice, *(observation(f"o{n}", n, f"2024-01-01T{n // 60:02}:{n % 60:02}:00Z") for n in range(130)))
    found = begin(bobs, alice)
    url = at("staff_emergency_records", found, "Observation")
    with CaptureQueriesContext(connection) as queries:
        page = text(bobs.get(url))
    assert len(queries) <= 15
    assert "1 to 50 of 130" in page
    assert "129 mmol/L" in page
    assert "101 to 130 of 130" in text(bobs.get(url + "?from=100"))
    assert "nothing more" in text(bobs.get(url + "?part=3&from=x"))


def test_private_records_are_named_before_they_are_opened(
    seal: Callable[..., None], bobs: Client, alice: Any
) -> None:
    seal(alice, allergy("a", "Latex"), labels=("PSY", "R"))
    page = text(bobs.get(at("staff_emergency_open", begin(bobs, alice))))
    assert "Mental health" in page
