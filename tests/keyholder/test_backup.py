"""Backups of the keyholder's store: whole, tried before they count, and they revive nobody."""

import io
import shutil
import sqlite3
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.keyholder import backup, log
from gateway.keyholder.client import Keyholder
from gateway.keyholder.erasure import ERASURES_A_DAY
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.store import FILE, Store
from ledger.errors import EnvelopeError, GatewayError, InvalidInput, RefusedTransition
from tests.keyholder.house import House, new_id


def named(patient: str) -> str:
    return sha256(patient.encode()).hexdigest()


class Kept:
    """A house whose store was backed up, at `file`."""

    def __init__(self, house: House) -> None:
        self.house, self.folder, self.file = house, house.home / "keyholder", house.home / "backup"
        self.kek = FileKEK(self.folder / "kek")

    def make(self) -> None:
        backup.make(self.folder, self.file, now=time.time())

    def restore(self, *, erased: dict[str, int] | None = None, now: float | None = None) -> backup.Restored:
        """With the keyholder down meanwhile."""
        self.house.store.close()
        try:
            return backup.restore(
                self.file, self.folder, self.kek, erased=erased or {}, now=now or time.time()
            )
        finally:
            self.house.start_keyholder()

    def opens(self, patient: str) -> bool:
        """Whether a whole job over the patient gets her records."""
        subject = new_id()
        child, answer = self.house.release({subject: patient})
        if answer["decision"] != "permit":
            return False
        page = self.house.open(child, subject)
        return len(child.open(self.house, page, subject=subject, patient=patient)) == 2


@pytest.fixture
def kept(house: House) -> Kept:
    return Kept(house)


# Made


def test_a_backup_is_made_while_the_keyholder_serves_and_says_what_is_in_it(kept: Kept) -> None:
    alice = kept.house.patient()
    kept.house.grant(alice)
    assert kept.opens(alice)
    kept.make()
    assert kept.file.stat().st_mode & 0o777 == 0o600
    found = backup.check(kept.file, kept.kek)
    assert found.counts == {"patients": 1, "chunks": 2, "consents": 1, "openings": 1}
    assert abs(found.at - time.time()) < 60
    assert found.heights["home"] > 0
    assert kept.opens(alice)
    # One file, without a journal beside it, and the KEK is not in it.
    assert [path.name for path in kept.house.home.glob("backup*")] == ["backup"]
    assert (kept.folder / "kek").read_bytes().strip() not in kept.file.read_bytes()


def test_nothing_is_overwritten_by_a_backup(kept: Kept) -> None:
    kept.file.write_bytes(b"of yesterday")
    with pytest.raises(RefusedTransition) as refusal:
        kept.make()
    assert refusal.value.code == "backup_exists"
    assert kept.file.read_bytes() == b"of yesterday"
    assert [path.name for path in kept.house.home.glob("backup*")] == ["backup"]


def test_of_no_store_there_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(EnvelopeError) as refusal:
        backup.make(tmp_path, tmp_path / "backup", now=time.time())
    assert refusal.value.code == "store_missing"
    assert list(tmp_path.iterdir()) == []


# Tried


def spoiled(file: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(file) as db:
        db.execute(sql, values)
    db.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE patients SET index_key = zeroblob(60)",
        "UPDATE patients SET wrapped_key = zeroblob(60)",
        "UPDATE chunks SET header = zeroblob(200)",
        "UPDATE consents SET opening = zeroblob(200)",
        "DELETE FROM patients",
    ],
)
def test_a_backup_of_which_anything_does_not_open_is_refused_and_takes_no_place(kept: Kept, sql: str) -> None:
    alice = kept.house.patient()
    kept.house.grant(alice)
    kept.make()
    spoiled(kept.file, sql)
    with pytest.raises(EnvelopeError) as refusal:
        backup.check(kept.file, kept.kek)
    assert refusal.value.code == "backup_damaged"
    before = kept.house.store.counts()
    with pytest.raises(EnvelopeError):
        kept.restore()
    assert kept.house.store.counts() == before
    assert kept.opens(alice)
    assert list(kept.folder.glob("re*")) == []


