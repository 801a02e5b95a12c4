"""The catalogue of states (gateway/demo/states/) brought to life once for a file of tests, and served.

Tests that use it look and change nothing, so that what one sees does not hang on another. What ends by itself
is begun anew before it does (`renew`), however long they look.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from consent import cohorts
from consent.models import ConsentRequest, Erasure, Patient, Requester
from gateway.accounts import clients
from gateway.accounts.addresses import confirm_without_asking
from gateway.accounts.models import User
from gateway.accounts.roles import STAFF_ROLES, make_groups
from gateway.analysis import registrations
from gateway.analysis import services as analysis
from gateway.analysis.catalogue import find
from gateway.analysis.models import AIModel
from gateway.compliance import retraining, rights
from gateway.compliance import services as compliance
from gateway.compliance.models import Alarm, Export
from gateway.demo import states
from gateway.demo.states import STATES, Person, Stage
from gateway.emergency import services as emergencies
from gateway.emergency.models import Emergency
from gateway.keyholder.client import Keyholder
from gateway.records import clinical_labels
from gateway.records.models import ImportRun, OwnCopy
from gateway.relay import HANDLERS, LISTENER, Relay
from ledger import outbox
from ledger.audit import sealing
from ledger.audit.log import Actor
from ledger.channels import Channels
from ledger.client import HOME
from tests.conftest import Installation, start_installation
from tests.questions import cohort_question
from tests.signing import key_set, new_key
from tests.staff.conftest import add_factor

# One that nobody goes to: its buttons stand on the pages.
HOSPITAL = {
    "slug": "hospital",
    "name": "Riverside Hospital",
    "issuer": "https://sign-in.riverside.example",
    "client_id": "gateway",
    "client_secret": "a secret",
    "acr": (),
}

SOON = timedelta(minutes=5)  # longer than a test looks at a page


@dataclass
class Gallery:
    """`people` by their state, `staff` by their role; `url` is where the site is served."""

    url: str
    installation: Installation
    stage: Stage
    people: dict[str, Person]
    staff: dict[str, User]

    def who(self, name: str) -> User:
        """Whoever is in this state or has this role."""
        return self.people[name].user if name in self.people else self.staff[name]

    def renew(self, name: str) -> None:
        """Whoever is in this state is brought into it again, where it is about to end.

        Outside of a test's own transaction, with which it would be gone.
        """
        person = self.people.get(name)
        end = ends(person) if person else None
        if person is not None and end is not None and end - timezone.now() < SOON:
            if person.emergency is not None:
                emergencies.end(emergency=person.emergency, by=self.stage.clinician)
            self.people[name] = STATES[name].act(self.stage, person)


def ends(person: Person) -> datetime | None:
    """When somebody's state ends by itself: the hour of an access, the last day of an answer."""
    match person:
        case Person(state="emergency", emergency=Emergency(expires_at=at)):
            return at
        case Person(state="own_copy", copy=OwnCopy(expires_at=at)):
            return at
        case Person(state="due_today", question=ConsentRequest(answer_by=day)):
            return timezone.make_aware(datetime.combine(day + timedelta(days=1), time.min))
    return None


@contextmanager
def open_gallery() -> Iterator[Gallery]:
    installation = start_installation()
    here = override_settings(
        LEDGER_URL=installation.ledger_url,
        KEYHOLDER_SOCKET=installation.keyholder_socket,
        REPLAY_SECONDS=None,
        OIDC_PROVIDERS=[HOSPITAL],
        # A test's own database transaction hides what it writes from the server's threads.
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
    )
    try:
        with here:
            server = LiveServer("localhost")  # its middleware reads the settings as it starts
            try:
                yield _fill(server.url, installation)
            finally:
                _let_requests_end()
                server.stop()
    finally:
        installation.processes.stop_all()
        shutil.rmtree(installation.home, ignore_errors=True)
        call_command("flush", verbosity=0, interactive=False)


def _let_requests_end() -> None:
    """What closed windows had asked for; after the server has stopped, no thread may close the database."""
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(10)


def _fill(url: str, installation: Installation) -> Gallery:
    make_groups()
    staff = {role: _member(role) for role in STAFF_ROLES}
    relay = Relay({HOME: settings.LEDGER_URL}, settings.KEYHOLDER_SOCKET)
    home = Channels.open(relay.ledger_urls, identity="gateway")[HOME]

    def nudge() -> None:
        relay._send(home)
        outbox.follow(home.ledger, listener=LISTENER, handlers=HANDLERS, wait=0.0)

    helix = Requester.objects.create(name="Helix AI", contact="research@helix.example")
    clients.register(requester=helix, by=Actor.system("demo"), jwks=key_set(new_key()))
    digest = analysis.register_model(model=find("pce"), provider=helix, by=Actor.system("demo")).digest
    while AIModel.objects.get(pk=digest).state != AIModel.State.APPROVED:
        nudge()
    stage = Stage(
        requester=helix,
        model=AIModel.objects.get(pk=digest),
        reviewer=staff["reviewer"],
        clinician=staff["clinician"],
        officer=staff["compliance"],
        nudge=nudge,
    )
    people = states.make(
        stage, installation.home / "data", password=None, reference_date=date(2026, 10, 1), spoil=True
    )
    _ask_erasures(people, staff["compliance"])
    _propose_cohorts(stage)
    _register_a_version(stage)
    _take_in()
    _say_labels(stage, next(each.patient for each in people if each.state == "partly"))
    sealing.seal()
    retraining.watch()
    User.objects.filter(is_staff=True).update(date_joined=timezone.now() - timedelta(days=200))
    rights.open_due()
    nudge()
    seen = next(each for each in people if each.state == "emergency")
    Alarm.objects.create(
        kind=Alarm.Kind.NIGHT,
        by=staff["clinician"],
        patient=seen.patient,
        day=timezone.localdate(),
        seen_at=timezone.now(),
        leaf=0,
    )
    _export(stage, next(each.patient for each in people if each.state == "used"), nudge)
    return Gallery(url, installation, stage, {person.state: person for person in people}, staff)


