"""Scans of signed papers: what may be kept, how it is encrypted, how it is known.

A file is encrypted with AES-256-GCM under a key that the installation's secret gives (HKDF-SHA256); the
scan's id is bound to it. Only its SHA-256 goes further: into the FHIR Consent, and into the audit log,
whose root is anchored on the ledger.
"""

import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.utils.translation import gettext as _

from consent.installation_keys import key_for
from consent.models import Patient, Scan, random_id
from ledger.errors import EnvelopeError, InvalidInput

MOST_BYTES = 5 * 1024 * 1024
NONCE_BYTES = 12

# First bytes -> media type. What a file is called says nothing about what it is.
KINDS = {b"%PDF-": "application/pdf", b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
ENDINGS = {"application/pdf": "pdf", "image/jpeg": "jpg", "image/png": "png"}


def keep(*, patient: Patient, content: bytes) -> Scan:
    """The scan, encrypted. Raises InvalidInput (`scan_size`, `scan_kind`)."""
    if not 0 < len(content) <= MOST_BYTES:
        raise InvalidInput(_("A scan has at most 5 MB."), code="scan_size")
    media_type = next((kind for start, kind in KINDS.items() if content.startswith(start)), "")
    if not media_type:
        raise InvalidInput(_("A scan is a PDF, JPEG or PNG file."), code="scan_kind")
    id, nonce = random_id(), secrets.token_bytes(NONCE_BYTES)
    return Scan.objects.create(
        id=id,
        patient=patient,
        digest=hashlib.sha256(content).hexdigest(),
        media_type=media_type,
        size=len(content),
        sealed=nonce + AESGCM(_key()).encrypt(nonce, content, id.encode()),
    )


def read(scan: Scan) -> bytes:
    """The file as it came. Raises EnvelopeError where it was tampered with, or the secret has changed."""
    sealed = bytes(scan.sealed)
    try:
        content = AESGCM(_key()).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], scan.id.encode())
    except InvalidTag:
        raise EnvelopeError(_("This scan cannot be opened. Tell the compliance officer.")) from None
    if hashlib.sha256(content).hexdigest() != scan.digest:
        raise EnvelopeError(_("This scan is not the one that was kept. Tell the compliance officer."))
    return content


def _key() -> bytes:
    return key_for(b"scans of consents")
