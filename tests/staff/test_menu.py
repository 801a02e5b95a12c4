"""Whose menu it is: staff keep theirs on the pages for everyone, and a patient hers on all of them."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.test import Client
from django.urls import reverse

from consent.models import Patient

pytestmark = pytest.mark.django_db

FOR_EVERYONE = ("help", "developers", "proof_check", "settings", "account_logout")


def menu_of(browser: Client, address: str) -> str:
    page = browser.get(address).content.decode()
    return page[page.index('<ul class="govuk-service-navigation__list">') :].partition("</ul>")[0]


@pytest.mark.parametrize("name", FOR_EVERYONE)
def test_staff_keep_their_menu(member: Callable[..., Client], name: str) -> None:
    menu = menu_of(member("clinician"), reverse(name))
    for theirs in ("AI results", "Patients", "Settings", "Sign out"):
        assert theirs in menu
    for anothers in ("My choices", "Who used my records", "Dashboard"):
        assert anothers not in menu


@pytest.mark.parametrize("name", FOR_EVERYONE)
def test_a_patient_keeps_hers(alice: Any, name: str) -> None:
    hers = Client()
    hers.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    menu = menu_of(hers, reverse(name))
    assert "My choices" in menu
    assert "AI results" not in menu


def test_a_member_of_staff_who_is_a_patient_has_a_patients_menu_there(member: Callable[..., Client]) -> None:
    bob = member("clinician")
    Patient.objects.create(name="Bob", user=get_user(bob))
    assert "My choices" in menu_of(bob, reverse("home"))
    assert "AI results" in menu_of(bob, reverse("staff_patients"))


def test_who_is_written_to_says_how_often_and_nobody_else(member: Callable[..., Client]) -> None:
    bob, url = member("clinician"), reverse("settings")
    assert "When do we write to you?" not in bob.get(url).content.decode()
    assert bob.post(url, {"language": "es"}).status_code == 302
    assert get_user(bob).language == "es"
    Patient.objects.create(name="Bob", user=get_user(bob))
    assert "notices" in bob.get(url).content.decode()


def test_an_address_that_is_not_there_keeps_the_menu_too(
    member: Callable[..., Client],
) -> None:
    assert "AI results" in menu_of(member("clinician"), "/no-such-page")
