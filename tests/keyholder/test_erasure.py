"""Erasing a patient: nothing opens any more, from no copy, and the ledger and the log still verify."""

import shutil
from pathlib import Path

import pytest

from gateway.keyholder import erasure, log
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.rotation import rewrap
from gateway.keyholder.store import Store
from ledger.embedded.fsck import check
from ledger.errors import EnvelopeError, GatewayError, RefusedTransition
from tests.keyholder.house import House, new_id


def everything(folder: Path) -> bytes:
    return b"".join(
        path.read_bytes() for path in sorted(folder.iterdir()) if path.name.startswith("keyholder.")
    )


def test_nothing_of_her_is_left_and_the_rest_is_as_it_was(house: House) -> None:
    alice, bob, subject = house.patient(), house.patient(), new_id()
    consent, other = house.grant(alice), house.grant(bob)
    child, answer = house.release({subject: alice})
    assert answer["decision"] == "permit"
    assert house.open(child, subject).chunks
    answer = house.service.erase(patient=alice)
    assert answer["kek"] == house.store.kek.id
    assert alice.encode() not in everything(house.home / "keyholder")

    with pytest.raises(GatewayError):
        house.open(child, subject)
    _, denied = house.release({new_id(): alice})
    assert denied["decision"] == "deny"
    with pytest.raises(RefusedTransition, match="No key"):
        house.service.index(patient=alice)
    assert house.store.opening(consent) is None
    assert house.store.is_denied([consent])
    again = new_id()
    child, answer = house.release({again: bob})
    assert [len(data) > 0 for data in child.open(house, house.open(child, again), subject=again, patient=bob)]
    assert house.store.opening(other) is not None

    # The log of openings and the ledger hold without her.
    url = f"embedded://{house.home / 'ledger'}"
    assert log.main([str(house.home / "keyholder"), "--ledger", url]) == 0
    assert check(house.home / "ledger").good


def test_it_may_be_asked_for_again_and_for_nobody(house: House) -> None:
    alice = house.patient()
    first = house.service.erase(patient=alice)
    house.clock.ahead += 100
    assert house.service.erase(patient=alice) == first
    assert house.service.erase(patient=new_id())["at"] > first["at"]


def test_only_so_many_a_day(house: House) -> None:
    for _ in range(erasure.ERASURES_A_DAY):
        house.service.erase(patient=new_id())
    alice = house.patient()
    with pytest.raises(RefusedTransition) as refusal:
        house.service.erase(patient=alice)
    assert refusal.value.code == "erasures_exceeded"
    assert house.store.is_enrolled(alice)
    house.clock.ahead += erasure.DAY + 1
    house.service.erase(patient=alice)
    assert not house.store.is_enrolled(alice)


def test_a_store_that_came_back_from_a_backup_erases_her_again(house: House) -> None:
    """As the relay asks again for each erasure; and the bound does not stand in its way."""
    alice, folder = house.patient(), house.home / "keyholder"
    backup = house.home / "backup.sqlite3"
    house.store.truncate_journal()
    shutil.copy(folder / "keyholder.sqlite3", backup)
    house.service.erase(patient=alice)
    house.store.close()
    shutil.copy(backup, folder / "keyholder.sqlite3")
    house.start_keyholder()
    assert house.store.is_enrolled(alice)
    house.service.erase(patient=alice)
    assert not house.store.is_enrolled(alice)


def test_a_backup_of_before_opens_nothing_once_the_kek_of_then_is_destroyed(house: House) -> None:
    alice, bob, folder = house.patient(), house.patient(), house.home / "keyholder"
    backup = house.home / "backup"
    backup.mkdir()
    house.store.truncate_journal()
    shutil.copy(folder / "keyholder.sqlite3", backup / "keyholder.sqlite3")
    house.service.erase(patient=alice)

    old = FileKEK(folder / "kek")
    house.store.close()
    (folder / "kek").unlink()
    new = FileKEK.create(folder / "kek")
    store = Store(folder, new, old=old)
    assert rewrap(store) == 0
    store.close()

    # With the old KEK she could still be opened: that is why it is destroyed.
    revived = Store(backup, old)
    assert revived.is_enrolled(alice)
    assert revived.patient_key(alice)
    revived.close()
    with pytest.raises(EnvelopeError) as refusal:
        Store(backup, new)
    assert refusal.value.code == "wrong_kek"
    house.start_keyholder()
    assert house.store.patient_key(bob)
