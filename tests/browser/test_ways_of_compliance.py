"""What the compliance team does, in the six ways of tests/browser/ways.py: an access package for a patient,
a copy that a patient withdrew, a colleague's rights, an erasure confirmed by two people and one refused.
"""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.urls import reverse
from django.utils import timezone

from consent.erasure import ask_erasure
from consent.models import Erasure
from gateway.accounts.models import User
from gateway.compliance import retraining, rights, services
from gateway.compliance.models import Export, Retraining, RightsReview
from tests.browser.visit import IN_A_BROWSER
from tests.browser.ways import FORWARD, Walk, each_way
from tests.compliance.conftest import relay, use
from tests.compliance.test_retraining import copy, withdrawn

__all__ = ["copy", "relay", "use"]  # fixtures

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

Begin = Callable[..., Walk]


@each_way("large text")
def test_an_access_package_is_made_and_downloaded(
    walk: Begin, member: Callable[..., Any], alice: Any, relay: Callable[[], None], tmp_path: Path
) -> None:
    visit = walk(get_user(member("compliance")))
    visit.open(reverse("staff_exports"))
    visit.look("way-exports")
    visit.go("staff_new_export", "package")
    visit.expect_status(400)
    visit.use(FORWARD)
    visit.look("way-export-error")
    visit.type('input[name="patient"]', alice.record_id)
    visit.use(FORWARD)
    export = Export.objects.get()
    assert visit.is_at("staff_export", export.pk)
    visit.look("way-export-waits")
    services.make(export.pk, wait=relay)
    visit.go("staff_export", export.pk)
    visit.look("way-export-ready")
    file = tmp_path / "package.zip"
    visit.keep(f'form[action="{reverse("staff_export_file", args=[export.pk])}"] button', file)
    export.refresh_from_db()
    assert hashlib.sha256(file.read_bytes()).hexdigest() == export.digest


@each_way("right to left")
def test_a_withdrawn_copy_is_seen_to(walk: Begin, member: Callable[..., Any], copy: Any) -> None:
    withdrawn(copy)
    retraining.watch()
    ticket = Retraining.objects.get()
    visit = walk(get_user(member("compliance")))
    visit.open(reverse("staff_retraining"))
    visit.look("way-withdrawn-copies")
    visit.go("staff_ticket", ticket.pk)
    visit.send("staff_ticket_own", ticket.pk)
    visit.look("way-withdrawn-copy")
    visit.send("staff_ticket_ask", ticket.pk)
    visit.expect_status(400)
    visit.send("staff_ticket_settle", ticket.pk)
    visit.look("way-withdrawn-copy-error")
    visit.use('input[name="outcome"][value="retired"]')
    visit.type('textarea[name="reason"]', "They took the version out of use.")
    visit.send("staff_ticket_settle", ticket.pk)
    visit.look("way-withdrawn-copy-closed")
    ticket.refresh_from_db()
    assert (ticket.state, ticket.outcome) == (Retraining.State.SETTLED, "retired")


@each_way("no scripts")
def test_a_colleagues_rights_are_taken_away(walk: Begin, member: Callable[..., Any]) -> None:
    bob = get_user(member("clinician"))
    User.objects.update(date_joined=timezone.now() - timedelta(days=200))
    rights.open_due()
    review = RightsReview.objects.get(of=bob)
    visit = walk(get_user(member("compliance")))
    visit.open(reverse("staff_rights"))
    visit.look("way-rights")
    visit.go("staff_rights_review", review.pk)
    visit.send("staff_rights_own", review.pk)
    visit.look("way-rights-review")
    visit.use('input[name="outcome"][value="taken_away"]')
    visit.type('textarea[name="reason"]', "He left the hospital in May.")
    visit.send("staff_rights_settle", review.pk)
    visit.look("way-rights-taken-away")
    assert rights.rights_of(User.objects.get(pk=bob.pk)) == []


@each_way("mouse")
def test_two_confirm_an_erasure_and_one_refuses_another(
    walk: Begin, member: Callable[..., Any], colleague: Callable[[str], Any], alice: Any, charlie: Any
) -> None:
    visit = walk(get_user(member("clinician")))
    visit.open(reverse("staff_patient", args=[alice.pk]))
    visit.unfold("staff_ask_erasure", alice.pk)
    visit.send("staff_ask_erasure", alice.pk)
    visit.look("way-erasure-asked")
    asked = Erasure.objects.get()

    for who, state in (
        (get_user(member("compliance")), Erasure.State.CONFIRMED),
        (colleague("compliance"), Erasure.State.DUE),
    ):
        visit = walk(who)
        visit.open(reverse("staff_erasures"))
        visit.look("way-erasures")
        visit.send("staff_confirm_erasure", asked.pk)
        visit.look(f"way-erasure-{state}")
        asked.refresh_from_db()
        assert asked.state == state

    other = ask_erasure(patient=charlie, by=asked.confirmed_by)
    visit.open(reverse("staff_erasures"))
    visit.unfold("staff_refuse_erasure", other.pk)
    visit.choose("details[open] select", "retention")
    visit.send("staff_refuse_erasure", other.pk)
    visit.look("way-erasure-refused")
    other.refresh_from_db()
    assert other.state == Erasure.State.REFUSED
