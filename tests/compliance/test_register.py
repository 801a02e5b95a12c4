"""The register of article 30: live, for any day, and what changed between two."""

import csv
import io
import json
from datetime import date, timedelta
from typing import Any

import pytest
from django.utils import timezone, translation

from consent.models import Consent, ConsentRequest, Patient
from gateway.compliance import register
from tests.documents import check_pdf
from tests.questions import ask, in_force

pytestmark = pytest.mark.django_db

TODAY = timezone.localdate()


def a_week_ago(asked: ConsentRequest, days: int = 7) -> None:
    ConsentRequest.objects.filter(pk=asked.pk).update(asked_at=timezone.now() - timedelta(days=days))


def test_an_activity_has_what_article_30_asks_for(alice: Any, helix: Any, pce: Any) -> None:
    in_force(ask(helix, alice, model=pce.digest))
    (found,) = register.on(TODAY)
    assert (found.requester, found.purpose, found.action, found.model) == (
        "Helix AI",
        "HRESCH",
        "use",
        str(pce),
    )
    assert found.kinds == ("Condition", "MedicationRequest", "Observation")
    assert found.sensitive == ("PSY",)
    assert not found.suspended
    headings = " ".join(heading for heading, _text in register.frame()) + " ".join(register.columns())
    for letter in "abcdefg":
        assert f"30(1)({letter})" in headings
    assert all(text.strip() for _heading, text in register.frame())


def test_few_patients_are_not_counted(alice: Any, helix: Any) -> None:
    in_force(ask(helix, alice))
    (few,) = register.on(TODAY)
    assert (few.asked, few.in_force) == (None, None)
    for number in range(4):
        other = Patient.objects.create(name=f"Patient {number}", record_id=f"p-{number}")
        ask(helix, other)
    (many,) = register.on(TODAY)
    assert (many.asked, many.in_force) == (5, None)
    assert "<5" in register.as_table([many]).decode()


def test_the_register_of_an_earlier_day(alice: Any, helix: Any) -> None:
    a_week_ago(ask(helix, alice))
    ask(helix, alice, purpose="TREAT")
    assert [each.purpose for each in register.on(TODAY - timedelta(days=3))] == ["HRESCH"]
    assert [each.purpose for each in register.on(TODAY)] == ["HRESCH", "TREAT"]
    assert register.on(date(2020, 1, 1)) == []


def test_what_changed(alice: Any, charlie: Any, helix: Any) -> None:
    first = in_force(ask(helix, alice))
    a_week_ago(first.request)
    Consent.objects.filter(pk=first.pk).update(granted_at=timezone.now() - timedelta(days=6))
    earlier = register.on(TODAY - timedelta(days=3))
    assert register.changes(earlier, earlier) == []
    ask(helix, charlie, kinds=["Observation", "Procedure"])
    ask(helix, alice, purpose="TREAT")
    Consent.objects.filter(pk=first.pk).update(stopped_at=timezone.now())
    helix.suspended_at = timezone.now()
    helix.save()
    found = register.changes(earlier, register.on(TODAY))
    assert [(each.what, each.activity.purpose, each.fields) for each in found] == [
        ("added", "TREAT", ()),
        ("changed", "HRESCH", ("kinds", "suspended")),
        ("ended", "HRESCH", ()),
    ]
    assert all(register.said(each) for each in found)


def test_a_consent_that_is_over_is_not_counted(alice: Any, helix: Any) -> None:
    given = in_force(ask(helix, alice))
    for over in (
        {"expires_at": timezone.now()},
        {"stopped_at": timezone.now()},
        {"invalid_at": timezone.now()},
    ):
        Consent.objects.filter(pk=given.pk).update(**over)
        assert register.on(TODAY)[0].in_force == 0
        Consent.objects.filter(pk=given.pk).update(
            expires_at=given.expires_at, stopped_at=None, invalid_at=None
        )
    assert register.on(TODAY)[0].in_force is None


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_forms(alice: Any, helix: Any, language: str) -> None:
    a_week_ago(ask(helix, alice))
    ask(helix, alice, purpose="TREAT")
    since = TODAY - timedelta(days=3)
    activities = register.on(TODAY)
    changed = register.changes(register.on(since), activities)
    with translation.override(language):
        report = register.report(TODAY, activities, since, changed)
        check_pdf(
            report.as_pdf(language), title=report.title, language=language, has=["Helix AI", "30(1)(g)"]
        )
    told = json.loads(register.as_json(TODAY, activities, since, changed))
    assert (told["day"], told["compared_with"]) == (TODAY.isoformat(), since.isoformat())
    assert [each["what"] for each in told["changes"]] == ["added"]
    rows = list(csv.DictReader(io.StringIO(register.as_table(activities).decode())))
    assert [row["purpose"] for row in rows] == ["HRESCH", "TREAT"]
