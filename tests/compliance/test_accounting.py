"""The accounting of disclosures: every use is there, and what 45 CFR 164.528 asks for is flagged."""

import csv
import io
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone, translation

from consent.models import Consent
from gateway.compliance import accounting, uses
from gateway.emergency.models import Emergency
from ledger.audit.models import AuditRow
from tests.compliance.conftest import Year
from tests.documents import check_pdf
from tests.questions import ask, in_force

pytestmark = pytest.mark.django_db


def rows_by_key(year: Year) -> dict[str, accounting.Row]:
    since, until = accounting.period(None, None)
    rows = accounting.rows_of(year.patient, since=since, until=until)
    names = {key: name for name, key in year.uses.items()}
    return {names[row.use.key]: row for row in rows}


def test_every_use_is_listed_and_judged(year: Year) -> None:
    rows = rows_by_key(year)
    assert set(rows) == set(year.uses)
    verdicts = {name: (row.verdict.required, row.verdict.rule) for name, row in rows.items()}
    assert verdicts == {
        "result": (False, "164.528(a)(1)(iv)"),
        "copy": (False, "164.528(a)(1)(iv)"),
        "opened": (False, "164.528(a)(1)"),
        "blocked": (False, "164.528(a)(1)"),
        "emergency": (False, "164.528(a)(1)(i)"),
        "own": (False, "164.528(a)(1)(ii)"),
    }
    result = rows["result"]
    assert (result.recipient, str(result.purpose)) == ("Helix AI", year.consent.request.what_for)
    assert "Test results" in result.description
    assert "Mental health" in result.description


@pytest.mark.parametrize(
    ("changes", "purpose", "required", "rule"),
    [
        ({"given_by": "phone"}, "HRESCH", True, "164.528(a)(1)"),  # no signature: no authorization
        ({"given_by": "phone"}, "TREAT", False, "164.528(a)(1)(i)"),
        ({"expires_at": None}, "HMARKT", True, "164.528(a)(1)"),
        ({}, "HMARKT", False, "164.528(a)(1)(iv)"),
    ],
)
def test_a_yes_that_is_no_authorization_exempts_nothing(
    year: Year, use: Callable[..., str], changes: dict[str, Any], purpose: str, required: bool, rule: str
) -> None:
    consent = in_force(ask(year.requester, year.patient, model=year.model.digest))
    Consent.objects.filter(pk=consent.pk).update(**changes)
    key = use(consent, "job.released", "job.delivered", purpose=purpose)
    (found,) = [each for each in uses.uses_of(year.patient) if each.key == key]
    verdict = accounting.judge(found)
    assert (verdict.required, verdict.rule) == (required, rule)
    assert verdict.why


@pytest.mark.parametrize(
    ("changes", "required"),
    [
        ({"outcome": Emergency.Outcome.JUSTIFIED}, False),
        ({"outcome": Emergency.Outcome.NOT_JUSTIFIED}, True),
        ({"opened_by": None}, True),
    ],
)
def test_an_emergency(year: Year, changes: dict[str, Any], required: bool) -> None:
    Emergency.objects.filter(pk=year.emergency.pk).update(**changes)
    assert rows_by_key(year)["emergency"].verdict.required is required


def test_substance_use_is_flagged_for_part_2(year: Year, use: Callable[..., str]) -> None:
    consent = in_force(ask(year.requester, year.patient, sensitive=["ETH"]), sensitive=["ETH"])
    year.uses["substance"] = use(consent, "job.released", "job.delivered")
    rows = rows_by_key(year)
    assert {name: row.part2 for name, row in rows.items() if row.part2} == {"substance": True}


def test_six_years_and_no_more(year: Year) -> None:
    assert accounting.period(None, date(2026, 11, 28)) == (date(2020, 11, 28), date(2026, 11, 28))
    assert accounting.period(date(2001, 1, 1), date(2024, 2, 29)) == (date(2018, 2, 28), date(2024, 2, 29))
    assert accounting.period(date(2026, 1, 1), date(2026, 2, 1)) == (date(2026, 1, 1), date(2026, 2, 1))
    long_ago = timezone.now() - timedelta(days=365 * 7)
    AuditRow.objects.filter(step_of=year.uses["copy"]).update(recorded_at=long_ago)
    assert "copy" not in rows_by_key(year)


def test_another_patient_s_uses_are_not_there(year: Year, charlie: Any) -> None:
    since, until = accounting.period(None, None)
    assert accounting.rows_of(charlie, since=since, until=until) == []


def test_the_table(year: Year) -> None:
    table = accounting.as_table(list(rows_by_key(year).values())).decode()
    rows = list(csv.DictReader(io.StringIO(table)))
    assert tuple(rows[0]) == accounting.COLUMNS
    assert {row["Reference"] for row in rows} == set(year.uses.values())
    assert {row["Required"] for row in rows} == {"no"}


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_document(year: Year, language: str) -> None:
    since, until = accounting.period(None, None)
    rows = list(rows_by_key(year).values())
    with translation.override(language):
        report = accounting.report(year.patient, rows, since=since, until=until)
        made = report.as_pdf(language)
    check_pdf(
        made, title=report.title, language=language, has=["Helix AI", "164.528(a)(1)(iv)", "Alice Example"]
    )


@pytest.mark.parametrize("form", ["pdf", "csv"])
def test_a_patient_gets_her_own(year: Year, form: str) -> None:
    client = Client()
    client.force_login(year.patient.user, backend="django.contrib.auth.backends.ModelBackend")
    assert f"accounting.{form}" in client.get("/access").content.decode()
    answer = client.get(f"/access/accounting.{form}")
    assert answer.status_code == 200
    assert answer["Content-Disposition"].endswith(f'.{form}"')
    if form == "csv":
        assert year.uses["result"] in answer.content.decode()
    assert client.get("/access/accounting.xml").status_code == 404
