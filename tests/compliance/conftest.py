"""alice's year: a result, a copy, a blocked try, an emergency and her own copy, as the log has them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from consent.models import Consent, Patient, Requester, random_id
from gateway.analysis.models import AIModel, Job, JobSubject, Leg
from gateway.emergency.models import Emergency
from ledger import outbox
from ledger.audit.log import Actor, record
from tests.questions import ask, in_force
from tests.staff.conftest import member

__all__ = ["member"]

WORKER = Actor.system("worker")


@dataclass
class Year:
    """What happened to alice; `uses` are their keys in the log, by what they were."""

    patient: Patient
    requester: Requester
    model: AIModel
    consent: Consent
    emergency: Emergency
    uses: dict[str, str]


@pytest.fixture
def use(helix: Requester, pce: AIModel) -> Callable[..., str]:
    """One use by a job: its steps as the runner logs them; the key that they share."""

    def make(consent: Consent, *steps: str, kind: str = "analyse", purpose: str = "HRESCH") -> str:
        asked = consent.request
        with transaction.atomic():
            job = Job.objects.create(
                requester=asked.requester,
                kind=kind,
                model=asked.model if kind == "analyse" else "",
                purpose=purpose,
                index_date=timezone.localdate(),
                state=Job.State.DONE,
                settled_at=timezone.now(),
            )
            subject = JobSubject.objects.create(
                job=job,
                leg=Leg.objects.create(job=job),
                number=0,
                asked=asked.pk,
                request=asked,
                patient=asked.patient,
                consent=consent.pk,
                state="delivered",
            )
            for step in steps:
                reads = step.startswith("result.")
                by = Actor.client(asked.requester_id) if step == "result.read" else Actor.staff(7)
                record(
                    kind=step,
                    actor=by if reads else WORKER,
                    subject=asked.patient.pseudonym,
                    subject_id=subject.pk,
                    request=asked.pk,
                    consent=consent.pk,
                    requester=str(asked.requester_id),
                    model=job.model or None,
                    job=job.pk,
                    attempt=1,
                    purpose=purpose,
                    reasons=["consent.revoked"] if step == "job.denied" else None,
                    output="ef" * 32 if reads else None,
                )
        return subject.pk

    return make


@pytest.fixture
def year(alice: Any, helix: Requester, pce: AIModel, bob: Any, use: Callable[..., str]) -> Year:
    consent = in_force(ask(helix, alice, model=pce.digest), sensitive=["PSY"])
    copy = in_force(ask(helix, alice, action="disclose", model="", use=["GRU"]))
    now = timezone.now()
    emergency = Emergency.objects.create(
        patient=alice,
        opened_by=bob,
        reason="ETREAT",
        explanation="Brought in unconscious after a fall.",
        state="recorded",
        opened_at=now,
        expires_at=now + timedelta(hours=1),
        review_by=now + timedelta(hours=72),
    )
    own = random_id()
    uses = {
        "result": use(consent, "job.released", "job.delivered", "result.read", "result.accepted"),
        "copy": use(copy, "job.released", "job.delivered", kind="export"),
        "opened": use(consent, "job.released"),
        "blocked": use(consent, "job.denied"),
        "emergency": emergency.pk,
        "own": own,
    }
    with transaction.atomic():
        for kind in ("access.emergency", "emergency.read", "emergency.ended"):
            record(kind=kind, actor=Actor.staff(bob.pk), subject=alice.pseudonym, access=emergency.pk,
                   purpose="ETREAT")  # fmt: skip
        for code in ("asked", "committed", "opened"):
            record(kind="access.subject", actor=Actor.patient(alice.pseudonym), subject=alice.pseudonym,
                   access=own, code=code)  # fmt: skip
    return Year(alice, helix, pce, consent, emergency, uses)


@pytest.fixture
def relay(own_installation: Any) -> Any:
    """One round of the relay, on demand: it carries the outbox and hears the events."""
    from gateway.relay import HANDLERS, LISTENER, Relay
    from ledger.channels import Channels
    from ledger.client import HOME

    relay = Relay({HOME: own_installation.ledger_url}, own_installation.keyholder_socket)
    channels = Channels.open(relay.ledger_urls, identity="gateway")

    def run() -> None:
        outbox.send_pending(channels[HOME].ledger, through_keyholder=_nothing)
        outbox.follow(channels[HOME].ledger, listener=LISTENER, handlers=HANDLERS, wait=0.05)

    yield run
    channels.close()


def _nothing(row: Any) -> dict[str, object]:
    """The year's consents are known from events that the tests made up; their grants are not sent."""
    return {"state": "refused", "code": "not_sent"}
