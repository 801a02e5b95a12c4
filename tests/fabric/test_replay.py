"""`manage.py replayledger` on a real channel, beside a real keyholder and a database that lacks some."""

import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from consent.models import Consent, Patient, Requester
from deploy.fabric.network import Network
from gateway.drills.fabric_rig import FabricRig
from gateway.drills.rig import eventually, fhir_consent
from ledger.client import connect
from ledger.errors import LedgerError
from tests.ledger.conformance import Given, submit
from tests.questions import ask, in_force

pytestmark = pytest.mark.django_db


@pytest.fixture
def rig(two: Network) -> Iterator[FabricRig]:
    """The shared channel with a keyholder of its own."""
    home = Path(tempfile.mkdtemp(prefix="replay-"))
    made = FabricRig(home, two)
    yield made
    made.close()
    shutil.rmtree(home, ignore_errors=True)


def row(alice: Patient, helix: Requester) -> str:
    """Alice's consent as the database has it: in force, without an end."""
    consent = in_force(ask(helix, alice))
    Consent.objects.filter(pk=consent.pk).update(expires_at=None)
    return str(consent.pk)


def grant(rig: FabricRig, consent: str, patient: str) -> str:
    """Through the keyholder, which keeps the opening; its answer."""
    fhir = fhir_consent()
    del fhir["provision"]["period"]

    def attempt() -> str:
        answer = rig.keyholder.grant(consent=consent, patient=patient, fhir=fhir)
        if answer["state"] == "sent":
            raise LedgerError("It is on its way.")
        return str(answer["state"])

    return eventually(attempt)


def replay(*arguments: str) -> tuple[int, dict[str, Any]]:
    out = StringIO()
    try:
        call_command("replayledger", "--json", *arguments, stdout=out)
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    return status, json.loads(out.getvalue())


def test_what_differs_on_a_channel_is_found_and_put_right(
    rig: FabricRig, alice: Patient, helix: Requester, settings: Any
) -> None:
    settings.LEDGER_URL, settings.KEYHOLDER_SOCKET = rig.url, str(rig.socket)
    patient = rig.patient(granted=False).id
    agreed, stopped, differing, unkept = (row(alice, helix) for _ in range(4))
    lost = secrets.token_hex(32)  # granted, and the database that knew it is gone
    for consent in (agreed, stopped, lost):
        assert grant(rig, consent, patient) == "committed"
    rig.revoke(stopped)
    # What the ledger has of these two is not what the keyholder keeps, or it keeps nothing.
    ledger = connect(rig.url, identity="keyholder")
    for consent in (differing, unkept):
        given = Given(consent)
        assert submit(ledger, "GrantConsent", given.args, given.transient).is_valid
    ledger.close()
    assert grant(rig, differing, patient) == "refused"

    ours = {agreed, stopped, differing, unkept, lost}

    def found(report: dict[str, Any]) -> set[tuple[str, str]]:
        return {(one["code"], one["consent"]) for one in report["differences"] if one["consent"] in ours}

    status, report = replay()
    assert status == 1
    assert found(report) == {
        ("state_differs", stopped),
        ("opening_differs", differing),
        ("opening_missing", unkept),
        ("missing_here", lost),
    }
    assert report["consents"] >= len(ours)

    _, report = replay("--repair")
    assert report["repaired"]["state_differs"] == 1
    assert found(report) == {
        ("opening_differs", differing),
        ("opening_missing", unkept),
        ("missing_here", lost),
    }
    assert Consent.objects.get(pk=stopped).ledger_state == Consent.LedgerState.REVOKED
    assert Consent.objects.get(pk=agreed).ledger_state == Consent.LedgerState.IN_FORCE

    # What nobody here can see is ended when that is asked for, by the keyholder at once.
    _, report = replay("--stop-missing")
    assert ("missing_here", lost) not in found(report)
    assert rig.keyholder.kept_openings(commitments={lost: "0" * 64})[lost]["stopped"]
