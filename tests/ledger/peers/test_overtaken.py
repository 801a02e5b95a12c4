"""Two transactions of one block, the first of which changes who must endorse the second's keys.

Fabric's peers look at endorsements before versions, so the second ends as ENDORSEMENT_POLICY_FAILURE though
it only came too late. It is prepared again; where the organisations really refuse, that is said.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from django.db import transaction
from fabric_protos.common import common_pb2
from fabric_protos.peer import transaction_pb2

from gateway.keyholder.kek import FileKEK
from gateway.keyholder.service import Service
from gateway.keyholder.store import Store
from ledger import outbox
from ledger.channels import Channels
from ledger.client import ENDORSEMENT_POLICY_FAILURE, POLICY_TRIES, Envelope
from ledger.contract.state import Json
from ledger.contract.transactions import run
from ledger.errors import NotCommitted
from ledger.fabric import blocks
from ledger.fabric.client import FabricLedger
from ledger.fabric.trust import FabricTrust
from ledger.models import LedgerTransaction
from tests.keyholder.house import fhir_consent, new_id
from tests.ledger.conformance import Given, submit
from tests.ledger.fake_network import FakeNetwork


@pytest.fixture
def network(tmp_path: Path) -> Iterator[FakeNetwork]:
    with FakeNetwork(tmp_path / "network", run) as made:
        made.register()
        yield made


@pytest.fixture
def consent(network: FakeNetwork) -> str:
    keyholder, given = network.ledger("keyholder"), Given()
    assert submit(keyholder, "GrantConsent", given.args, given.transient).is_valid
    keyholder.close()
    return given.id


def validities(ledger: FabricLedger) -> list[str]:
    return [entry.validity for block in ledger.blocks(1, wait=0.3) for entry in blocks.transactions(block)]


class Weak(FabricLedger):
    """Its first `times` envelopes have lost an endorsement: the organisations did not agree to them."""

    times = 0

    def prepare(self, name: str, args: Json, transient: Mapping[str, bytes] | None = None) -> Envelope:
        envelope = super().prepare(name, args, transient)
        if self.times <= 0:
            return envelope
        self.times -= 1
        payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(envelope.data).payload)
        whole = transaction_pb2.Transaction.FromString(payload.data)
        body = transaction_pb2.ChaincodeActionPayload.FromString(whole.actions[0].payload)
        del body.action.endorsements[1:]
        whole.actions[0].payload = body.SerializeToString()
        payload.data = whole.SerializeToString()
        data = payload.SerializeToString()
        signed = common_pb2.Envelope(payload=data, signature=self._identity.sign(data))
        return Envelope(envelope.tx_id, signed.SerializeToString(), envelope.result)


def weak(network: FakeNetwork, times: int) -> Weak:
    made = Weak.from_profile(network.profile, identity="keyholder")
    assert isinstance(made, Weak)
    made.times = times
    return made


# The outbox


def stop(consent: str, reference: str) -> LedgerTransaction:
    with transaction.atomic():
        return outbox.enqueue(name="RevokeConsent", args={"consent": consent}, reference=reference)


def cut_after(network: FakeNetwork, count: int) -> threading.Thread:
    """Put the next `count` envelopes into one block, and from then on each into its own."""

    def wait() -> None:
        while len(network._waiting) < count:
            time.sleep(0.01)
        network.hold = False
        network.cut()

    network.hold = True
    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.django_db
def test_two_stops_of_one_consent_in_one_block_are_both_done(
    network: FakeNetwork, ledger: FabricLedger, consent: str
) -> None:
    first, second = stop(consent, "consent/1"), stop(consent, "consent/2")
    cutting = cut_after(network, 2)
    assert outbox.send_pending(ledger) == 2
    cutting.join()
    assert validities(ledger)[-2:] == ["VALID", ENDORSEMENT_POLICY_FAILURE]
    first.refresh_from_db()
    second.refresh_from_db()
    State = LedgerTransaction.State  # noqa: N806
    assert (first.state, first.error_code) == (State.COMMITTED, "")
    assert (second.state, second.error_code) == (State.COMMITTED, "already_revoked")


@pytest.mark.django_db
def test_a_stop_that_finds_the_consent_stopped_is_done(ledger: FabricLedger, consent: str) -> None:
    stop(consent, "consent/1")
    assert outbox.send_pending(ledger) == 1
    again = stop(consent, "consent/2")
    assert outbox.send_pending(ledger) == 1
    again.refresh_from_db()
    assert again.state == LedgerTransaction.State.COMMITTED


@pytest.mark.django_db
def test_what_the_organisations_refuse_is_refused_after_a_few_tries(
    network: FakeNetwork, ledger: FabricLedger
) -> None:
    row = LedgerTransaction.objects.create(
        name="RegisterModel",
        args={"card": new_id(), "model": new_id(), "provider": "Helix AI", "state": "approved"},
        reference="model/1",
    )
    refusing = Weak.from_profile(network.profile, identity="gateway")
    refusing.times = 99
    assert outbox.send_pending(refusing) == 1
    refusing.close()
    row.refresh_from_db()
    assert (row.state, row.error_code) == (LedgerTransaction.State.REFUSED, "endorsement_policy_failure")
    assert validities(ledger).count(ENDORSEMENT_POLICY_FAILURE) == POLICY_TRIES


# The keyholder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    folder = tmp_path / "keyholder"
    folder.mkdir(mode=0o700)
    FileKEK.create(folder / "kek")
    made = Store(folder, FileKEK(folder / "kek"))
    yield made
    made.close()


def service(network: FakeNetwork, store: Store, ledger: FabricLedger) -> tuple[Service, str]:
    """A keyholder, and a patient whom it knows."""
    made, patient = (
        Service(store, Channels.single(ledger, FabricTrust.from_profile(network.profile))),
        new_id(),
    )
    made.enrol(patient=patient)
    return made, patient


def test_a_grant_that_was_overtaken_is_prepared_again(network: FakeNetwork, store: Store) -> None:
    keyholder, patient = service(network, store, weak(network, POLICY_TRIES - 1))
    answer = keyholder.grant(consent=new_id(), patient=patient, fhir=fhir_consent())
    assert answer["state"] == "committed"


def test_a_grant_that_the_organisations_refuse_says_so(
    network: FakeNetwork, store: Store, ledger: FabricLedger
) -> None:
    keyholder, patient = service(network, store, weak(network, 99))
    with pytest.raises(NotCommitted) as found:
        keyholder.grant(consent=new_id(), patient=patient, fhir=fhir_consent())
    assert found.value.validity == ENDORSEMENT_POLICY_FAILURE
    assert validities(ledger).count(ENDORSEMENT_POLICY_FAILURE) == POLICY_TRIES


class Overtaken(FabricLedger):
    """Another grant of the same consent goes into the same block, before the first that is sent here."""

    network: FakeNetwork
    other: Envelope | None = None

    def send(self, envelope: Envelope) -> None:
        other, self.other = self.other, None
        if other is None:
            super().send(envelope)
            return
        self.network.hold = True
        super().send(other)
        super().send(envelope)
        self.network.hold = False
        self.network.cut()


def test_of_two_grants_of_one_consent_in_one_block_the_second_is_refused(
    network: FakeNetwork, store: Store, ledger: FabricLedger
) -> None:
    given = Given()
    overtaken = Overtaken.from_profile(network.profile, identity="keyholder")
    assert isinstance(overtaken, Overtaken)
    overtaken.network = network
    overtaken.other = overtaken.prepare("GrantConsent", given.args, given.transient)
    keyholder, patient = service(network, store, overtaken)
    answer = keyholder.grant(consent=given.id, patient=patient, fhir=fhir_consent())
    assert validities(ledger)[-2:] == ["VALID", ENDORSEMENT_POLICY_FAILURE]
    assert (answer["state"], answer["code"]) == ("refused", "consent_exists")
