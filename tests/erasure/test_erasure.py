"""From two confirmations to nothing: what is destroyed, what stays, and what a backup brings back."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from consent.erasure import ask_erasure, confirm_erasure, refuse_erasure
from consent.models import Consent, ErasedConsent, Erasure, Patient, Requester
from gateway.analysis import tasks
from gateway.analysis.models import Job, JobSubject, Leg, Output, Summary
from gateway.compliance import erasure
from gateway.compliance.reconcile import Reconciler
from gateway.keyholder import log
from gateway.keyholder.client import Keyholder
from gateway.records.models import Chunk
from ledger.audit import sealing
from ledger.audit.models import AuditRow
from ledger.client import HOME
from ledger.errors import AccessDenied, RefusedTransition
from ledger.fsck import check
from tests.analysis.test_job_end_to_end import Play, records

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def play(own_installation: Any, helix: Requester, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    found = Play({HOME: own_installation.ledger_url}, own_installation.keyholder_socket, helix)
    found.register()
    return found


@pytest.fixture
def two(user: Any) -> Iterator[tuple[Any, Any]]:
    return user("dana", is_staff=True), user("erik", is_staff=True)


def due(patient: Patient, two: tuple[Any, Any]) -> Erasure:
    asked = ask_erasure(patient=patient, by=two[0])
    confirm_erasure(erasure=asked, by=two[0])
    return confirm_erasure(erasure=asked, by=two[1])


def done(play: Play) -> None:
    """The relay's rounds, until it is carried out."""
    for _ in range(5):
        if erasure.carry_out(play.keyholder):
            return
        play.settle()
    raise AssertionError("never carried out")


def everything() -> str:
    """All of the database as text, blobs in hex."""
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        rows = []
        for table in tables:
            cursor.execute(f'SELECT * FROM "{table}"')
            rows += [
                value.hex() if isinstance(value, bytes | memoryview) else str(value)
                for row in cursor.fetchall()
                for value in row
            ]
    return "\n".join(rows)


def test_two_people_decide_and_each_once(db: None, alice: Patient, two: tuple[Any, Any]) -> None:
    asked = ask_erasure(patient=alice, by=two[0])
    with pytest.raises(RefusedTransition) as refusal:
        ask_erasure(patient=alice, by=two[1])
    assert refusal.value.code == "erasure_asked"
    assert confirm_erasure(erasure=asked, by=two[0]).state == Erasure.State.CONFIRMED
    with pytest.raises(RefusedTransition) as refusal:
        confirm_erasure(erasure=asked, by=two[0])
    assert refusal.value.code == "second_person"
    assert confirm_erasure(erasure=asked, by=two[1]).state == Erasure.State.DUE
    for decide in (
        lambda: confirm_erasure(erasure=asked, by=two[0]),
        lambda: refuse_erasure(erasure=asked, by=two[0], hold="court"),
    ):
        with pytest.raises(RefusedTransition) as refusal:
            decide()
        assert refusal.value.code == "erasure_settled"
    kinds = AuditRow.objects.order_by("id").values_list("kind", flat=True)
    assert list(kinds) == ["erasure.asked", "erasure.confirmed", "erasure.confirmed"]


def test_a_legal_hold_keeps_everything(db: None, alice: Patient, two: tuple[Any, Any]) -> None:
    asked = ask_erasure(patient=alice, by=two[0])
    refused = refuse_erasure(erasure=asked, by=two[1], hold="court")
    assert (refused.state, refused.hold) == (Erasure.State.REFUSED, "court")
    nobody: Any = None  # nothing is due, so the keyholder is not asked
    assert erasure.carry_out(nobody) == 0
    assert Patient.objects.filter(pk=alice.pk).exists()
    ask_erasure(patient=alice, by=two[0])  # once the hold is over it may be asked again


def test_nothing_leads_to_her_and_everything_still_verifies(
    play: Play, two: tuple[Any, Any], own_installation: Any
) -> None:
    alice, bob = play.someone(*records(), name="Alice Unmistakable"), play.someone(*records())
    job, others = play.submit(play.yes(alice).request_id), play.submit(play.yes(bob).request_id)
    play.run(job)
    play.run(others)
    assert Output.objects.count() == 2
    sealing.seal()
    blob = bytes(Chunk.objects.filter(patient=alice).first().blob)  # type: ignore[union-attr]
    secrets = [alice.pk, alice.name, bytes(alice.audit_key).hex(), blob.hex()]
    consent = Consent.objects.get(patient=alice).pk
    assert all(secret in everything() for secret in secrets)
    key = due(alice, two).key

    done(play)
    text = everything().replace(key, "", 1)  # the erasure's own row, for a store that comes back
    assert [secret for secret in secrets if secret in text] == []
    assert ErasedConsent.objects.get().pk == consent
    assert JobSubject.objects.get(job=job).patient is None
    assert play.result(others)["entry"]
    with pytest.raises(AccessDenied):
        play.keyholder.open_output(job=job.pk, digest="ab" * 32, sealed=b"x")

    # Ledger, log of openings, audit log, and all of them beside each other.
    assert check(own_installation.ledger_url).good
    folder = str(own_installation.home / "keyholder")
    assert log.main([folder, "--ledger", own_installation.ledger_url]) == 0
    assert Reconciler(play.channels, play.keyholder, pause=0.0).look(whole=True).findings == ()
    call_command("reconcile")


