"""Every state that a page can show, each as a person who is in it.

One catalogue for whoever needs people in all states: the demonstration serves them, the browser's tests
walk through them, pictures are taken of them. Each state is reached by the product's own services, as
somebody who lives through it would reach it; the ledger is asked through `Ledger`, whoever carries the
outbox. `STATES` has the catalogue, in the order of the rooms: who was asked, who answered, whose records
were used, who acts for whom. `make` brings it to life.
"""

import secrets
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from django.contrib.auth.models import AbstractBaseUser

from consent import services as consents
from consent.models import Patient
from gateway.accounts.addresses import confirm_without_asking
from gateway.accounts.models import User
from gateway.demo import patients

# Each room enters its states into the catalogue as it is imported.
# isort: off
from gateway.demo.states import asked, answered, used, acting  # noqa: F401

# isort: on
from gateway.demo.states.catalogue import STATES, Person
from gateway.demo.states.stage import Stage
from gateway.records import ingest
from ledger.audit.log import Actor

__all__ = ["STATES", "Person", "Stage", "make", "sign_up"]

SEED = 41
BY = Actor.system("demo")


def make(
    stage: Stage,
    folder: Path,
    *,
    password: str | None,
    reference_date: date,
    spoil: bool = False,
    only: Sequence[str] = (),
) -> list[Person]:
    """Bring the catalogue to life, in its order: records sealed, accounts made, states reached.

    Synthetic records are written to `folder`. Everyone signs in with `password`; None: nobody does. `spoil`:
    also the states that reconciliation finds. `only` names some of the states, where not all are wanted.
    """
    wanted = only or [key for key, each in STATES.items() if spoil or not each.spoils]
    entries = {key: each for key, each in STATES.items() if key in wanted}
    names = [each.name for each in entries.values()]
    records = patients.write(folder, count=len(names), reference_date=reference_date, names=names, seed=SEED)
    ingest.ingest([folder])
    for (key, entry), record in zip(entries.items(), records, strict=True):
        patient = Patient.objects.get(record_id=record)
        person = Person(key, entry.what, patient)
        if entry.has_account:
            sign_up(patient, entry.name, password, by=stage.clinician)
        stage.made[key] = entry.act(stage, person)
    return list(stage.made.values())


def sign_up(patient: Patient, name: str, password: str | None, *, by: AbstractBaseUser) -> None:
    """Invited, signed up, and seen by a member of staff."""
    code = consents.invite_again(patient=patient, by=BY)
    user = User.objects.create_user(
        name.lower(), f"{name.lower()}@example.org", password or secrets.token_urlsafe()
    )
    confirm_without_asking(user)
    consents.accept_invitation(code=code, user=user)
    patient.refresh_from_db()
    consents.proof_identity(patient=patient, by=by, method="in_person")
