"""Writing notes: a checkpoint in C2SP's form, signed by the log, cosigned by witnesses (tlog-checkpoint,
signed-note, tlog-cosignature). How they are read and checked is in `ledger/verify.py`. No Django here.

    python -m ledger.audit.notes KEY-FILE --name NAME

makes a log's key, where there is none, and prints its public key (vkey).
"""

import argparse
import base64
import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import InvalidInput
from ledger.verify import NoteKey, sha256

LOG, WITNESS = 1, 4
SEED_BYTES = 32


@dataclass(frozen=True)
class Signer:
    """Signs notes under a name: a log (LOG), or a witness that says when it saw them (WITNESS)."""

    name: str
    kind: int
    seed: bytes

    @classmethod
    def read(cls, path: Path, *, name: str, kind: int) -> "Signer":
        """`path` holds 32 bytes in hex. Raises InvalidInput."""
        try:
            seed = bytes.fromhex(path.read_text().strip())
        except (OSError, ValueError):
            seed = b""
        if len(seed) != SEED_BYTES or not re.fullmatch(r"[^\s+]+", name):
            raise InvalidInput(
                "A signer of notes needs a name without spaces, and 32 bytes in hex.", code="note_key"
            )
        return cls(name, kind, seed)

    @property
    def key(self) -> NoteKey:
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        id = sha256(self.name.encode() + b"\n" + bytes([self.kind]) + public)[:4]
        return NoteKey(self.name, id, self.kind, public)

    @property
    def vkey(self) -> str:
        """The public key in text, as whoever checks its notes is given it."""
        return vkey(self.key)

    def sign(self, text: bytes, *, at: int = 0) -> str:
        """One line of a note. A witness signs `at` (seconds since 1970) as well."""
        stamp = at.to_bytes(8, "big") if self.kind == WITNESS else b""
        signed = b"cosignature/v1\ntime %d\n" % at + text if self.kind == WITNESS else text
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(signed)
        return f"\u2014 {self.name} {base64.b64encode(self.key.id + stamp + signature).decode()}\n"


def vkey(key: NoteKey) -> str:
    held = base64.b64encode(bytes([key.kind]) + key.key).decode()
    return f"{key.name}+{key.id.hex()}+{held}"


def make_key(path: Path) -> None:
    """A new key, for its owner alone. Raises FileExistsError."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w") as out:
        out.write(secrets.token_hex(SEED_BYTES) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ledger.audit.notes")
    parser.add_argument("key", type=Path)
    parser.add_argument("--name", required=True, help="the log's: a host name and a path, no spaces")
    options = parser.parse_args(arguments)
    if not options.key.exists():
        make_key(options.key)
    try:
        print(Signer.read(options.key, name=options.name, kind=LOG).vkey)
    except InvalidInput as error:
        parser.error(error.message)
    return 0


if __name__ == "__main__":
    sys.exit(main())
