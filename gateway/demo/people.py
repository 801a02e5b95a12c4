"""The cast of the demonstration, and what the story needs around it.

Alice and the other patients, Bob the clinician, Dana the compliance officer, and Helix AI with its
OAuth client. Passwords are made anew for each demonstration and printed once.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management.base import CommandError
from joserfc.jwk import ECKey
from tqdm import tqdm

from consent import requesters
from consent import services as consents
from consent.models import Patient, Requester
from gateway.accounts import clients
from gateway.accounts.addresses import confirm_without_asking
from gateway.accounts.models import User
from gateway.analysis import services as analysis
from gateway.analysis.catalogue import find
from gateway.analysis.models import AIModel
from gateway.demo import patients, states
from gateway.records import ingest
from ledger.audit.log import Actor

SETUP = Actor.system("demo")
REFERENCE_DATE = date(2026, 10, 1)


@dataclass
class Cast:
    """Who plays."""

    helix: Requester
    client_id: str
    client_key: dict[str, Any]  # its private key, as a JWK
    resources: int
    patients: list[Patient]
    sign_ins: list[str] = field(default_factory=list)
    reviewer: User | None = None
    clinician: User | None = None
    officer: User | None = None

    @property
    def alice(self) -> Patient:
        return self.patients[0]


def gather(data: Path, *, count: int) -> Cast:
    """Write the synthetic records, seal them, and give everyone an account."""
    records = patients.write(data, count=count, reference_date=REFERENCE_DATE, names=["Alice"])
    taken = ingest.ingest([data])
    cast = staff_and_helix()
    cast.resources = taken.resources
    assert cast.clinician is not None
    for record_id in records:
        patient = Patient.objects.get(record_id=record_id)
        code = consents.invite_again(patient=patient, by=SETUP)
        name = "alice" if not cast.patients else f"patient{len(cast.patients) + 1}"
        user = _user(cast, name, f"{patient.name}, a patient" if len(cast.patients) < 3 else "")
        consents.accept_invitation(code=code, user=user)
        patient.refresh_from_db()
        consents.proof_identity(patient=patient, by=cast.clinician, method="in_person")
        cast.patients.append(patient)
    return cast


def staff_and_helix() -> Cast:
    """The clinic's staff and Helix AI with its client, and no patient yet."""
    helix, client_id, client_key = _helix()
    cast = Cast(helix, client_id, client_key, 0, [])
    cast.clinician = _staff(cast, "bob", "a clinician, at /staff/ and /admin/", "clinician", "requesters")
    cast.officer = _staff(cast, "dana", "the compliance officer, at /staff/", "compliance")
    cast.reviewer = _staff(cast, "rita", "a reviewer of questions, at /staff/", "reviewer")
    _staff(cast, "omar", "an auditor, at /staff/", "auditor")
    _staff(cast, "amal", "an administrator, at /staff/", "administrator")
    return cast


def stage_of(cast: Cast) -> states.Stage:
    """What the people of the catalogue meet: this cast's asker, model and staff."""
    assert cast.reviewer is not None
    assert cast.clinician is not None
    assert cast.officer is not None
    return states.Stage(
        requester=cast.helix,
        model=AIModel.objects.get(provider=cast.helix, state=AIModel.State.APPROVED),
        reviewer=cast.reviewer,
        clinician=cast.clinician,
        officer=cast.officer,
    )


def gather_crowd(cast: Cast, data: Path, *, count: int) -> None:
    """Many patients without an account, who share all that was asked: for whoever measures. A bar on standard
    error says how far it is."""
    stage = stage_of(cast)
    records = patients.write(data, count=count, reference_date=REFERENCE_DATE, seed=patients.SEED + 1)
    ingest.ingest([data])
    given = []
    crowd = list(Patient.objects.filter(record_id__in=records))
    for patient in tqdm(crowd, unit="patient", desc="a crowd"):
        consents.proof_identity(patient=patient, by=stage.clinician, method="in_person")
        given.append(stage.say_yes(stage.ask(patient), is_waited_for=False))
    for consent in given:
        stage.until_sealed(consent)


def gather_states(cast: Cast, data: Path, *, only: Sequence[str] = ()) -> tuple[str, list[states.Person]]:
    """The catalogue of states, or some of it: a password for all, made anew, and who is there."""
    password = secrets.token_urlsafe(9)
    people = states.make(stage_of(cast), data, password=password, reference_date=REFERENCE_DATE, only=only)
    return password, people


def register_model(helix: Requester) -> str:
    """Put the risk model on the ledger for Helix; its digest."""
    return analysis.register_model(model=find("pce"), provider=helix, by=SETUP).digest


def trusted() -> Path:
    """Whom an auditor believes, as held from elsewhere: the ledger's public key, or organisations' roots."""
    ledger = urlsplit(settings.LEDGER_URL)
    return (
        Path(ledger.path) / "ledger.pub"
        if ledger.scheme == "embedded"
        else Path(ledger.path).parent / "trust"
    )


@contextmanager
def network(home: Path, kind: str, say: Callable[[str], None]) -> Iterator[None]:
    """The ledger that the story is played on, where it is more than a process of this installation.

    Raises CommandError where there is no Fabric, or its network does not come up.
    """
    if kind == "embedded":
        yield
        return
    from deploy.fabric.binaries import BinariesMissing
    from deploy.fabric.commands import NetworkError
    from deploy.fabric.network import running

    say("Bringing up a Fabric network of two organisations")
    try:
        with running(home / "fabric", lambda step: say(f"  {step}")):
            yield
            say("Taking the Fabric network down")
    except (BinariesMissing, NetworkError) as error:
        raise CommandError(str(error)) from None


def _helix() -> tuple[Requester, str, dict[str, Any]]:
    helix = requesters.register(
        name="Helix AI", contact="research@helix.example", purposes=["HRESCH"], by=SETUP
    )
    key = ECKey.generate_key("P-384", {"kid": "demo"})
    public = {"keys": [dict(key.as_dict(private=False))]}
    client = clients.register(requester=helix, by=SETUP, jwks=public)
    # With what clients of the standards look for in a private key (RFC 7517, 4.3 and 4.4).
    private = {**key.as_dict(private=True), "alg": "ES384", "key_ops": ["sign"]}
    return helix, client.application.client_id, private


def _staff(cast: Cast, name: str, what: str, *roles: str) -> User:
    user = _user(cast, name, what)
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    user.groups.set(Group.objects.filter(name__in=roles))
    return user


def _user(cast: Cast, name: str, what: str) -> User:
    """An account; `what` says who it is to whoever may sign in with it, or nothing to keep it unlisted."""
    email, password = f"{name}@example.org", secrets.token_urlsafe(9)
    # Everyone has a password, for a yes is asked for by it; whose is not listed never signs in.
    user: User = User.objects.create_user(name, email, password)
    confirm_without_asking(user)
    if what:
        cast.sign_ins.append(f"{email:22} {password:14} {what}")
    return user
