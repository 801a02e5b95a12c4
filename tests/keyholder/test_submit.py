"""Getting a transaction onto the ledger once, whatever happens in between."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.keyholder.service import Service
from ledger.channels import Channels
from ledger.client import Envelope, Outcome
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.embedded.client import EmbeddedLedger
from ledger.errors import OutcomeUnknown, RefusedTransition, SendError
from tests.keyholder.house import REQUEST, Child, House, fhir_consent, new_id


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_sending_it_sends_the_same_envelope_again(house: House, when: str) -> None:
    alice, consent = house.patient(), new_id()
    house.killed_around_sending(when, "grant", consent=consent, patient=alice, fhir=fhir_consent())
    kept = house.store.submission(f"grant/{consent}")
    assert kept is not None
    assert kept.state == "prepared"

    answer = house.service.grant(consent=consent, patient=alice, fhir=fhir_consent())
    assert (answer["state"], answer["tx_id"]) == ("committed", kept.tx_id)
    assert house.on_ledger(f"consent/{consent}")["version"] == 1
    # From now on it is known: nothing more is sent.
    house.serve(Unsent(house.home / "ledger", identity="keyholder"))
    assert house.service.grant(consent=consent, patient=alice, fhir=fhir_consent()) == answer


class Unsent(EmbeddedLedger):
    """A ledger that takes no envelope, or never says what became of it."""

    refuses = True

    def send(self, envelope: Envelope) -> None:
        if self.refuses:
            raise SendError("The ledger is busy.")
        super().send(envelope)

    def outcome(self, tx_id: str, *, timeout: float) -> Outcome:
        raise OutcomeUnknown("Not known in time.")


@pytest.mark.parametrize("refuses", [True, False])
def test_an_unknown_outcome_is_said_and_found_later(house: House, refuses: bool) -> None:
    alice, consent = house.patient(), new_id()
    ledger = Unsent(house.home / "ledger", identity="keyholder")
    ledger.refuses = refuses
    service = Service(house.store, Channels.single(ledger, house.trust))
    first = service.grant(consent=consent, patient=alice, fhir=fhir_consent())
    assert first["state"] == "sent"
    second = house.service.grant(consent=consent, patient=alice, fhir=fhir_consent())
    assert (second["state"], second["tx_id"]) == ("committed", first["tx_id"])


def test_a_refusal_says_so(house: House) -> None:
    alice = house.patient()
    consent = house.grant(alice)
    house.revoke(consent)
    answer = house.service.grant(consent=new_id(), patient=alice, fhir=fhir_consent(), replaces=consent)
    assert (answer["state"], answer["code"]) == ("refused", "consent_revoked")
    expired = house.service.grant(consent=new_id(), patient=alice, fhir=fhir_consent(until="2021-01-01"))
    assert (expired["state"], expired["code"]) == ("refused", "consent_expired")
    unread = house.service.grant(consent=new_id(), patient=alice, fhir={"resourceType": "Patient"})
    assert (unread["state"], unread["code"]) == ("refused", "consent_malformed")


def test_a_replacement_takes_the_place_of_the_first(house: House) -> None:
    alice, newer, subject = house.patient(), new_id(), new_id()
    consent = house.grant(alice)
    fhir = fhir_consent(types=("Condition",))
    answer = house.service.grant(consent=newer, patient=alice, fhir=fhir, replaces=consent)
    assert answer["state"] == "committed"
    assert house.on_ledger(f"consent/{consent}")["state"] == "superseded"
    child, released = house.release({subject: alice})
    assert released["subjects"][subject]["consent"] == newer
    assert [one.header.resource_type for one in house.open(child, subject).chunks] == ["Condition"]


class Racing(EmbeddedLedger):
    """Between a release's endorsement and its sending, a revocation commits first."""

    house: House
    consent = ""

    def send(self, envelope: Envelope) -> None:
        if self.consent:
            consent, self.consent = self.consent, ""
            self.house.revoke(consent)
        super().send(envelope)


def test_a_revocation_that_commits_first_invalidates_the_release(house: House) -> None:
    alice, subject = house.patient(), new_id()
    ledger = Racing(house.home / "ledger", identity="keyholder")
    ledger.house, ledger.consent = house, house.grant(alice)
    house.service = Service(house.store, Channels.single(ledger, house.trust))
    child, answer = house.release({subject: alice})
    assert answer["decision"] == "deny"
    with house.store.transaction() as db:
        rows = db.execute(
            "SELECT state, code FROM submissions WHERE purpose = ? ORDER BY id", (f"release/{child.job}/1",)
        ).fetchall()
    assert rows == [("invalid", "MVCC_READ_CONFLICT"), ("committed", "")]


def test_the_same_call_from_many_callers_is_one_transaction(house: House) -> None:
    alice, consent, job = house.patient(), new_id(), new_id()
    with ThreadPoolExecutor(8) as pool:
        grants = [
            pool.submit(house.service.grant, consent=consent, patient=alice, fhir=fhir_consent())
            for _ in range(8)
        ]
        releases = [
            pool.submit(house.service.release, job=job, attempt=1, request=REQUEST, parts=[])
            for _ in range(8)
        ]
    assert {one.result()["state"] for one in grants} == {"committed"}
    assert len({one.result()["tx_id"] for one in grants}) == 1
    assert len({one.result()["tx_id"] for one in releases}) == 1


class Overtaken(EmbeddedLedger):
    """While one call prepares, another of the same commits."""

    act: Callable[[], object] | None = None

    def prepare(self, name: str, args: Json, transient: Mapping[str, bytes] | None = None) -> Envelope:
        act, self.act = self.act, None
        if act is not None:
            act()
        return super().prepare(name, args, transient)


