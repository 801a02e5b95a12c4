"""`/people`: who acts for me, for whom I act, what may be ended by whom, and coming of age."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent.models import Representative
from tests.representing import minor, of_age_in, represent

pytestmark = pytest.mark.django_db

PEOPLE = "/people"


def text(page: Any) -> str:
    return page.content.decode()


@pytest.fixture
def ana(user: Callable[..., Any]) -> Any:
    return user("ana")


def test_nobody_acts_for_her(browser: Client) -> None:
    assert "No one acts for you." in text(browser.get(PEOPLE))


def test_she_reads_who_may_do_what_until_when(browser: Client, alice: Any, ana: Any) -> None:
    represent(alice, ana, ends=timezone.localdate() + timedelta(days=40), sensitive=["PSY"])
    page = text(browser.get(PEOPLE))
    for words in ("Ana", "Has power of attorney", "say yes or no", "Test results", "Mental health", "Until "):
        assert words in page


def test_every_state_of_an_authority_has_words(browser: Client, alice: Any, ana: Any) -> None:
    row = represent(alice, ana)
    today, day = timezone.localdate(), timedelta(days=1)
    for change, words in (
        ({"accepted_at": None}, "They have to accept first"),
        ({"accepted_at": timezone.now(), "starts": today + day}, "From "),
        ({"starts": today - 2 * day, "ends": today - day}, "Ended after "),
        ({"ends": None}, "Until someone ends it"),
        ({"ended_at": timezone.now()}, "Ended on "),
    ):
        Representative.objects.filter(pk=row.pk).update(**change)
        assert words in text(browser.get(PEOPLE)), change


def test_she_ends_a_power_of_attorney_and_no_parent(browser: Client, alice: Any, ana: Any, user: Any) -> None:
    minor(alice, days=100)
    parent = represent(alice, user("maria"), name="Maria", role="parent")
    page = text(browser.get(PEOPLE))
    assert "Only the clinic can end this" in page
    assert browser.post(reverse("end", args=[parent.pk])).status_code == 409
    of_age_in(alice, days=-400)
    attorney = represent(_again(alice), ana)
    assert "Stop Ana" in text(browser.get(PEOPLE))
    for _ in range(2):  # the same POST twice
        assert browser.post(reverse("end", args=[attorney.pk]))["Location"] == PEOPLE
    attorney.refresh_from_db()
    assert attorney.ended_by == "patient"


def test_who_acts_lays_it_down(client: Client, alice: Any, ana: Any) -> None:
    row = represent(alice, ana)
    client.force_login(ana, backend="django.contrib.auth.backends.ModelBackend")
    client.post(reverse("end", args=[row.pk]))
    row.refresh_from_db()
    assert row.ended_by == "representative"


def test_anothers_is_none(stranger: Client, alice: Any, ana: Any) -> None:
    row = represent(alice, ana)
    for id in (row.pk, "0" * 64):
        assert stranger.post(reverse("end", args=[id])).status_code == 404
    assert "Ana" not in text(stranger.get(PEOPLE))


def test_she_comes_of_age_and_is_told_until_she_has_read_it(browser: Client, alice: Any, ana: Any) -> None:
    minor(alice, days=50)
    represent(alice, ana, role="parent")
    assert "You are an adult now" not in text(browser.get("/home"))
    of_age_in(alice, days=0)
    assert "You are an adult now. Ana no longer acts for you." in text(browser.get("/home"))
    page = text(browser.get(PEOPLE))
    assert "you alone say yes, no or stop" in page
    assert "the birthday" in page
    browser.post(reverse("told"))
    for address in ("/home", PEOPLE):
        assert "You are an adult now" not in text(browser.get(address))


def test_without_records_and_without_anybody_it_says_so(client: Client, user: Any, bob: Any) -> None:
    assert client.get(PEOPLE)["Location"].startswith(reverse("account_login"))
    client.force_login(user("eve"), backend="django.contrib.auth.backends.ModelBackend")
    assert client.get(PEOPLE).status_code == 403
    client.force_login(bob, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get(PEOPLE)["Location"] == reverse("staff")


def test_an_end_while_it_is_chosen_is_said(client: Client, alice: Any, ana: Any) -> None:
    row = represent(alice, ana)
    client.force_login(ana, backend="django.contrib.auth.backends.ModelBackend")
    client.post(reverse("act"), {"representative": row.pk})
    Representative.objects.update(ended_at=timezone.now())
    page = text(client.get(PEOPLE, follow=True))
    assert "You no longer act for the person whom you chose." in page


def _again(patient: Any) -> Any:
    patient.refresh_from_db()
    return patient
