"""Seal and open: the envelope of a record chunk, of a data key on its way to a job, of an output.

Pure functions over bytes: no file, no clock, no ledger. Ingest and the job child import this file
too, so it stays quick to import and starts nothing. What does not open raises EnvelopeError and
never says why in a way that helps whoever tampered.
"""

import os
import threading
from collections.abc import Sequence

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ledger.errors import EnvelopeError, InvalidInput

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
MAX_CHUNK_BYTES = 64 * 1024 * 1024
MAX_OUTPUT_BYTES = 16 * 1024 * 1024
SMALLEST_BUCKET = 256

# RFC 9180 base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; enc (32 bytes) ‖ ciphertext.
_HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_PROBE = X25519PrivateKey.generate()  # protects nothing
_HPKE_KEY_BYTES = 32 + KEY_BYTES + TAG_BYTES


def new_key() -> bytes:
    """32 random bytes: a data key, a patient key, the key of a commitment."""
    return os.urandom(KEY_BYTES)


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """`nonce (12 bytes) ‖ AES-256-GCM ciphertext ‖ tag (16 bytes)` with a random nonce."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, aad)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The reverse of `seal`. Raises EnvelopeError."""
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise _tampered()
    view = memoryview(sealed)
    try:
        return AESGCM(key).decrypt(view[:NONCE_BYTES], view[NONCE_BYTES:], aad)
    except (InvalidTag, ValueError):
        raise _tampered() from None


# A chunk of records


def seal_chunk(dek: bytes, ndjson: bytes, *, patient: str, chunk: str, version: int) -> bytes:
    """Seal the NDJSON lines of one chunk, as received, into the blob that the database keeps.

    `patient` and `chunk` are 64 hex characters. The length of the blob tells only a size bucket.
    Raises InvalidInput for more than 64 MiB.
    """
    return seal(dek, _pack(ndjson, limit=MAX_CHUNK_BYTES), chunk_aad(patient, chunk, version))


def open_chunk(
    dek: bytes, blob: bytes, *, patient: str, chunk: str, version: int, limit: int = MAX_CHUNK_BYTES
) -> bytes:
    """The NDJSON lines of a chunk, at most `limit` bytes of them. Raises EnvelopeError."""
    return _unpack(unseal(dek, blob, chunk_aad(patient, chunk, version)), limit=limit)


def chunk_aad(patient: str, chunk: str, version: int) -> bytes:
    """What binds a chunk, and its sealed header, to its place: patient ‖ chunk ‖ version (8 bytes)."""
    return _id(patient) + _id(chunk) + version.to_bytes(8, "big")


def seal_notes(dek: bytes, notes: bytes, *, patient: str, chunk: str, version: int) -> bytes:
    """Seal what is noted of each line of a chunk (regrouping.py) under the chunk's own data key."""
    return seal(dek, _pack(notes, limit=MAX_CHUNK_BYTES), b"notes" + chunk_aad(patient, chunk, version))


def open_notes(dek: bytes, sealed: bytes, *, patient: str, chunk: str, version: int) -> bytes:
    """The reverse of `seal_notes`. Raises EnvelopeError."""
    packed = unseal(dek, sealed, b"notes" + chunk_aad(patient, chunk, version))
    return _unpack(packed, limit=MAX_CHUNK_BYTES)


# A data key on its way to a job


class PartWrapper:
    """Wraps data keys to the public key of one part of one attempt.

    HPKE once carries a key of its own to the part; each data key is then wrapped under it with
    AES-256-GCM, which costs a hundredth of an HPKE. Safe for threads.
    """

    def __init__(self, public_key: bytes, *, job: str, attempt: int, part: int) -> None:
        self._info = _part_info(job, attempt, part)
        self._key = new_key()
        self._head = _HPKE.encrypt(self._key, read_public_key(public_key), info=self._info)

    def wrap(self, dek: bytes, *, subject: str, chunk: str, version: int) -> bytes:
        """`HPKE(key) (80 bytes) ‖ nonce ‖ AES-256-GCM(dek)`."""
        return self._head + seal(self._key, dek, _dek_aad(self._info, subject, chunk, version))


class PartUnwrapper:
    """The child's side: opens the data keys that were wrapped to its public key."""

    def __init__(self, private_key: X25519PrivateKey, *, job: str, attempt: int, part: int) -> None:
        self._private = private_key
        self._info = _part_info(job, attempt, part)
        self._head, self._key = b"", b""

    def unwrap(self, wrapped: bytes, *, subject: str, chunk: str, version: int) -> bytes:
        """The data key of this chunk of this subject. Raises EnvelopeError."""
        head, body = wrapped[:_HPKE_KEY_BYTES], wrapped[_HPKE_KEY_BYTES:]
        if head != self._head:
            self._key = _hpke_open(self._private, head, self._info)
            self._head = head
        return unseal(self._key, body, _dek_aad(self._info, subject, chunk, version))


