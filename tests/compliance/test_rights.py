"""Reviews of access rights: due every so often and when they changed, decided by somebody else."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from gateway.accounts.models import User
from gateway.accounts.roles import make_groups
from gateway.compliance import rights
from gateway.compliance.models import RightsReview
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput, RefusedTransition

pytestmark = pytest.mark.django_db
REASON = "Still on the ward, as the plan says."


@pytest.fixture
def cast(user: Any) -> tuple[User, User]:
    """bob, a clinician, and dana of the compliance side: here for longer than a review lasts."""
    make_groups()
    found = []
    for name, role in (("bob", "clinician"), ("dana", "compliance")):
        person = user(name, is_staff=True)
        person.groups.set(Group.objects.filter(name=role))
        found.append(person)
    User.objects.update(date_joined=timezone.now() - timedelta(days=100))
    return found[0], found[1]


def opened() -> list[str]:
    return sorted(RightsReview.objects.filter(settled_at=None).values_list("of__username", flat=True))


def test_each_is_due_once_the_days_have_passed(cast: Any, user: Any, settings: Any) -> None:
    user("newcomer", is_staff=True).groups.set(Group.objects.filter(name="reviewer"))
    user("nobody", is_staff=True)  # may do nothing
    user("alice")
    assert rights.open_due() == 2
    assert opened() == ["bob", "dana"]
    assert rights.open_due() == 0
    settings.ACCESS_REVIEW_DAYS = 0
    assert rights.open_due() == 1
    row = AuditRow.objects.filter(kind="rights.review_opened").order_by("pk")[0]
    assert Actor.staff(cast[0].pk).id.encode() in bytes(row.line)


def test_confirmed_they_are_due_again_later(cast: Any) -> None:
    bob, dana = cast
    rights.open_due()
    review = RightsReview.objects.get(of=bob)
    rights.settle(review=review, by=dana, outcome="confirmed", reason=REASON)
    assert rights.rights_of(User.objects.get(pk=bob.pk)) == ["clinician"]
    assert rights.open_due() == 0
    RightsReview.objects.filter(of=bob).update(settled_at=timezone.now() - timedelta(days=91))
    assert rights.open_due() == 1


def test_what_changed_since_is_due_at_once(cast: Any) -> None:
    bob, dana = cast
    rights.open_due()
    rights.settle(review=RightsReview.objects.get(of=bob), by=dana, outcome="confirmed", reason=REASON)
    bob.groups.add(Group.objects.get(name="compliance"))
    assert rights.open_due() == 1
    review = RightsReview.objects.get(of=bob, settled_at=None)
    assert review.roles == ["clinician", "compliance"]


def test_taken_away_they_hold_no_more(cast: Any, member: Any) -> None:
    _bob, dana = cast
    clinician = member("clinician")
    assert clinician.get("/staff/patients").status_code == 200
    person = User.objects.get(username="clinician")
    review = RightsReview.objects.create(of=person, roles=["clinician"])
    rights.settle(review=review, by=dana, outcome="taken_away", reason="Left the hospital in May.")
    assert clinician.get("/staff/patients").status_code == 403
    assert rights.rights_of(User.objects.get(pk=person.pk)) == []
    assert AuditRow.objects.filter(kind="rights.taken_away").count() == 1


def test_nobody_decides_about_themselves(cast: Any) -> None:
    _bob, dana = cast
    rights.open_due()
    review = RightsReview.objects.get(of=dana)
    for act in (
        lambda: rights.take(review=review, by=dana),
        lambda: rights.settle(review=review, by=dana, outcome="confirmed", reason=REASON),
    ):
        with pytest.raises(RefusedTransition) as refusal:
            act()
        assert refusal.value.code == "own_rights"


def test_a_decision_has_a_reason_and_is_made_once(cast: Any) -> None:
    bob, dana = cast
    rights.open_due()
    review = RightsReview.objects.get(of=bob)
    for outcome, reason in (("confirmed", "fine"), ("something", REASON)):
        with pytest.raises(InvalidInput):
            rights.settle(review=review, by=dana, outcome=outcome, reason=reason)
    rights.settle(review=review, by=dana, outcome="confirmed", reason=REASON)
    with pytest.raises(RefusedTransition) as refusal:
        rights.settle(review=review, by=dana, outcome="taken_away", reason=REASON)
    assert refusal.value.code == "review_settled"


def test_the_last_superuser_stays(cast: Any, user: Any) -> None:
    _bob, dana = cast
    root = user("root", is_staff=True, is_superuser=True)
    review = RightsReview.objects.create(of=root, roles=["superuser"])
    with pytest.raises(RefusedTransition) as refusal:
        rights.settle(review=review, by=dana, outcome="taken_away", reason=REASON)
    assert refusal.value.code == "last_superuser"
    user("another", is_staff=True, is_superuser=True)
    rights.settle(review=review, by=dana, outcome="taken_away", reason=REASON)
    assert not User.objects.get(pk=root.pk).is_superuser


def test_the_pages(cast: Any, member: Any) -> None:
    bob, _dana = cast
    rights.open_due()
    review = RightsReview.objects.get(of=bob)
    officer, auditor = member("compliance"), member("auditor")
    page = officer.get("/staff/rights").content.decode()
    assert f"/staff/rights/{review.pk}" in page
    assert "Clinician" in page
    page = auditor.get(f"/staff/rights/{review.pk}").content.decode()
    assert "Find patients, invite them and see who they are" in page
    assert "see_patients" not in page
    assert "Save" not in page
    assert auditor.post(f"/staff/rights/{review.pk}/settle").status_code == 403
    officer.post(f"/staff/rights/{review.pk}/own")
    assert officer.post(f"/staff/rights/{review.pk}/settle", {"outcome": "confirmed"}).status_code == 400
    officer.post(f"/staff/rights/{review.pk}/settle", {"outcome": "confirmed", "reason": REASON})
    assert "Confirmed" in officer.get(f"/staff/rights/{review.pk}").content.decode()
    assert member("clinician").get("/staff/rights").status_code == 403
