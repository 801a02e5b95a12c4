"""The drill of several channels: one is away, and what is on the others does not wait for it."""

import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from gateway.drills.catalogue import EMBEDDED, FABRIC, Drill
from gateway.drills.chaos import promise_history
from gateway.drills.history import Acknowledged
from gateway.drills.report import Report
from gateway.drills.rig import Patient, Rig, eventually
from gateway.drills.worker import Job, new_job
from ledger.client import HOME
from ledger.contract.in_force import consent_key
from ledger.errors import GatewayError
from ledger.fsck import check

NORTH = "north"
GONE_FOR = 3.0


def channel_gone(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """A cohort of two channels, one leg on each; north goes away before its leg begins."""
    patients = {name: [rig.patient(channel=name) for _ in range(3)] for name in (HOME, NORTH)}
    elsewhere = [len(_found(rig, name, patients[other])) for name, other in ((HOME, NORTH), (NORTH, HOME))]
    report.promise("each consent stands on its patient's channel alone", elsewhere == [0, 0], elsewhere)
    first = {name: _leg(rig, patients[name]) for name in patients}
    for leg in first.values():
        rig.player().finish(leg)
    report.promise("with both there: each leg is released, delivered and read", _ends(rig) == ["done"] * 2)
    try:
        mixed = [
            {"subject": one["subject"], "patient": one["patient"]}
            for leg in first.values()
            for one in leg.subjects
        ]
        rig.player().release(Job(new_job([]).id, mixed))
        said = "released"
    except GatewayError as error:
        said = error.code
    report.promise("patients of two channels pass no door together", said == "channel_differs", said)

    legs = {name: _leg(rig, patients[name]) for name in patients}
    away = threading.Thread(target=rig.player().finish, args=(legs[NORTH],), kwargs={"patience": 180})
    stopping = patients[NORTH][0]
    landed: list[float] = []

    def on_the_ledger() -> None:
        rig.revoke(stopping.consent, channel=NORTH, seconds=180)
        landed.append(time.monotonic())

    rig.lose(NORTH)
    away.start()
    began = time.monotonic()
    rig.player().finish(legs[HOME], patience=120)
    report.promise(
        "north is away: the leg on home goes on to its end",
        legs[HOME].is_done,
        f"{_state(rig, legs[HOME])} after {time.monotonic() - began:.1f} s",
    )
    rig.keyholder.stop(consent=stopping.consent)
    stopped = Acknowledged(time.monotonic(), stopping.consent)
    stop = threading.Thread(target=on_the_ledger)
    stop.start()
    time.sleep(GONE_FOR)
    report.promise("the leg on north waits, and nothing of it is done", not legs[NORTH].is_done, "it waits")
    report.promise("a stop on north is not said to have landed", not landed, "not yet")
    before = rig.can_open(patients[HOME][0])
    report.promise("home takes new jobs", before == "done", before)

    rig.find(NORTH)
    back = time.monotonic()
    away.join(180)
    stop.join(180)
    seen = f"{landed[0] - back:.1f} s after" if landed else "never"
    report.promise("once north is back the stop lands", bool(landed), seen)
    report.promise(
        "and the leg on north ends, without who stopped",
        _state(rig, legs[NORTH]) == "done" and len(legs[NORTH].sealed) == 2,
        f"{_state(rig, legs[NORTH])}, {len(legs[NORTH].sealed)} of 3",
    )
    for name, url in rig.urls.items():
        found = eventually(partial(check, url))
        report.promise(f"fsck of {name}", found.good, f"{found.blocks} blocks, {found.problem or 'good'}")
    revocations = [Acknowledged(landed[0], stopping.consent)] if landed else []
    north = {leg.id for leg in (first[NORTH], legs[NORTH])}
    promise_history(rig, report, notes=[one for one in rig.notes if one["job"] not in north])
    promise_history(
        rig,
        report,
        notes=[one for one in rig.notes if one["job"] in north],
        stops=[stopped],
        revocations=revocations,
        channel=NORTH,
    )


def _leg(rig: Rig, patients: list[Patient]) -> Job:
    return new_job([one.id for one in patients], channel=patients[0].channel)


def _found(rig: Rig, channel: str, patients: list[Patient]) -> list[bytes]:
    """What a channel's ledger shows of the consents of these patients."""
    ledger = rig.ledger(channel=channel)
    try:
        values = eventually(lambda: ledger.evaluate([consent_key(one.consent) for one in patients]))
    finally:
        ledger.close()
    return [value for value in values if value is not None]


def _ends(rig: Rig) -> list[str]:
    return [str(one["state"]) for one in rig.notes if one["kind"] == "ended"]


def _state(rig: Rig, leg: Job) -> str:
    return next(
        (str(one["state"]) for one in rig.notes if one["kind"] == "ended" and one["job"] == leg.id), "open"
    )


DRILLS = [
    Drill(
        "channel-gone",
        "One channel is away: its leg of a cohort and its stops wait, the others go on.",
        (EMBEDDED, FABRIC),
        channel_gone,
        {"channels": (NORTH,)},
    )
]
