"""/staff/erasures: who asked, who confirms, and that nobody does so alone."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from consent.erasure import ask_erasure
from consent.models import Erasure
from tests.staff.conftest import add_factor

pytestmark = pytest.mark.django_db

Member = Callable[..., Client]


def somebody_else(user: Any) -> Client:
    """A second person of the compliance team."""
    person = user("erik", is_staff=True)
    person.groups.set(Group.objects.filter(name="compliance"))
    add_factor(person)
    client = Client()
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_asked_by_the_clinic_and_confirmed_by_two(member: Member, user: Any, alice: Any) -> None:
    answer = member("clinician").post(reverse("staff_ask_erasure", args=[alice.pk]), follow=True)
    assert "Two people of the compliance team decide it" in answer.content.decode()
    asked = Erasure.objects.get()
    first = member("compliance")
    assert "Alice Example" in first.get(reverse("staff_erasures")).content.decode()
    confirm = reverse("staff_confirm_erasure", args=[asked.pk])
    assert "Waits for a second person" in first.post(confirm, follow=True).content.decode()
    assert "Somebody else has to confirm it too" in first.get(reverse("staff_erasures")).content.decode()
    assert first.post(confirm).status_code == 409
    asked.refresh_from_db()
    assert asked.state == Erasure.State.CONFIRMED
    second = somebody_else(user)
    assert "Is being carried out" in second.post(confirm, follow=True).content.decode()


def test_refused_with_a_reason_that_the_law_knows(member: Member, alice: Any, dana: Any) -> None:
    asked = ask_erasure(patient=alice, by=dana)
    browser = member("compliance")
    refuse = reverse("staff_refuse_erasure", args=[asked.pk])
    assert browser.post(refuse, {"hold": "because"}).status_code == 404
    answer = browser.post(refuse, {"hold": "retention"}, follow=True).content.decode()
    assert "A law says how long the records are kept" in answer
    asked.refresh_from_db()
    assert asked.state == Erasure.State.REFUSED


def test_an_auditor_sees_no_name_and_decides_nothing(member: Member, alice: Any, dana: Any) -> None:
    asked = ask_erasure(patient=alice, by=dana)
    browser = member("auditor")
    text = browser.get(reverse("staff_erasures")).content.decode()
    assert "Alice Example" not in text
    assert "Confirm" not in text
    assert browser.post(reverse("staff_confirm_erasure", args=[asked.pk])).status_code == 403