@pytest.mark.parametrize("door", ["grant", "release"])
def test_a_call_that_was_overtaken_answers_what_the_other_did(house: House, door: str) -> None:
    alice, subject, consent, child = house.patient(), new_id(), new_id(), Child(new_id())
    ledger = Overtaken(house.home / "ledger", identity="keyholder")
    house.serve(ledger)
    answers: list[object] = []

    def act() -> object:
        if door == "grant":
            return house.service.grant(consent=consent, patient=alice, fhir=fhir_consent())
        return house.release({subject: alice}, child=child)[1]

    ledger.act = lambda: answers.append(act())
    assert act() == answers[0]


def test_a_malformed_request_is_refused(house: House) -> None:
    with pytest.raises(Refused) as found:
        house.release({new_id(): house.patient()}, request={**REQUEST, "purpose": "ANYTHING"})
    assert found.value.code == "request_malformed"


def test_a_patient_nobody_enrolled_is_denied(house: House) -> None:
    subject = new_id()
    _, answer = house.release({subject: new_id()})
    assert answer["subjects"][subject] == {"decision": "deny", "reasons": ["no_consent"], "consent": None}
    assert answer["decision"] == "deny"


def test_a_consent_for_somebody_else_stays_off_the_ledger(house: House) -> None:
    alice, subject = house.patient(), new_id()
    house.grant(alice)
    child, answer = house.release({subject: alice}, request={**REQUEST, "recipient": "Organization/other"})
    assert answer["decision"] == "deny"
    assert house.on_ledger(f"release/{child.job}/1")["consents"] == []


# What a dead caller left: an envelope that was stored, and nobody knows what became of it


def left_behind(house: House, act: Callable[[], object], *, refuses: bool) -> None:
    """`act` stores its envelope and hears nothing more of it: it was not sent, or it was."""
    ledger = Unsent(house.home / "ledger", identity="keyholder")
    ledger.refuses = refuses
    house.serve(ledger)
    with pytest.raises(SendError if refuses else OutcomeUnknown):
        act()
    house.serve(house.ledger)


@pytest.mark.parametrize("refuses", [True, False], ids=["not sent", "sent"])
@pytest.mark.parametrize("asked", [1, 2])
def test_a_release_that_was_left_behind_is_finished_before_the_next(
    house: House, refuses: bool, asked: int
) -> None:
    alice, subject, job = house.patient(), new_id(), new_id()
    house.grant(alice)
    left_behind(house, lambda: house.release({subject: alice}, child=Child(job)), refuses=refuses)
    # Another child, with a key of its own: this number is taken, and the next one is free at once.
    if asked == 1:
        with pytest.raises(RefusedTransition) as found:
            house.release({subject: alice}, child=Child(job))
        assert found.value.code == "release_differs"
    child, answer = house.release({subject: alice}, child=Child(job, attempt=2))
    assert answer["decision"] == "permit"
    assert house.on_ledger(f"release/{job}/1") is not None
    assert house.open(child, subject).chunks


def test_a_release_that_was_left_behind_and_is_void_leaves_its_number(house: House) -> None:
    alice, subject, job = house.patient(), new_id(), new_id()
    consent = house.grant(alice)
    left_behind(house, lambda: house.release({subject: alice}, child=Child(job)), refuses=True)
    house.revoke(consent)  # the consent that its envelope read has another version now
    _, answer = house.release({subject: alice}, child=Child(job))
    assert answer["subjects"][subject]["reasons"] == ["consent_revoked"]
    assert house.on_ledger(f"release/{job}/1")["decision"] == "deny"


def test_while_it_cannot_be_finished_nothing_is_said_about_it(house: House) -> None:
    alice, subject, job = house.patient(), new_id(), new_id()
    house.grant(alice)
    left_behind(house, lambda: house.release({subject: alice}, child=Child(job)), refuses=True)
    for attempt in (1, 2):
        left_behind(
            house,
            lambda: house.release({subject: alice}, child=Child(job, attempt)),  # noqa: B023
            refuses=True,
        )


def computed(house: House, subjects: dict[str, str]) -> tuple[Child, dict[str, str]]:
    """A job whose subjects were opened, and the digest of an output for each."""
    child, _ = house.release(subjects)
    for subject in subjects:
        house.open(child, subject)
    return child, {subject: house.seal_output(child, subject)[0] for subject in subjects}


@pytest.mark.parametrize("refuses", [True, False], ids=["not sent", "sent"])
def test_a_delivery_that_was_left_behind_is_finished(house: House, refuses: bool) -> None:
    alice, subject = house.patient(), new_id()
    house.grant(alice)
    child, digests = computed(house, {subject: alice})
    left_behind(house, lambda: house.deliver(child, subject, digests[subject]), refuses=refuses)
    # Before another attempt is made, too: the job may have been delivered.
    with pytest.raises(Refused) as found:
        house.release({subject: alice}, child=Child(child.job, attempt=2))
    assert found.value.code == "already_delivered"
    assert house.deliver(child, subject, digests[subject])["delivered"] == [digests[subject]]


def test_a_delivery_that_was_left_behind_and_is_void_is_made_anew(house: House) -> None:
    subjects = {new_id(): house.patient() for _ in range(2)}
    consents = {subject: house.grant(patient) for subject, patient in subjects.items()}
    child, digests = computed(house, subjects)
    first, second = subjects
    both = [{"subjects": [one], "digest": digest} for one, digest in digests.items()]
    left_behind(
        house,
        lambda: house.service.deliver(job=child.job, attempt=1, outputs=both),
        refuses=True,
    )
    house.revoke(consents[first])
    # By now there is one output less to deliver: what was void does not stand in its way.
    answer = house.deliver(child, second, digests[second])
    assert answer["delivered"] == [digests[second]]
