"""The store and the KEK: who may read them, and that nothing is written when they do not fit."""

import os
from pathlib import Path

import pytest

from gateway.keyholder.envelope import new_key
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.store import Header, Opening, Store
from ledger.errors import EnvelopeError, GatewayError, RefusedTransition
from tests.keyholder.house import new_id


@pytest.fixture
def kek(tmp_path: Path) -> FileKEK:
    return FileKEK.create(tmp_path / "kek")


def test_a_kek_is_made_once_and_for_its_owner_alone(tmp_path: Path, kek: FileKEK) -> None:
    path = tmp_path / "kek"
    assert path.stat().st_mode & 0o777 == 0o600
    assert FileKEK.create(path).id == kek.id
    key = new_key()
    assert FileKEK(path).unwrap(kek.wrap(key)) == key
    assert os.listdir(tmp_path) == ["kek"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_kek_that_others_may_read_is_refused(tmp_path: Path, kek: FileKEK, mode: int) -> None:
    (tmp_path / "kek").chmod(mode)
    with pytest.raises(EnvelopeError) as found:
        FileKEK(tmp_path / "kek")
    assert found.value.code == "kek_exposed"


@pytest.mark.parametrize("text", ["", "00" * 31, "zz" * 32, "00" * 33])
def test_a_kek_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kek"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(EnvelopeError) as found:
        FileKEK(path)
    assert found.value.code == "kek_unreadable"
    assert text == "" or text not in found.value.message


def test_a_wrong_kek_is_refused_and_nothing_is_written(tmp_path: Path, kek: FileKEK) -> None:
    Store(tmp_path, kek).close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = tmp_path / "elsewhere"
    other.mkdir()
    with pytest.raises(EnvelopeError) as found:
        Store(tmp_path, FileKEK.create(other / "kek"))
    assert found.value.code == "wrong_kek"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    Store(tmp_path, kek).close()


def test_a_store_is_for_its_owner_alone(tmp_path: Path, kek: FileKEK) -> None:
    Store(tmp_path, kek).close()
    path = tmp_path / "keyholder.sqlite3"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(EnvelopeError) as found:
        Store(tmp_path, kek)
    assert found.value.code == "store_exposed"


def test_a_damaged_store_is_refused(tmp_path: Path, kek: FileKEK) -> None:
    Store(tmp_path, kek).close()
    path = tmp_path / "keyholder.sqlite3"
    path.write_bytes(b"x" * 4096)
    with pytest.raises(EnvelopeError) as found:
        Store(tmp_path, kek)
    assert found.value.code == "store_damaged"


def test_one_process_holds_a_store(tmp_path: Path, kek: FileKEK) -> None:
    store = Store(tmp_path, kek)
    with pytest.raises(RefusedTransition) as found:
        Store(tmp_path, kek)
    assert found.value.code == "store_held"
    store.close()


def test_nothing_of_a_patient_is_in_the_store_in_clear(tmp_path: Path, kek: FileKEK) -> None:
    store, patient = Store(tmp_path, kek), new_id()
    store.enrol(patient)
    header = Header(new_id(), 1, "Observation", ("HIV",), 7, new_key())
    opening = Opening(new_id(), patient, {"provision": "CLINTRCH"}, new_key())
    store.add_chunks(patient, [header])
    store.add_opening(opening)
    store.close()
    found = b"".join(path.read_bytes() for path in tmp_path.glob("keyholder.sqlite3*"))
    secrets = [header.dek, opening.key, header.dek.hex().encode(), opening.key.hex().encode()]
    for secret in (*secrets, b"Observation", b"HIV", b"CLINTRCH"):
        assert secret not in found


def test_enrolling_again_changes_no_key(tmp_path: Path, kek: FileKEK) -> None:
    store, patient = Store(tmp_path, kek), new_id()
    store.enrol(patient)
    before = store.patient_key(patient), store.index_key(patient)
    store.enrol(patient)
    assert (store.patient_key(patient), store.index_key(patient)) == before
    store.close()


def test_a_confirmed_chunk_is_never_given_another_key(tmp_path: Path, kek: FileKEK) -> None:
    store, patient, other = Store(tmp_path, kek), new_id(), new_id()
    for one in (patient, other):
        store.enrol(one)
    header = Header(new_id(), 1, "Observation", ("N",), 1, new_key())
    store.add_chunks(patient, [header])
    with pytest.raises(RefusedTransition):
        store.add_chunks(other, [header])
    store.confirm_chunks([(header.chunk, 1)])
    with pytest.raises(RefusedTransition):
        store.add_chunks(patient, [header])
    with pytest.raises(RefusedTransition):
        store.confirm_chunks([(new_id(), 1)])
    assert [one.dek for one in store.headers(patient)] == [header.dek]
    store.close()


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path, kek: FileKEK) -> None:
    store, patient = Store(tmp_path, kek), new_id()
    store.enrol(patient)
    with store.transaction() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
    headers = [Header(new_id(), 1, "Observation", ("N",), 1, new_key()) for _ in range(500)]
    with pytest.raises(GatewayError) as found:
        store.add_chunks(patient, headers)
    assert found.value.code == "store_unwritable"
    assert store.counts()["chunks"] == 0
    store.close()


def test_only_the_version_that_was_asked_for_is_confirmed(tmp_path: Path, kek: FileKEK) -> None:
    store, patient, chunk = Store(tmp_path, kek), new_id(), new_id()
    store.enrol(patient)
    store.add_chunks(
        patient, [Header(chunk, version, "Observation", ("N",), 1, new_key()) for version in (1, 2)]
    )
    store.confirm_chunks([(chunk, 1)])
    assert [one.version for one in store.headers(patient)] == [1]
    with pytest.raises(RefusedTransition):
        store.confirm_chunks([(chunk, 2), (chunk, 3)])
    assert [one.version for one in store.headers(patient)] == [1]
    store.confirm_chunks([(chunk, 2)])
    assert [one.version for one in store.headers(patient)] == [2]
    store.close()


def test_a_store_of_another_format_is_refused(tmp_path: Path, kek: FileKEK) -> None:
    store = Store(tmp_path, kek)
    with store.transaction() as db:
        db.execute("UPDATE meta SET value = CAST('1' AS BLOB) WHERE name = 'format'")
    store.close()
    with pytest.raises(EnvelopeError) as found:
        Store(tmp_path, kek)
    assert found.value.code == "store_format"
