"""Drills of single transactions: killed on the way, repeated, too many at once, unknown, by a wrong clock."""

import resource
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from gateway.drills.catalogue import EMBEDDED, FABRIC, Drill
from gateway.drills.chaos import ENDS, promise_history
from gateway.drills.report import Report
from gateway.drills.rig import EmbeddedRig, Rig, eventually, fhir_consent, new_id, until
from gateway.drills.worker import Job, new_job
from ledger.client import HOME, VALID, Envelope, Ledger
from ledger.contract.state import Json
from ledger.errors import GatewayError, LedgerError, OutcomeUnknown, PrepareError, SendError

SUBMITS = 100
WRITERS = 12


def a_model() -> Json:
    """Arguments of a transaction that needs no opening and meets no other."""
    return {"card": "0" * 64, "model": new_id(), "provider": "Organization/helix", "state": "approved"}


def killed_during_submits(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """100 transactions; some are done, the others on their way, when the orderer is killed."""
    admin = rig.ledger("admin")
    with ThreadPoolExecutor(8) as pool:
        prepared = list(
            pool.map(lambda _: eventually(lambda: admin.prepare("RegisterModel", a_model())), range(SUBMITS))
        )
    first, rest = prepared[: SUBMITS // 3], prepared[SUBMITS // 3 :]
    for envelope in first:
        admin.send(envelope)
    done = {one.tx_id for one in first if admin.outcome(one.tx_id, timeout=20).is_valid}
    report.saw("acknowledged as done before the kill", len(done))
    sent, refused = _send_all(admin, rest, at=len(rest) // 2, then=lambda: rig.kill(rig.ledger_name))
    report.saw(f"{rig.ledger_name} killed in mid-flight: taken, not taken", f"{sent}, {refused}")
    rig.start(rig.ledger_name)
    lost = sum(_outcome(admin, one) is None for one in rest)
    report.saw("of those without an outcome after the restart, before anything is sent again", lost)
    for envelope in prepared:
        eventually(partial(admin.send, envelope))
    outcomes = [_settled(rig, admin, envelope) for envelope in prepared]
    report.promise(
        "every stored envelope, sent again, is VALID", set(outcomes) == {VALID}, f"{len(outcomes)}"
    )
    count = Counter(tx_id for tx_id, validity in rig.transactions() if validity == VALID)
    report.promise(
        "nothing acknowledged as done is lost", all(count[one] for one in done), f"{len(done)} there"
    )
    report.promise(
        "nothing happens twice", all(count[one.tx_id] == 1 for one in prepared), f"{SUBMITS} VALID once each"
    )
    admin.close()


def _send_all(
    ledger: Ledger, envelopes: Sequence[Envelope], *, at: int, then: Callable[[], None]
) -> tuple[int, int]:
    """Send one after another and call `then` after `at`: how many were taken, and were not."""
    taken = 0
    for number, envelope in enumerate(envelopes):
        if number == at:
            then()
        try:
            ledger.send(envelope)
            taken += 1
        except SendError:
            pass
    return taken, len(envelopes) - taken


def _settled(rig: Rig, ledger: Ledger, envelope: Envelope) -> str:
    """Its validity; sent once more where it was lost again."""
    try:
        return ledger.outcome(envelope.tx_id, timeout=10).validity
    except OutcomeUnknown:
        return rig.commit(ledger, envelope).validity


def _outcome(ledger: Ledger, envelope: Envelope) -> str | None:
    try:
        return ledger.outcome(envelope.tx_id, timeout=0.01).validity
    except LedgerError:
        return None


def same_envelope_four_times(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    admin = rig.ledger("admin")
    envelope = eventually(lambda: admin.prepare("RegisterModel", a_model()))
    for _ in range(4):
        eventually(lambda: admin.send(envelope))
    outcome = admin.outcome(envelope.tx_id, timeout=20)

    def copies() -> list[str]:
        return [validity for tx_id, validity in rig.transactions() if tx_id == envelope.tx_id]

    until(lambda: len(copies()) == 4, seconds=5)
    seen = copies()
    report.saw("what became of the four", ", ".join(seen))
    report.promise("its outcome is VALID", outcome.is_valid, outcome.validity)
    report.promise("it takes effect once", seen.count(VALID) == 1, f"{seen.count(VALID)} VALID")
    admin.close()


def clock_off(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """A client's clock is 60 s ahead, then 60 s behind."""
    patients = {60: rig.patient(), -60: rig.patient()}
    for ahead, patient in patients.items():
        admin, gateway = rig.ledger("admin", ahead=ahead), rig.ledger("gateway", ahead=ahead)
        try:
            admin.prepare("RegisterModel", a_model())
            code = "endorsed"
        except PrepareError as error:
            code = error.code
        report.promise(f"{ahead:+} s: a transaction is refused, and says why", code == "clock_skew", code)
        outcome = rig.submit(gateway, "RevokeConsent", {"consent": patient.consent})
        report.promise(f"{ahead:+} s: a revocation lands all the same", outcome.is_valid, outcome.validity)
        state = rig.can_open(patient)
        report.promise(f"{ahead:+} s: and nothing is opened after it", state == "denied", state)
        admin.close()
        gateway.close()


def mvcc_storm(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """Many writers of one consent at the same moment: replaced by many, revoked by many, used by many."""
    replaced, ids = rig.patient(), [new_id() for _ in range(WRITERS)]
    old = replaced.consent
    answers = Counter(_at_once([partial(_replace, rig, replaced.id, old, new) for new in ids]))
    report.saw(f"{WRITERS} replace one consent", _counted(answers))
    report.promise(
        "one of them replaces it, every other is a definite no",
        answers["committed"] == 1 and answers.total() == WRITERS,
        f"{answers['committed']} committed",
    )
    patient = rig.patient()
    gateways = [rig.ledger("gateway") for _ in range(WRITERS)]
    stop = {"consent": patient.consent}
    prepared = [eventually(partial(one.prepare, "RevokeConsent", stop)) for one in gateways]
    works = [new_job([patient.id]) for _ in range(WRITERS)]
    race = [partial(_late, rig, one, envelope) for one, envelope in zip(gateways, prepared, strict=True)]
    found = _at_once([*race, *(partial(_finished, rig, job) for job in works)])
    validities, states = Counter(found[:WRITERS]), Counter(found[WRITERS:])
    report.saw(f"{WRITERS} revoke one consent", _counted(validities))
    report.promise(
        "one revocation takes effect, every other is a definite no",
        validities[VALID] == 1 and validities.total() == WRITERS,
        f"{validities[VALID]} VALID",
    )
    report.promise(
        f"each of {WRITERS} jobs over it ends, none in an error", not set(states) - ENDS, _counted(states)
    )
    for one in gateways:
        one.close()
    promise_history(rig, report)


def _late(rig: Rig, ledger: Ledger, envelope: Envelope) -> str:
    """Sent at a moment of its own, so that some jobs are quicker."""
    time.sleep(0.5 + secrets.randbelow(2000) / 1000)
    return rig.commit(ledger, envelope).validity


def _finished(rig: Rig, job: Job) -> str:
    rig.player().finish(job)
    return next(str(one["state"]) for one in rig.notes if one["kind"] == "ended" and one["job"] == job.id)


def _replace(rig: Rig, patient: str, old: str, new: str) -> str:
    def attempt() -> str:
        found = rig.keyholder.grant(consent=new, patient=patient, fhir=fhir_consent(), replaces=old)
        if found["state"] == "sent":
            raise LedgerError("not settled", code=found["code"])
        return found["code"] or found["state"]

    return eventually(attempt)


def _at_once(acts: Sequence[Callable[[], str]]) -> list[str]:
    """What each of them says, all begun at the same moment."""
    barrier = threading.Barrier(len(acts))

    def one(act: Callable[[], str]) -> str:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(one, acts))


def _counted(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items()))


def status_timeout(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """The orderer took it and hangs: nobody knows the outcome, so nobody may guess it."""
    admin = rig.ledger("admin")
    args = a_model()
    envelope = eventually(lambda: admin.prepare("RegisterModel", args))
    eventually(lambda: admin.send(envelope))
    with rig.hung(rig.ledger_name):
        try:
            said = admin.outcome(envelope.tx_id, timeout=0.5).validity
        except OutcomeUnknown as error:
            said = error.code
        report.promise(
            "the outcome is unknown, not a yes and not a no", said == "ledger_outcome_unknown", said
        )
        try:
            admin.send(envelope)
            said = "taken"
        except SendError as error:
            said = error.code
        report.saw("the same envelope, sent again while it hangs", said)
    outcome = rig.commit(admin, envelope)
    valid = sum(tx == envelope.tx_id and validity == VALID for tx, validity in rig.transactions())
    report.promise(
        "sent again afterwards it is VALID, once", outcome.is_valid and valid == 1, f"{valid} VALID"
    )
    admin.close()


def disk_full(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """No file of the ledger's process may grow, then none of the keyholder's."""
    patient, other = rig.patient(), rig.patient()
    admin = rig.ledger("admin")
    envelope = admin.prepare("RegisterModel", a_model())
    with _no_room(rig, "ledger"):
        try:
            admin.send(envelope)
            said = admin.outcome(envelope.tx_id, timeout=2).validity
        except LedgerError as error:
            said = error.code
        report.promise("ledger: a full disk is said, not acknowledged", said.startswith("ledger_"), said)
    outcome = rig.commit(admin, envelope)
    report.promise("ledger: with room again the same envelope lands", outcome.is_valid, outcome.validity)
    with _no_room(rig, "keyholder"):
        try:
            rig.keyholder.stop(consent=patient.consent)
            said = "stopped"
        except GatewayError as error:
            said = error.code
        report.promise("keyholder: a stop that is not durable is not acknowledged", said != "stopped", said)
        state = _opened(rig, other.id)
        report.promise("keyholder: what cannot be logged is not opened", state != "done", state)
    rig.keyholder.stop(consent=patient.consent)
    state = rig.can_open(patient)
    report.promise("keyholder: with room again the stop holds", state == "denied", state)
    state = rig.can_open(other)
    report.promise("keyholder: and others' records open", state == "done", state)
    admin.close()
    promise_history(rig, report)


def _opened(rig: Rig, patient: str) -> str:
    try:
        rig.player().finish(new_job([patient]), patience=2)
    except TimeoutError:
        return "not opened"
    except GatewayError as error:
        return error.code
    return str(rig.notes[-1]["state"])


@contextmanager
def _no_room(rig: Rig, name: str) -> Iterator[None]:
    """RLIMIT_FSIZE stands for the disk (Linux)."""
    pid = rig.processes.pid(name)
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def ledger_killed(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """The same on the embedded ledger, whose file is then derived again, block by block."""
    from ledger.embedded.fsck import check

    killed_during_submits(rig, report, options)
    assert isinstance(rig, EmbeddedRig)
    rig.kill("ledger")
    found = check(rig.folders[HOME])
    report.promise("fsck derives every block and state again", found.good, f"{found.blocks} blocks")
    rig.start("ledger")


SLOW_BLOCKS = {"batch_timeout": "2s"}  # so that the kill comes before a block is cut

DRILLS = [
    Drill(
        "ledger-killed",
        "Killed during 100 submits, the ledger loses nothing acknowledged and does nothing twice.",
        (EMBEDDED,),
        ledger_killed,
    ),
    Drill(
        "orderer-killed",
        "Killed before the block is cut, during 100 submits: nothing done is lost, nothing happens twice.",
        (FABRIC,),
        killed_during_submits,
        SLOW_BLOCKS,
    ),
    Drill(
        "same-envelope-four-times",
        "One envelope sent four times takes effect once.",
        (EMBEDDED, FABRIC),
        same_envelope_four_times,
    ),
    Drill(
        "clock-off",
        "A client whose clock is 60 s off is refused; its revocations are not.",
        (EMBEDDED, FABRIC),
        clock_off,
    ),
    Drill(
        "mvcc-storm",
        "Many writers of one consent: one wins, the others learn it, no job slips through.",
        (EMBEDDED, FABRIC),
        mvcc_storm,
    ),
    Drill(
        "status-timeout",
        "An outcome that is not known is never guessed; the same envelope lands once.",
        (FABRIC,),
        status_timeout,
        SLOW_BLOCKS,
    ),
    Drill(
        "disk-full",
        "A full disk is said; nothing is acknowledged that is not durable.",
        (EMBEDDED,),
        disk_full,
    ),
]
