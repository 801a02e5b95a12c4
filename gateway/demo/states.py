"""Every state that a page can show, each as a person who is in it.

One catalogue for whoever needs people in all states: the demonstration serves them, the browser's tests
walk through them, pictures are taken of them. Each state is reached by the product's own services, as
somebody who lives through it would reach it; the ledger is asked through `Ledger`, whoever carries the
outbox. `STATES` has the catalogue, `make` brings it to life.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from consent import asking, notices, progress, recorded, representatives, review, scans
from consent import services as consents
from consent.answers import IN_PORTAL, How
from consent.models import Consent, ConsentRequest, Patient, Representative, Requester
from consent.state import LONGEST_ONCE
from consent.teach_back import ITEMS
from gateway.accounts.models import User
from gateway.analysis import runner
from gateway.analysis import services as analysis
from gateway.analysis.jobs import claim
from gateway.analysis.models import AIModel, Job
from gateway.analysis.replayed import require_replayed
from gateway.demo import patients
from gateway.emergency import services as emergencies
from gateway.emergency.models import Emergency
from gateway.keyholder.client import Keyholder
from gateway.records import ingest, own_copies
from gateway.records.models import OwnCopy
from ledger.audit.log import Actor
from ledger.errors import LedgerError
from ledger.models import LedgerTransaction

SEED = 41
KINDS = ["Patient", "Observation", "Condition", "MedicationRequest"]
BY = Actor.system("demo")
PATIENCE = 180.0  # seconds
Held = Consent.LedgerState


@dataclass(frozen=True)
class Person:
    """Somebody in one state. `question` and `consent` are what her pages are about, where there is one."""

    state: str
    what: str
    patient: Patient
    question: ConsentRequest | None = None
    consent: Consent | None = None
    job: Job | None = None
    emergency: Emergency | None = None
    copy: OwnCopy | None = None
    code: str = ""  # an invitation that was not used

    @property
    def user(self) -> User:
        found = self.patient.user
        assert isinstance(found, User)
        return found


Act = Callable[["Stage", Person], Person]


@dataclass(frozen=True)
class State:
    """One entry of the catalogue: who is in it, what there is to see, and how she gets there."""

    name: str
    what: str
    act: Act


STATES: dict[str, State] = {}


def state(name: str, what: str) -> Callable[[Act], Act]:
    """Enter `act` into the catalogue; it is called like its function, and its person `name`."""

    def enter(act: Act) -> Act:
        STATES[act.__name__] = State(name, what, act)
        return act

    return enter


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
            model=self.model.digest,
            **{**fields, **changes},
        )

    def say_yes(
        self,
        question: ConsentRequest,
        *,
        kinds: Sequence[str] = KINDS,
        sensitive: Sequence[str] = ("PSY",),
        duration: str = Consent.Duration.UNTIL,
        is_sealed: bool = True,
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
        return self.until_sealed(consent) if is_sealed else consent

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
        with transaction.atomic():  # no worker hears of it before it is ours
            job = analysis.submit(
                requester=self.requester,
                model=self.model.digest,
                purpose=question.purpose,
                use=question.use,
                subjects=[question.pk],
            )
            mine = claim(job.pk)
        assert mine is not None
        runner.run_claimed(mine, keyholder=keyholder or self.keyholder)
        job.refresh_from_db()
        return job

    def read_result(self, job: Job) -> None:
        for subject in job.subjects.all():
            analysis.result(job=job, subject=subject.pk, requester=self.requester, keyholder=self.keyholder)


def make(stage: Stage, folder: Path, *, password: str | None, reference_date: date) -> list[Person]:
    """Bring the whole catalogue to life, in its order: records sealed, accounts made, states reached.

    Synthetic records are written to `folder`. Everyone signs in with `password`; None: nobody does.
    """
    names = [each.name for each in STATES.values()]
    records = patients.write(folder, count=len(names), reference_date=reference_date, names=names, seed=SEED)
    ingest.ingest([folder])
    for (key, entry), record in zip(STATES.items(), records, strict=True):
        patient = Patient.objects.get(record_id=record)
        person = Person(key, entry.what, patient)
        if entry.act not in WITHOUT_ACCOUNT:
            sign_up(patient, entry.name, password, by=stage.clinician)
        stage.made[key] = entry.act(stage, person)
    return list(stage.made.values())


def sign_up(patient: Patient, name: str, password: str | None, *, by: AbstractBaseUser) -> None:
    """Invited, signed up, and seen by a member of staff."""
    code = consents.invite_again(patient=patient, by=BY)
    user = User.objects.create_user(name.lower(), f"{name.lower()}@example.org", password)
    consents.accept_invitation(code=code, user=user)
    patient.refresh_from_db()
    consents.proof_identity(patient=patient, by=by, method="in_person")


def tick(person: Person) -> None:
    """What was ticked of a question, before it is agreed to."""
    assert person.question is not None
    progress.choose(
        request=person.question,
        user_id=person.user.pk,
        kinds=["Observation", "Condition"],
        sensitive=[],
        duration=Consent.Duration.NINETY_DAYS,
    )


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
    """The web's clock stands at `moment` meanwhile. The ledger and the keyholder go by their own."""
    with mock.patch.object(timezone, "now", return_value=moment):
        yield


