"""Keys that derive from the installation's secret, for what its database keeps encrypted.

None of them opens a record: those are the keyholder's. Who has the database without the secret reads nothing.
"""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


def key_for(use: bytes, *, of: str = "") -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869), another for each `use`, and for each thing that it is of."""
    return HKDF(SHA256(), 32, of.encode() or None, use).derive(settings.SECRET_KEY.encode())
