"""The log pack of a model: each use's beginning and end, and who judged its results, over its lifetime."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.utils import translation

from gateway.compliance import ai_act
from ledger.audit.log import Actor, record
from tests.compliance.conftest import Year
from tests.documents import check_pdf
from tests.questions import ask, in_force

pytestmark = pytest.mark.django_db


@pytest.fixture
def approved(year: Year) -> Year:
    with transaction.atomic():
        for code in ("asked", "committed"):
            record(kind="model.registered", actor=Actor.system("relay"), model=year.model.digest,
                   state="approved", code=code, tx_id="cd" * 32 if code == "committed" else None)  # fmt: skip
    return year


def test_each_use_has_its_beginning_its_end_and_its_judge(approved: Year) -> None:
    events = list(ai_act.events_of(approved.model))
    found = ai_act.summary(approved.model, events)
    assert [(use["released"], use["delivered"], use["blocked"]) for use in found["uses"]] == [
        (1, 1, 0),
        (1, 0, 0),
        (0, 0, 1),
    ]
    assert all(use["begun"] and use["ended"] for use in found["uses"])
    (judged,) = found["uses"][0]["judged"]
    assert judged["what"] == "result.accepted"
    assert judged["by"] == Actor.staff(7).id
    assert found["oversight"] == {"result.accepted": 1, "result.rejected": 0, "result.withdrawn": 0}
    assert found["events"]["model.registered"] == 2
    assert found["kept_months_at_least"] >= 6


def test_another_model_s_uses_are_not_there(approved: Year, use: Callable[..., str]) -> None:
    before = len(list(ai_act.events_of(approved.model)))
    other = in_force(ask(approved.requester, approved.patient, model="12" * 32))
    use(other, "job.released", "job.delivered")
    assert len(list(ai_act.events_of(approved.model))) == before


def test_a_model_that_was_never_used(pce: Any) -> None:
    found = ai_act.summary(pce, [])
    assert (found["uses"], found["first"]) == ([], None)
    assert ai_act.report(pce, found, []).as_pdf("en").startswith(b"%PDF")


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_forms(approved: Year, language: str) -> None:
    events = list(ai_act.events_of(approved.model))
    with translation.override(language):
        report = ai_act.report(approved.model, ai_act.summary(approved.model, events), events)
        made = report.as_pdf(language)
    check_pdf(
        made, title=report.title, language=language, has=[approved.model.digest, "12(3)(a)", "Helix AI"]
    )
    rows = list(csv.DictReader(io.StringIO(ai_act.as_table(events).decode())))
    assert len(rows) == len(events)
    assert "Alice" not in ai_act.as_table(events).decode()
