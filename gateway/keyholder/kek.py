"""The key-encryption key: what wraps every patient's key, and nothing else.

The seam is `wrap`/`unwrap`, so that Vault Transit or an HSM can stand where the file stands and
the key itself need not be in this process at all.
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import Protocol

from gateway.keyfiles import write_once
from gateway.keyholder.envelope import KEY_BYTES, new_key, seal, unseal
from ledger.errors import EnvelopeError

_AAD = b"consent-gateway kek 1"


class KEK(Protocol):
    """One key-encryption key. `id` names it in the store and tells nothing about it."""

    id: str

    def wrap(self, key: bytes) -> bytes:
        """`key` (32 bytes), sealed under the KEK."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """The reverse. Raises EnvelopeError."""
        ...


class FileKEK:
    """A KEK in a file: 32 bytes in hex, readable by its owner alone.

    For one machine and for trials: whoever copies this file and the store has every key.
    """

    def __init__(self, path: Path) -> None:
        """Raises EnvelopeError (`kek_unreadable`, `kek_exposed`) and reads nothing it should not."""
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(file) as opened:
                mode = os.fstat(file).st_mode
                if not stat.S_ISREG(mode) or mode & 0o077:
                    raise EnvelopeError(
                        "The KEK file may be readable by its owner alone: set its mode to 0600.",
                        code="kek_exposed",
                    )
                key = bytes.fromhex(opened.read(2 * KEY_BYTES + 1).strip())
        except OSError as error:
            raise EnvelopeError(
                f"The KEK file cannot be read: {error.strerror}.", code="kek_unreadable"
            ) from None
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise EnvelopeError(
                "The KEK file does not hold 32 bytes in hex. Restore it from its backup.",
                code="kek_unreadable",
            )
        self._key = key
        self.id = hashlib.sha256(b"consent-gateway kek id 1" + key).hexdigest()[:32]

    @classmethod
    def create(cls, path: Path) -> "FileKEK":
        """The KEK at `path`, made first where there is none. What exists is never overwritten."""
        write_once(path, new_key().hex() + "\n")
        return cls(path)

    def wrap(self, key: bytes) -> bytes:
        return seal(self._key, key, _AAD)

    def unwrap(self, wrapped: bytes) -> bytes:
        return unseal(self._key, wrapped, _AAD)