def test_a_summary_goes_with_who_is_in_it_alone(
    db: None, alice: Patient, charlie: Patient, helix: Requester
) -> None:
    """The release let charlie in and not alice: his summary is not hers to take along."""
    job = Job.objects.create(
        requester=helix,
        kind=Job.Kind.SUMMARY,
        state=Job.State.DONE,
        purpose="HRESCH",
        index_date="2026-01-01",
    )
    leg = Leg.objects.create(job=job, state=Leg.State.DONE)
    Summary.objects.create(leg=leg, digest="ab" * 32, sealed=b"x", delivered_at=job.created_at)
    for number, (patient, state) in enumerate([(alice, "not_available"), (charlie, "delivered")]):
        JobSubject.objects.create(job=job, leg=leg, number=number, patient=patient, state=state)
    erasure._destroy(alice, kek="")
    assert Summary.objects.filter(leg=leg).exists()
    erasure._destroy(charlie, kek="")
    assert not Summary.objects.exists()


def test_what_is_in_force_is_stopped_on_the_ledger_first(play: Play, two: tuple[Any, Any]) -> None:
    alice = play.someone(*records())
    consent = play.yes(alice)
    due(alice, two)
    assert erasure.carry_out(play.keyholder) == 0  # the stop is on its way
    assert Patient.objects.filter(pk=alice.pk).exists()
    play.settle()
    assert erasure.carry_out(play.keyholder) == 1
    (mark,) = play.ledger.evaluate([f"revoked/{consent.pk}/Embedded"])
    assert b'"set":true' in (mark or b"")


def test_a_database_that_comes_back_from_a_backup_opens_nothing_and_forgets_her_again(
    play: Play, two: tuple[Any, Any]
) -> None:
    alice = play.someone(*records(), name="Alice Unmistakable")
    kept = Patient.objects.get(pk=alice.pk)
    chunks = list(Chunk.objects.filter(patient=alice))
    due(alice, two)
    done(play)

    with transaction.atomic():
        kept.user = None
        kept.save(force_insert=True)
        for chunk in chunks:
            chunk.save(force_insert=True)
    with pytest.raises(RefusedTransition) as refusal:
        play.keyholder.index(patient=kept.pk)
    assert refusal.value.code == "patient_unknown"
    assert erasure.repeat(play.keyholder) == 1
    assert not Patient.objects.filter(pk=kept.pk).exists()
    assert not Chunk.objects.filter(pk__in=[chunk.pk for chunk in chunks]).exists()


def test_a_keyholders_store_that_comes_back_forgets_her_again(
    play: Play, two: tuple[Any, Any], own_installation: Any
) -> None:
    alice = play.someone(*records())
    path = own_installation.home / "keyholder" / "keyholder.sqlite3"
    backup = own_installation.home / "backup.sqlite3"
    with sqlite3.connect(path) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    due(alice, two)
    done(play)
    own_installation.processes.stop("keyholder")
    for name in ("keyholder.sqlite3-wal", "keyholder.sqlite3-shm"):
        path.with_name(name).unlink(missing_ok=True)
    path.write_bytes(backup.read_bytes())
    own_installation.processes.restart("keyholder")
    keyholder = Keyholder(own_installation.keyholder_socket)
    assert keyholder.index(patient=alice.pk)
    erasure.repeat(keyholder)
    with pytest.raises(RefusedTransition):
        keyholder.index(patient=alice.pk)


def test_backups_are_closed_once_no_key_needs_the_kek_of_then(
    play: Play, two: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = play.someone(*records())
    due(alice, two)
    done(play)
    assert erasure.close_backups(play.keyholder) == 0
    status = play.keyholder.status()
    for told, closed in (
        ({"kek": "another", "under_old_keks": 3}, 0),
        ({"kek": "another", "under_old_keks": 0}, 1),
    ):
        monkeypatch.setattr(play.keyholder, "status", lambda told=told: {**status, **told})
        assert erasure.close_backups(play.keyholder) == closed
