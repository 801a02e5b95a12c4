"""Rotating the KEK: online, from where it was interrupted, and never without the key that is still needed."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.keyholder import rotation
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.store import Store
from ledger.errors import EnvelopeError
from tests.keyholder.house import House, new_id


@pytest.fixture
def patients(house: House) -> dict[str, bytes]:
    """Seven patients and their keys; the keyholder has stopped."""
    found = {}
    for _ in range(7):
        patient = new_id()
        house.service.enrol(patient=patient)
        found[patient] = house.store.patient_key(patient)
    house.store.close()
    return found


def new_kek(house: House) -> tuple[FileKEK, FileKEK]:
    """(old, new); the new one has the old one's place."""
    folder = house.home / "keyholder"
    old = FileKEK(folder / "kek")
    (folder / "kek").rename(folder / "kek.old")
    return old, FileKEK.create(folder / "kek")


def keys(store: Store) -> dict[str, bytes]:
    return {patient: store.patient_key(patient) for (patient,) in store._all("SELECT patient FROM patients")}


def test_keys_are_rewrapped_a_batch_at_a_time_and_open_meanwhile(
    house: House, patients: dict[str, bytes]
) -> None:
    folder = house.home / "keyholder"
    old, new = new_kek(house)
    store = Store(folder, new, old=old)
    for left in (4, 1, 0):
        assert rotation.rewrap(store, limit=3) == left
        assert keys(store) == patients
    added = new_id()
    store.enrol(added)
    assert store.under_old_keks() == 0
    store.close()
    store = Store(folder, new)
    assert {**patients, added: store.patient_key(added)} == keys(store)
    store.close()
    with pytest.raises(EnvelopeError, match="does not belong"):
        Store(folder, old)
    house.start_keyholder()


def test_interrupted_it_goes_on_and_starts_only_with_both(house: House, patients: dict[str, bytes]) -> None:
    folder = house.home / "keyholder"
    old, new = new_kek(house)
    store = Store(folder, new, old=old)
    rotation.rewrap(store, limit=3)
    store.close()
    for alone, code in ((new, "old_kek_needed"), (old, "wrong_kek")):
        with pytest.raises(EnvelopeError) as refusal:
            Store(folder, alone)
        assert refusal.value.code == code
    store = Store(folder, new, old=old)
    said: list[str] = []
    rotation.rewrap_all(store, threading.Event(), lease=3600, said=said.append)
    assert "Keep it for 3600 s" in said[0]
    assert keys(store) == patients
    store.close()
    house.start_keyholder()


def test_killed_at_a_random_point_no_key_is_lost(house: House, patients: dict[str, bytes]) -> None:
    """Another process rewraps one key after another, and is killed while it does."""
    folder = house.home / "keyholder"
    old, new = new_kek(house)
    program = (
        "import sys\nfrom pathlib import Path\nfrom gateway.keyholder.kek import FileKEK\n"
        "from gateway.keyholder.rotation import rewrap\nfrom gateway.keyholder.store import Store\n"
        "f = Path(sys.argv[1])\ns = Store(f, FileKEK(f / 'kek'), old=FileKEK(f / 'kek.old'))\n"
        "while rewrap(s, limit=1): print('one', flush=True)\n"
    )
    for _ in range(3):
        running = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGKILL)
        running.communicate()
    store = Store(folder, new, old=old)
    assert store.under_old_keks() < len(patients)
    assert keys(store) == patients
    store.close()
    house.store = Store(folder, new, old=old)


def test_jobs_run_while_the_key_is_rotated(house: House) -> None:
    alice = house.patient()
    house.grant(alice)
    house.store.close()
    old, new = new_kek(house)
    house.store = Store(house.home / "keyholder", new, old=old)
    house.serve(house.ledger)
    subject = new_id()
    child, _ = house.release({subject: alice})
    assert house.open(child, subject, limit=1).chunks
    assert rotation.rewrap(house.store) == 0
    assert house.open(child, subject, limit=1).chunks
    assert house.service.status()["under_old_keks"] == 0


def test_a_store_of_before_knows_which_kek_it_needs(house: House) -> None:
    alice = house.patient()
    house.start_keyholder_on(format=5)
    assert house.store.under_old_keks() == 0
    assert house.store.patient_key(alice)
    house.service.erase(patient=alice)
