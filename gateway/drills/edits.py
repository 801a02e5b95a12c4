# ruff: noqa: E501 (a table of statements reads best one a line)
"""Drill of reconciliation: a row of each store is edited by hand, and each edit is found and holds releases.

A patient's yes, a job and its result are made by the product's own services on real processes; then somebody
with access to one store changes it there, behind everybody's back.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from gateway.drills.catalogue import EMBEDDED, Drill
from gateway.drills.report import Report
from gateway.drills.rig import MODEL, REQUEST, Rig, database
from gateway.drills.worker import Job as Played
from gateway.drills.worker import Player
from ledger.channels import HOME, Channels
from ledger.errors import LedgerError

DATABASE, KEYHOLDER, LEDGER = "database", "keyholder", "ledger"
FILES = {
    DATABASE: "db.sqlite3",
    KEYHOLDER: "keyholder/keyholder.sqlite3",
    LEDGER: "ledger/ledger.sqlite3",
}


@dataclass(frozen=True)
class Edit:
    """One statement on one table of one store, and the finding that it must lead to."""

    store: str
    table: str
    what: str
    statement: str
    code: str


EDITS = (
    Edit(DATABASE, "consent_consent", "a consent in force is said to be replaced",
         "UPDATE consent_consent SET ledger_state = 'superseded'", "state_differs"),
    Edit(DATABASE, "consent_consent", "a consent ends later",
         "UPDATE consent_consent SET expires_at = '2098-01-01 00:00:00'", "expiry_differs"),
    Edit(DATABASE, "analysis_output", "a result is exchanged",
         "UPDATE analysis_output SET sealed = x'00'", "output_differs"),
    Edit(DATABASE, "analysis_output", "and its digest with it",
         "UPDATE analysis_output SET digest = '" + "ab" * 32 + "'", "delivery_differs"),
    Edit(DATABASE, "analysis_attempt", "a release is made up",
         "UPDATE analysis_attempt SET number = 7", "release_missing"),
    Edit(DATABASE, "analysis_jobsubject", "a use is hidden from its patient",
         "UPDATE analysis_jobsubject SET state = 'not_available'", "use_not_shown"),
    Edit(DATABASE, "analysis_leg", "the job of an opening is removed",
         "DELETE FROM analysis_leg", "opening_unknown"),
    Edit(DATABASE, "analysis_job", "a use is said to be by another model",
         "UPDATE analysis_job SET model = '" + "ab" * 32 + "'", "release_differs"),
    Edit(DATABASE, "consent_patient", "a use is put down to another patient",
         "UPDATE consent_patient SET audit_key = zeroblob(32)", "use_of_another"),
    Edit(DATABASE, "audit_auditrow", "a row of the log says something else",
         "UPDATE audit_auditrow SET line = CAST(replace(CAST(line AS TEXT), 'delivered', 'cancelled') AS BLOB)",
         "rows_differ"),
    Edit(DATABASE, "audit_auditrow", "a row of the log is removed",
         "DELETE FROM audit_auditrow WHERE leaf = 1", "rows_differ"),
    Edit(DATABASE, "audit_auditrow", "a row of the log is found under another kind",
         "UPDATE audit_auditrow SET kind = 'job.queued' WHERE kind = 'job.delivered'", "columns_differ"),
    Edit(DATABASE, "audit_auditrow", "a row is put behind the sealed ones",
         "INSERT INTO audit_auditrow (line, kind, subject, step_of, recorded_at, leaf)"
         " SELECT line, kind, subject, step_of, recorded_at, 900 FROM audit_auditrow LIMIT 1", "row_unsealed"),
    Edit(DATABASE, "audit_auditrow", "a use is in no log",
         "DELETE FROM audit_auditrow WHERE kind = 'job.delivered'", "use_not_logged"),
    Edit(DATABASE, "audit_auditbatch", "a batch has another root",
         "UPDATE audit_auditbatch SET root = '" + "ab" * 32 + "'", "batch_differs"),
    Edit(DATABASE, "audit_auditbatch", "the log of before is put back",
         "DELETE FROM audit_auditbatch", "checkpoint_differs"),
    Edit(KEYHOLDER, "openings", "an opening is said to be another",
         "UPDATE openings SET line = CAST(replace(CAST(line AS TEXT), '\"part\":0', '\"part\":1') AS BLOB)"
         " WHERE id = 1", "log_differs"),
    Edit(KEYHOLDER, "openings", "an opening is removed from the log",
         "DELETE FROM openings WHERE id = 1", "log_differs"),
    Edit(KEYHOLDER, "openings", "the end of the log is cut off",
         "DELETE FROM openings", "never_opened"),
    Edit(KEYHOLDER, "consents", "a consent's opening is lost",
         "DELETE FROM consents", "opening_missing"),
    Edit(KEYHOLDER, "consents", "a consent's opening is garbled",
         "UPDATE consents SET opening = zeroblob(200)", "opening_differs"),
    Edit(LEDGER, "state", "a release is removed",
         "DELETE FROM state WHERE key LIKE 'release/%'", "opening_without_door"),
    Edit(LEDGER, "state", "a delivery is removed",
         "DELETE FROM state WHERE key LIKE 'deliver/%'", "delivery_differs"),
    Edit(LEDGER, "state", "a consent is removed",
         "DELETE FROM state WHERE key LIKE 'consent/%'", "ledger_disagrees"),
    Edit(LEDGER, "state", "a patient's stop is made up",
         "UPDATE state SET value = CAST(replace(CAST(value AS TEXT), '\"set\":false', '\"set\":true') AS BLOB)"
         " WHERE key LIKE 'revoked/%'", "ledger_disagrees"),
    Edit(LEDGER, "state", "the log's checkpoint is exchanged",
         "UPDATE state SET value = CAST(replace(CAST(value AS TEXT), '\"size\":', '\"size\":9') AS BLOB)"
         " WHERE key LIKE 'checkpoint/%'", "checkpoint_differs"),
)  # fmt: skip


def edited_rows(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    from gateway.compliance.reconcile import Reconciler, hold, settle_others
    from ledger.audit.incidents import is_held
    from ledger.audit.log import Actor

    by = Actor.system("drill")

    with database(rig.home):
        _one_use(rig)
        channels = Channels.open(rig.urls, identity="gateway")
        reconciler = Reconciler(channels, rig.keyholder, pause=0.0)
        found = reconciler.look(whole=True).findings
        report.promise("before: all stores agree", not found and not is_held(), _codes(found))
        for edit in EDITS:
            with edited(rig.home / FILES[edit.store], edit):
                found = reconciler.look(whole=True).findings
                hold(found, by=by)
                kept = edit.code in {one.code for one in found} and is_held()
            report.promise(f"{edit.store}: {edit.what}", kept, _codes(found))
            settle_others((), by=by)
        found = reconciler.look(whole=True).findings
        report.promise(
            "put right: all stores agree, and releases go on", not found and not is_held(), _codes(found)
        )
        channels.close()


def _codes(found: Any) -> str:
    return ", ".join(sorted({one.code for one in found})) or "nothing found"


@contextmanager
def edited(path: Path, edit: Edit) -> Iterator[None]:
    """The store with the edit, as whoever may write its file makes it; its table is put back afterwards."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as db:
        rows = db.execute(f"SELECT * FROM {edit.table}").fetchall()  # noqa: S608 (a table's name)
        if not db.execute(edit.statement).rowcount:
            raise ValueError(f"nothing to edit: {edit.what}")
        try:
            yield
        finally:
            marks = ", ".join("?" * len(rows[0]))
            db.execute("BEGIN IMMEDIATE")
            db.execute(f"DELETE FROM {edit.table}")  # noqa: S608
            db.executemany(f"INSERT INTO {edit.table} VALUES ({marks})", rows)  # noqa: S608
            db.execute("COMMIT")


