"""What the people of the catalogue meet: an asker with its model, the clinic's staff, the ledger."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from consent import notices, representatives, review, scans
from consent import services as consents
from consent.answers import IN_PORTAL, How
from consent.models import Consent, ConsentRequest, Patient, Representative, Requester
from gateway.accounts.models import User
from gateway.analysis import exports, runner
from gateway.analysis import services as analysis
from gateway.analysis.jobs import claim
from gateway.analysis.models import AIModel, Job
from gateway.analysis.replayed import require_replayed
from gateway.demo.states.catalogue import Person
from gateway.keyholder.client import Keyholder
from ledger.client import HOME
from ledger.errors import LedgerError
from ledger.models import LedgerTransaction

KINDS = ["Patient", "Observation", "Condition", "MedicationRequest"]
PATIENCE = 180.0  # seconds
Held = Consent.LedgerState


def _a_moment() -> None:
    time.sleep(0.02)


class Stage:
    """What the people of the catalogue meet: one asker with an approved model, and the clinic's staff.

    `nudge` is called while we wait for the ledger: it carries the outbox and hears the events, or lets time
    pass where a relay does.
    """

    def __init__(
        self,
        *,
        requester: Requester,
        model: AIModel,
        reviewer: AbstractBaseUser,
        clinician: User,
        officer: User,
        nudge: Callable[[], None] = _a_moment,
    ) -> None:
        self.requester, self.model = requester, model
        self.reviewer, self.clinician, self.officer = reviewer, clinician, officer
        self.keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
        self._nudge = nudge
        self.made: dict[str, Person] = {}

    def ask(self, patient: Patient, **changes: Any) -> ConsentRequest:
        """A question that passed its review."""
        question = self.ask_unread(patient, **changes)
        review.approve(request=question, by=self.reviewer)
        return question

    def ask_unread(self, patient: Patient, **changes: Any) -> ConsentRequest:
        today = timezone.localdate()
        fields: dict[str, Any] = {
            "purpose": "HRESCH",
            "use": ["HMB"],
            "kinds": KINDS,
            "sensitive": ["PSY"],
            "what_for": "Use a computer program to work out your risk of heart disease.",
            "who_sees": "Your heart clinic. A person checks every result before it is used.",
            "what_can_go_wrong": "The program is wrong for about 8 out of every 100 people.",
            "share_until": today + timedelta(days=200),
            "answer_by": today + timedelta(days=30),
        }
        return consents.ask(
            requester=self.requester,
            patient=patient,
            notice=notices.current(),
            **{"model": self.model.digest, **fields, **changes},
        )

    def say_yes(
        self,
        question: ConsentRequest,
        *,
        kinds: Sequence[str] = KINDS,
        sensitive: Sequence[str] = ("PSY",),
        duration: str = Consent.Duration.UNTIL,
        is_sealed: bool = True,
        is_waited_for: bool = True,
        how: How = IN_PORTAL,
    ) -> Consent:
        """A yes; where it is not to be sealed, it waits as it would while nobody reaches the ledger."""
        with transaction.atomic():
            consent = consents.grant(
                request=question,
                patient=question.patient,
                kinds=kinds,
                sensitive=sensitive,
                duration=duration,
                how=how,
            )
            if not is_sealed:
                hold(consent)
        return self.until_sealed(consent) if is_sealed and is_waited_for else consent

    def say_stop(self, consent: Consent) -> Consent:
        consents.revoke(consent=consent, patient=consent.patient, stop_now=self.stop_now)
        return self.until_sealed(consent)

    def stop_now(self, consent: str) -> None:
        self.keyholder.stop(consent=consent)

    def until_sealed(self, consent: Consent) -> Consent:
        """What the ledger made of `consent`. Raises TimeoutError."""

        def is_sealed() -> bool:
            consent.refresh_from_db()
            return consent.ledger_state not in (Held.GRANTING, Held.REVOKING)

        self.until(is_sealed)
        return consent

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError("The ledger did not answer.")
            self._nudge()

    def represent(self, patient: Patient, *, by: User) -> Representative:
        """`by` has power of attorney for `patient`, for everything that is asked here."""
        made, code = representatives.register(
            patient=patient,
            name=by.patient.name,
            role=Representative.Role.ATTORNEY,
            scope=Representative.Scope.ANSWER,
            evidence=scans.keep(patient=patient, content=b"%PDF-1.7 power of attorney"),
            by=self.clinician,
            kinds=KINDS,
            sensitive=["PSY"],
        )
        representatives.accept(code=code, user=by)
        made.refresh_from_db()
        return made

    def run_job(self, question: ConsentRequest, keyholder: Keyholder | None = None) -> Job:
        """A job on the records that `question` is about, from its start to its end, in this process."""
        self.until(lambda: _is_replayed(question.patient.channel))
        return self._run(
            lambda: analysis.submit(
                requester=self.requester,
                model=self.model.digest,
                purpose=question.purpose,
                use=question.use,
                subjects=[question.pk],
            ),
            keyholder,
        )

    def export(self) -> Job:
        """A copy of the records of all who were asked for one, to its end."""
        self.until(lambda: _is_replayed(HOME))
        return self._run(
            lambda: exports.submit(requester=self.requester, group=None, address="/fhir/$export")
        )

    def _run(self, submit: Callable[[], Job], keyholder: Keyholder | None = None) -> Job:
        with transaction.atomic():  # no worker hears of it before it is ours
            job = submit()
            mine = claim(job.pk)
        assert mine is not None
        runner.run_claimed(mine, keyholder=keyholder or self.keyholder)
        job.refresh_from_db()
        return job

    def read_result(self, job: Job) -> None:
        for subject in job.subjects.all():
            analysis.result(job=job, subject=subject.pk, requester=self.requester, keyholder=self.keyholder)


def _is_replayed(channel: str) -> bool:
    """Whether the relay has heard all that the ledger had: no job is released before."""
    try:
        require_replayed(channel)
    except LedgerError:
        return False
    return True


def hold(consent: Consent) -> None:
    """Its way to the ledger is long, as when nobody reaches it. In the transaction that asked for it."""
    rows = LedgerTransaction.objects.filter(reference=f"consent/{consent.pk}")
    rows.update(not_before=timezone.now() + timedelta(days=365), error_code="ledger_unreachable")


@contextmanager
def as_of(moment: datetime) -> Iterator[None]:
    """The web's clock stands at `moment` meanwhile. The ledger and the keyholder go by their own.

    One transaction: a relay that saw a question half way would close it, since its days are over by now.
    """
    with mock.patch.object(timezone, "now", return_value=moment), transaction.atomic():
        yield
