"""Drill of BFT ordering: of four orderers any one may be lost; two lost stop everything, and lose nothing."""

import time
from collections.abc import Mapping
from typing import Any

from gateway.drills.catalogue import FABRIC, Drill
from gateway.drills.chaos import promise_history
from gateway.drills.history import Acknowledged
from gateway.drills.report import Report
from gateway.drills.rig import Rig
from ledger.client import VALID
from ledger.errors import OutcomeUnknown, SendError

COMES_BACK = 300.0  # seconds; a leader is replaced meanwhile
FOUR = {"organisations": 2, "orderers": 4, "bft": True}


def orderers_lost(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """One of four is killed, then a second while a patient stops; then both are back."""
    alice = rig.patient()
    gateway = rig.ledger("gateway")
    with rig.gone("orderer3"):
        bob = rig.patient()
        state = rig.can_open(bob)
        report.promise("one of four killed: a grant lands and a whole job is done", state == "done", state)
        with rig.gone("orderer2"):
            height = gateway.height()
            rig.keyholder.stop(consent=alice.consent)
            stopped = Acknowledged(time.monotonic(), alice.consent)
            stop = gateway.prepare("RevokeConsent", {"consent": alice.consent})
            try:
                gateway.send(stop)
                said = "taken"
            except SendError as error:
                said = error.code
            report.saw("a second killed: a stop is sent", said)
            try:
                said = gateway.outcome(stop.tx_id, timeout=5).validity
            except OutcomeUnknown as error:
                said = error.code
            report.promise("its outcome is not guessed", said == OutcomeUnknown.code, said)
            report.promise("and nothing is committed", gateway.height() == height, f"{height} blocks")
        began = time.monotonic()
    outcome = rig.commit(gateway, stop, seconds=COMES_BACK)
    landed = [validity for tx_id, validity in rig.transactions() if tx_id == stop.tx_id]
    report.promise(
        "back again, the same stop, sent again, lands once",
        outcome.is_valid and landed.count(VALID) == 1,
        f"{time.monotonic() - began:.0f} s after",
    )
    revoked = Acknowledged(time.monotonic(), alice.consent)
    states = [rig.can_open(alice), rig.can_open(bob)]
    report.promise(
        "who stopped stays closed, and the other is served", states == ["denied", "done"], ", ".join(states)
    )
    gateway.close()
    promise_history(rig, report, stops=[stopped], revocations=[revoked])


DRILLS = [
    Drill(
        "orderers-lost",
        "Of four BFT orderers one may be lost; two lost commit nothing, say nothing and lose nothing (3.1).",
        (FABRIC,),
        orderers_lost,
        FOUR,
    )
]
