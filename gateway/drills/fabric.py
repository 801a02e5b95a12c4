"""Drills of a real Fabric channel: its peers, chaincode, certificates, and an organisation that lies."""

import json
import secrets
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from deploy.fabric.network import ORGANISATIONS
from gateway.drills.catalogue import FABRIC, Drill
from gateway.drills.chaos import promise_history
from gateway.drills.fabric_rig import OTHERS, OWN, FabricRig
from gateway.drills.forger import Forger, delete, put, set_policy
from gateway.drills.report import Report
from gateway.drills.rig import Rig, eventually, new_id, until
from gateway.drills.stops import opened
from gateway.drills.submits import a_model
from gateway.drills.worker import new_job
from gateway.keyholder.opening import DELTA_SECONDS
from ledger.client import VALID, Reading, Trust
from ledger.contract.in_force import consent_key, mark_key
from ledger.errors import GatewayError, LedgerError, PrepareError, ProofError
from ledger.fabric.client import FabricLedger
from ledger.fabric.identity import Identity
from ledger.fabric.profile import Profile
from ledger.fabric.trust import FabricTrust

REFUSED = "ENDORSEMENT_POLICY_FAILURE"
OTHER, THIRD = OTHERS
FORGES = {"chaincodes": {OWN: [sys.executable, "-m", "gateway.drills.altered", "forging"]}}
OLDER = {
    "organisations": 2,
    "chaincodes": {OTHER: [sys.executable, "-m", "gateway.drills.altered", "other-version"]},
}


def readings(rig: Rig, keys: list[str], trusted: Trust | None = None) -> dict[str, Reading]:
    """One signed read of every organisation that answers, verified. Raises ProofError, LedgerError."""
    ledger = rig.ledger("keyholder")
    try:
        nonce = secrets.token_bytes(32)
        found = (trusted or rig.trust()).check(ledger.read(keys, nonce=nonce), keys=keys, nonce=nonce)
        return {reading.org: reading for reading in found}
    finally:
        ledger.close()


def _proving(rig: Rig, keys: list[str]) -> str:
    """Who proves the state now, as a text."""
    try:
        return ", ".join(sorted(readings(rig, keys)))
    except LedgerError as error:
        return error.code


def _heights(rig: Rig) -> dict[str, int]:
    """The height that each organisation signs; none where too few answer."""
    try:
        return {org: one.height for org, one in readings(rig, ["organisations"]).items()}
    except LedgerError:
        return {}


def _all_prove(rig: Rig, keys: list[str]) -> bool:
    return until(lambda: _proving(rig, keys) == ", ".join(sorted(ORGANISATIONS)), seconds=60)


def peer_lost(rig: Rig, report: Report, how: str) -> None:
    """One of three peers is lost, then a second; two are needed."""
    patient = rig.patient()
    keys = [consent_key(patient.consent)]
    lose = rig.gone if how == "killed" else rig.hung
    with lose(f"peer.{OTHER}"):
        began = time.monotonic()
        proving = _proving(rig, keys)
        took = time.monotonic() - began
        report.promise(
            f"one peer {how}: the two others prove the state within δ",
            proving == f"{THIRD}, {OWN}" and took < 1.5,
            f"{proving}; {1000 * took:.0f} ms",
        )
        state = rig.can_open(patient)
        report.promise("a whole job is done", state == "done", state)
        granted = rig.patient()
        report.promise("a grant lands", True, "committed")
        with lose(f"peer.{THIRD}"):
            proving = _proving(rig, keys)
            report.promise(f"a second {how}: nothing is proven", proving.startswith("ledger_"), proving)
            said = rig.revoke(granted.consent).validity
            report.promise("a stop still lands, by our organisation alone", said == VALID, said)
    everyone = _all_prove(rig, keys)
    report.promise("back again, they catch up", everyone, _proving(rig, keys))
    state = rig.can_open(granted)
    report.promise("the one who stopped stays closed", state == "denied", state)
    promise_history(rig, report)


