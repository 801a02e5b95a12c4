"""Who was asked, and has not answered: nothing yet, half way through, too late, or not hers to see."""

from dataclasses import replace
from datetime import timedelta

from django.utils import timezone

from consent import asking, progress, review
from consent import services as consents
from consent.models import Consent
from consent.teach_back import ITEMS
from gateway.demo.states.catalogue import Person, state
from gateway.demo.states.stage import Stage, as_of


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


@state("Iris", "a question to her is in review; she has not seen it")
def in_review(stage: Stage, person: Person) -> Person:
    return replace(person, question=stage.ask_unread(person.patient))


@state("Bo", "a question to him went back to the asker")
def sent_back(stage: Stage, person: Person) -> Person:
    question = stage.ask_unread(person.patient)
    review.send_back(request=question, by=stage.reviewer, reasons=["hard_to_read", "risk_unclear"])
    return replace(person, question=question)


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
