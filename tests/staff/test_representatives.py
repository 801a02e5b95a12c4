"""/staff/patients/<id>/representatives and /staff/conflicts."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from consent import services
from consent.answers import How
from consent.models import Conflict, Patient, Representative, Scan
from ledger.audit.models import AuditRow
from tests.questions import ask, grant
from tests.representing import PAPER, represent

pytestmark = pytest.mark.django_db

REASON = "Both were heard on the phone."


@pytest.fixture(autouse=True)
def born(alice: Any) -> None:
    Patient.objects.filter(pk=alice.pk).update(birth_date=date(1960, 5, 4))
    alice.refresh_from_db()


def text(page: Any) -> str:
    return page.content.decode()


def form(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": "Ana",
        "role": "attorney",
        "scope": "answer",
        "kinds": ["Observation"],
        "scan": SimpleUploadedFile("paper.pdf", PAPER),
        "seen": "on",
    }
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def at(patient: Any) -> str:
    return reverse("staff_new_representative", args=[patient.pk])


def test_a_clinician_registers_and_gives_the_link_once(member: Callable[..., Client], alice: Any) -> None:
    bob = member("clinician")
    assert "Register somebody" in text(bob.get(reverse("staff_representatives", args=[alice.pk])))
    assert "Alice Example" in text(bob.get(at(alice)))
    page = bob.post(at(alice), form())
    assert "no-store" in page["Cache-Control"]
    row = Representative.objects.get()
    assert "/invitation/" in text(page)
    assert (row.kinds, row.evidence.size) == (["Observation"], len(PAPER))
    listed = text(bob.get(reverse("staff_representatives", args=[alice.pk])))
    assert "They have to accept first" in listed
    again = bob.post(reverse("staff_invite_representative", args=[row.pk]))
    assert "/invitation/" in text(again)
    bob.post(reverse("staff_end_representative", args=[row.pk]))
    row.refresh_from_db()
    assert row.ended_by == "clinic"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kinds": None}, "Choose the records"),
        ({"seen": None}, "required"),
        ({"scan": SimpleUploadedFile("a.txt", b"plain")}, "PDF, JPEG or PNG"),
        ({"role": "parent"}, "for a minor only"),
        ({"ends": "2001-01-01"}, "not over yet"),
    ],
)
def test_a_mistake_is_said_and_nothing_is_kept(
    member: Callable[..., Client], alice: Any, changes: dict[str, Any], words: str
) -> None:
    page = member("clinician").post(at(alice), form(**changes))
    assert words in text(page)
    assert not Representative.objects.exists()
    assert not Scan.objects.exists()


def test_the_paper_is_opened_by_who_may_and_written_down(
    member: Callable[..., Client], alice: Any, user: Any
) -> None:
    row = represent(alice, user("ana"))
    address = reverse("staff_evidence", args=[row.pk])
    assert member("reviewer").get(address).status_code == 403
    answer = member("compliance").get(address)
    assert (answer.content, answer["X-Content-Type-Options"]) == (PAPER, "nosniff")
    assert AuditRow.objects.filter(kind="scan.opened").count() == 1


def disagree(alice: Any, helix: Any, user: Any) -> Conflict:
    row = represent(alice, user("ana"))
    services.refuse(request=ask(helix, alice), patient=alice)
    grant(ask(helix, alice), how=How.by(row))
    return Conflict.objects.get()


def test_a_reviewer_reads_why_and_settles(
    member: Callable[..., Client], alice: Any, helix: Any, user: Any
) -> None:
    found = disagree(alice, helix, user)
    rita = member("reviewer")
    for page in (
        text(rita.get(reverse("staff_conflicts"))),
        text(rita.get(reverse("staff_conflict", args=[found.pk]))),
    ):
        assert "A yes came after a no or a stop" in page
        assert "Somebody with a power of attorney" in page
        assert "The patient" in page
        assert alice.name not in page
    address = reverse("staff_conflict", args=[found.pk])
    assert "at least 15" in text(rita.post(address, {"outcome": "keep", "reason": "short"}))
    answer = rita.post(address, {"outcome": "ask_anew", "reason": REASON})
    assert answer["Location"] == reverse("staff_conflicts")
    found.refresh_from_db()
    assert (found.outcome, found.reason) == ("ask_anew", REASON)
    assert "Nothing waits here." in text(rita.get(reverse("staff_conflicts")))
    settled = text(rita.get(address))
    assert REASON in settled
    assert "Settle it" not in settled
    assert rita.post(address, {"outcome": "keep", "reason": REASON}).status_code == 200
    found.refresh_from_db()
    assert found.outcome == "ask_anew"


@pytest.mark.parametrize("role", ["compliance", "auditor"])
def test_who_may_only_see_settles_nothing(
    member: Callable[..., Client], alice: Any, helix: Any, user: Any, role: str
) -> None:
    found, client = disagree(alice, helix, user), member(role)
    address = reverse("staff_conflict", args=[found.pk])
    assert "Settle it" not in text(client.get(address))
    client.post(address, {"outcome": "keep", "reason": REASON})
    found.refresh_from_db()
    assert found.settled_at is None


@pytest.mark.parametrize("more", [1, 12])
def test_few_queries_however_many(
    member: Callable[..., Client],
    alice: Any,
    helix: Any,
    user: Any,
    more: int,
    django_assert_max_num_queries: Any,
) -> None:
    row = represent(alice, user("ana"))
    for number in range(more):
        model = f"{number:064x}"
        services.refuse(request=ask(helix, alice, model=model), patient=alice)
        grant(ask(helix, alice, model=model), how=How.by(row))
        represent(alice, user(f"other{number}"))
    rita, bob = member("reviewer"), member("clinician")
    with django_assert_max_num_queries(15):
        rita.get(reverse("staff_conflicts"))
    with django_assert_max_num_queries(15):
        rita.get(reverse("staff_conflict", args=[Conflict.objects.first().pk]))
    with django_assert_max_num_queries(15):
        bob.get(reverse("staff_representatives", args=[alice.pk]))