def new_part_key() -> tuple[X25519PrivateKey, bytes]:
    """A fresh X25519 key pair: the private key, and the 32 raw bytes of the public one."""
    private = X25519PrivateKey.generate()
    return private, private.public_key().public_bytes_raw()


# An output on its way to the keyholder


def seal_output(
    public_key: bytes, output: bytes, *, job: str, attempt: int, subjects: Sequence[str]
) -> bytes:
    """Seal one output of `subjects` (several for an aggregate) to the keyholder's public key.

    Its digest, SHA-256 of what this returns, is what *deliver* puts on the ledger.
    """
    info = _output_info(job, attempt, subjects)
    return _HPKE.encrypt(_pack(output, limit=MAX_OUTPUT_BYTES), read_public_key(public_key), info=info)


def open_sealed_output(
    private_key: X25519PrivateKey, sealed: bytes, *, job: str, attempt: int, subjects: Sequence[str]
) -> bytes:
    """The output in clear. Raises EnvelopeError."""
    packed = _hpke_open(private_key, sealed, _output_info(job, attempt, subjects))
    return _unpack(packed, limit=MAX_OUTPUT_BYTES)


# Packing: a 4-byte length, a zstd frame, zeros up to the size bucket


class _Zstd(threading.local):
    """What compresses and what decompresses: most of a small chunk's time is making them, and each serves one
    thread at a time."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=3).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_zstd = _Zstd()


def _pack(plaintext: bytes, *, limit: int) -> bytes:
    if len(plaintext) > limit:
        raise InvalidInput(f"One sealed piece holds at most {limit} bytes. Split it.", code="piece_too_large")
    frame = _zstd.compress(plaintext)
    size = 4 + len(frame)
    return len(frame).to_bytes(4, "big") + frame + bytes(bucket(size) - size)


def _unpack(packed: bytes, *, limit: int) -> bytes:
    length = int.from_bytes(packed[:4], "big")
    if length > len(packed) - 4:
        raise _tampered()
    frame = packed[4 : 4 + length]
    try:
        # The frame states its size, and zstd holds it to that: a bomb is refused before it is lit.
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= limit:
            raise EnvelopeError("A sealed piece is larger than it may be.", code="envelope_too_large")
        return _zstd.decompress(frame, max_output_size=limit)
    except zstandard.ZstdError:
        _zstd.renew()  # what a broken frame made it take stays with it
        raise _tampered() from None


def bucket(size: int) -> int:
    """The padded size: Padmé (Nikitin et al., PETS 2019), at most 12 % more, at least 256 bytes."""
    if size <= SMALLEST_BUCKET:
        return SMALLEST_BUCKET
    exponent = size.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-size // step) * step


# Bindings


def _id(value: str) -> bytes:
    """The 32 bytes of an id: lengths are fixed, so no two bindings run into each other."""
    try:
        raw = bytes.fromhex(value)
    except (TypeError, ValueError):
        raw = b""
    if len(raw) != 32:
        raise InvalidInput("An id is 32 bytes, written as 64 hex characters.", code="malformed_id")
    return raw


def _part_info(job: str, attempt: int, part: int) -> bytes:
    return b"consent-gateway part 1" + _id(job) + attempt.to_bytes(8, "big") + part.to_bytes(8, "big")


def _dek_aad(part_info: bytes, subject: str, chunk: str, version: int) -> bytes:
    return part_info + _id(subject) + _id(chunk) + version.to_bytes(8, "big")


def _output_info(job: str, attempt: int, subjects: Sequence[str]) -> bytes:
    names = b"".join(_id(subject) for subject in sorted(subjects))
    return b"consent-gateway output 1" + _id(job) + attempt.to_bytes(8, "big") + names


def read_public_key(raw: bytes) -> X25519PublicKey:
    """A key that something can be sealed to: not a point of small order (RFC 7748 §6.1).

    Raises InvalidInput.
    """
    try:
        key = X25519PublicKey.from_public_bytes(raw)
        _PROBE.exchange(key)  # refuses where every secret would be the same
    except ValueError:
        raise InvalidInput(
            "A public key is 32 bytes of X25519, and not a point of small order.", code="malformed_key"
        ) from None
    return key


def _hpke_open(private_key: X25519PrivateKey, sealed: bytes, info: bytes) -> bytes:
    try:
        return _HPKE.decrypt(sealed, private_key, info=info)
    except (InvalidTag, ValueError):
        raise _tampered() from None


def _tampered() -> EnvelopeError:
    return EnvelopeError("A sealed piece does not open: it was changed, or it belongs elsewhere.")
