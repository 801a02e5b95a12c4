"""What happened with my records, in a real browser, on a real ledger: proofs, news, a copy signed for.

The journeys through these pages: tests/browser/test_ways.py.
"""

from pathlib import Path
from typing import Any

import orjson
import pytest
from django.conf import settings as now
from django.core.cache import cache
from django.db import transaction
from django.urls import reverse

from consent import news
from consent.models import News
from gateway.accounts.passkeys import passkeys_of
from gateway.analysis.models import Job, JobSubject, Leg
from gateway.keyholder.client import Keyholder
from ledger import outbox
from ledger.audit import sealing
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditBatch, AuditRow
from ledger.client import connect
from tests.browser.test_signing import Signer, add_passkey, house, sign_in
from tests.browser.visit import EACH_WIDTH, IN_A_BROWSER, Visit, signed_in
from tests.portal.test_own_copy import RECORDS, seal
from tests.questions import ask, in_force

__all__ = ["house"]

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

USED, DENIED, FRESH = "aa" * 32, "bb" * 32, "dd" * 32


def log(kind: str, patient: Any, use: str, **more: Any) -> None:
    with transaction.atomic():
        record(kind=kind, actor=Actor.system("worker"), subject=patient.pseudonym, subject_id=use, **more)


def relay() -> None:
    ledger = connect(now.LEDGER_URL, identity="gateway")
    sealing.seal_all()
    checkpoints = {"Checkpointed": sealing.record_checkpointed}
    outbox.send_pending(ledger, through_keyholder=lambda row: {"state": "refused", "code": "", "tx_id": ""})
    outbox.follow(ledger, listener="browser", handlers=checkpoints, wait=0.2)
    ledger.close()


@pytest.fixture
def played(no_keyholder: None, own_installation: Any, alice: Any, helix: Any, pce: Any) -> Any:
    """A use with its result and a blocked try are sealed; another use is not yet."""
    cache.clear()
    question = ask(helix, alice, model=pce.digest)
    consent = in_force(question)
    asked = {"requester": str(helix.pk), "request": question.id, "model": pce.digest}
    for kind in ("job.released", "job.delivered"):
        log(kind, alice, USED, consent=consent.id, **asked)
    log("job.denied", alice, DENIED, **asked)
    relay()
    log("job.released", alice, FRESH, consent=consent.id, **asked)
    job = Job.objects.create(requester=helix, model=pce.digest, purpose="HRESCH", index_date="2026-01-01")
    subjects = ((USED, "delivered", consent.id), (DENIED, "not_available", ""), (FRESH, "queued", consent.id))
    leg = Leg.objects.create(job=job)
    JobSubject.objects.bulk_create(
        JobSubject(
            id=id, job=job, leg=leg, number=number, asked="x", patient=alice, state=state, consent=given
        )
        for number, (id, state, given) in enumerate(subjects)
    )
    keyholder = Keyholder(now.KEYHOLDER_SOCKET)
    keyholder.enrol(patient=alice.pk)
    for kind, resources in RECORDS.items():
        seal(keyholder, alice.pk, kind, [orjson.dumps(each) for each in resources])
    return alice


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_a_proof_that_waits_differs_or_cannot_be_checked(
    chromium: Any, live_server: Any, settings: Any, played: Any, tmp_path: Path, width: int
) -> None:
    proof = tmp_path / "proof.json"
    proof.write_bytes(signed_in(played.user).get(f"/access/{USED}/proof.json").content)
    visit = Visit(chromium, live_server.url, width, who=played.user)
    page = visit.page
    visit.open(f"/access/{FRESH}/proof")
    visit.look("proof-waiting")

    root = AuditBatch.objects.get().root
    AuditBatch.objects.update(root="00" * 32)
    visit.open(f"/access/{USED}/proof")
    assert page.get_by_text(settings.HELP_PHONE).first.is_visible()
    visit.look("proof-differs")
    visit.open("/proof/check")
    page.get_by_label("The file of the proof").set_input_files(proof)
    visit.press("Check it")
    visit.look("check-differs")
    AuditBatch.objects.update(root=root)
    assert AuditRow.objects.filter(kind="incident.opened").count() == 1

    settings.KEYHOLDER_SOCKET = str(tmp_path / "nobody.sock")
    visit.open(f"/access/{USED}/proof", 503)
    visit.look("proof-unknown")
    visit.open("/models")
    visit.look("models")
    visit.close()


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_all_kinds_of_news_in_large_text(chromium: Any, live_server: Any, alice: Any, width: int) -> None:
    for kind in News.Kind:
        news.tell(patient=alice, kind=kind, about="" if kind == "emergency" else USED)
    alice.user.large_text = True
    alice.user.save()
    visit = Visit(chromium, live_server.url, width, who=alice.user)
    for name in ("news", "home", "access"):
        visit.open(reverse(name))
        visit.look(f"{name}-large")
    visit.close()


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_a_copy_is_signed_for_with_a_passkey(
    chromium: Any, live_server: Any, house: Any, alice: Any, width: int
) -> None:
    visit = Visit(chromium, live_server.url, width)
    page = visit.page
    signer = Signer(page)
    sign_in(visit, alice.user)
    add_passkey(visit, "My phone")
    (passkey,) = passkeys_of(alice.user)
    keyholder = Keyholder(now.KEYHOLDER_SOCKET)
    keyholder.enrol_passkey(patient=alice.pk, credential=passkey.credential, public_key=passkey.public_key)
    visit.open("/copy")
    visit.press("Get my copy")
    visit.look("copy-sign")
    signer.verifies(False)
    visit.press("Sign and open my copy")
    page.get_by_text("Your passkey did not sign").wait_for()
    visit.look("copy-not-signed")
    signer.verifies(True)
    visit.press("Sign and open my copy")
    page.get_by_text("Your copy is ready").wait_for()
    visit.press("Read my copy")
    page.get_by_text("We have no records of yours").wait_for()
    visit.look("copy-empty")
    visit.close()
