"""/models: which programs used this patient's records, how often, and what became of the results."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from consent.models import ConsentRequest, Patient, Requester
from gateway.analysis.models import AIModel, Job, JobSubject, Leg

pytestmark = pytest.mark.django_db


def use(
    model: str,
    requester: Requester,
    patient: Patient,
    state: str,
    consent: str = "cc" * 32,
    kind: str = Job.Kind.ANALYSE,
) -> None:
    job = Job.objects.create(
        requester=requester, model=model, kind=kind, purpose="HRESCH", index_date="2026-01-01"
    )
    leg = Leg.objects.create(job=job)
    JobSubject.objects.create(
        job=job, leg=leg, number=0, asked="x", patient=patient, state=state, consent=consent
    )


def test_each_version_and_what_became_of_its_results(
    browser: Client, alice: Any, charlie: Any, pce: AIModel, helix: Any, question: ConsentRequest
) -> None:
    for state in ("delivered", "delivered", "not_available", "queued"):
        use(pce.digest, helix, alice, state)
    use(pce.digest, helix, alice, "not_available", consent="")
    use(pce.digest, helix, charlie, "delivered")
    use("00" * 32, helix, alice, "delivered")
    page = browser.get("/models").content.decode()
    card = page[page.index("Computer program of Helix AI") :]
    assert f"{pce.name}, version {pce.version}" in card
    assert "4 times" in card
    assert "2 sent" in card
    assert "1 not released" in card
    assert "Blocked tries" in card
    assert f"/access?who={helix.pk}" in card
    assert "A program that is not here any more" in page


def test_a_summary_is_a_use_and_a_copy_is_none(browser: Client, alice: Any, pce: AIModel, helix: Any) -> None:
    use(pce.digest, helix, alice, "delivered", kind=Job.Kind.SUMMARY)
    use("", helix, alice, "delivered", kind=Job.Kind.EXPORT)
    page = browser.get("/models").content.decode()
    assert f"{pce.name}, version {pce.version}" in page
    assert "1 time<" in page
    assert "1 sent" in page
    assert "A program that is not here any more" not in page
    assert "Result sent" in browser.get(f"/models/{pce.digest}").content.decode()


def test_nobody_yet(browser: Client) -> None:
    assert "No computer program asked" in browser.get("/models").content.decode()


def test_many_uses_take_as_many_queries_as_few(browser: Client, alice: Any, pce: AIModel, helix: Any) -> None:
    browser.get("/models")  # the session notes when it was begun
    counts = []
    for more in (1, 200):
        for _ in range(more):
            use(pce.digest, helix, alice, "delivered")
        with CaptureQueriesContext(connection) as queries:
            browser.get("/models")
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 15
