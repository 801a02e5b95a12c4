"""A keyholder's log that a lost disk took: each row is missed, until a person says that it was lost."""

import time
from typing import Any

import pytest

from consent.models import Requester
from gateway.analysis import tasks
from gateway.compliance.reconcile import Reconciler, accept_lost, hold, settle_others
from gateway.keyholder import backup
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.store import FILE
from ledger.audit import sealing
from ledger.audit.incidents import is_held
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.client import HOME
from tests.analysis.test_job_end_to_end import Play, records

pytestmark = pytest.mark.django_db(transaction=True)
BY = Actor.system("command")


def test_what_the_restored_log_lacks_holds_releases_until_a_person_accepts_it(
    own_installation: Any, helix: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    play = Play({HOME: own_installation.ledger_url}, own_installation.keyholder_socket, helix)
    play.register()
    question = play.yes(play.someone(*records())).request_id
    folder, file = own_installation.home / "keyholder", own_installation.home / "backup"
    first = play.submit(question)
    play.run(first)
    backup.make(folder, file, now=time.time())
    second = play.submit(question)
    play.run(second)
    sealing.seal()
    play.settle()
    reconciler = Reconciler(play.channels, play.keyholder, pause=0.0)
    assert reconciler.look(whole=True).findings == ()

    own_installation.processes.kill("keyholder")
    for path in folder.glob(f"{FILE}*"):
        path.unlink()
    backup.restore(file, folder, FileKEK(folder / "kek"), erased={}, now=time.time())
    own_installation.processes.restart("keyholder")

    found = Reconciler(play.channels, play.keyholder, pause=0.0).look(whole=True).findings
    assert [one.code for one in found] == ["never_opened"]
    hold(found, by=BY)
    assert is_held()
    assert accept_lost(found, by=BY) == []
    assert AuditRow.objects.filter(kind="opening.lost").count() == 1
    found = Reconciler(play.channels, play.keyholder, pause=0.0).look(whole=True).findings
    assert found == ()
    assert settle_others(found, by=BY) == 1
    assert not is_held()