@pytest.mark.parametrize(
    "sealed",
    [
        "SELECT wrapped_key FROM patients",
        "SELECT index_key FROM patients",
        "SELECT header FROM chunks",
        "SELECT opening FROM consents",
        "SELECT CAST('SQLite format 3' AS BLOB)",
    ],
)
def test_one_other_byte_in_the_file_is_seen(kept: Kept, sealed: str) -> None:
    kept.house.grant(kept.house.patient())
    kept.make()
    with sqlite3.connect(kept.file) as db:
        (value,) = db.execute(sealed).fetchone()
    db.close()
    data = bytearray(kept.file.read_bytes())
    data[data.index(value) + len(value) - 1] ^= 1
    kept.file.write_bytes(data)
    with pytest.raises(EnvelopeError) as refusal:
        backup.check(kept.file, kept.kek)
    assert refusal.value.code == "backup_damaged"


def test_another_kek_is_refused(kept: Kept, tmp_path: Path) -> None:
    kept.make()
    with pytest.raises(EnvelopeError) as refusal:
        backup.check(kept.file, FileKEK.create(tmp_path / "kek"))
    assert refusal.value.code == "wrong_kek"


# In its place


def test_who_was_erased_since_is_erased_again_and_who_stopped_stays_stopped(kept: Kept) -> None:
    alice, bob, carol = (kept.house.patient() for _ in range(3))
    _, stopped, _ = (kept.house.grant(one) for one in (alice, bob, carol))
    assert kept.opens(alice)
    kept.make()
    kept.house.service.stop(consent=stopped)
    kept.house.service.erase(patient=carol)
    late = kept.house.patient()
    kept.house.grant(late)
    assert kept.opens(late)

    done = kept.restore()
    assert done.erased == 1
    assert done.taken["stops"] == 2  # bob's, and carol's by her erasure
    assert done.taken["erasures"] == 1
    assert done.taken["openings"] == 1  # late's, who is lacking
    assert done.lacks == {
        **{"patients": 1, "chunks": 2, "consents": 1, "openings": 0},
        **{"passkeys": 0, "passkeys of clinicians": 0},
    }
    assert [kept.opens(one) for one in (alice, bob, carol, late)] == [True, False, False, False]
    assert not kept.house.store.is_enrolled(carol)
    assert carol.encode() not in (kept.folder / FILE).read_bytes()
    url = f"embedded://{kept.house.home / 'ledger'}"
    assert log.main([str(kept.folder), "--ledger", url]) == 0
    # What stood there is aside, and opens as before.
    assert done.aside is not None
    with sqlite3.connect(done.aside / FILE) as db:
        assert db.execute("SELECT COUNT(*) FROM consents").fetchone() == (3,)
    db.close()


def test_a_log_that_does_not_go_on_from_the_backups_is_not_taken(kept: Kept) -> None:
    alice = kept.house.patient()
    kept.house.grant(alice)
    assert kept.opens(alice)
    kept.make()
    spoiled(kept.file, "UPDATE openings SET digest = zeroblob(32)")
    assert kept.opens(alice)
    done = kept.restore()
    assert "openings" not in done.taken
    assert done.lacks is not None
    assert done.lacks["openings"] == 2


