"""Writing the audit log: one act, one row, in the database transaction that does the act.

A row's canonical line is its leaf in the Merkle log. What may stand in a line is declared in KINDS
and nowhere else, so no name, payload or free text can slip in.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import router, transaction
from django.utils import timezone

from ledger.audit.models import AuditRow
from ledger.contract.canonical import dumps
from ledger.errors import InvalidInput

FORMAT = 1
NONCE_BYTES = 16

_ID = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CODE = re.compile(r"[a-z][a-z0-9_.-]{0,59}")
_PURPOSE = re.compile(r"[A-Z]{2,20}")
_CLIENT = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _text(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _are_codes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 50
        and all(isinstance(v, str) and _CODE.fullmatch(v) for v in value)
    )


ID = _text(_ID)  # 32 bytes in hex: an id, a digest, a transaction, a pseudonym
UUID = _text(_UUID)  # a requester
CLIENT = _text(_CLIENT)  # an OAuth client id
CODE = _text(_CODE)  # a stable code of ours, never free text
PURPOSE = _text(_PURPOSE)  # a v3-ActReason code
COUNT = _is_count
CODES = _are_codes

_CONSENT = {
    "consent": ID, "request": ID, "requester": UUID, "purpose": PURPOSE, "model": ID, "notice": ID,
    "tx_id": ID, "block": COUNT, "code": CODE, "given_by": CODE, "authority": CODE, "scan": ID,
    "channel": CODE, "teach_back": COUNT, "signed": CODE,
}  # fmt: skip
_COHORT = {
    "cohort": ID, "requester": UUID, "purpose": PURPOSE, "model": ID, "subjects": COUNT, "reasons": CODES,
}  # fmt: skip
_JOB = {
    "job": ID, "attempt": COUNT, "requester": UUID, "purpose": PURPOSE, "model": ID, "request": ID,
    "consent": ID, "subject_id": ID, "subjects": COUNT, "delivered": COUNT, "withheld": COUNT,
    "reasons": CODES, "tx_id": ID, "block": COUNT, "code": CODE, "channel": CODE,
}  # fmt: skip
_MODEL = {
    "model": ID,
    "card": ID,
    "requester": UUID,
    "state": CODE,
    "tx_id": ID,
    "block": COUNT,
    "code": CODE,
    "channel": CODE,
}
_PATIENT = {"code": CODE, "method": CODE}
_IDENTITY = {"provider": CODE, "code": CODE}  # `code`: by invitation, or in the settings
_REPRESENTATIVE = {"representative": ID, "role": CODE, "scope": CODE, "scan": ID, "code": CODE}
_ACCESS = {
    "access": ID, "digest": ID, "chunks": COUNT, "purpose": PURPOSE, "tx_id": ID, "block": COUNT,
    "code": CODE,
}  # fmt: skip

_EXPORT = {"export": ID, "code": CODE, "requester": UUID, "model": ID, "request": ID}  # `code`: its kind

_RIGHTS = {"person": ID, "roles": CODES}  # of whom: as an actor's id is made
_RETRAINING = {"consent": ID, "requester": UUID}

# What happened -> the details that its line may carry, each with the check that its value passes.
KINDS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "consent.asked": _CONSENT,
    "consent.granted": _CONSENT,
    "consent.refused": _CONSENT,
    "consent.replaced": {**_CONSENT, "replaces": ID},
    "consent.stopped": _CONSENT,
    "consent.revoked": _CONSENT,
    "consent.replayed": _CONSENT,  # the readable copy was put right from the ledger
    "consent.withdrawn": _CONSENT,  # stopped by staff, as the patient asked on paper or by phone
    "consent.entered_in_error": _CONSENT,
    "request.owned": _CONSENT,
    "request.approved": _CONSENT,
    "request.sent_back": {**_CONSENT, "reasons": CODES},
    "request.withdrawn": _CONSENT,
    "request.expired": _CONSENT,
    "deletion.asked": _CONSENT,
    "deletion.confirmed": _CONSENT,
    "cohort.proposed": _COHORT,
    "cohort.written": _COHORT,  # whom it is about was written down by staff
    "cohort.approved": _COHORT,
    "cohort.asked": _COHORT,
    "cohort.sent_back": _COHORT,
    "registration.made": _MODEL,  # by the provider; nothing runs yet
    "registration.approved": _MODEL,
    "registration.refused": {**_MODEL, "reasons": CODES},
    "model.registered": _MODEL,
    "job.queued": {**_JOB, "cohort": ID},
    "job.released": _JOB,
    "job.denied": _JOB,
    "job.delivered": _JOB,
    "job.stopped": _JOB,
    "job.failed": _JOB,
    "job.cancelled": _JOB,
    "result.read": {**_JOB, "output": ID},
    # What a client was sent, of whom it knows by the job's name alone. `content`: SHA-256 of the very bytes.
    "result.sent": {**_JOB, "output": ID, "content": ID},
    "result.accepted": {**_JOB, "output": ID},
    "result.rejected": {**_JOB, "output": ID},
    "result.withdrawn": {**_JOB, "output": ID},
    "patient.invited": _PATIENT,
    "erasure.asked": _PATIENT,
    "erasure.confirmed": _PATIENT,  # by one of two; `code`: first or second
    "erasure.refused": _PATIENT,  # `code`: why her records are kept
    "erasure.done": _PATIENT,  # without a subject: there is nobody any more
    "patient.proofed": _PATIENT,
    "patient.linked": _PATIENT,
    "patient.marked": _PATIENT,  # `code`: well_known, or not any more
    "passkey.enrolled": _PATIENT,  # it signs choices from now on
    "passkey.dropped": _PATIENT,
    "passkeys.reset": _PATIENT,  # staff proofed her again; none of her passkeys signs any more
    "representative.registered": _REPRESENTATIVE,
    "representative.accepted": _REPRESENTATIVE,
    "representative.entered": _REPRESENTATIVE,  # from then on this session acts for the patient
    "representative.ended": _REPRESENTATIVE,
    "conflict.opened": _CONSENT,
    "conflict.settled": _CONSENT,
    "referral.issued": {"requester": UUID},
    "requester.registered": {"requester": UUID},
    "requester.changed": {"requester": UUID},
    "requester.suspended": {"requester": UUID},
    "requester.resumed": {"requester": UUID},
    "model.tested": {"model": ID, "requester": UUID, "people": COUNT, "wrong": COUNT},
    "scan.opened": {"scan": ID, "consent": ID, "representative": ID},
    "client.registered": {"requester": UUID, "client": CLIENT},
    "client.secret_renewed": {"requester": UUID, "client": CLIENT},  # before clients had keys
    "client.keys_changed": {"requester": UUID, "client": CLIENT},
    "records.ingested": {"file": ID, "resources": COUNT, "chunks": COUNT, "refused": COUNT},
    "records.regrouped": {"act": ID, "chunks": COUNT},  # sealed anew by the keyholder, opened to nobody
    "records.relabelled": {"act": ID, "chunks": COUNT},  # the same, because the label rules have changed
    "labels.asked": {"change": ID, "code": CODE},  # by a clinician; `code`: add or lift
    "labels.agreed": {"change": ID},  # by a second one
    "labels.refused": {"change": ID},
    "labels.changed": {"change": ID, "code": CODE},  # from then on the records are sealed so
    # One resource that a lenient ingest set aside: looked at, taken in after all, or thrown away.
    "quarantine.read": {"quarantined": ID},
    "quarantine.released": {"quarantined": ID, "code": CODE, "resources": COUNT, "chunks": COUNT},
    "quarantine.dropped": {"quarantined": ID, "code": CODE},
    "access.emergency": _ACCESS,
    "access.subject": _ACCESS,  # code: asked, committed, opened
    "emergency.read": _ACCESS,
    "emergency.ended": _ACCESS,
    "emergency.reviewed": _ACCESS,  # `code`: justified or not_justified
    "staff.signed_in": {"method": CODE, "code": CODE},
    "identity.linked": _IDENTITY,  # from then on this person signs in at a provider
    "identity.unlinked": _IDENTITY,
    "identity.signed_in": _IDENTITY,
    "address.confirmed": {"code": CODE},  # an email is its account's; `code`: the first, or another one
    "password.link_given": _PATIENT,  # staff proofed her again and gave her a link to choose a password
    "incident.opened": {"code": CODE, "incident": COUNT, "leaf": COUNT},  # `leaf`: before there were places
    "incident.settled": {"code": CODE, "incident": COUNT},
    # A keyholder's store came back from an older backup: its log has no row of this attempt any more.
    "opening.lost": {"job": ID, "attempt": COUNT},
    "alarm.opened": {"code": CODE, "leaf": COUNT},  # `code`: its kind
    "alarm.settled": {"code": CODE, "leaf": COUNT, "outcome": CODE},
    "rights.review_opened": _RIGHTS,
    "rights.confirmed": _RIGHTS,
    "rights.taken_away": _RIGHTS,
    "retraining.opened": _RETRAINING,  # a consent was withdrawn after a copy had left
    "retraining.asked": _RETRAINING,
    "retraining.settled": {**_RETRAINING, "outcome": CODE},
    "export.asked": _EXPORT,
    "export.made": {**_EXPORT, "manifest": ID, "first": COUNT, "end": COUNT, "rows": COUNT},
    "export.read": {**_EXPORT, "digest": ID},  # handed out, as a file of this digest
    "export.deleted": _EXPORT,
}  # fmt: skip

# Kinds of row that are steps of one question: its `step_of` is the request.
OF_A_QUESTION = ("consent.", "request.", "deletion.")


def pseudonym(key: bytes, id: str) -> str:
    """The name of `id` in the log: HMAC-SHA256(key, id) in hex. Whoever lacks the key cannot link or test it.

    A patient's key is the patient's own (`Patient.audit_key`) and is destroyed on erasure.
    """
    return hmac.new(key, id.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Actor:
    """Who acted. `id` is a pseudonym (patient, representative, staff), a client's id, or a process of ours
    (system).
    """

    kind: str
    id: str

    @classmethod
    def patient(cls, pseudonym: str) -> "Actor":
        return cls("patient", pseudonym)

    @classmethod
    def representative(cls, pseudonym: str) -> "Actor":
        """Somebody who acts for the row's subject."""
        return cls("representative", pseudonym)

    @classmethod
    def staff(cls, user_id: object) -> "Actor":
        """A member of staff by their account's id, named by a key that the installation's secret gives."""
        key = hmac.new(settings.SECRET_KEY.encode(), b"audit staff pseudonyms", hashlib.sha256).digest()
        return cls("staff", pseudonym(key, str(user_id)))

    @classmethod
    def client(cls, id: object) -> "Actor":
        """An AI client: its requester's id (or its OAuth client id)."""
        return cls("client", str(id))

    @classmethod
    def system(cls, process: str) -> "Actor":
        """A process of ours: "relay", "worker", "keyholder", "command"."""
        return cls("system", process)


