"""Two channels: a patient, her consents and a job's release are on one; another's word counts for nothing."""

import dataclasses
from collections.abc import Iterator

import pytest

from gateway.keyholder.log import check_log
from gateway.keyholder.service import Service
from ledger.channels import HOME, Channel, Channels
from ledger.contract.in_force import consent_key
from ledger.embedded.blocks import ORG
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import make_ledger
from ledger.embedded.server import LedgerProcess
from ledger.embedded.trust import EmbeddedTrust
from ledger.errors import AccessDenied, GatewayError, LedgerError, ProofError, RefusedTransition
from tests.keyholder.house import HELIX, MODEL, REQUEST, Child, House, fhir_consent, new_id

NORTH = "north"


class North:
    """A second ledger for the house's keyholder."""

    def __init__(self, house: House) -> None:
        self.house = house
        folder = house.home / NORTH
        make_ledger(folder)
        self.process = LedgerProcess(folder)
        self.ledger = EmbeddedLedger(folder, identity="keyholder")
        self.trust = EmbeddedTrust.from_folder(folder)
        card = {"model": MODEL, "card": "0" * 64, "provider": HELIX, "state": "approved"}
        assert house.commit(EmbeddedLedger(folder, identity="gateway"), "RegisterModel", card).is_valid
        house.service = Service(house.store, self.channels())

    def channels(self, *, swapped: bool = False) -> Channels:
        pairs = [(self.house.ledger, self.house.trust), (self.ledger, self.trust)]
        names = (NORTH, HOME) if swapped else (HOME, NORTH)
        return Channels(
            {
                name: Channel(name, lambda ledger=ledger: ledger, lambda trust=trust: trust)
                for name, (ledger, trust) in zip(names, pairs, strict=True)
            }
        )

    def patient(self) -> str:
        """On north, with one chunk."""
        patient = new_id()
        self.house.service.enrol(patient=patient, channel=NORTH)
        self.house.add_chunk(patient, "Observation", b'{"value":1}\n')
        return patient

    def release(self, child: Child, *patients: str, channel: str = NORTH) -> list[str]:
        """The subjects, in the order of the patients."""
        subjects = {new_id(): patient for patient in patients}
        self.house.service.release(
            job=child.job,
            attempt=1,
            request=REQUEST,
            parts=[
                {
                    "part": 0,
                    "key": child.public,
                    "subjects": [{"subject": one, "patient": patient} for one, patient in subjects.items()],
                }
            ],
            channel=channel,
        )
        return list(subjects)


@pytest.fixture
def north(house: House) -> Iterator[North]:
    made = North(house)
    yield made
    made.process.close()


def code(error: pytest.ExceptionInfo[GatewayError]) -> str:
    return error.value.code


def test_a_consent_and_its_job_are_on_the_patients_channel_alone(house: House, north: North) -> None:
    bob = north.patient()
    consent = house.grant(bob)
    assert north.ledger.evaluate([consent_key(consent)]) != [None]
    assert house.ledger.evaluate([consent_key(consent)]) == [None]
    child = Child(new_id())
    (subject,) = north.release(child, bob)
    assert house.open(child, subject)
    assert house.service.status()["channels"][NORTH] == {ORG: north.ledger.height()}
    # The log names the channel, and its proofs hold by that channel's trust and no other.
    trusted = {HOME: house.trust, NORTH: north.trust}
    assert [row["channel"] for row in check_log(house.home / "keyholder", trusted)] == [NORTH]
    with pytest.raises(ProofError):
        list(check_log(house.home / "keyholder", {HOME: house.trust, NORTH: house.trust}))


def test_consents_that_are_due_together_go_each_to_its_channel(house: House, north: North) -> None:
    grants = [
        {"consent": new_id(), "patient": patient, "fhir": fhir_consent()}
        for patient in (house.patient(), house.patient(), north.patient(), north.patient(), north.patient())
    ]
    answers = house.service.grant_many(grants=grants)
    assert {answer["state"] for answer in answers.values()} == {"committed"}
    assert len({answer["tx_id"] for answer in answers.values()}) == 2
    keys = [consent_key(one["consent"]) for one in grants]
    on_home = [value is not None for value in house.ledger.evaluate(keys)]
    assert on_home == [True, True, False, False, False]
    assert [value is None for value in north.ledger.evaluate(keys)] == on_home


def test_patients_of_two_channels_pass_no_door_together(house: House, north: North) -> None:
    alice, bob = house.patient(), north.patient()
    for patients, channel in (((alice, bob), HOME), ((alice, bob), NORTH), ((bob,), HOME), ((alice,), NORTH)):
        with pytest.raises(RefusedTransition) as error:
            north.release(Child(new_id()), *patients, channel=channel)
        assert code(error) == "channel_differs"
    # Nor does a job that was released on one go on on another.
    house.grant(bob)
    child = Child(new_id())
    north.release(child, bob)
    with pytest.raises(RefusedTransition) as error:
        north.release(child, alice, channel=HOME)
    assert code(error) == "channel_differs"


def test_a_patient_stays_on_her_channel(house: House, north: North) -> None:
    bob = north.patient()
    north.house.service.enrol(patient=bob, channel=NORTH)
    with pytest.raises(RefusedTransition) as refused:
        house.service.enrol(patient=bob)
    assert code(refused) == "channel_differs"
    with pytest.raises(LedgerError) as unknown:
        house.service.enrol(patient=new_id(), channel="south")
    assert code(unknown) == "channel_unknown"


def test_many_are_enrolled_together_or_none_is(house: House, north: North) -> None:
    alice, carol, bob = house.patient(), new_id(), north.patient()
    with pytest.raises(RefusedTransition) as refused:
        house.service.enrol_many(channels={carol: HOME, bob: HOME})
    assert code(refused) == "channel_differs"
    assert not house.store.is_enrolled(carol)
    keys = house.service.enrol_many(channels={alice: HOME, carol: HOME, bob: NORTH})
    assert keys == {one: house.store.index_key(one) for one in (alice, carol, bob)}
    assert len(set(keys.values())) == 3


def test_a_name_that_means_another_ledger_stops_the_start(house: House, north: North) -> None:
    for channels in (north.channels(swapped=True), Channels.single(north.ledger, north.trust)):
        with pytest.raises(RefusedTransition) as error:
            Service(house.store, channels)
        assert code(error) == "channel_differs"
    Service(house.store, north.channels())


def test_an_opening_of_another_channel_opens_nothing(
    house: House, north: North, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the ledger that is asked shows the same consent in force."""
    bob = north.patient()
    house.grant(bob)
    child = Child(new_id())
    (subject,) = north.release(child, bob)
    opening = house.store.opening
    monkeypatch.setattr(
        house.store, "opening", lambda consent: dataclasses.replace(opening(consent), channel=HOME)
    )
    with pytest.raises(AccessDenied) as error:
        house.open(child, subject)
    assert code(error) == "channel_differs"


def test_a_store_of_before_has_everything_on_home(house: House) -> None:
    alice = house.patient()
    consent = house.grant(alice)
    heights = house.store.heights()
    house.start_keyholder_on(4)
    assert house.store.heights() == heights
    assert house.store.channel_of(alice) == HOME
    opening = house.store.opening(consent)
    assert opening is not None
    assert opening.channel == HOME
    child, answer = house.release({"ff" * 32: alice})
    assert answer["decision"] == "permit"
    assert house.open(child, "ff" * 32)
