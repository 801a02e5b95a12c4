"""What may stand in the audit log, and when."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import transaction
from django.db.transaction import TransactionManagementError

from ledger.audit.log import KINDS, Actor, pseudonym, record
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput
from tests.audit.conftest import ALICE, HELIX

JOB = "ab" * 32


@pytest.mark.django_db
def test_a_row_is_its_canonical_line() -> None:
    at = datetime(2026, 3, 4, 5, 6, 7, 890, tzinfo=timezone(timedelta(hours=2)))
    row = record(kind="job.released", actor=HELIX, subject=ALICE, at=at, job=JOB, attempt=1, code=None)
    line = bytes(AuditRow.objects.get(pk=row.pk).line)
    nonce = json.loads(line)["nonce"]
    assert len(bytes.fromhex(nonce)) == 16
    assert line.decode() == (
        '{"actor":{"id":"6f1d6c1e-3b5e-4a53-9a57-0c7d6f0f1a2b","kind":"client"},'
        f'"details":{{"attempt":1,"job":"{JOB}"}},"format":1,"kind":"job.released","nonce":"{nonce}",'
        f'"subject":"{ALICE}","time":"2026-03-04T03:06:07Z"}}'
    )
    assert row.leaf is None
    assert row.recorded_at == datetime(2026, 3, 4, 3, 6, 7, tzinfo=UTC)


@pytest.mark.django_db
def test_equal_acts_have_different_leaves() -> None:
    lines = {bytes(record(kind="job.queued", actor=HELIX, subject=ALICE, job=JOB).line) for _ in range(20)}
    assert len(lines) == 20


@pytest.mark.django_db(transaction=True)
def test_a_row_needs_the_transaction_of_its_act() -> None:
    with pytest.raises(TransactionManagementError, match="transaction of the act"):
        record(kind="job.queued", actor=HELIX, job=JOB)
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
        record(kind="job.queued", actor=HELIX, job=JOB)
        raise ZeroDivisionError
    assert not AuditRow.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kind": "patient.renamed"}, "audit_kind"),
        ({"name": "Alice Example"}, "audit_detail"),
        ({"job": "Alice Example"}, "audit_detail"),
        ({"job": JOB + "\n"}, "audit_detail"),
        ({"code": "Alice Example"}, "audit_detail"),
        ({"code": "x" * 61}, "audit_detail"),
        ({"attempt": -1}, "audit_detail"),
        ({"attempt": True}, "audit_detail"),
        ({"attempt": 2**53}, "audit_detail"),
        ({"attempt": 1.5}, "audit_detail"),
        ({"reasons": "revoked"}, "audit_detail"),
        ({"reasons": ["Alice Example"]}, "audit_detail"),
        ({"purpose": {"code": "HRESCH"}}, "audit_detail"),
        ({"subject": "alice"}, "audit_subject"),
        ({"actor": Actor("patient", "alice")}, "audit_actor"),
        ({"actor": Actor("staff", "7")}, "audit_actor"),
        ({"actor": Actor("client", "helix@example.org")}, "audit_actor"),
        ({"actor": Actor("stranger", "ab" * 32)}, "audit_actor"),
    ],
)
def test_what_is_not_declared_is_refused_and_not_repeated(change: dict[str, Any], code: str) -> None:
    act = {"kind": "job.queued", "actor": HELIX, "subject": ALICE, "job": JOB} | change
    with pytest.raises(InvalidInput) as caught:
        record(**act)
    assert caught.value.code == code
    assert "lice" not in caught.value.message
    assert not AuditRow.objects.exists()


def test_no_kind_declares_free_text() -> None:
    for kind, details in KINDS.items():
        assert len(kind) <= AuditRow._meta.get_field("kind").max_length  # type: ignore[operator]
        for passes in details.values():
            assert not any(
                passes(text) for text in ("Alice Example", "alice@example.org", "", "4 Elm St", None)
            )


def test_a_pseudonym_is_keyed() -> None:
    """HMAC-SHA256, RFC 4231 test case 2."""
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert pseudonym(b"Jefe", "what do ya want for nothing?") == expected
    assert pseudonym(b"a" * 32, "alice") != pseudonym(b"b" * 32, "alice")


def test_staff_are_named_by_the_installations_key(settings: Any) -> None:
    settings.SECRET_KEY = "one"
    first = Actor.staff(7)
    assert first == Actor.staff("7") != Actor.staff(8)
    settings.SECRET_KEY = "two"
    assert Actor.staff(7) != first