class _StopsMidway(Keyholder):
    """A keyholder whose caller's patient says stop when her records are about to be opened."""

    say_stop: Callable[[], object]

    def open_chunks(self, **arguments: Any) -> Any:
        self.say_stop()
        return super().open_chunks(**arguments)


# The catalogue


@state("Nora", "nobody has asked her anything")
def nothing_asked(stage: Stage, person: Person) -> Person:
    return person


@state("Paul", "a question waits for him")
def waiting(stage: Stage, person: Person) -> Person:
    return replace(person, question=stage.ask(person.patient))


@state("Cleo", "she ticked what to share, and is asked three questions next")
def ticked(stage: Stage, person: Person) -> Person:
    person = waiting(stage, person)
    tick(person)
    return person


@state("Mo", "he misread a question twice: a call is offered")
def misread(stage: Stage, person: Person) -> Person:
    person = ticked(stage, person)
    assert person.question is not None
    name, item = next(iter(ITEMS.items()))
    wrong = next(said for said in item.answers if said != item.right)
    for _ in range(2):
        progress.answer(request=person.question, user_id=person.user.pk, item=name, said=wrong)
    return person


@state("Lea", "she understood all three: her answers wait to be checked")
def understood(stage: Stage, person: Person) -> Person:
    person = ticked(stage, person)
    assert person.question is not None
    for name, item in ITEMS.items():
        progress.answer(request=person.question, user_id=person.user.pk, item=name, said=item.right)
    return person


@state("Kim", "a question whose answer is due today; silence is No")
def due_today(stage: Stage, person: Person) -> Person:
    return replace(person, question=stage.ask(person.patient, answer_by=timezone.localdate()))


