"""Who acts for whom, and whom the clinic invited."""

from dataclasses import replace

from consent import services as consents
from consent.answers import How
from gateway.demo.states.catalogue import Person, state
from gateway.demo.states.stage import Stage
from ledger.audit.log import Actor

BY = Actor.system("demo")


@state("Ines", "the clinic invited her; she has no account yet", has_account=False)
def invited(stage: Stage, person: Person) -> Person:
    return replace(person, code=consents.invite_again(patient=person.patient, by=BY))


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
