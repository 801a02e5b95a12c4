"""The proof of a result that an AI company was sent: it verifies offline, beside the result's own bytes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consent.models import Consent, Requester
from gateway.analysis import proofs, services, tasks
from gateway.analysis.models import Attempt, Job, Output
from ledger import outbox, verify
from ledger.audit import sealing
from ledger.audit.models import AuditRow, Incident
from ledger.channels import HOME
from ledger.errors import AccessDenied, EnvelopeError, LedgerError
from tests.analysis.test_job_end_to_end import Play, records

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def play(own_installation: Any, helix: Requester, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    found = Play({HOME: own_installation.ledger_url}, own_installation.keyholder_socket, helix)
    found.register()
    return found


@pytest.fixture
def seal(play: Play) -> Callable[[], None]:
    """What the relay does for the log: seal it, have it anchored, hear of it."""

    def run() -> None:
        sealing.seal_all()
        outbox.send_pending(play.ledger, through_keyholder=lambda row: {})
        outbox.follow(
            play.ledger, listener="seal", handlers={"Checkpointed": sealing.record_checkpointed}, wait=0.2
        )

    return run


class Sent:
    """One result that helix read, in a file."""

    def __init__(self, play: Play, job: Job, folder: Path) -> None:
        self.play, self.job, self.subject = play, job, job.subjects.get().id
        self.file, self.proof_file = folder / "result.json", folder / "proof.json"

    def read(self) -> bytes:
        content = services.result(
            job=self.job, subject=self.subject, requester=self.play.helix, keyholder=self.play.keyholder
        )
        self.file.write_bytes(content)
        return content

    def proof(self, requester: Requester | None = None) -> bytes | None:
        return proofs.proof_of(job=self.job, subject=self.subject, requester=requester or self.play.helix)


@pytest.fixture
def sent(play: Play, tmp_path: Path) -> Sent:
    return Sent(play, play.run(play.submit(play.yes(play.someone(*records())).request_id)), tmp_path)


def test_a_result_verifies_offline_with_its_proof_and_no_other_bytes_do(
    sent: Sent, seal: Callable[[], None], own_installation: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    content = sent.read()
    assert sent.proof() is None
    seal()
    proof = sent.proof()
    assert proof is not None
    sent.proof_file.write_bytes(proof)
    own_installation.processes.stop_all()
    trust = str(own_installation.home / "ledger" / "ledger.pub")
    line = [str(sent.proof_file), "--trust", trust, "--of", str(sent.file)]
    assert verify.main(line) == 0
    said = capsys.readouterr().out
    assert Output.objects.get().digest in said
    assert Attempt.objects.get().deliver_tx in said
    for at in range(0, len(content), 7):
        changed = bytearray(content)
        changed[at] ^= 1
        sent.file.write_bytes(changed)
        assert verify.main(line) == 1, at
    assert verify.main(line[:3]) == 0  # the row alone
    assert verify.main([*line[:1], *line[3:]]) == 2  # of nobody's word
    assert verify.main([*line[:-1], "nowhere"]) == 2


def test_the_row_names_the_subject_of_this_job_and_nobody_else(
    sent: Sent, play: Play, seal: Callable[[], None]
) -> None:
    content = sent.read()
    assert sent.read() == content
    row = AuditRow.objects.get(kind="result.sent")
    line = json.loads(bytes(row.line))
    assert (line["subject"], line["details"]["subject_id"]) == ("", sent.subject)
    assert line["details"]["content"] == hashlib.sha256(content).hexdigest()
    assert "consent" not in line["details"]
    assert "request" not in line["details"]
    seal()
    proof = (sent.proof() or b"").decode()
    known = sent.job.subjects.get()
    assert known.patient is not None
    for secret in (known.patient.pseudonym, known.patient.id, known.consent, known.asked):
        assert secret not in proof


def test_the_same_result_has_another_digest_in_another_job(play: Play) -> None:
    """So whoever can guess a result confirms nothing by the log."""
    given = play.yes(play.someone(*records())).request_id
    one, other = (play.result(play.run(play.submit(given))) for _ in range(2))
    assert one["identifier"]["value"].startswith("urn:uuid:")
    assert one["identifier"] != other["identifier"]


def test_nobody_else_gets_it_and_nobody_who_did_not_read(sent: Sent, seal: Callable[[], None]) -> None:
    with pytest.raises(AccessDenied) as unread:
        sent.proof()
    sent.read()
    seal()
    with pytest.raises(AccessDenied) as stranger:
        sent.proof(Requester.objects.create(name="Other AI"))
    assert unread.value.code == stranger.value.code == "not_available"


def test_it_stays_after_a_stop_when_the_result_does_not(sent: Sent, play: Play, seal: Any) -> None:
    sent.read()
    seal()
    proof = sent.proof()
    play.stop(Consent.objects.get())
    with pytest.raises(AccessDenied):
        sent.read()
    assert sent.proof() == proof


def test_a_log_that_was_changed_gives_none_and_is_an_incident(sent: Sent, seal: Callable[[], None]) -> None:
    sent.read()
    seal()
    row = AuditRow.objects.get(kind="result.sent")
    AuditRow.objects.filter(pk=row.pk).update(
        line=bytes(row.line).replace(b'"content":"', b'"content":"0', 1)
    )
    with pytest.raises(EnvelopeError) as error:
        sent.proof()
    assert error.value.code == "log_differs"
    assert Incident.objects.get().place == f"row {row.leaf}"


def test_without_the_ledger_there_is_none_now(
    sent: Sent, seal: Callable[[], None], own_installation: Any
) -> None:
    sent.read()
    seal()
    own_installation.processes.stop_all()
    with pytest.raises(LedgerError):
        sent.proof()