def peer_killed(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    peer_lost(rig, report, "killed")


def peer_paused(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    peer_lost(rig, report, "paused")


def peer_restarted(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """Our own peer, through which we submit, is killed and started three times, each time under a job."""
    states = []
    for _ in range(3):
        patient = rig.patient()
        job = new_job([patient.id])
        child, _permitted = rig.player().release(job)
        with rig.gone(f"peer.{OWN}"):
            said, _chunk = opened(rig, child, job.subjects[0]["subject"])
            report.saw("it is away: a job under way asks for a chunk, which two others prove", said)
            try:
                rig.player().release(new_job([patient.id]))
                said = "released"
            except GatewayError as error:
                said = error.code
            report.promise("it is away: no new job is released", said.startswith("ledger_"), said)
        job.attempt = child.attempt
        rig.player().finish(job)
        states.append(str(rig.notes[-1]["state"]))
    report.promise("back again, each of the three jobs is done", states == ["done"] * 3, ", ".join(states))
    promise_history(rig, report)


def chaincode_lost(rig: Rig, report: Report, how: str) -> None:
    """Two of three organisations' contract processes are lost; a grant needs two."""
    patient = rig.patient()
    lost = [f"chaincode.{org}" for org in OTHERS]
    admin = rig.ledger("admin")
    with (rig.gone if how == "killed" else rig.hung)(*lost):
        try:
            admin.prepare("RegisterModel", a_model())
            said = "endorsed"
        except PrepareError as error:
            said = error.code
        report.promise(
            f"chaincode {how}: no endorsement, and it is said", said == "ledger_prepare_failed", said
        )
        said = _proving(rig, [consent_key(patient.consent)])
        report.promise("nothing is proven, so nothing opens", said.startswith("ledger_"), said)
        said = rig.revoke(patient.consent).validity
        report.promise("a stop lands all the same", said == VALID, said)
    said = rig.submit(admin, "RegisterModel", a_model()).validity
    report.promise("back again, transactions are endorsed", said == VALID, said)
    state = eventually(lambda: rig.can_open(patient))
    report.promise("and the stop holds", state == "denied", state)
    admin.close()
    promise_history(rig, report)


def chaincode_killed(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    chaincode_lost(rig, report, "killed")


def chaincode_frozen(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    chaincode_lost(rig, report, "frozen")


def chaincode_other_version(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """The other organisation runs the contract under another version: a release would name two of them."""
    patient = rig.patient()
    report.saw("a grant, whose value names no version", "committed")
    try:
        rig.player().release(new_job([patient.id]))
        said = "released"
    except GatewayError as error:
        said = error.code
    report.promise("a release is not endorsed", said == "ledger_prepare_failed", said)
    said = rig.revoke(patient.consent).validity
    report.promise("a stop lands all the same", said == VALID, said)
    assert isinstance(rig, FabricRig)
    rig.kill(f"chaincode.{OTHER}")
    del rig.network.chaincodes[OTHER]
    rig.start(f"chaincode.{OTHER}")
    later = rig.patient()
    state = rig.can_open(later)
    report.promise("with one version everywhere a job is done", state == "done", state)
    promise_history(rig, report)


def stale_peer(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """A peer loses the orderer and goes on signing what it last knew; then a patient stops."""
    assert isinstance(rig, FabricRig)
    patient = rig.patient()
    job = new_job([patient.id])
    subject = job.subjects[0]["subject"]
    child, _ = rig.player().release(job)
    said, chunk = opened(rig, child, subject)
    report.saw("before: the job asks for a chunk", said)
    until(lambda: len(set(_heights(rig).values())) == 1, seconds=30)
    rig.isolate(OTHER)
    keys = [consent_key(patient.consent), *(mark_key(patient.consent, org) for org in ORGANISATIONS)]
    _all_prove(rig, keys)
    revoked = rig.revoke(patient.consent)
    report.saw(f"{OTHER}'s peer is cut off from the orderer; a stop lands in block", revoked.block)
    until(lambda: _heights(rig).get(THIRD, 0) > revoked.block, seconds=20)
    _all_prove(rig, keys)
    seen = readings(rig, keys)
    mark = mark_key(patient.consent, OWN)
    heights = ", ".join(f"{org.removesuffix('MSP')} {one.height}" for org, one in sorted(seen.items()))
    report.saw("heights that the three sign", heights)
    stale = seen[OTHER]
    report.saw("it signs, under a fresh nonce, that nothing is revoked", (stale.values[mark] or b"").decode())
    report.promise("it shows itself by its height", stale.height <= revoked.block < seen[OWN].height, heights)
    said, _ = opened(rig, child, subject, after=chunk)
    report.promise("the keyholder opens nothing: one answer shows the stop", said == "consent_revoked", said)
    said, _ = opened(rig, child, subject)
    report.promise("nor what it had opened before", said == "consent_revoked", said)
    with rig.gone(f"peer.{THIRD}"):
        said, _ = opened(rig, child, subject, after=chunk)
        report.promise(
            "with the third away and the stale one counted, the same", said == "consent_revoked", said
        )
    other = rig.patient()
    fresh = new_job([other.id])
    fresh_child, _ = eventually(lambda: rig.player().release(fresh), seconds=10)
    until(lambda: _heights(rig).get(THIRD) == _heights(rig).get(OWN), seconds=20)
    said, chunk = opened(rig, fresh_child, fresh.subjects[0]["subject"])
    report.promise(
        "a new job, of which the stale peer knows nothing, goes on: two others show it",
        said == "opened",
        said,
    )
    with rig.gone(f"peer.{THIRD}"):
        time.sleep(DELTA_SECONDS)  # what was read before serves no longer
        said, _ = opened(rig, fresh_child, fresh.subjects[0]["subject"], after=chunk)
        report.promise("with one fresh of three it waits", said == "peers_behind", said)
    rig.reconnect(OTHER)
    until(lambda: _heights(rig).get(OTHER, 0) > revoked.block, seconds=60)
    state = rig.can_open(other)
    report.promise("connected again it catches up, and jobs are done", state == "done", state)
    promise_history(rig, report)


def certificate_expired(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """The gateway's certificate ends while it works; then the peers' would, by our clock."""
    assert isinstance(rig, FabricRig)
    patient = rig.patient()
    profile = Profile.load(rig.network.profile)
    files = rig.network.folder / "crypto" / OWN
    from deploy.fabric.pki import OrganisationFiles

    seconds = 12
    made = OrganisationFiles(files).identity(
        "brief", unit="admin", role="admin", valid=timedelta(seconds=seconds)
    )
    ends = time.monotonic() + seconds
    brief = FabricLedger(profile, Identity.from_files(OWN, made / "cert.pem", made / "cert.key"))
    said = rig.submit(brief, "RegisterModel", a_model(), seconds=seconds).validity
    report.promise("before its end it may submit", said == VALID, said)
    late = eventually(lambda: brief.prepare("RegisterModel", a_model()), seconds=5)
    time.sleep(max(0.0, ends - time.monotonic()) + 1.5)
    try:
        brief.prepare("RegisterModel", a_model())
        said = "endorsed"
    except PrepareError as error:
        said = error.code
    report.promise("after it nothing is endorsed", said == "ledger_prepare_failed", said)
    try:
        brief.send(late)
        said = brief.outcome(late.tx_id, timeout=3).validity
    except LedgerError as error:
        said = error.code
    report.promise("nor does an envelope from before take effect", said != VALID, said)
    brief.close()
    said = rig.revoke(patient.consent).validity
    report.promise("with a certificate that is in date, stops land", said == VALID, said)
    old = FabricTrust(profile, clock=lambda: time.time() + 40 * 366 * 86_400)
    try:
        readings(rig, ["organisations"], old)
        said = "believed"
    except ProofError as error:
        said = error.code
    report.promise(
        "peers whose certificates have ended are not believed", said == "ledger_proof_failed", said
    )
    from deploy.fabric.pki import expiries

    report.saw(
        "first to end by `python -m deploy.fabric certificates`",
        expiries(rig.network.folder)[0][1].parent.name,
    )
    promise_history(rig, report)


def altered_chaincode(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    """Our own organisation runs altered chaincode and endorses alone what it likes."""
    assert isinstance(rig, FabricRig)
    patient, stopped = rig.patient(), rig.patient()
    rig.revoke(stopped.consent)
    (raw,) = rig.ledger("gateway").evaluate([consent_key(patient.consent)])
    consent = json.loads(raw or b"{}")
    forger = Forger(rig.ledger("admin"), OWN)
    own, others = mark_key(stopped.consent, OWN), mark_key(patient.consent, OTHER)
    attempts = {
        "grant": [put(consent_key(new_id()), consent)],
        "extend": [put(consent_key(patient.consent), {**consent, "version": 2})],
        "delete a consent": [delete(consent_key(patient.consent))],
        "drop the marks": [put(consent_key(patient.consent), {**consent, "marks": [OWN]})],
        "release": [put(f"release/{new_id()}/1", {"decision": "permit"})],
        "deliver": [put(f"deliver/{new_id()}", {"outputs": []})],
        "approve a model": [put(f"model/{new_id()}", {"state": "approved"})],
        "set another's mark": [put(others, {"at": 1, "set": True})],
        "take over another's mark": [set_policy(others, [OWN])],
        "un-stop": [put(own, {"set": False})],
        "delete a stop": [delete(own)],
        "take a stop's policy back": [set_policy(own, [OWN])],
    }
    for what, writes in attempts.items():
        said = forger.forge(writes)
        report.promise(f"alone it cannot {what}", said == REFUSED, said)
    said = forger.forge([delete(mark_key(patient.consent, OWN))])
    report.saw("its own unset mark it can delete", said)
    found = [rig.can_open(stopped), rig.can_open(patient)]
    report.promise(
        "who stopped stays closed, and a missing mark closes", found == ["denied", "denied"], ", ".join(found)
    )
    forger.ledger.close()
    promise_history(rig, report)


DRILLS = [
    Drill(
        "peer-killed",
        "A peer is killed: the others carry on where enough are left, and refuse where not.",
        (FABRIC,),
        peer_killed,
    ),
    Drill(
        "peer-paused",
        "A peer hangs: the same, and nobody waits for it.",
        (FABRIC,),
        peer_paused,
    ),
    Drill(
        "peer-restarted",
        "Our own peer is restarted in mid-work: nothing opens without it, nothing is lost.",
        (FABRIC,),
        peer_restarted,
    ),
    Drill(
        "chaincode-killed",
        "Contract processes are killed: no endorsement, no opening, stops land.",
        (FABRIC,),
        chaincode_killed,
    ),
    Drill(
        "chaincode-frozen",
        "Contract processes hang: no endorsement, no opening, stops land.",
        (FABRIC,),
        chaincode_frozen,
    ),
    Drill(
        "chaincode-other-version",
        "Two versions of the contract cannot release together; stops land.",
        (FABRIC,),
        chaincode_other_version,
        OLDER,
    ),
    Drill(
        "stale-peer",
        "A peer cut off from the orderer goes on signing: nothing opens on its word.",
        (FABRIC,),
        stale_peer,
    ),
    Drill(
        "certificate-expired",
        "Who submits or signs under an ended certificate is not heard.",
        (FABRIC,),
        certificate_expired,
    ),
    Drill(
        "altered-chaincode",
        "One organisation with altered code cannot grant, extend, revive or un-stop.",
        (FABRIC,),
        altered_chaincode,
        FORGES,
    ),
]
