"""Proofs that people and programs keep: of what a patient's history says, and of a result that was sent.

A proof shows its rows whole. Those of a history name the patient by a pseudonym that is the same in every
job, so what an AI client was sent has a row of its own, which names the subject of the one job alone.
"""

import hashlib
from collections.abc import Sequence

from django.conf import settings
from django.db import transaction

from consent.models import Requester
from gateway.analysis.jobs import details
from gateway.analysis.models import Attempt, Job, Output
from gateway.keyholder.client import Keyholder
from ledger.audit.incidents import PROOF_DIFFERS, open_incident, row
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditRow
from ledger.audit.proof import MayShow, Verdict, any_block, judge_rows, shown_alone
from ledger.errors import AccessDenied, EnvelopeError, GatewayError, LedgerError

WEB = Actor.system("web")


@transaction.atomic
def log_sent(*, job: Job, output: Output, content: bytes) -> None:
    """That these very bytes go to the job's requester, and the delivery on the ledger that they stand on.

    Once for each output: its bytes are the same each time that it is opened.
    """
    if output.sent_id is not None:
        return
    delivered = Attempt.objects.filter(leg=output.subject.leg_id).exclude(deliver_tx="").order_by("-number")
    output.sent = record(
        kind="result.sent",
        actor=Actor.client(job.requester_id),
        subject_id=output.subject_id,
        output=output.digest,
        content=hashlib.sha256(content).hexdigest(),
        tx_id=delivered.values_list("deliver_tx", flat=True).first(),
        **details(job),
    )
    output.save(update_fields=["sent"])


def proof_of(*, job: Job, subject: str, requester: Requester) -> bytes | None:
    """The proof of a result that this requester was sent, for `ledger/verify.py` with `--of`; None while
    its row waits to be sealed and anchored, a few seconds.

    It stays once the patient has stopped, as long as results are kept: it says what the client had, and
    opens nothing. Raises AccessDenied (`not_available`), LedgerError, EnvelopeError (`log_differs`).
    """
    found = Output.objects.filter(subject__job=job, subject_id=subject, subject__job__requester=requester)
    output = found.exclude(sent=None).select_related("sent").defer("sealed").first()
    if output is None or output.sent is None:
        raise AccessDenied("There is no result for you.", code="not_available")
    verdict, proof = judge([output.sent], may_show=shown_alone)
    if verdict == Verdict.UNKNOWN:
        raise LedgerError("The ledger cannot be asked for its proof now.")
    if verdict not in (Verdict.SEALED, Verdict.WAITING):
        raise EnvelopeError("The log is not what the ledger sealed.", code="log_differs")
    return proof if verdict == Verdict.SEALED else None


def judge(rows: Sequence[AuditRow], *, may_show: MayShow = any_block) -> tuple[Verdict, bytes | None]:
    """What the ledger says of these rows of the log, and their proof. A difference opens an incident.

    UNKNOWN where the ledger cannot be asked now.
    """
    evidence = Keyholder(settings.KEYHOLDER_SOCKET).evidence
    try:
        verdict, proof = judge_rows(
            rows, lambda tx_id: evidence(tx_id=tx_id), settings.LEDGER_URL, may_show=may_show
        )
    except GatewayError:
        return Verdict.UNKNOWN, None
    if verdict == Verdict.DIFFERS:
        open_incident(code=PROOF_DIFFERS, place=row(min(each.leaf or 0 for each in rows)), by=WEB)
    return verdict, proof
