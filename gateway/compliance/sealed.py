"""An export's file at rest: parts of one MiB, each sealed with AES-256-GCM, opened one after another.

The key is the installation's secret and the export's id (HKDF-SHA256), so each export has its own and a
nonce is a part's number. The last part says that it is the last: a file that was cut short does not open.
"""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import transaction
from django.utils.translation import gettext as _

from consent.installation_keys import key_for
from gateway.compliance.models import Export, ExportPart
from ledger.errors import EnvelopeError

PART = 1 << 20


@transaction.atomic
def keep(export: Export, file: BinaryIO) -> tuple[str, int]:
    """Seal `file` to the export, in place of what was there: (its SHA-256 in hex, its bytes)."""
    ExportPart.objects.filter(export=export).delete()
    key, digest, size = AESGCM(_key(export)), hashlib.sha256(), 0
    part, number = file.read(PART), 0
    while True:
        following = file.read(PART)
        digest.update(part)
        size += len(part)
        sealed = key.encrypt(_nonce(number, last=not following), part, None)
        ExportPart.objects.create(export=export, number=number, sealed=sealed)
        if not following:
            return digest.hexdigest(), size
        part, number = following, number + 1


def read(export: Export) -> Iterator[bytes]:
    """The file, part by part. Raises EnvelopeError where it was tampered with, or the secret has changed."""
    key, digest = AESGCM(_key(export)), hashlib.sha256()
    count = ExportPart.objects.filter(export=export).count()
    for number in range(count):
        found = ExportPart.objects.filter(export=export, number=number).values_list("sealed", flat=True)
        try:
            part = key.decrypt(_nonce(number, last=number == count - 1), bytes(found[0]), None)
        except (InvalidTag, IndexError):
            raise EnvelopeError(_("This export cannot be opened. Make it again.")) from None
        digest.update(part)
        yield part
    if digest.hexdigest() != export.digest:
        raise EnvelopeError(_("This export is not the one that was kept. Make it again."))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _key(export: Export) -> bytes:
    return key_for(b"exports at rest", of=export.pk)
