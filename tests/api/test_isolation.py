"""Every client × every patient × every resource type: what leaves is what the contract decides, all of it.

The contract is asked here by itself, over the consents that the ledger shows in force; the product is asked
over HTTP. A record that leaves without a decision is as much a failure as one that a decision gave and that
does not come.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.utils import timezone

from consent import services as consents
from consent.explanation import KINDS
from consent.models import Consent, ConsentRequest, Patient, Requester
from consent.state import LONGEST_ONCE
from gateway.accounts import clients
from gateway.analysis import exports, tasks
from gateway.analysis.models import Job, JobSubject
from ledger.audit.log import Actor
from ledger.client import HOME
from ledger.contract.consents import compile_consent
from ledger.contract.decision import decide
from ledger.contract.in_force import IN_FORCE, consent_key, consent_of, mark_key, standing
from ledger.contract.resource_types import RESOURCE_TYPES
from tests.analysis.test_job_end_to_end import records
from tests.api.conftest import HELIX_KEY
from tests.api.test_export import SCOPE, Bulk, Copies
from tests.signing import key_set

pytestmark = pytest.mark.django_db(transaction=True)

ASKED = sorted(KINDS)
UNASKED = ["Basic", "Communication", "Coverage", "Provenance"]  # sealed, and nobody's to give
Way = Callable[["Company", Patient], None]


class Company:
    """One requester with a client of its own: what it asks, and what it gets."""

    def __init__(self, play: Copies, requester: Requester) -> None:
        self.play, self.requester = play, requester

    def ask(self, patient: Patient, **changed: Any) -> ConsentRequest:
        return self.play.ask_copy(patient, **{"kinds": ASKED, **changed})

    def yes(self, patient: Patient, kinds: list[str] = ASKED, **changed: Any) -> Consent:
        request = self.ask(patient, **changed)
        given = consents.grant(request=request, patient=patient, kinds=kinds, duration="until")
        return self.sealed(given)

    def sealed(self, given: Consent) -> Consent:
        self.play.settle()
        given.refresh_from_db()
        return given

    def stop(self, given: Consent) -> None:
        self.play.stop(given)
        self.play.settle()


# How a patient may stand to a company that asks for a copy.


def never_asked(company: Company, patient: Patient) -> None:
    pass


def waiting(company: Company, patient: Patient) -> None:
    company.ask(patient)


def refused(company: Company, patient: Patient) -> None:
    consents.refuse(request=company.ask(patient), patient=patient)


def all_of_it(company: Company, patient: Patient) -> None:
    company.yes(patient)


def results_alone(company: Company, patient: Patient) -> None:
    company.yes(patient, ["Observation"])


def two_kinds(company: Company, patient: Patient) -> None:
    company.yes(patient, ["Condition", "Patient"])


def for_care(company: Company, patient: Patient) -> None:
    """Another purpose is another group."""
    company.yes(patient, ["Encounter", "Observation"], purpose="TREAT")


def stopped(company: Company, patient: Patient) -> None:
    company.stop(company.yes(patient))


def stopped_and_given_again(company: Company, patient: Patient) -> None:
    company.stop(company.yes(patient))
    company.yes(patient, ["Procedure"])


def replaced_by_less(company: Company, patient: Patient) -> None:
    older = company.yes(patient)
    newer = consents.replace(consent=older, patient=patient, kinds=["Goal", "Patient"], duration="until")
    company.sealed(newer)


def taken_back(company: Company, patient: Patient) -> None:
    consents.withdraw_request(request=company.ask(patient), requester=company.requester)


def ended(company: Company, patient: Patient) -> None:
    """Given so long ago that it ends in some seconds: the test waits for it before it looks."""
    with as_of(timezone.now() - LONGEST_ONCE + timedelta(seconds=4)):
        request = company.ask(patient)
        given = consents.grant(
            request=request, patient=patient, kinds=ASKED, duration=Consent.Duration.NINETY_DAYS
        )
    assert company.sealed(given).ledger_state == Consent.LedgerState.IN_FORCE


WAYS: list[Way] = [
    never_asked, waiting, refused, all_of_it, results_alone, two_kinds, for_care, stopped,
    stopped_and_given_again, replaced_by_less, taken_back, ended,
]  # fmt: skip


@contextmanager
def as_of(moment: datetime) -> Iterator[None]:
    with mock.patch.object(timezone, "now", return_value=moment):
        yield


@pytest.fixture
def companies(
    installation: Any,
    helix: Requester,
    application: Any,
    token_for: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> list[tuple[Company, Bulk]]:
    """helix, and another that asks the same patients in another order; each with its own client."""
    settings.AUTO_APPROVE = False
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    orion = Requester.objects.create(name="Orion AI")
    other = clients.register(requester=orion, by=Actor.staff(1), jwks=key_set(HELIX_KEY)).application
    found = []
    for requester, app in ((helix, application), (orion, other)):
        play = Copies({HOME: installation.ledger_url}, installation.keyholder_socket, requester)
        found.append((Company(play, requester), Bulk(token_for(app, scope=SCOPE), play)))
    return found


def test_what_leaves_is_what_the_contract_decides(companies: list[tuple[Company, Bulk]]) -> None:
    helix, orion = (company for company, _ in companies)
    people = [helix.play.someone(*everything(), name=way.__name__) for way in WAYS]
    for number, patient in enumerate(people):
        WAYS[number](helix, patient)
        WAYS[-number - 1](orion, patient)
    over = Consent.objects.filter(request__requester__in=[helix.requester, orion.requester])
    ends = [each.expires_at for each in over if each.expires_at and each.expires_at < soon()]
    assert ends, "somebody's consent ends in a moment"
    time.sleep(max(0.0, (max(ends) - timezone.now()).total_seconds()) + 1.1)

    for company, client in companies:
        decided = {
            (group, patient.pk, kind)
            for patient in people
            for speaking in [in_force(company, patient)]
            for group in exports.groups(company.requester)
            for kind in RESOURCE_TYPES
            if is_permitted(company, speaking, kind, group)
        }
        assert len(decided) > len(ASKED)
        got, names = set(), {}
        for group in exports.groups(company.requester):
            _, manifest = client.export(
                f"/fhir/Group/{group}/$export?_type={','.join(sorted(RESOURCE_TYPES))}"
            )
            assert {each["type"] for each in manifest["output"]} in (set(), set(RESOURCE_TYPES))
            job = Job.objects.latest("created_at")
            names.update(names_of(job))
            # 1. Of every type: what was delivered, opened once.
            delivered = exports.outputs(job)
            of_all = [each for _, held in exports.resources(job=job, found=delivered) for each in held]
            whole = {(names[whose(each)], each["resourceType"]) for each in of_all}
            # 2. Of the types that anybody has: what comes over HTTP.
            some = [each for each in manifest["output"] if each["type"] in (*ASKED, *UNASKED)]
            files = {
                (names[whose(each)], kind)
                for kind, lines in client.files({"output": some}).items()
                for each in lines
            }
            assert files == whole
            got |= {(group, patient, kind) for patient, kind in files}
        assert got == decided

        # 3. Search sees what the exports delivered last of each patient, and nothing else.
        for kind in (*ASKED, *UNASKED):
            entries = client.get(f"/fhir/{kind}?_count=1000").json().get("entry", ())
            seen = {names[whose(each["resource"])] for each in entries}
            assert seen <= {patient for _, patient, each in decided if each == kind}, kind


def whose(resource: dict[str, Any]) -> str:
    """The pseudonym that begins its id."""
    return str(resource["id"]).partition("-")[0]


def soon() -> datetime:
    return timezone.now() + timedelta(minutes=5)


def everything() -> list[dict[str, Any]]:
    """A record of each type that a patient can be asked for, and of some that she cannot."""
    known = {each["resourceType"]: each for each in records()}
    return [
        known.get(
            kind, {"resourceType": kind, "id": f"one-{kind.lower()}", "subject": {"reference": "Patient/p"}}
        )
        for kind in [*ASKED, *UNASKED]
    ]


def names_of(job: Job) -> dict[str, str]:
    """Whose pseudonym is whose, which the recipient cannot tell."""
    key = exports.key_of(job.requester)
    subjects = JobSubject.objects.filter(job=job).exclude(patient=None)
    return {exports.pseudonym(key, each): str(each.patient_id) for each in subjects}


def in_force(company: Company, patient: Patient) -> list[dict[str, Any]]:
    """Her canonical consents that the ledger shows in force now, to whomever she gave them."""
    now = int(timezone.now().timestamp())
    return [
        compile_consent(each.fhir, consent=each.pk, patient=patient.pk)
        for each in Consent.objects.filter(patient=patient)
        if stands(company, each.pk, now)
    ]


def is_permitted(company: Company, speaking: list[dict[str, Any]], kind: str, group: str) -> bool:
    """The contract's own word."""
    purpose, *use = group.split("-")
    request = {
        "action": "disclose",
        "model": None,
        "purpose": purpose,
        "recipient": company.requester.reference,
        "resources": [{"codes": None, "type": kind}],
        "use": use,
        "version": 1,
    }
    return decide(speaking, request, at=int(timezone.now().timestamp())).decision == "permit"


def stands(company: Company, consent: str, now: int) -> bool:
    [value] = company.play.ledger.evaluate([consent_key(consent)])
    if value is None:
        return False
    found = consent_of(value)
    assert found is not None
    marks = company.play.ledger.evaluate([mark_key(consent, org) for org in found["marks"]])
    return standing(value, marks, now) == IN_FORCE