@state("Sara", "she shares all that was asked for")
def sharing(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    return replace(person, question=question, consent=stage.say_yes(question))


@state("Petra", "she shares a part of what was asked for, for 90 days")
def partly(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    consent = stage.say_yes(
        question, kinds=["Observation"], sensitive=(), duration=Consent.Duration.NINETY_DAYS
    )
    return replace(person, question=question, consent=consent)


@state("Ruth", "she said no")
def refused(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    return replace(
        person, question=question, consent=consents.refuse(request=question, patient=person.patient)
    )


@state("Eva", "what she gave has ended")
def expired(stage: Stage, person: Person) -> Person:
    # Given so long ago that it ends in a moment: the ledger takes nothing that is over already.
    for seconds in (5, 30, 120):
        with as_of(timezone.now() - LONGEST_ONCE + timedelta(seconds=seconds)):
            question = stage.ask(person.patient)
            consent = stage.say_yes(question, duration=Consent.Duration.NINETY_DAYS, is_sealed=False)
        LedgerTransaction.objects.filter(reference=f"consent/{consent.pk}").update(not_before=None)
        if stage.until_sealed(consent).ledger_state == Held.IN_FORCE:
            break
    stage.until(lambda: consent.expires_at is not None and consent.expires_at <= timezone.now())
    return replace(person, question=question, consent=consent)


@state("Stan", "he said yes, then stop")
def stopped(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    return replace(person, question=question, consent=stage.say_stop(stage.say_yes(question)))


@state("Rosa", "she changed what she gave: the old choice is replaced")
def replaced(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    older = stage.say_yes(question)
    newer = consents.replace(
        consent=older,
        patient=person.patient,
        kinds=["Observation"],
        duration=Consent.Duration.NINETY_DAYS,
    )
    stage.until_sealed(newer)
    older.refresh_from_db()
    return replace(person, question=question, consent=older)


@state("Tom", "the asker took the question back while it was open")
def taken_back(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    consents.withdraw_request(request=question, requester=stage.requester)
    return replace(person, question=question)


@state("Sid", "the time to answer is over; silence is No")
def not_answered(stage: Stage, person: Person) -> Person:
    earlier = timezone.now() - timedelta(days=40)
    with as_of(earlier):
        question = stage.ask(person.patient)
    asking.expire_requests()
    question.refresh_from_db()
    return replace(person, question=question)


@state("Will", "his yes waits to be sealed: the ledger cannot be reached")
def waiting_to_be_sealed(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    return replace(person, question=question, consent=stage.say_yes(question, is_sealed=False))


@state("Stella", "her stop waits to be sealed; nothing is opened any more")
def stop_waits(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    consent = stage.say_yes(question)
    with transaction.atomic():
        consents.revoke(consent=consent, patient=person.patient, stop_now=stage.stop_now)
        hold(consent)
    consent.refresh_from_db()
    return replace(person, question=question, consent=consent)


@state("Uma", "a program used her records, and its result was read")
def used(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    consent = stage.say_yes(question)
    job = stage.run_job(question)
    stage.read_result(job)
    return replace(person, question=question, consent=consent, job=job)


@state("Otto", "he gave it for one time only, and that is used up")
def used_up(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    consent = stage.say_yes(question, duration=Consent.Duration.ONCE)
    job = stage.run_job(question)
    stage.read_result(job)
    return replace(person, question=question, consent=stage.until_sealed(consent), job=job)


@state("Mia", "she said stop while a program ran: its result was not released")
def stopped_midway(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    consent = stage.say_yes(question)
    keyholder = _StopsMidway(settings.KEYHOLDER_SOCKET)
    keyholder.say_stop = lambda: consents.revoke(
        consent=consent, patient=person.patient, stop_now=stage.stop_now
    )
    job = stage.run_job(question, keyholder)
    return replace(person, question=question, consent=stage.until_sealed(consent), job=job)


@state("Bea", "a program tried to use her records after her stop, and was blocked")
def blocked(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    consent = stage.say_stop(stage.say_yes(question))
    return replace(person, question=question, consent=consent, job=stage.run_job(question))


@state("Pia", "the clinic wrote her yes down by phone; she can undo it")
def written_down(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient)
    consent = recorded.record_answer(
        request=question,
        by=stage.clinician,
        given_by=Consent.GivenBy.PHONE,
        authority=Consent.Authority.PATIENT,
        kinds=["Observation"],
        duration=Consent.Duration.UNTIL,
        read_back=True,
    )
    return replace(person, question=question, consent=stage.until_sealed(consent))


@state("Mark", "what the clinic wrote down was a mistake; the question is open again")
def written_down_by_mistake(stage: Stage, person: Person) -> Person:
    person = written_down(stage, person)
    assert person.consent is not None
    recorded.undo(consent=person.consent, stop_now=stage.stop_now)
    return replace(person, consent=stage.until_sealed(person.consent))


@state("Emma", "somebody opened her records in an emergency, an hour long")
def emergency(stage: Stage, person: Person) -> Person:
    opened = emergencies.open_emergency(
        patient=person.patient,
        by=stage.clinician,
        reason="ETREAT",
        explanation="Found unconscious at the bus stop, nobody with her.",
        keyholder=stage.keyholder,
    )
    return replace(person, emergency=opened)


@state("Erik", "an emergency that is over, and was found right by a second person")
def emergency_reviewed(stage: Stage, person: Person) -> Person:
    person = emergency(stage, person)
    opened = person.emergency
    assert opened is not None
    emergencies.read(
        emergency=opened, kind="AllergyIntolerance", by=stage.clinician, keyholder=stage.keyholder
    )
    emergencies.end(emergency=opened, by=stage.clinician, keyholder=stage.keyholder)
    emergencies.review(
        emergency=opened,
        by=stage.officer,
        outcome=Emergency.Outcome.JUSTIFIED,
        reason="Allergies were read before a drug was given.",
    )
    opened.refresh_from_db()
    return replace(person, emergency=opened)


@state("Cora", "she has a copy of her own records, open for an hour")
def own_copy(stage: Stage, person: Person) -> Person:
    copy = own_copies.begin(patient=person.patient)
    own_copies.put_on_ledger(copy=copy, keyholder=stage.keyholder)
    copy.refresh_from_db()
    return replace(person, copy=copy)


@state("Ana", "she acts for two other people, by power of attorney")
def representing(stage: Stage, person: Person) -> Person:
    return person


@state("Ada", "Ana acts for her, and said yes for her")
def represented(stage: Stage, person: Person) -> Person:
    ana = stage.represent(person.patient, by=stage.made["representing"].user)
    question = stage.ask(person.patient)
    return replace(person, question=question, consent=stage.say_yes(question, how=How.by(ana)))


@state("Max", "Ana said yes for him, and he stopped it: nothing is shared until the clinic has looked")
def disagreed(stage: Stage, person: Person) -> Person:
    ana = stage.represent(person.patient, by=stage.made["representing"].user)
    question = stage.ask(person.patient)
    consent = stage.say_stop(stage.say_yes(question, how=How.by(ana)))
    return replace(person, question=question, consent=consent)


@state("Iris", "a question to her is in review; she has not seen it")
def in_review(stage: Stage, person: Person) -> Person:
    return replace(person, question=stage.ask_unread(person.patient))


@state("Bo", "a question to him went back to the asker")
def sent_back(stage: Stage, person: Person) -> Person:
    question = stage.ask_unread(person.patient)
    review.send_back(request=question, by=stage.reviewer, reasons=["hard_to_read", "risk_unclear"])
    return replace(person, question=question)


@state("Ines", "the clinic invited her; she has no account yet")
def invited(stage: Stage, person: Person) -> Person:
    return replace(person, code=consents.invite_again(patient=person.patient, by=BY))


WITHOUT_ACCOUNT: frozenset[Act] = frozenset({invited})


def by_state(people: Sequence[Person]) -> Mapping[str, Person]:
    return {person.state: person for person in people}