ACTORS: Mapping[str, Callable[[Any], bool]] = {
    "patient": ID,
    "representative": ID,
    "staff": ID,
    "client": _text(_CLIENT),
    "system": CODE,
}


def record(
    *, kind: str, actor: Actor, subject: str = "", at: datetime | None = None, **details: Any
) -> AuditRow:
    """Log one act within the caller's database transaction: both are kept, or neither.

    `subject` is the pseudonym of the patient concerned, or "". `at` is when it happened (default now, kept
    to the second). `details` are those that KINDS allows; one that is None is left out.

    The line is canonical JSON (RFC 8785):
        {"actor": {"id", "kind"}, "details", "format": 1, "kind", "nonce", "subject", "time": RFC 3339 in UTC}
    The nonce is 16 random bytes in hex. A proof hands out the hashes of rows that it does not show; without
    a nonce, anyone who can guess a row (kind, minute, a pseudonym seen elsewhere) could confirm the guess
    by hashing it. With it a leaf hash says nothing, and a disclosed line still proves itself.

    Raises InvalidInput for an unknown kind, an undeclared detail or a malformed value (which is never
    repeated in the message), and TransactionManagementError outside a transaction.
    """
    if not transaction.get_connection(router.db_for_write(AuditRow)).in_atomic_block:
        raise transaction.TransactionManagementError(
            "The audit log is written in the transaction of the act that it records: open one around both."
        )
    details = {key: value for key, value in details.items() if value is not None}
    _check(kind, actor, subject, details)
    at = (at or timezone.now()).astimezone(UTC).replace(microsecond=0)
    line = dumps(
        {
            "actor": {"id": actor.id, "kind": actor.kind},
            "details": details,
            "format": FORMAT,
            "kind": kind,
            "nonce": secrets.token_hex(NONCE_BYTES),
            "subject": subject,
            "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
    return AuditRow.objects.create(
        line=line, kind=kind, subject=subject, step_of=step_of(kind, details), recorded_at=at
    )


def step_of(kind: str, details: Mapping[str, Any]) -> str:
    """What a row is one step of. The acts upon one question and its answers are found together."""
    about = details.get("request") if kind.startswith(OF_A_QUESTION) else None
    return str(details.get("subject_id") or details.get("access") or about or "")


def _check(kind: str, actor: Actor, subject: str, details: Mapping[str, Any]) -> None:
    allowed = KINDS.get(kind)
    if allowed is None:
        raise InvalidInput(
            "The audit log does not know this kind of act; declare it in KINDS.", code="audit_kind"
        )
    is_actor = ACTORS.get(actor.kind)
    if is_actor is None or not is_actor(actor.id):
        raise InvalidInput("The actor of an audit row must be a pseudonym or a plain id.", code="audit_actor")
    if subject and not ID(subject):
        raise InvalidInput("The subject of an audit row must be a pseudonym.", code="audit_subject")
    for key, value in details.items():
        if key not in allowed:
            raise InvalidInput(
                "An audit row carries a detail that its kind does not declare.", code="audit_detail"
            )
        if not allowed[key](value):
            raise InvalidInput(
                "A detail of an audit row has the wrong form for its kind.", code="audit_detail"
            )
