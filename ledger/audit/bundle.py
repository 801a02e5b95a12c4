"""The files of an export: a folder, or a .zip in the one layout that `ledger/verify.py` accepts."""

import hashlib
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from ledger import verify
from ledger.audit.tree import TreeDamaged
from ledger.contract.state import Json
from ledger.errors import GatewayError


@dataclass(frozen=True)
class Attached:
    """A document that goes with the rows: a plain name, one line that says what it is, and its bytes."""

    name: str
    about: str
    content: Iterable[bytes]


class ExportFailed(GatewayError):
    """The export cannot be made now; nothing was left behind under the name asked for."""

    code = "export_failed"
    status = 503


class Target:
    """Files one after another; keeps the digest and size of each that the manifest names."""

    def __init__(self) -> None:
        self.files: Json = {}

    @contextmanager
    def open(self, name: str) -> Iterator[Callable[[bytes], None]]:
        digest, size = hashlib.sha256(), 0

        with self._open(name) as file:

            def write(data: bytes) -> None:
                nonlocal size
                file.write(data)
                digest.update(data)
                size += len(data)

            yield write
        if name not in verify.UNDIGESTED:
            self.files[name] = {"bytes": size, "sha256": digest.hexdigest()}

    def _open(self, name: str) -> Any:
        raise NotImplementedError


class Folder(Target):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        path.mkdir(mode=0o700)

    def _open(self, name: str) -> Any:
        return (self.path / name).open("xb")


class Zip(Target):
    """Stored, not compressed, in the one layout that the verifier accepts: every byte has one right value."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        super().__init__()
        self.archive = archive

    def _open(self, name: str) -> Any:
        entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
        entry.create_system = 3
        entry.external_attr = verify.Archive.ATTRIBUTES
        return self.archive.open(entry, "w")


@contextmanager
def open_target(out: Path) -> Iterator[Target]:
    """A place beside `out` that takes its name when all is written, and vanishes otherwise."""
    part = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        if out.suffix == ".zip":
            part.touch(mode=0o600, exist_ok=False)
            with zipfile.ZipFile(part, "w", allowZip64=False) as archive:
                yield Zip(archive)
        else:
            yield Folder(part)
        os.rename(part, out)
    except (zipfile.LargeZipFile, RuntimeError) as error:
        if isinstance(error, TreeDamaged):
            raise
        raise ExportFailed(
            "The export is too large for a .zip; name a folder.", code="export_too_large"
        ) from None
    except OSError as error:
        raise ExportFailed(
            f"The export cannot be written: {error.strerror}.", code="export_not_written"
        ) from None
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def write_attached(target: Target, attached: Sequence[Attached]) -> None:
    for document in attached:
        with target.open(document.name) as write:
            for part in document.content:
                write(part)


def write_about(target: Target, fingerprints: Sequence[str], attached: Sequence[Attached]) -> None:
    with target.open(verify.PROGRAM) as write:
        write(Path(verify.__file__).read_bytes())
    with target.open(verify.README) as write:
        listed = "\n    ".join(fingerprints)
        documents = "".join(f"    {each.name:20} {each.about}\n" for each in attached)
        more = f"What it was made for\n{documents}\n" if attached else ""
        write(README.format(custodian=settings.CUSTODIAN, keys=listed, documents=more).encode())


README = """\
AN EXPORT OF AN AUDIT LOG

{custodian} keeps patients' health records sealed, and lets AI programs work on them only as each patient
allows. Everything that was asked, allowed, refused, stopped, opened or read is one row of a log. The root of
that log is written to a ledger again and again, so that nobody, {custodian} included, can change a row later
without being found out. This is a part of that log, or all of it, with what you need to check it yourself.

To check it you need Python 3.11 or newer, its package "cryptography", and the ledger's public key; where
the ledger is a Fabric channel of several organisations, the root certificate of each. Get them, or their
fingerprints, from somewhere other than this folder: from the organisations themselves, or from an earlier
export that you trust. The SHA-256 fingerprints (of the key, or of each root certificate) should be

    {keys}

    python verify.py PATH-OF-THIS-EXPORT --trust WHOM

WHOM is a file that holds the key, the key in hex, or the fingerprint; for a channel, a folder with a PEM file
of root certificates for each organisation. If somebody may have changed this folder, take verify.py from the
product's own source instead of from here. It prints:

    Files         every file is here and is the one that the manifest names
    Signatures    the ledger (or most of its organisations) signed the log's size and root
    Inclusion     each row, unchanged and at its place, is in the log that was signed
    Consistency   the log only grew since an earlier checkpoint; nothing in it was rewritten
    Completeness  nothing was left out between the first row and the last; which rows are of the days or the
                  person that were asked for, only an export of the whole log can show
    Witnesses     who else saw the log and signed it, where somebody did

and ends with VERIFIED (exit status 0), TAMPERED (1) or CANNOT TELL (2).

{documents}The files that prove it
    rows.ndjson    the rows: one JSON object a line, exactly the bytes that were logged
    leaves.txt     where they stand in the log: "first end" for each run, the end not included
    siblings.txt   the hashes that stand for the rows not shown (RFC 9162)
    manifest.json  what was selected, and the digest of each file
    proof.json     the checkpoint, the ledger's evidence for it, and the row that records this export
    verify.py      the program that checks it
    checkpoint.note, checkpoint.tst   where they are here: the checkpoint as a signed note (C2SP) with its
                   witnesses' cosignatures, and a timestamp of it (RFC 3161). To insist on them:
                   --witness KEY, --tsa ROOTS, each had from whoever they are

A row says when, what kind of act, who acted, and about whom. People are named by pseudonyms. Only the
custodian can say whose they are, and only until the person's key is erased. The nonce in each row keeps
anyone from guessing the rows that are not shown.
"""