def _one_use(rig: Rig) -> None:
    """A patient who said yes, a job of hers that was delivered, and the log, sealed and anchored."""
    from hashlib import sha256

    from django.db import transaction
    from django.utils import timezone

    from consent import notices, review, services
    from consent.models import Consent, Patient, Requester
    from gateway.accounts.models import User
    from gateway.analysis.models import Attempt, Job, JobSubject, Leg, Output
    from ledger import outbox
    from ledger.audit import sealing
    from ledger.audit.log import Actor, record
    from ledger.models import LedgerTransaction

    made = rig.patient(granted=False)
    today, now = timezone.localdate(), timezone.now()
    helix = Requester.objects.create(name="Helix AI")
    person = Patient.objects.create(id=made.id, name="A patient", record_id="drill", proofed_at=now)
    question = services.ask(
        requester=helix,
        patient=person,
        notice=notices.current(),
        model=MODEL,
        purpose=REQUEST["purpose"],
        use=[],
        kinds=["Observation", "Condition"],
        what_for="A drill.",
        share_until=today + timedelta(days=90),
        answer_by=today + timedelta(days=9),
    )
    review.approve(request=question, by=User.objects.create_user("reviewer"))
    consent = services.grant(
        request=question, patient=person, kinds=["Observation", "Condition"], duration="until"
    )
    gateway = rig.ledger("gateway")

    def through_keyholder(row: LedgerTransaction) -> Mapping[str, Any]:
        return rig.keyholder.grant(consent=consent.pk, patient=person.pk, fhir=consent.fhir)

    def relay() -> None:
        handlers = {
            "ConsentGranted": services.record_granted,
            "Checkpointed": sealing.record_checkpointed,
        }
        outbox.send_pending(gateway, through_keyholder=through_keyholder)
        outbox.follow(gateway, listener="drill", handlers=handlers, wait=0.5)

    relay()
    consent.refresh_from_db()
    if consent.ledger_state != Consent.LedgerState.IN_FORCE:
        raise LedgerError("The drill's consent did not come into force.")
    job = Job.objects.create(
        requester=helix, model=MODEL, purpose=REQUEST["purpose"], index_date=today, state=Job.State.DONE,
        settled_at=now,
    )  # fmt: skip
    leg = Leg.objects.create(id=job.pk, job=job, channel=HOME, state=Leg.State.DONE)
    subject = JobSubject.objects.create(
        job=job, leg=leg, number=0, asked=question.pk, request=question, patient=person, consent=consent.pk,
        state=JobSubject.State.DELIVERED,
    )  # fmt: skip
    played = Played(leg.pk, [{"subject": subject.pk, "patient": person.pk}])
    request = {**REQUEST, "recipient": helix.reference}
    Player(rig.keyholder, request, rig.blobs, rig.notes.append).finish(played)
    sealed = bytes.fromhex(played.sealed[subject.pk])
    Attempt.objects.create(
        leg=leg, number=played.attempt, release_tx="ab" * 32, deliver_tx="cd" * 32, ended_at=now
    )
    digest = sha256(sealed).hexdigest()
    Output.objects.create(subject=subject, digest=digest, sealed=sealed, delivered_at=now)
    with transaction.atomic():
        record(
            kind="job.delivered", actor=Actor.system("worker"), subject=person.pseudonym, job=job.pk,
            subject_id=subject.pk, consent=consent.pk,
        )  # fmt: skip
    sealing.seal()
    relay()
    gateway.close()


DRILLS = [
    Drill(
        "edited-rows",
        "A row of any store is edited by hand: reconciliation finds it, says which, and holds releases.",
        (EMBEDDED,),
        edited_rows,
    )
]
