"""The notice of a breach: of whom the provider received something, and of nobody else."""

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone, translation

from consent.models import Patient, Requester
from gateway.compliance import breach
from ledger.audit.models import AuditRow
from tests.compliance.conftest import Year
from tests.documents import check_pdf
from tests.questions import ask, in_force

pytestmark = pytest.mark.django_db


def names(requester: Requester, **period: Any) -> list[str]:
    found = breach.affected_by(requester, **{"since": None, "until": None, **period})
    return [each.patient.name for each in found]


def test_who_was_affected(year: Year, charlie: Patient, use: Callable[..., str]) -> None:
    Patient.objects.filter(pk=charlie.pk).update(proofed_at=timezone.now())
    charlie.refresh_from_db()
    blocked = in_force(ask(year.requester, charlie, model=year.model.digest))
    use(blocked, "job.released", "job.stopped")
    assert names(year.requester) == ["Alice Example"]
    use(blocked, "job.released", "job.delivered")
    assert names(year.requester) == ["Alice Example", "Charlie Example"]
    assert names(Requester.objects.create(name="Other AI")) == []


def test_only_what_was_sent_within_these_days(year: Year) -> None:
    today = timezone.localdate()
    assert names(year.requester, since=today, until=today) == ["Alice Example"]
    assert names(year.requester, until=today - timedelta(days=1)) == []
    assert names(year.requester, since=today + timedelta(days=1)) == []
    long_ago = timezone.now() - timedelta(days=40)
    AuditRow.objects.filter(step_of=year.uses["copy"]).update(recorded_at=long_ago)
    (alice,) = breach.affected_by(year.requester, since=today, until=None)
    assert [use.key for use in alice.uses] == [year.uses["result"]]


def test_the_table(year: Year) -> None:
    affected = breach.affected_by(year.requester, since=None, until=None)
    (row,) = csv.DictReader(io.StringIO(breach.as_table(affected).decode()))
    assert (row["Patient"], row["Record number"]) == ("Alice Example", "alice-1")
    assert row["Results or copies"] == "2"
    assert set(row["References"].split()) == {year.uses["result"], year.uses["copy"]}
    assert "Mental health" in row["Made from"]


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_draft_has_each_part_and_shows_its_gaps(year: Year, language: str) -> None:
    affected = breach.affected_by(year.requester, since=None, until=None)
    with translation.override(language):
        report = breach.report(year.requester, affected, since=None, until=None)
        made = report.as_pdf(language)
        gap = translation.gettext("[to be filled in]")
    headings = " ".join(section.heading for section in report.sections)
    for part in "ABCDE":
        assert f"164.404(c)(1)({part})" in headings
    for letter in "abcd":
        assert f"33(3)({letter})" in headings
    assert sum(gap in section.text for section in report.sections) == 3
    check_pdf(made, title=report.title, language=language, has=["Helix AI", gap])
    assert "Alice" not in report.as_html(language).decode()