def _export(stage: Stage, patient: Patient, nudge: Callable[[], None]) -> None:
    """One about a patient and one about an AI provider that are ready, and one that is being made."""

    def ask(kind: str, **about: Any) -> Export:
        officer, language = stage.officer, settings.LANGUAGE_CODE
        by = Actor.staff(officer.pk)
        return compliance.ask(
            kind=kind, by=by, asked_by=officer, language=language, background=False, **about
        )

    for made in (ask("accounting", patient=patient), ask("breach", requester=stage.requester)):
        compliance.make(made.pk, wait=nudge)
    waits = ask("log")
    Export.objects.filter(pk=waits.pk).update(state=Export.State.RUNNING, written=1200, rows=4800)


def _ask_erasures(people: list[Person], officer: User) -> None:
    """One in each state."""
    states = Erasure.State
    for state, person in zip(states, people, strict=False):
        patient, is_done = person.patient, state == states.DONE
        Erasure.objects.create(
            key=patient.pk,
            patient=None if is_done else patient,
            asked_by=officer,
            state=state,
            hold=Erasure.Hold.COURT if state == states.REFUSED else "",
            confirmed_by=officer if state in (states.CONFIRMED, states.DUE) else None,
            settled_at=timezone.now() if is_done or state == states.REFUSED else None,
        )


def _propose_cohorts(stage: Stage) -> None:
    """One that waits for criteria, and one that waits for somebody to approve them."""
    keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
    for is_written in (False, True):
        made = cohorts.propose(
            requester=stage.requester,
            question=cohort_question(stage.model.digest),
            wish="People from 40 to 79.",
        )
        if is_written:
            cohorts.write(
                cohort=made,
                criteria=cohorts.Criteria(age_from=40, kinds=["Observation"]),
                by=stage.clinician,
                with_kinds=keyholder.with_kinds,
            )


def _say_labels(stage: Stage, patient: Patient) -> None:
    """A clinician adds a label, and asks that one be lifted; a colleague asks so of another."""
    for by, act, label in (
        (stage.clinician, "add", "HIV"),
        (stage.clinician, "lift", "PSY"),
        (stage.officer, "lift", "ETH"),
    ):
        clinical_labels.ask(
            patient=patient,
            act=act,
            resource=f"Observation/smoking-{patient.record_id}",
            label=label,
            reason="The letter of the ward says so, which came after this record did.",
            by=by,
            keyholder=stage.keyholder,
        )


def _register_a_version(stage: Stage) -> None:
    model = find("framingham")
    registrations.register(
        requester=stage.requester,
        digest=model.digest(),
        name=model.name,
        version=model.version,
        card={"intended_use": "Heart risk over ten years.", "reads": ["Observation", "Condition"]},
        people=2000,
        wrong=150,
    )


def _take_in() -> None:
    """An import that is done and refused a file, one that is under way, and two that came to no end."""
    fault = {"line": 7, "offset": 901, "element": "Observation.status", "code": "required"}
    report = {
        "resources": 4406, "sealed": 4401, "patients": 12, "aside": 3, "withheld": 210, "refusals": 1,
        "types": {"Condition": 406, "Observation": 3988, "Patient": 12},
        "files": {"refused": 1, "repeated": 2},
        "refused": [{**fault, "file": 2, "message": "is required"}],
    }  # fmt: skip
    now = timezone.now()
    for state, done, more in (
        ("done", 90_000_000, {"report": report, "files_done": 5, "ended_at": now}),
        ("running", 30_000_000, {"files_done": 2, "seen_at": now + timedelta(days=1)}),
        ("lost", 30_000_000, {"files_done": 2}),
        ("failed", 50_000_000, {"files_done": 3, "error_code": "keyholder_unavailable", "ended_at": now}),
    ):
        told = {"files": 5, "bytes": 90_000_000, "bytes_done": done, "seen_at": now, **more}
        ImportRun.objects.create(state=state, **told)


def _member(role: str) -> User:
    person = User.objects.create_user(role, f"{role}@example.org", None, is_staff=True)
    person.groups.set(Group.objects.filter(name=role))
    confirm_without_asking(person)
    add_factor(person)
    return person
