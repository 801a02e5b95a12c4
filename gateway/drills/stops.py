"""Drills of a patient's stop: with the ledger hung or gone, the keyholder killed, from the outbox."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from gateway.drills.catalogue import EMBEDDED, FABRIC, Drill
from gateway.drills.chaos import promise_history
from gateway.drills.history import Acknowledged
from gateway.drills.report import Report
from gateway.drills.rig import Patient, Rig, database, eventually, fhir_consent, new_id, until
from gateway.drills.worker import PART, Child, Job, new_job
from ledger.contract.state import Json
from ledger.errors import AccessDenied, GatewayError

GONE_FOR = 3.0


def opened(rig: Rig, child: Child, subject: str, *, after: str | None = None) -> tuple[str, str]:
    """(code of what the keyholder answered, chunk): `opened` with a key noted, or the refusal's code."""
    asked = time.monotonic()
    try:
        page = rig.keyholder.open_chunks(
            job=child.job, attempt=child.attempt, part=PART, subject=subject, after=after
        )
    except GatewayError as error:
        return error.code, ""
    for chunk in page["chunks"]:
        child.unwrap(chunk, subject)
        rig.player().note_key(child, chunk, asked)
        return "opened", chunk["chunk"]
    return "nothing_left", ""


def hung_while_a_patient_stops(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """A job has had one chunk of hers when what orders transactions hangs, and she stops."""
    patient = rig.patient()
    job = new_job([patient.id])
    subject = job.subjects[0]["subject"]
    child, _ = rig.player().release(job)
    said, chunk = opened(rig, child, subject)
    report.saw("before: the job asks for a chunk", said)
    landed: list[float] = []

    def on_the_ledger() -> None:
        rig.revoke(patient.consent)
        landed.append(time.monotonic())

    with rig.hung(rig.ledger_name):
        began = time.monotonic()
        rig.keyholder.stop(consent=patient.consent)
        took = time.monotonic() - began
        stopped = Acknowledged(time.monotonic(), patient.consent)
        report.promise(
            f"{rig.ledger_name} hangs: the keyholder takes the stop at once",
            took < 1,
            f"{1000 * took:.0f} ms",
        )
        thread = threading.Thread(target=on_the_ledger)
        thread.start()
        said, _ = opened(rig, child, subject, after=chunk)
        report.promise("the job's next chunk is refused at once", said == "consent_stopped", said)
        time.sleep(GONE_FOR)
        report.promise("the revocation is not said to have landed", not landed, "not yet")
        resumed = time.monotonic()
    thread.join(60)
    seen = f"{landed[0] - resumed:.1f} s after" if landed else "never"
    report.promise("it lands once the ledger goes on", bool(landed), seen)
    said, _ = opened(rig, child, subject, after=chunk)
    report.promise("and the refusal stays", said == "consent_stopped", said)
    revocations = [Acknowledged(landed[0], patient.consent)] if landed else []
    promise_history(rig, report, stops=[stopped], revocations=revocations)


def keyholder_killed(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """Killed three times while jobs run, each time just after it acknowledged a stop."""
    patients = [rig.patient() for _ in range(6)]
    works = [new_job([one.id for one in patients[number % 3 : 6 : 2]]) for number in range(9)]
    threads = [threading.Thread(target=_finish_all, args=(rig, works[number::3])) for number in range(3)]
    for thread in threads:
        thread.start()
    stops, states = [], []
    for patient in patients[:3]:
        time.sleep(0.3)
        eventually(partial(rig.keyholder.stop, consent=patient.consent))
        stops.append(Acknowledged(time.monotonic(), patient.consent))
        with rig.gone("keyholder"):
            pass
        states.append(rig.can_open(patient))
    for thread in threads:
        thread.join(120)
    report.promise(
        "a stop that it acknowledged is denied after its death", states == ["denied"] * 3, ", ".join(states)
    )
    ended = Counter(one["state"] for one in rig.notes if one["kind"] == "ended")
    seen = ", ".join(f"{count} {state}" for state, count in sorted(ended.items()))
    done = {one["job"] for one in rig.notes if one["kind"] == "ended"}
    report.promise(
        "every job ends, none in an error",
        {job.id for job in works} <= done and not set(ended) - {"done", "denied", "stopped"},
        seen,
    )
    promise_history(rig, report, stops=stops)


def _finish_all(rig: Rig, works: Sequence[Job]) -> None:
    for job in works:
        rig.player().finish(job)


# The outbox


def ledger_gone(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """The ledger is away; what web and relay intend waits in the outbox."""
    _through_the_outbox(rig, report, [rig.ledger_name], do_stops_land=False)


def org_gone(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """Both organisations must endorse, and the other one is away: its peer and its chaincode."""
    from gateway.drills.fabric_rig import OTHERS

    gone = [f"peer.{OTHERS[0]}", f"chaincode.{OTHERS[0]}"]
    _through_the_outbox(rig, report, gone, do_stops_land=True)


def _through_the_outbox(rig: Rig, report: Report, gone: list[str], *, do_stops_land: bool) -> None:
    from django.db import transaction

    from ledger.models import LedgerTransaction
    from ledger.outbox import enqueue, send_pending

    stopping, granting = [rig.patient() for _ in range(3)], [rig.patient(granted=False) for _ in range(5)]
    reader = rig.patient()
    grants = {new_id(): patient for patient in granting}
    gateway = rig.ledger("gateway")

    def through_keyholder(row: LedgerTransaction) -> Mapping[str, Any]:
        consent = row.args["consent"]
        return rig.keyholder.grant(consent=consent, patient=grants[consent].id, fhir=fhir_consent())

    def relay(is_so: Callable[[], bool], seconds: float) -> bool:
        def turn() -> bool:
            send_pending(gateway, through_keyholder=through_keyholder)
            return is_so()

        return until(turn, seconds=seconds)

    def states(name: str) -> Counter[str]:
        return Counter(str(row.state) for row in LedgerTransaction.objects.filter(name=name))

    with database(rig.home):
        with rig.gone(*gone):
            with transaction.atomic():
                for consent in grants:
                    _intend(enqueue, "GrantConsent", consent, through="keyholder")
                for patient in stopping:
                    _intend(enqueue, "RevokeConsent", patient.consent)
            relay(
                lambda: do_stops_land and states("RevokeConsent")["committed"] == 3,
                20 if do_stops_land else GONE_FOR,
            )
            landed, held = states("RevokeConsent"), states("GrantConsent")
            if do_stops_land:
                report.promise("while it is away: stops land", landed["committed"] == 3, dict(landed))
            else:
                report.promise(
                    "while it is away: no stop is said to have landed", not landed["committed"], dict(landed)
                )
            report.promise(
                "while it is away: grants wait, none is lost or refused",
                held["pending"] + held["sent"] == 5,
                dict(held),
            )
            state = _tried(rig, reader)
            report.promise("while it is away: nothing is opened", state == "not opened", state)
            if do_stops_land:
                access = _break_the_glass(rig, report, reader)
        # A row that failed waits its turn for up to a minute.
        settled = relay(
            lambda: states("GrantConsent")["committed"] == 5 and states("RevokeConsent")["committed"] == 3, 90
        )
        report.promise(
            "once it is back the outbox drains",
            settled,
            f"{dict(states('GrantConsent'))}, {dict(states('RevokeConsent'))}",
        )
    count = Counter(write.key for write in rig.writes())
    once = all(count[f"consent/{consent}"] == 1 for consent in grants)
    report.promise("each grant stands on the ledger once", once, f"{len(grants)} grants")
    if do_stops_land:
        _complete(rig, report, access)
    found = [rig.can_open(patient) for patient in stopping]
    report.promise("nothing is opened for who stopped", found == ["denied"] * 3, ", ".join(found))
    found = [rig.can_open(patient) for patient in (reader, granting[0])]
    report.promise("and others' records open again", found == ["done"] * 2, ", ".join(found))
    gateway.close()
    promise_history(rig, report)


def _break_the_glass(rig: Rig, report: Report, patient: Patient) -> str:
    """A clinician reads a patient's records in an emergency. The access's id."""
    access, began = new_id(), time.monotonic()
    answer = rig.keyholder.emergency_access(
        access=access,
        patient=patient.id,
        details={"reason": "ETREAT", "words": "Found unconscious at home"},
        expires=int(time.time()) + 3600,
    )
    sealed = {chunk: rig.blobs[chunk] for chunk in patient.chunks}
    records = rig.keyholder.read_emergency(access=access, sealed=sealed)
    report.promise(
        "while it is away: a clinician reads what an emergency needs",
        answer["state"] == "committed" and records.keys() == sealed.keys(),
        f"{len(records)} chunks after {time.monotonic() - began:.1f} s",
    )
    return access


def _complete(rig: Rig, report: Report, access: str) -> None:
    completed = eventually(rig.keyholder.complete_emergencies)
    own = rig.trust().own
    stands = [write.key for write in rig.writes() if write.key == f"access/{access}/{own}"]
    report.promise(
        "once it is back it puts on the ledger that it saw the emergency",
        completed["completed"] == 1 and len(stands) == 1,
        dict(completed),
    )


def _intend(enqueue: Callable[..., Any], name: str, consent: str, through: str = "gateway") -> None:
    args: Json = {"consent": consent}
    enqueue(name=name, args=args, reference=f"consent/{consent}", through=through)


def _tried(rig: Rig, patient: Patient) -> str:
    try:
        rig.player().finish(new_job([patient.id]), patience=3)
    except TimeoutError:
        return "not opened"
    except AccessDenied as error:
        return error.code
    return str(rig.notes[-1]["state"])


DRILLS = [
    Drill(
        "ledger-hung",
        "The ledger hangs while a patient stops: denied at once, on the ledger once it goes on.",
        (EMBEDDED,),
        hung_while_a_patient_stops,
    ),
    Drill(
        "orderer-hung",
        "The orderer hangs while a patient stops: denied at once, on the ledger once it goes on.",
        (FABRIC,),
        hung_while_a_patient_stops,
    ),
    Drill(
        "keyholder-killed",
        "Killed in mid-job, the keyholder forgets no stop and opens nothing twice unlogged.",
        (EMBEDDED, FABRIC),
        keyholder_killed,
    ),
    Drill(
        "ledger-gone",
        "The outbox holds while the ledger is away and drains when it is back.",
        (EMBEDDED,),
        ledger_gone,
    ),
    Drill(
        "org-gone",
        "One organisation is away: the outbox holds and drains when it is back; revocations still land.",
        (FABRIC,),
        org_gone,
        {"organisations": 2},
    ),
]
