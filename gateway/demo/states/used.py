"""Whose records were used, or were tried to be: by a program, in an emergency, by themselves."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import F

from consent import services as consents
from consent.models import Consent
from gateway.demo.states.catalogue import Person, state
from gateway.demo.states.stage import Stage
from gateway.emergency import services as emergencies
from gateway.emergency.models import Emergency
from gateway.keyholder.client import Keyholder
from gateway.records import own_copies
from ledger.audit.models import AuditRow


class _StopsMidway(Keyholder):
    """A keyholder whose caller's patient says stop when her records are about to be opened."""

    say_stop: Callable[[], object]

    def open_chunks(self, **arguments: Any) -> Any:
        self.say_stop()
        return super().open_chunks(**arguments)


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


@state("Gus", "a copy of his records left, and he stopped afterwards")
def copied(stage: Stage, person: Person) -> Person:
    question = stage.ask(person.patient, model="", action="disclose", sensitive=[])
    consent = stage.say_yes(question, sensitive=())
    job = stage.export()
    return replace(person, question=question, consent=stage.say_stop(consent), job=job)


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


@state("Pru", "somebody changed our log after it was sealed: her proof does not match", spoils=True)
def proof_differs(stage: Stage, person: Person) -> Person:
    person = used(stage, person)
    # What pages show of the use, moved to another day. What was sealed stands, and says otherwise.
    AuditRow.objects.filter(subject=person.patient.pseudonym, kind="job.released").update(
        recorded_at=F("recorded_at") - timedelta(days=1)
    )
    return person
