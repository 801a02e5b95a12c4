"""A file that holds a secret: made once, there whole or not at all, and this account's alone."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_once(path: Path, text: str) -> None:
    """Write `text` where there is no file yet; what is there is never overwritten. Raises OSError."""
    with suppress(FileExistsError):
        # Whole or not at all: a link appears only once the bytes are on the disk.
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(file, "w") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(file)
            os.link(draft, path)
        finally:
            draft.unlink()
