"""Who answered: yes, a part of it, no, and what became of it since; by themselves, or with the clinic."""

from dataclasses import replace
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from consent import recorded
from consent import services as consents
from consent.models import Consent
from consent.state import LONGEST_ONCE
from gateway.demo.states.catalogue import Person, state
from gateway.demo.states.stage import Held, Stage, as_of, hold
from ledger.models import LedgerTransaction


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
