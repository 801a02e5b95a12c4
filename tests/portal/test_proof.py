"""/access/<id>/proof and /proof/check, on a real ledger: sealed, waiting, and what does not match."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client

from gateway.portal.proof import CHECKS_A_MINUTE
from ledger import outbox
from ledger.audit import sealing
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditBatch, AuditRow, Incident
from ledger.audit.proof import MAX_BYTES
from ledger.client import connect

pytestmark = pytest.mark.django_db

KEY = "aa" * 32


@pytest.fixture(autouse=True)
def nobody_checked_yet() -> None:
    cache.clear()


@pytest.fixture
def use(no_keyholder: None, own_installation: Any, alice: Any) -> Callable[[], None]:
    """Two steps of one use of alice's records; calling it is what the relay does: they are sealed."""
    for kind in ("job.released", "job.delivered"):
        with transaction.atomic():
            record(kind=kind, actor=Actor.system("worker"), subject=alice.pseudonym, subject_id=KEY)

    def relay() -> None:
        ledger = connect(settings.LEDGER_URL, identity="gateway")
        sealing.seal_all()
        outbox.send_pending(ledger, through_keyholder=lambda row: {})
        outbox.follow(
            ledger, listener="test", handlers={"Checkpointed": sealing.record_checkpointed}, wait=0.2
        )
        ledger.close()

    return relay


def page(browser: Client) -> str:
    return browser.get(f"/access/{KEY}/proof").content.decode()


def check(data: bytes, client: Client | None = None) -> Any:
    file = SimpleUploadedFile("proof.json", data)
    return (client or Client()).post("/proof/check", {"proof": file})


def test_from_waiting_to_sealed_to_a_proof_that_anyone_checks(
    browser: Client, use: Callable[[], None], own_installation: Any
) -> None:
    assert "waits to be sealed" in page(browser)
    assert browser.get(f"/access/{KEY}/proof.json").status_code == 302
    use()
    found = page(browser)
    assert found.index("This entry is sealed") < found.index("Nobody can change it") < found.index("<details")
    proof = browser.get(f"/access/{KEY}/proof.json")
    assert proof["Content-Disposition"].endswith('.json"')
    answer = check(proof.content)
    assert "This proof is good" in answer.content.decode()
    assert "Set-Cookie" not in answer
    assert (
        "changed, or is not ours"
        in check(proof.content.replace(b"job.released", b"job.rel3ased")).content.decode()
    )
    assert not Incident.objects.exists()

    own_installation.processes.stop_all()
    answer = browser.get(f"/access/{KEY}/proof")
    assert answer.status_code == 503
    assert "cannot reach the record book" in answer.content.decode()
    assert browser.get("/access").status_code == 200
    assert "This proof is good" in check(proof.content).content.decode()


def test_what_does_not_match_is_red_and_opens_one_incident(browser: Client, use: Callable[[], None]) -> None:
    use()
    proof = browser.get(f"/access/{KEY}/proof.json").content
    AuditRow.objects.filter(kind="job.delivered").update(kind="job.stopped")
    for _ in range(2):
        found = page(browser)
        assert "does not match" in found
        assert settings.HELP_PHONE in found
        assert browser.get(f"/access/{KEY}/proof.json").status_code == 302
    assert Incident.objects.count() == 1
    assert AuditRow.objects.filter(kind="incident.opened").count() == 1
    # A kept proof is of the line, which still is what was sealed.
    assert "This proof is good" in check(proof).content.decode()
    AuditBatch.objects.update(root="00" * 32)
    for _ in range(2):
        assert "does not match" in check(proof).content.decode()
    assert Incident.objects.count() == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cannot read this file"),
        (b"{", "cannot read this file"),
        (b"\xff\x00", "cannot read this file"),
        (b"[" * 200_000, "cannot read this file"),
        (b'{"a": 1}', "changed, or is not ours"),
        (b'{"a":1,"a":1}', "changed, or is not ours"),
    ],
)
def test_what_is_no_proof_is_said_to_be_none(use: Callable[[], None], data: bytes, words: str) -> None:
    assert words in check(data).content.decode()
    assert not Incident.objects.exists()


def test_the_checker_bounds_what_it_takes(use: Callable[[], None]) -> None:
    assert Client().get("/proof/check").status_code == 200
    assert check(b"x" * (MAX_BYTES + 1)).status_code == 413
    assert Client().post("/proof/check").status_code == 400
    answers = [check(b"{}").status_code for _ in range(CHECKS_A_MINUTE)]
    assert answers[-3:] == [429, 429, 200] or answers[-1] == 429
    assert Client().get("/proof/check").status_code == 200
