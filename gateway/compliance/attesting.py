"""Who else vouches for a checkpoint that the ledger holds: witnesses that cosign its note
(c2sp.org/tlog-witness) and a time stamper (RFC 3161). All of it is optional, and nothing waits for it: what
did not answer is asked again for the next checkpoint.
"""

import base64
import logging
import secrets
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.error import HTTPError, URLError

from django.conf import settings
from django.db import transaction

from ledger.audit.merkle import consistency_proof
from ledger.audit.models import AuditBatch
from ledger.audit.notes import LOG, Signer
from ledger.audit.tree import SealedTree
from ledger.contract.state import Json
from ledger.errors import InvalidInput
from ledger.verify import (
    CannotTell,
    NoteKey,
    Tampered,
    check_timestamp,
    der,
    note_text,
    read_note,
    sha256,
    values,
)

log = logging.getLogger(__name__)

SECONDS = 5.0
MOST_BYTES = 64 * 1024
SHA256 = bytes.fromhex("0609608648016503040201")
GRANTED = (b"\x00", b"\x01")


@dataclass(frozen=True)
class Told:
    """A witness as the settings name it."""

    key: NoteKey
    vkey: str
    url: str

    @classmethod
    def read(cls, text: str) -> "Told":
        vkey, bar, url = text.partition("|")
        if not bar or not url.startswith(("https://", "http://")):
            raise InvalidInput("Say VKEY|URL of each witness.", code="witness")
        try:
            return cls(NoteKey.read(vkey), vkey, url.rstrip("/"))
        except CannotTell:
            raise InvalidInput("A witness's key is not a vkey.", code="witness") from None


@lru_cache(maxsize=4)
def _signer(path: str, name: str) -> Signer:
    return Signer.read(Path(path), name=name, kind=LOG)


def signer() -> Signer | None:
    """Who signs this log's notes. Raises InvalidInput (`note_key`)."""
    return _signer(settings.CHECKPOINT_KEY, settings.CHECKPOINT_NAME) if settings.CHECKPOINT_KEY else None


def witnesses() -> list[Told]:
    """Raises InvalidInput (`witness`)."""
    return [Told.read(text) for text in settings.WITNESSES]


def vouching() -> Json | None:
    """The keys that a bundle's note is checked by; None: it has no note."""
    own = signer()
    return None if own is None else {"log": own.vkey, "witnesses": [told.vkey for told in witnesses()]}


def attest_newest() -> None:
    """Have the newest checkpoint that the ledger holds cosigned and stamped."""
    anchored = AuditBatch.objects.filter(origin=settings.AUDIT_ORIGIN).order_by("-size")
    if signer() is not None and (batch := anchored.first()) is not None:
        attest(batch)


def attest(batch: AuditBatch) -> None:
    """Sign the note of a checkpoint, and ask for what it still lacks. Who is away raises nothing."""
    own = signer()
    if own is None:
        return
    text = note_text(own.name, batch.size, bytes.fromhex(batch.root))
    note = batch.note or f"{text.decode()}\n{own.sign(text)}"
    signed = {(name, id) for name, id, _ in read_note(note.encode())[1]}
    for told in witnesses():
        if (told.key.name, told.key.id) not in signed and (line := _cosigned(told, text, note, batch)):
            note += line
    stamp = batch.timestamp
    if stamp is None and settings.TIMESTAMP_URL:
        stamp = _stamped(text)
    with transaction.atomic():
        AuditBatch.objects.filter(pk=batch.pk).update(note=note, timestamp=stamp)
    batch.note, batch.timestamp = note, stamp


def _cosigned(told: Told, text: bytes, note: str, batch: AuditBatch) -> str:
    """The witness's line, checked, or "". It says itself how much of the log it knows."""
    old = _last_seen(told, batch)
    for _ in range(2):
        path = consistency_proof(old, batch.size, SealedTree(batch.size)) if 0 < old < batch.size else []
        lines = [f"old {old}", *(base64.b64encode(node).decode() for node in path)]
        body = "\n".join(lines) + "\n\n" + note
        status, answer = _post(f"{told.url}/add-checkpoint", body.encode(), "text/plain")
        if status == 409 and answer.strip().isdigit():
            old = int(answer)
            if old <= batch.size:
                continue
        break
    if status != 200:
        log.warning("a witness did not cosign: %s", status or "away")
        return ""
    try:
        line = answer.decode()
        (found,) = read_note(text + b"\n" + line.encode())[1]
        if found[:2] != (told.key.name, told.key.id):
            return ""
        told.key.signed(found[2], text)
    except (CannotTell, Tampered, ValueError):
        log.warning("a witness answered with something else than its cosignature")
        return ""
    return line


def _last_seen(told: Told, batch: AuditBatch) -> int:
    """The size of the last checkpoint that has its cosignature."""
    before = AuditBatch.objects.filter(size__lte=batch.size, note__contains=f"\u2014 {told.key.name} ")
    return before.order_by("-size").values_list("size", flat=True).first() or 0


def _stamped(text: bytes) -> bytes | None:
    """A timestamp of the text, checked but for its roots; None where none was given."""
    status, answer = _post(
        settings.TIMESTAMP_URL, timestamp_request(sha256(text)), "application/timestamp-query"
    )
    try:
        given, *token = values(values(answer)[0][1])
        if status != 200 or values(given[1])[0][1] not in GRANTED or not token:
            raise CannotTell("refused")
        check_timestamp(token[0][2], text, [])
    except (CannotTell, Tampered, IndexError, KeyError, ValueError, StopIteration):
        log.warning("the time of a checkpoint was not stamped: %s", status or "away")
        return None
    return token[0][2]


def timestamp_request(digest: bytes) -> bytes:
    """RFC 3161, TimeStampReq: the digest (SHA-256), a nonce, and the wish for the certificate."""
    imprint = der(0x30, der(0x30, SHA256 + der(0x05, b"")) + der(0x04, digest))
    nonce = der(0x02, b"\x01" + secrets.token_bytes(8))
    return der(0x30, der(0x02, b"\x01") + imprint + nonce + der(0x01, b"\xff"))


def _post(url: str, body: bytes, kind: str) -> tuple[int, bytes]:
    """Status and answer; status 0: nobody answered in time."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": kind}, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310  # nosec B310
            return answer.status, answer.read(MOST_BYTES)
    except HTTPError as error:
        return error.code, error.read(MOST_BYTES)
    except (URLError, OSError):
        return 0, b""