@pytest.mark.parametrize("loss", ["gone", "damaged", "made anew"])
def test_where_the_disk_was_lost_the_databases_list_erases(kept: Kept, loss: str) -> None:
    """A keyholder that was started without its store has made an empty one, which knows of no erasure."""
    alice, bob = kept.house.patient(), kept.house.patient()
    kept.house.grant(alice)
    kept.make()
    at = kept.house.service.erase(patient=bob)["at"]
    kept.house.store.close()
    for path in kept.folder.glob(f"{FILE}*"):
        path.unlink()
    if loss == "damaged":
        (kept.folder / FILE).write_bytes(b"SQLite format 3\0" + bytes(5000))
        (kept.folder / FILE).chmod(0o600)
    if loss == "made anew":
        Store(kept.folder, kept.kek).close()
    unknown = named(new_id())
    done = backup.restore(
        kept.file, kept.folder, kept.kek, erased={named(bob): at, unknown: at}, now=time.time()
    )
    kept.house.start_keyholder()
    assert done.erased == 1
    assert (done.lacks is None) == (loss != "made anew")
    assert (done.aside is None) == (loss == "gone")
    assert not kept.house.store.is_enrolled(bob)
    assert kept.opens(alice)
    # It remembers them all, so that the relay's next round finds nothing to do.
    assert kept.house.service.erase(patient=bob)["at"] == at


def test_a_list_that_would_erase_everybody_is_refused(kept: Kept) -> None:
    patients = [kept.house.patient({}) for _ in range(ERASURES_A_DAY + 1)]
    kept.make()
    erased = {named(one): int(time.time()) for one in patients}
    with pytest.raises(RefusedTransition) as refusal:
        kept.restore(erased=erased)
    assert refusal.value.code == "erasures_exceeded"
    assert kept.house.store.counts()["patients"] == len(patients)
    assert list(kept.folder.glob("re*")) == []
    assert kept.restore(erased=erased, now=time.time() + 86_400).erased == len(patients)


def test_a_passkey_that_was_dropped_since_stays_dropped_and_one_that_is_lacking_is_counted(
    kept: Kept,
) -> None:
    alice = kept.house.patient()
    add = "INSERT INTO passkeys (patient, passkey) VALUES (?, ?)"
    with kept.house.store.transaction() as db:
        for _ in range(2):
            db.execute(add, (alice, new_id().encode()))
    kept.make()
    with kept.house.store.transaction() as db:
        db.execute("UPDATE passkeys SET dropped = 7 WHERE id = 1")
        db.execute(add, (alice, new_id().encode()))
    done = kept.restore()
    assert done.taken["dropped passkeys"] == 1
    assert done.lacks is not None
    assert done.lacks["passkeys"] == 1
    with kept.house.store.transaction() as db:
        assert db.execute("SELECT id, dropped FROM passkeys").fetchall() == [(1, 7), (2, None)]


def test_so_does_a_clinicians(kept: Kept) -> None:
    columns = "(clinician, credential, public_key, since, how)"
    add = f"INSERT INTO clinicians {columns} VALUES ('bob', ?, x'00', 1, '')"
    with kept.house.store.transaction() as db:
        db.executemany(add, [("left",), ("stays",)])
    kept.make()
    with kept.house.store.transaction() as db:
        db.execute("UPDATE clinicians SET dropped = 7 WHERE credential = 'left'")
        db.execute(add, ("new",))
    done = kept.restore()
    assert done.taken["dropped passkeys of clinicians"] == 1
    assert done.lacks is not None
    assert done.lacks["passkeys of clinicians"] == 1
    with kept.house.store.transaction() as db:
        found = db.execute("SELECT credential, dropped FROM clinicians ORDER BY id").fetchall()
    assert found == [("left", 7), ("stays", None)]


def test_a_store_of_an_older_format_is_taken_over_as_far_as_it_goes(kept: Kept) -> None:
    alice = kept.house.patient()
    kept.make()
    with kept.house.store.transaction() as db:
        db.execute("INSERT INTO passkeys (patient, passkey) VALUES (?, ?)", (alice, new_id().encode()))
        db.execute("DROP TABLE clinicians")
    done = kept.restore()
    assert done.lacks is not None
    assert done.lacks["passkeys"] == 1
    assert "passkeys of clinicians" not in done.lacks


def test_neither_clock_nor_ledger_goes_back(kept: Kept) -> None:
    alice = kept.house.patient()
    kept.make()
    kept.house.clock.ahead += 1000
    kept.house.grant(alice)
    assert kept.opens(alice)
    latest, heights = kept.house.store.latest, kept.house.store.heights()
    assert kept.restore().taken.keys() >= {"clock", "heights"}
    assert (kept.house.store.latest, kept.house.store.heights()) == (latest, heights)


