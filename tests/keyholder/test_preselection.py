"""Whom a cohort is looked for among: the array in memory says of everyone what the sealed headers say."""

import os
import random
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.keyholder import preselection
from gateway.keyholder.erasure import erase
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.preselection import Preselection
from gateway.keyholder.store import Header, Store
from ledger.errors import RefusedTransition
from tests.keyholder.house import REQUEST, Child, House, new_id

KINDS = ("Observation", "Condition", "Procedure")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    tmp_path.chmod(0o700)
    opened = Store(tmp_path, FileKEK.create(tmp_path / "kek"))
    yield opened
    opened.close()


def add(store: Store, patient: str, kind: str, labels: tuple[str, ...] = ("N",), *, count: int = 1) -> str:
    header = Header(secrets.token_hex(32), 1, kind, labels, count, os.urandom(32))
    store.add_chunks(patient, [header])
    store.confirm_chunks([(header.chunk, 1)])
    return header.chunk


def enrolled(store: Store, number: int) -> list[str]:
    patients = [new_id() for _ in range(number)]
    for one in patients:
        store.enrol(one)
    return patients


def added_and_undone(store: Store, patient: str) -> None:
    with store.transaction():
        add(store, patient, "Observation")
        store.confirm_chunks([(new_id(), 1)])


def by_headers(store: Store, patients: list[str], kinds: list[str]) -> list[str]:
    """The same without the array: every header of each patient unsealed."""

    def there(patient: str) -> set[str]:
        if not store.is_enrolled(patient):
            return set()
        found = store.headers(patient)
        return {one.resource_type for one in found if one.count and set(one.labels) <= {"N"}}

    enrolled = [one for one in patients if store.is_enrolled(one)]
    return [one for one in enrolled if there(one) >= set(kinds)]


def test_it_knows_kinds_and_nothing_sensitive(store: Store) -> None:
    plain, sensitive, withheld, none, both = patients = enrolled(store, 5)
    add(store, plain, "Observation")
    add(store, sensitive, "Observation", ("HIV", "R"))
    add(store, withheld, "Observation", ("unlabelled",))
    add(store, none, "Observation", count=0)
    add(store, both, "Observation")
    add(store, both, "Condition")
    unconfirmed = Header(secrets.token_hex(32), 1, "Condition", ("N",), 1, os.urandom(32))
    store.add_chunks(plain, [unconfirmed])
    found = Preselection(store)
    for _ in range(2):  # read, and at hand
        assert found.with_kinds([new_id(), *patients], ["Observation"]) == [plain, both]
        assert found.with_kinds(patients[::-1], ["Condition", "Observation"]) == [both]
        assert found.with_kinds(patients, ["QuestionnaireResponse"]) == []
    store.confirm_chunks([(unconfirmed.chunk, 1)])
    assert found.with_kinds(patients, ["Condition"]) == [plain, both]


def test_who_was_looked_at_is_not_unsealed_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = enrolled(store, 2)
    add(store, alice, "Observation")
    add(store, bob, "Observation")
    found = Preselection(store)
    assert found.with_kinds([alice, bob], ["Observation"]) == [alice, bob]
    read: list[str] = []
    whole = store.headers_of

    def noted(patients: list[str]) -> object:
        read.extend(patients)
        return whole(patients)

    monkeypatch.setattr(store, "headers_of", noted)
    assert found.with_kinds([alice, bob], ["Condition"]) == []
    assert read == []
    add(store, bob, "Condition")
    assert found.with_kinds([alice, bob], ["Condition"]) == [bob]
    assert read == [bob]


@pytest.mark.parametrize("seed", range(4))
def test_the_same_are_found_with_the_array_and_without(seed: int, store: Store) -> None:
    """Whatever is written, restricted, regrouped or erased between two looks, and what was rolled back."""
    chance = random.Random(seed)
    patients, found = enrolled(store, 6), Preselection(store)
    chunks: list[tuple[str, str]] = []
    for step in range(60):
        patient = chance.choice(patients)
        match chance.choice(["add", "add", "restrict", "replace", "erase", "enrol", "undone"]):
            case "add" if store.is_enrolled(patient):
                labels = chance.choice([("N",), ("N",), ("R", "HIV"), ("unlabelled",)])
                chunks.append((patient, add(store, patient, chance.choice(KINDS), labels)))
            case "restrict" if chunks:
                store.restrict_chunk(*chance.choice(chunks), 1, "HIV")
            case "replace" if chunks:
                gone = chunks.pop(chance.randrange(len(chunks)))
                store.replace_chunks(gone[0], confirm=[], retire=[(gone[1], 1)], at=step)
            case "erase" if step > 30:
                erase(store, patient=patient, clock=lambda: 0.0)
                chunks = [one for one in chunks if one[0] != patient]
            case "enrol":  # perhaps under the number of somebody who was erased
                patients += enrolled(store, 1)
            case "undone" if store.is_enrolled(patient):
                with pytest.raises(RefusedTransition):
                    added_and_undone(store, patient)
        for kinds in (["Observation"], ["Condition", "Procedure"], list(KINDS)):
            assert found.with_kinds(patients, kinds) == by_headers(store, patients, kinds)


def test_what_changed_while_it_was_read_is_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (alice,) = enrolled(store, 1)
    chunk = add(store, alice, "Observation")
    found, whole = Preselection(store), preselection.is_ordinary

    def meanwhile(header: Header) -> bool:
        monkeypatch.setattr(preselection, "is_ordinary", whole)
        other = threading.Thread(target=store.restrict_chunk, args=(alice, chunk, 1, "HIV"))
        other.start()
        other.join()
        return whole(header)

    monkeypatch.setattr(preselection, "is_ordinary", meanwhile)
    assert found.with_kinds([alice], ["Observation"]) == [alice]  # as it was when it was read
    assert found.with_kinds([alice], ["Observation"]) == []


def test_it_lets_nobody_through_whom_the_contract_refuses(house: House) -> None:
    """What is released is the same for those who were chosen by it and for everybody."""
    patients = [house.patient() for _ in range(6)]
    for number, one in enumerate(patients):
        consent = house.grant(one, **({"kind": "deny"} if number == 1 else {}))
        if number == 2:
            house.revoke(consent)
        if number == 3:
            house.service.stop(consent=consent)
    bare = new_id()
    house.service.enrol(patient=bare)
    house.grant(bare)

    def released(whom: list[str]) -> set[str]:
        subjects = {new_id(): one for one in whom}
        _, answer = house.release(subjects, child=Child(new_id()))
        decided = answer["subjects"].items()
        return {subjects[one] for one, verdict in decided if verdict["decision"] == "permit"}

    kinds = [one["type"] for one in REQUEST["resources"]]
    everybody = [*patients, bare]
    chosen = house.service.with_kinds(patients=everybody, kinds=kinds)
    assert chosen == patients  # who said no is among them: it does not ask
    permitted = {patients[0], patients[4], patients[5]}
    assert released(chosen) == permitted
    assert released(everybody) - permitted == {bare}  # of whom there is nothing to open
