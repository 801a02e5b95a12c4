"""/staff/exports and /staff/register: who may ask, who may have the file, and what the pages say."""

from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from django.core import signing
from django.test import Client
from django.utils import timezone

from gateway.compliance import sealed, services
from gateway.compliance.kinds import KINDS
from gateway.compliance.models import Export
from gateway.staff import exports
from ledger.audit.models import AuditRow
from tests.questions import ask, in_force

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def handed(monkeypatch: Any) -> list[str]:
    """What was handed to the broker."""
    found: list[str] = []
    monkeypatch.setattr(services, "enqueue", lambda id: not found.append(id))
    return found


@pytest.fixture
def ready() -> Callable[..., Export]:
    def make(**about: Any) -> Export:
        export = Export.objects.create(kind=about.pop("kind", "register"), language="en", **about)
        export.digest, export.size = sealed.keep(export, BytesIO(b"PK the file"))
        export.state = Export.State.READY
        export.made_at = timezone.now()
        export.expires_at = export.made_at + timedelta(hours=1)
        export.save()
        return export

    return make


def ticket_in(page: str) -> str:
    return page.split('name="ticket" value="')[1].split('"', maxsplit=1)[0]


def test_an_officer_asks_and_a_worker_is_told(
    member: Any, alice: Any, handed: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    dana = member("compliance")
    assert "Accounting of disclosures" in dana.get("/staff/exports").content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        answer = dana.post(
            "/staff/exports/new/accounting",
            {"patient": alice.record_id, "since": "2026-01-01", "until": "", "language": "es"},
        )
    export = Export.objects.get()
    assert answer["Location"] == f"/staff/exports/{export.pk}"
    assert handed == [export.pk]
    assert (export.kind, export.patient, export.language, export.asked_by.username) == (
        "accounting", alice, "es", "compliance",
    )  # fmt: skip
    assert export.since.isoformat() == "2026-01-01"
    page = dana.get(answer["Location"]).content.decode()
    assert alice.name in page
    assert "Waiting" in page
    row = AuditRow.objects.get(kind="export.asked")
    assert row.subject == alice.pseudonym


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_has_its_form(member: Any, kind: str) -> None:
    dana = member("compliance")
    page = dana.get(f"/staff/exports/new/{kind}").content.decode()
    for name in (*KINDS[kind].needs, *KINDS[kind].takes, "language"):
        assert f'name="{name}"' in page
    if KINDS[kind].needs:
        assert dana.post(f"/staff/exports/new/{kind}", {"language": "en"}).status_code == 400
        assert not Export.objects.exists()
    assert dana.get("/staff/exports/new/nothing").status_code == 404


def test_a_record_number_that_nobody_has(member: Any) -> None:
    answer = member("compliance").post("/staff/exports/new/package", {"patient": "nobody", "language": "en"})
    assert answer.status_code == 400
    assert "no patient with this record number" in answer.content.decode()


def test_an_authorization_names_what_it_lacks(member: Any, alice: Any, helix: Any) -> None:
    consent = in_force(ask(helix, alice))
    dana = member("compliance")
    assert f"authorization?consent={consent.pk}" in dana.get(f"/staff/consents/{consent.pk}").content.decode()
    address = f"/staff/exports/new/authorization?consent={consent.pk}"
    assert consent.pk in dana.get(address).content.decode()
    consent.given_by = "phone"
    consent.save()
    page = dana.post(address, {"consent": consent.pk, "language": "en"}).content.decode()
    assert "Signature (164.508(c)(1)(vi))" in page
    assert not Export.objects.exists()


def test_the_file_is_handed_out_with_a_ticket_and_written_down(member: Any, ready: Any) -> None:
    export, dana = ready(), member("compliance")
    page = dana.get(f"/staff/exports/{export.pk}").content.decode()
    answer = dana.post(f"/staff/exports/{export.pk}/file", {"ticket": ticket_in(page)})
    assert b"".join(answer.streaming_content) == b"PK the file"
    assert answer["Content-Disposition"] == f'attachment; filename="register-{export.pk[:8]}.zip"'
    assert "no-store" in answer["Cache-Control"]
    row = AuditRow.objects.get(kind="export.read")
    assert export.digest.encode() in bytes(row.line)
    assert dana.get(f"/staff/exports/{export.pk}/file").status_code == 405


def test_a_ticket_is_for_one_person_one_export_and_some_minutes(
    member: Any, ready: Any, monkeypatch: Any
) -> None:
    export, other = ready(), ready()
    dana, auditor = member("compliance"), member("auditor")
    ticket = ticket_in(dana.get(f"/staff/exports/{export.pk}").content.decode())

    def gets(who: Client, which: Export, ticket: str) -> bool:
        answer = who.post(f"/staff/exports/{which.pk}/file", {"ticket": ticket})
        assert answer.status_code in (200, 302)
        return bool(answer.status_code == 200)

    assert not gets(auditor, export, ticket)
    assert not gets(dana, other, ticket)
    assert not gets(dana, export, "")
    assert not gets(dana, export, ticket[:-1])
    assert not gets(dana, export, signing.dumps([export.pk, 1], salt="another"))
    monkeypatch.setattr(exports, "TICKET_SECONDS", -1)
    assert not gets(dana, export, ticket)
    assert not AuditRow.objects.filter(kind="export.read").exists()
    monkeypatch.undo()
    assert gets(dana, export, ticket)


def test_an_auditor_reads_what_is_about_no_patient(member: Any, ready: Any, alice: Any) -> None:
    auditor = member("auditor")
    assert auditor.get("/staff/exports/new/register").status_code == 403
    register = auditor.get(f"/staff/exports/{ready().pk}").content.decode()
    assert "Download" in register
    personal = ready(kind="log", patient=alice)
    page = auditor.get(f"/staff/exports/{personal.pk}").content.decode()
    assert "Download" not in page.replace("can download", "")
    assert alice.name not in page
    assert auditor.post(f"/staff/exports/{personal.pk}/file", {"ticket": "x"}).status_code == 403


def test_what_has_expired_is_not_handed_out(member: Any, ready: Any) -> None:
    export, dana = ready(), member("compliance")
    ticket = ticket_in(dana.get(f"/staff/exports/{export.pk}").content.decode())
    Export.objects.filter(pk=export.pk).update(expires_at=timezone.now())
    assert "Deleted" in dana.get(f"/staff/exports/{export.pk}").content.decode()
    assert dana.post(f"/staff/exports/{export.pk}/file", {"ticket": ticket}).status_code == 403


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"state": "running", "written": 30, "rows": 120}, "30 of 120 rows"),
        ({"state": "failed", "error_code": "checkpoint_late"}, "checkpoint_late"),
        ({"state": "queued", "error_code": "ledger_unavailable"}, "tried again"),
    ],
)
def test_how_far_it_is(member: Any, fields: dict[str, Any], says: str) -> None:
    export = Export.objects.create(kind="log", language="en", **fields)
    assert says in member("compliance").get(f"/staff/exports/{export.pk}").content.decode()


def test_the_register_is_live_and_compares_days(member: Any, alice: Any, helix: Any, pce: Any) -> None:
    auditor = member("auditor")
    assert "There are none." in auditor.get("/staff/register").content.decode()
    ask(helix, alice, model=pce.digest)
    assert "Helix AI" in auditor.get("/staff/register").content.decode()
    compared = auditor.get("/staff/register?since=2020-01-01").content.decode()
    assert "Added" in compared
    assert "Helix AI" not in auditor.get("/staff/register?day=2020-01-01").content.decode()
    assert auditor.get("/staff/register?day=x&since=y").status_code == 200
    assert member("clinician").get("/staff/register").status_code == 403


def test_lists_take_as_many_queries_however_long(
    member: Any, alice: Any, helix: Any, django_assert_max_num_queries: Any
) -> None:
    dana = member("compliance")
    for _ in range(30):
        Export.objects.create(kind="accounting", language="en", patient=alice)
        ask(helix, alice)
    for address in ("/staff/exports", "/staff/register?since=2020-01-01"):
        dana.get(address)
        with django_assert_max_num_queries(15):
            dana.get(address)
