"""An emergency on a channel of three whose others are away: it opens by our own organisation's word alone.

Fake peers, the product's chaincode, client and keyholder.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.keyholder.envelope import new_key, seal_chunk
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.log import check_log
from gateway.keyholder.service import Service
from gateway.keyholder.store import Header, Store
from ledger.channels import HOME, Channels
from ledger.contract.access import recorded
from ledger.contract.state import Endorsers, Result, State, Transaction
from ledger.contract.transactions import run
from ledger.errors import AccessDenied, LedgerError, PrepareError, ProofError
from ledger.fabric.trust import FabricTrust
from tests.keyholder.house import fhir_consent, new_id
from tests.ledger.conformance import submit
from tests.ledger.fake_network import ORGANISATIONS, FakeNetwork

RIVERSIDE, LAKESIDE, TRUST = ORGANISATIONS
LINES = b'{"allergy":"penicillin"}\n'
DETAILS = {"clinician": "ab" * 32, "reason": "ETREAT", "words": "Found unconscious at home"}


class Ward:
    """Riverside's keyholder, with one patient, on a channel of three."""

    def __init__(self, folder: Path, network: FakeNetwork) -> None:
        self.network, self.folder = network, folder / "keyholder"
        self.folder.mkdir(mode=0o700)
        FileKEK.create(self.folder / "kek")
        self.store = Store(self.folder, FileKEK(self.folder / "kek"))
        self.ledger = network.ledger("keyholder")
        self.trust = FabricTrust.from_profile(network.profile)
        self.service = Service(
            self.store, Channels.single(self.ledger, self.trust), emergencies=100, copies=100, delta=30.0
        )
        self.patient, self.chunk = new_id(), new_id()
        self.service.enrol(patient=self.patient)
        header = Header(self.chunk, 1, "AllergyIntolerance", ("N",), 1, new_key())
        keys, _ = self.service.new_chunks(patient=self.patient, chunks=[header])
        self.blob = seal_chunk(keys[self.chunk], LINES, patient=self.patient, chunk=self.chunk, version=1)
        self.service.confirm_chunks(chunks=[(self.chunk, 1)])

    def begin(self) -> str:
        access, expires = new_id(), int(time.time()) + 3600
        answer = self.service.emergency_access(
            access=access, patient=self.patient, details=DETAILS, expires=expires
        )
        assert answer["state"] == "committed", answer
        return access

    def read(self, access: str) -> bytes:
        (lines,) = self.service.read_emergency(access=access, sealed={self.chunk: self.blob}).values()
        return lines

    def value(self, key: str) -> bytes | None:
        (found,) = self.ledger.evaluate([key])
        return found


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    with FakeNetwork(tmp_path, run, orgs=ORGANISATIONS, needed=2) as network:
        network.register()
        made = Ward(tmp_path, network)
        yield made
        made.ledger.close()
        made.store.close()


def test_with_the_others_away_an_emergency_opens_and_nothing_else_does(ward: Ward) -> None:
    ward.network.away |= {LAKESIDE, TRUST}
    access = ward.begin()
    assert ward.read(access) == LINES
    expires = int(time.time()) + 3600
    with pytest.raises(PrepareError):
        ward.service.own_copy(access=new_id(), patient=ward.patient, expires=expires, voucher=None)
    with pytest.raises(PrepareError):
        ward.service.grant(consent=new_id(), patient=ward.patient, fhir=fhir_consent())
    (row,) = check_log(ward.folder, {HOME: ward.trust})
    assert (row["ground"], row["reference"]) == ("emergency", access)


def test_the_others_complete_it_once_they_are_back(ward: Ward) -> None:
    ward.network.away |= {LAKESIDE, TRUST}
    first, second = ward.begin(), ward.begin()
    with pytest.raises(LedgerError):
        ward.service.complete_emergencies()
    ward.network.away.clear()
    assert ward.service.complete_emergencies() == {"completed": 2, "refused": 0}
    assert ward.service.complete_emergencies() == {"completed": 0, "refused": 0}
    for access in (first, second):
        assert ward.value(f"access/{access}/{RIVERSIDE}") is not None
        assert ward.read(access) == LINES
    # What was completed leaves the list, and is read where it was completed.
    third = ward.begin()
    assert list(recorded(ward.value(f"emergency/{RIVERSIDE}"))) == [third]
    assert ward.read(first) == LINES


def test_another_organisations_record_opens_nothing(ward: Ward) -> None:
    """Lakeside may record what it likes under its own key, our access's id and digest too."""
    access, digest, expires = new_id(), new_id(), int(time.time()) + 3600
    ward.store.put_access(
        access, kind="emergency", patient=ward.patient, details=DETAILS, digest=digest, expires=expires
    )
    lakeside = ward.network.ledger("keyholder", LAKESIDE)
    args = {"access": access, "digest": digest, "expires": expires}
    assert submit(lakeside, "EmergencyAccess", args).is_valid
    assert submit(lakeside, "CompleteEmergency", {"access": access}).is_valid
    lakeside.close()
    with pytest.raises(AccessDenied) as found:
        ward.read(access)
    assert found.value.code == "access_missing"


def test_another_organisations_answer_is_no_witness(ward: Ward) -> None:
    keys, nonce = [f"emergency/{RIVERSIDE}"], b"n" * 32
    proof = ward.ledger.read(keys, nonce=nonce)
    assert {answer.org for answer in proof.answers} == set(ORGANISATIONS)
    assert ward.trust.check_own(proof, keys=keys, nonce=nonce).org == RIVERSIDE
    others = [answer for answer in proof.answers if answer.org != RIVERSIDE]
    posing = [dataclasses.replace(answer, org=RIVERSIDE) for answer in others]
    for answers in (others, posing, []):
        with pytest.raises(ProofError):
            ward.trust.check_own(dataclasses.replace(proof, answers=tuple(answers)), keys=keys, nonce=nonce)


def test_without_our_own_organisation_nothing_opens(ward: Ward) -> None:
    access = ward.begin()
    ward.network.away.add(RIVERSIDE)
    with pytest.raises(LedgerError):
        ward.read(access)


class Older:
    """A state in which RegisterOrganisation makes no key for emergencies, as contract 1.0.0 did not."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def put(self, key: str, value: bytes) -> None:
        if not key.startswith("emergency/"):
            self._state.put(key, value)

    def require(self, key: str, policy: Endorsers) -> None:
        if not key.startswith("emergency/"):
            self._state.require(key, policy)


def upgraded(state: State, transaction: Transaction) -> Result:
    return run(Older(state) if transaction.name == "RegisterOrganisation" else state, transaction)


def test_a_channel_from_before_makes_the_key_with_the_others_and_then_needs_them_no_more(
    tmp_path: Path,
) -> None:
    """An installed channel whose chaincode was upgraded has no key for emergencies yet."""
    with FakeNetwork(tmp_path, upgraded, orgs=ORGANISATIONS, needed=2) as network:
        network.register()
        ward = Ward(tmp_path, network)
        network.away |= {LAKESIDE, TRUST}
        with pytest.raises(PrepareError):
            ward.begin()
        network.away.clear()
        ward.begin()
        network.away |= {LAKESIDE, TRUST}
        assert ward.read(ward.begin()) == LINES
        ward.ledger.close()
        ward.store.close()