def test_a_backup_from_before_a_rotation_comes_under_the_new_kek(kept: Kept) -> None:
    alice = kept.house.patient()
    kept.house.grant(alice)
    kept.make()
    kept.house.store.close()
    (kept.folder / "kek").rename(kept.folder / "old")
    new = FileKEK.create(kept.folder / "kek")
    with pytest.raises(EnvelopeError):
        backup.check(kept.file, new)
    backup.restore(kept.file, kept.folder, new, old=kept.kek, erased={}, now=time.time())
    kept.house.start_keyholder()
    assert kept.house.store.under_old_keks() == 0
    assert kept.opens(alice)


def test_a_store_that_a_keyholder_holds_is_not_replaced(kept: Kept) -> None:
    kept.make()
    with pytest.raises(RefusedTransition) as refusal:
        backup.restore(kept.file, kept.folder, kept.kek, erased={}, now=time.time())
    assert refusal.value.code == "store_held"


@pytest.mark.parametrize("text", ["x 1", f"{'a' * 64}", f"{'A' * 64} 1", f"{'a' * 64} -1", "\n"])
def test_a_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        backup.read_erased([text])


# The command, and real processes


def command(*arguments: object, given: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gateway.keyholder.backup", *map(str, arguments)],
        input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def place(own_installation: Any) -> tuple[Keyholder, Path, Path]:
    folder = own_installation.home / "keyholder"
    return Keyholder(own_installation.keyholder_socket), folder, own_installation.home / "backup"


@pytest.mark.django_db
def test_a_real_keyholder_is_backed_up_lost_and_restored(
    own_installation: Any, place: tuple[Keyholder, Path, Path]
) -> None:
    from django.core.management import call_command
    from django.utils import timezone

    from consent.models import Erasure

    keyholder, folder, file = place
    alice, bob = new_id(), new_id()
    for patient in (alice, bob):
        keyholder.enrol(patient=patient)
    assert command("make", folder, file).returncode == 0
    keyholder.erase(patient=bob)
    Erasure.objects.create(key=bob, state=Erasure.State.DONE, settled_at=timezone.now())
    Erasure.objects.create(key=alice, state=Erasure.State.DUE)  # asked for, and not done
    out = io.StringIO()
    call_command("erasures", stdout=out)
    assert out.getvalue().split()[0] == named(bob)
    assert len(out.getvalue().splitlines()) == 1

    restore = ("restore", file, folder, "--kek", folder / "kek", "--erased", "-")
    done = command(*restore, given=out.getvalue())
    assert (done.returncode, "store_held" in done.stderr) == (1, True)
    own_installation.processes.kill("keyholder")
    for path in folder.glob(f"{FILE}*"):
        path.unlink()
    shutil.move(folder / "kek", folder / "mislaid")
    done = command(*restore, given=out.getvalue())
    assert (done.returncode, "kek_unreadable" in done.stderr) == (1, True)
    shutil.move(folder / "mislaid", folder / "kek")
    done = command("check", file, "--kek", folder / "kek")
    assert (done.returncode, "patients 2" in done.stdout) == (0, True)
    done = command(*restore, given=out.getvalue())
    assert done.returncode == 0, done.stderr
    assert "erased again: 1." in done.stdout
    assert "It lacks what came after it." in done.stdout
    assert not any(patient in done.stdout for patient in (alice, bob))

    own_installation.processes.restart("keyholder")
    assert keyholder.index(patient=alice) == []
    with pytest.raises(GatewayError) as refusal:
        keyholder.index(patient=bob)
    assert refusal.value.code == "patient_unknown"


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    assert command("restore", tmp_path / "b", tmp_path, "--kek", tmp_path / "k").returncode == 2
    done = command("make", tmp_path / "none", tmp_path / "away" / "b")
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
