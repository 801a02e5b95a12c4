"""What the clinic's staff do about AI providers, in the six ways of tests/browser/ways.py: a provider, its
client and its model; a question for many, found, approved and sent back.
"""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.urls import reverse
from django.utils import timezone

from consent import cohorts
from consent.models import Cohort, ConsentRequest, Patient, Requester
from gateway.analysis.catalogue import find
from gateway.analysis.models import ModelRegistration
from tests.browser.visit import IN_A_BROWSER
from tests.browser.ways import FORWARD, Walk, each_way
from tests.emergency.conftest import observation, seal
from tests.questions import cohort_question
from tests.signing import key_set, new_key

__all__ = ["seal"]  # a fixture

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

Begin = Callable[..., Walk]


@each_way("320 px")
def test_a_provider_its_client_and_its_model(walk: Begin, member: Callable[..., Any], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(key_set(new_key())))
    visit = walk(get_user(member("administrator")))
    visit.open(reverse("staff_requesters"))
    visit.go("staff_new_requester")
    visit.use(FORWARD)
    visit.look("way-provider-error")
    visit.type('input[name="name"]', "Helix AI")
    visit.type('input[name="contact"]', "research@helix.example")
    visit.use('input[name="purposes"][value="TREAT"]')
    visit.use(FORWARD)
    helix = Requester.objects.get()
    assert visit.is_at("staff_requester", helix.pk)

    visit.go("staff_new_client", helix.pk)
    visit.attach('input[name="jwks"]', keys)
    visit.look("way-provider-client")
    visit.use(FORWARD)
    client = helix.clients.get()
    assert client.jwks is not None
    visit.choose('select[name="model"]', "pce")
    visit.look("way-provider")
    visit.send("staff_propose_model", helix.pk)
    proposed = ModelRegistration.objects.get()
    assert (proposed.digest, proposed.state) == (find("pce").digest(), ModelRegistration.State.ONCE)
    visit.go("staff_model", proposed.pk)
    visit.look("way-model-of-ones-own")

    visit = walk(get_user(member("reviewer")))
    visit.open(reverse("staff_models"))
    visit.look("way-models")
    visit.go("staff_model", proposed.pk)
    visit.look("way-model")
    visit.send("staff_approve_model", proposed.pk)
    visit.look("way-model-approved")
    proposed.refresh_from_db()
    assert proposed.state == ModelRegistration.State.APPROVED


@each_way("keyboard")
def test_a_question_for_many_is_put_to_those_found(
    walk: Begin,
    member: Callable[..., Any],
    colleague: Callable[[str], Any],
    helix: Requester,
    model: Any,
    seal: Callable[..., None],
    settings: Any,
) -> None:
    settings.COHORT_FEWEST = 3
    born = (1950, 1955, 1960, 1965, 2010)
    for number, year in enumerate(born):
        person = Patient.objects.create(
            name=f"Person {number}", record_id=f"r{number}", birth_date=date(year, 5, 4),
            proofed_at=timezone.now(),
        )  # fmt: skip
        if number:
            seal(person, observation(f"o{number}", 4.1, "2024-01-02T10:00:00Z"))
    asked, other = (
        cohorts.propose(requester=helix, question=cohort_question(model.digest), wish=wish)
        for wish in ("Adults with a cholesterol value.", "Everybody.")
    )
    visit = walk(get_user(member("reviewer")))
    visit.open(reverse("staff_cohorts"))
    visit.look("way-cohorts")
    visit.go("staff_cohort", asked.pk)
    visit.type('input[name="age_from"]', "40")
    visit.use('input[name="kinds"][value="Observation"]')
    visit.send("staff_write_cohort", asked.pk)
    visit.look("way-cohort-found")
    asked.refresh_from_db()
    assert (asked.state, asked.found) == (Cohort.State.WRITTEN, 3)
    approve = f'form[action="{reverse("staff_approve_cohort", args=[asked.pk])}"]'
    assert visit.page.locator(approve).count() == 0

    visit = walk(colleague("reviewer"))
    visit.open(reverse("staff_cohorts"))
    visit.go("staff_cohort", asked.pk)
    visit.look("way-cohort-to-approve")
    visit.send("staff_approve_cohort", asked.pk)
    assert cohorts.ask_next() == 3
    visit.open(reverse("staff_cohorts"))
    visit.go("staff_cohort", asked.pk)
    visit.look("way-cohort-asked")
    assert ConsentRequest.objects.filter(cohort=asked, state="pending").count() == 3

    visit.open(reverse("staff_cohorts"))
    visit.go("staff_cohort", other.pk)
    visit.use('input[name="reasons"][value="risk_unclear"]')
    visit.send("staff_send_back_cohort", other.pk)
    visit.look("way-cohort-sent-back")
    other.refresh_from_db()
    assert other.state == Cohort.State.SENT_BACK
