"""Verify an audit export of Consent Gateway, offline: one file, Python's standard library and `cryptography`.

    python verify.py EXPORT --trust WHOM [--needed M] [--witness KEY]... [--tsa ROOTS] [--of FILE] [--json]

EXPORT is the folder or the .zip; or a .json file: the proof of single rows, which patients and AI companies
download, or of a consent that a patient signed, or of an emergency that a clinician did. With --of, the proof
is of a result that was sent, and FILE is that result, as it came.
WHOM you hold from elsewhere. For an embedded ledger it is the ledger's public key: a file (PEM, or 64 hex
digits), the key itself in hex, or the SHA-256 fingerprint of its 32 bytes in hex. For a Fabric channel it is
the root certificates of its organisations: a folder with a PEM file for each, or one PEM file in which each
certificate stands for one. A file `orderers.pem` in the folder holds the orderers' roots: then an orderer
must have signed the block as well.
Exit status: 0 verified, 1 tampered, 2 cannot tell. Nothing is written, unpacked or fetched.

Every byte counts, but for what nobody signs: in a Fabric block's metadata, and among the certificates of a
timestamp whose roots are not given. The ledger's signatures cover the
checkpoint; the checkpoint covers, by Merkle proof (RFC 9162), the rows and one more row, which says that this
export was made and holds the digest of manifest.json; the manifest holds the digests of the other files.

What is checked, each by its number:

    of an export                  part 10   1 files, 2 signatures, 3 inclusion, 4 consistency, 5 completeness,
                                            and 6 witnesses, where it has a note of the checkpoint
    of a proof of single rows     part 11   1 signatures, 2 inclusion; 3 content, with --of
    of a signed consent           part 12   1 signature, 2 commitment; 1 to 3, in check_passkey
    of a signed emergency         part 12   1 signature, 2 record; 1 to 3, in check_passkey
    of an embedded ledger's word  part 6    1 to 4, in check_embedded
    of a Fabric channel's word    part 7    1 to 6, in check_fabric
    of a note and its witnesses   part 9a   1 to 3, in check_note
    of a timestamp                part 9b   1 to 5, in check_timestamp

It is one file because it goes with each export.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import stat
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

if sys.version_info < (3, 11):  # noqa: UP036  # an auditor's own Python, which we have not chosen
    print("This program needs Python 3.11 or newer. Nothing was checked.", file=sys.stderr)
    raise SystemExit(2)

FORMAT = "consent-gateway audit export 2"
PROOF_FORMAT = "consent-gateway proof of rows 2"
SIGNED_FORMAT = "consent-gateway signed consent 1"
EMERGENCY_FORMAT = "consent-gateway signed emergency 1"
SIGNATURE_FIELDS = ("authenticator_data_b64", "client_data_b64", "origin", "public_key_b64", "signature_b64")
ROWS, LEAVES, SIBLINGS = "rows.ndjson", "leaves.txt", "siblings.txt"
MANIFEST, PROOF, README, PROGRAM = "manifest.json", "proof.json", "README.txt", "verify.py"
DIGESTED = (LEAVES, README, ROWS, PROGRAM)  # named in the manifest
# The checkpoint as a signed note (C2SP), and a timestamp of it (RFC 3161): there, or not.
NOTE, TIMESTAMP = "checkpoint.note", "checkpoint.tst"
OPTIONAL = (NOTE, TIMESTAMP)
UNDIGESTED = (MANIFEST, PROOF, SIBLINGS, *OPTIONAL)
NAMES = (*DIGESTED, MANIFEST, PROOF, SIBLINGS)
# What an export is for may lie beside: documents under plain names, each named in the manifest.
DOCUMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}(\.[a-z0-9]{1,8})?")
MOST_FILES = 40
# A selection is of the rows that hold one of these fields with one value.
SELECTED = ("model", "request", "requester", "subject")

# Follow no link, and do not wait for a writer where a pipe lies in a file's place.
FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

BLOCK = 1 << 20
MAX_JSON = 16 << 20
MAX_LINE = 1 << 16
HEX32 = re.compile(r"[0-9a-f]{64}")

NO_LIBRARY = "Signatures need the Python package `cryptography`: pip install cryptography."

Json = dict[str, Any]


class Tampered(Exception):
    """What is here contradicts itself, or what the ledger signed."""


class CannotTell(Exception):
    """Something is missing, or of a form that this program does not know."""


# Part 1. The report


@dataclass
class Check:
    name: str
    status: str = "unknown"  # verified, tampered or unknown
    says: list[str] = field(default_factory=list)


@dataclass
class Report:
    checks: list[Check] = field(default_factory=list)

    @property
    def exit(self) -> int:
        statuses = {check.status for check in self.checks}
        return 1 if "tampered" in statuses else 0 if statuses == {"verified"} else 2

    @property
    def verdict(self) -> str:
        return ("verified", "tampered", "cannot tell")[self.exit]

    def run_all(self, steps: Iterable[Callable[[Check], None]]) -> "Report":
        """Take these steps, one after the other."""
        for step in steps:
            self.run(step)
        return self

    def run(self, step: Callable[[Check], None]) -> None:
        """Take one step, which is named after what it checks."""
        check = Check(step.__name__.capitalize())
        self.checks.append(check)
        try:
            step(check)
            check.status = "verified"
        except Tampered as error:
            check.status = "tampered"
            check.says.append(str(error))
        except CannotTell as error:
            check.says.append(str(error))
        except Exception:  # what surprises this program is never "verified"
            check.says.append("Something in the export has a form that this program does not know.")


# Part 2. Where the files are: a folder or a .zip


class Folder:
    """An export as a folder. Only regular files that the manifest names are ever opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = sorted(os.listdir(path))

    def open(self, name: str) -> BinaryIO:
        try:
            file = os.open(self.path / name, FLAGS)
        except OSError:
            raise CannotTell(f"{name} is missing or cannot be read.") from None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise CannotTell(f"{name} is not a regular file.")
        return os.fdopen(file, "rb")

    def check(self) -> None:
        """A folder has no bytes of its own."""


class Archive:
    """An export as a .zip in the one layout that the exporter writes: files stored as they are, one after
    another, no extra fields, no comment, nothing between. So every byte has one right value, nothing can
    inflate, and no name leads out of the folder."""

    LOCAL, CENTRAL, END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
    VERSION, CREATED, DATE, ATTRIBUTES = 20, 3 << 8 | 20, 33, 0o100644 << 16

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members: dict[str, tuple[int, int, int]] = {}  # name: start, size, CRC-32
        with path.open("rb") as file:
            self._read_layout(file, path.stat().st_size)
        self.names = sorted(self._members)

    def _read_layout(self, file: BinaryIO, length: int) -> None:
        strange = CannotTell(
            "The .zip is damaged or was not written by the exporter. Unpack it, and verify the folder."
        )
        if length < self.END.size:
            raise strange
        file.seek(length - self.END.size)
        end = file.read(self.END.size)
        _, _, _, _, count, directory_size, directory_at, _ = self.END.unpack(end)
        if count > MOST_FILES or end != self.END.pack(
            b"PK\x05\x06", 0, 0, count, count, directory_size, directory_at, 0
        ):
            raise strange
        if directory_at + directory_size != length - self.END.size or directory_size > 4096:
            raise strange
        file.seek(directory_at)
        directory, at = file.read(directory_size), 0
        for _ in range(count):
            if len(directory) < self.CENTRAL.size:
                raise strange
            fields = self.CENTRAL.unpack_from(directory)
            crc, size, name_size, offset = fields[7], fields[8], fields[10], fields[16]
            name = directory[self.CENTRAL.size :][:name_size]
            plain = DOCUMENT.fullmatch(name.decode("latin-1"))
            if offset != at or not plain or name.decode() in self._members:
                raise strange
            times = (0, 0, self.DATE, crc, size, size, name_size, 0)  # stored, no flags, at 1980-01-01 00:00
            central = self.CENTRAL.pack(
                b"PK\x01\x02", self.CREATED, self.VERSION, 0, *times, 0, 0, 0, self.ATTRIBUTES, offset
            )
            file.seek(at)
            local = self.LOCAL.pack(b"PK\x03\x04", self.VERSION, 0, *times)
            if not directory.startswith(central + name) or file.read(len(local + name)) != local + name:
                raise strange
            start = at + len(local) + name_size
            self._members[name.decode()] = (start, size, crc)
            at, directory = start + size, directory[len(central) + name_size :]
        if directory or at != directory_at:
            raise strange

    def open(self, name: str) -> BinaryIO:
        if name not in self._members:
            raise CannotTell(f"{name} is missing.")
        start, size, _ = self._members[name]
        file = self.path.open("rb")
        file.seek(start)
        return _Part(file, size)  # type: ignore[return-value]

    def check(self) -> None:
        for name, (_, _, expected) in self._members.items():
            crc = 0
            with self.open(name) as file:
                while block := file.read(BLOCK):
                    crc = zlib.crc32(block, crc)
            if crc != expected:
                raise Tampered(f"{name} does not have the checksum that the .zip names.")


class _Part:
    """`size` bytes of a file from where it stands."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block

    def __enter__(self) -> "_Part":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


Export = Folder | Archive


def open_export(path: Path) -> Export:
    try:
        return Folder(path) if path.is_dir() else Archive(path)
    except OSError:
        raise CannotTell("There is no export here, or it cannot be read.") from None


# Part 3. Reading: canonical JSON (RFC 8785), lines, fields


def read_json(export: Export, name: str) -> tuple[Json, bytes]:
    """An object in canonical JSON (RFC 8785), and its bytes: any other spelling of it is refused."""
    with export.open(name) as file:
        data = file.read(MAX_JSON + 1)
    if len(data) > MAX_JSON:
        raise CannotTell(f"{name} is larger than this program reads.")
    return parse_canonical(data, name), data


def parse_canonical(data: bytes, name: str) -> Json:
    try:
        value = json.loads(data, parse_float=_refuse, parse_constant=_refuse)
        again = canonical(value)
    except (ValueError, RecursionError):
        raise CannotTell(f"{name} is not JSON of the known form.") from None
    if not isinstance(value, dict) or again != data:
        raise Tampered(f"{name} is not in canonical form.")
    return value


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _refuse(_: str) -> Any:
    raise ValueError("no such number in canonical JSON")


def lines(file: BinaryIO, name: str) -> Iterator[list[bytes]]:
    """The lines of a file without their line feeds, a block at a time; each must end in one."""
    rest = b""
    while block := file.read(BLOCK):
        found = (rest + block).split(b"\n")
        rest = found.pop()
        if len(rest) > MAX_LINE:
            raise CannotTell(f"{name} has a line longer than this program reads.")
        if found:
            yield found
    if rest:
        raise Tampered(f"{name} does not end with a line feed.")


def each_line(file: BinaryIO, name: str) -> Iterator[bytes]:
    for block in lines(file, name):
        yield from block


def runs(export: Export) -> Iterator[tuple[int, int]]:
    """leaves.txt: a line `first end` for each run of leaves [first, end) that rows.ndjson holds."""
    with export.open(LEAVES) as file:
        position = -1
        for line in each_line(file, LEAVES):
            match = re.fullmatch(rb"(0|[1-9][0-9]{0,15}) ([1-9][0-9]{0,15})", line)
            first, end = (int(match[1]), int(match[2])) if match else (0, 0)
            if not position < first < end:
                raise Tampered("leaves.txt is not an ascending list of runs.")
            position = end
            yield first, end


def field_of(value: Any, key: str, kind: type) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    if type(found) is not kind:
        raise CannotTell("The proof or the manifest lacks a field, or has one of another type.")
    return found


def hash_of(value: Any, key: str) -> bytes:
    return unhex(field_of(value, key, str))


def unhex(text: Any) -> bytes:
    if not isinstance(text, str) or not HEX32.fullmatch(text):
        raise CannotTell("A hash in the proof is not 64 hex digits.")
    return bytes.fromhex(text)


def only(value: Any, *keys: str) -> None:
    if not isinstance(value, dict) or set(value) != set(keys):
        raise CannotTell("The proof or the manifest has fields that this program does not know.")


# Part 4. The Merkle tree (RFC 9162 section 2.1)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def utc(seconds: int) -> str:
    """Seconds since 1970 as a day and a time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, OSError, ValueError):
        return "no time"


def spans(first: int, end: int) -> Iterator[int]:
    """The levels of the fewest perfect subtrees that cover the leaves [first, end), left to right."""
    while first < end:
        level = (end - first).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        yield level
        first += 1 << level


class Tree:
    """A growing tree of which only the whole subtrees' hashes are kept."""

    def __init__(self) -> None:
        self.size = 0
        self.hashes: list[bytes] = []

    def append(self, level: int, node: bytes) -> None:
        self.size += 1 << level
        index = self.size >> level
        while not index & 1:
            node = sha256(b"\x01" + self.hashes.pop() + node)
            index >>= 1
        self.hashes.append(node)

    def extend(self, leaves: list[bytes]) -> None:
        make, at = hashlib.sha256, 0
        for level in spans(self.size, self.size + len(leaves)):
            row = leaves[at : at + (1 << level)]
            at += 1 << level
            for _ in range(level):
                pairs = iter(row)
                row = [
                    make(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)
                ]
            self.append(level, row[0])

    def root(self) -> bytes:
        if not self.hashes:
            return sha256(b"")
        root = self.hashes[-1]
        for left in self.hashes[-2::-1]:
            root = sha256(b"\x01" + left + root)
        return root


def fill(tree: Tree, end: int, siblings: Iterator[bytes]) -> None:
    """Append the subtrees that stand for the rows up to `end` that are not shown."""
    if end < tree.size:
        raise Tampered("The proof's rows overlap.")
    for level in spans(tree.size, end):
        line = next(siblings, None)
        if line is None:
            raise Tampered("siblings.txt ends too early.")
        tree.append(level, unhex(line.decode("latin-1")))


def path_root(index: int, size: int, node: bytes, path: list[bytes]) -> bytes | None:
    """The root that an inclusion path leads to (section 2.1.3.2), or None where its length is wrong."""
    last = size - 1
    for sibling in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = sha256(b"\x01" + sibling + node)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = sha256(b"\x01" + node + sibling)
        index, last = index >> 1, last >> 1
    return node if last == 0 else None


def is_consistent(old: int, new: int, old_root: bytes, new_root: bytes, path: list[bytes]) -> bool:
    """Section 2.1.4.2: the tree of size `old` is the beginning of that of size `new`."""
    if not 0 < old < new or not path:
        return False
    if old & (old - 1) == 0:
        path = [old_root, *path]
    index, last = old - 1, new - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    was = now = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if index & 1 or index == last:
            was, now = sha256(b"\x01" + sibling + was), sha256(b"\x01" + sibling + now)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            now = sha256(b"\x01" + now + sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and was == old_root and now == new_root


# Part 5. Whom the reader believes, and what a ledger says that was believed


@dataclass(frozen=True)
class Trust:
    """Whom the reader believes: the embedded ledger's key (raw, or its fingerprint), or organisations.

    `roots` are (organisation, certificate); `needed` of the organisations must have signed.
    """

    accepted: frozenset[str] = frozenset()
    roots: tuple[tuple[str, Any], ...] = ()
    orderers: tuple[tuple[str, Any], ...] = ()
    needed: int = 0

    @classmethod
    def read(cls, text: str | None, needed: int | None = None) -> "Trust":
        if not text:
            raise CannotTell(
                "No key: say with --trust whose ledger you believe. Without it a signature says nothing."
            )
        if HEX32.fullmatch(text.lower()):
            return cls(frozenset({text.lower()}))
        try:
            if os.path.isdir(text):
                files = {path.stem: path.read_bytes() for path in sorted(Path(text).glob("*.pem"))}
                return cls._of_organisations(files, needed)
            with open(text, "rb") as file:
                data = file.read(MAX_JSON)
        except (OSError, ValueError):
            raise CannotTell(
                "What is given with --trust is neither a file or folder that can be read nor 64 hex digits."
            ) from None
        if b"-----BEGIN CERTIFICATE-----" in data:
            return cls._of_organisations({"": data}, needed)
        if b"-----BEGIN PUBLIC KEY-----" in data:
            try:
                from cryptography.hazmat.primitives.serialization import (
                    Encoding,
                    PublicFormat,
                    load_pem_public_key,
                )

                data = load_pem_public_key(data).public_bytes(Encoding.Raw, PublicFormat.Raw)
            except Exception:  # of many kinds, by the version of the library
                raise CannotTell("The key file is not an Ed25519 public key.") from None
        text = data.hex() if len(data) == 32 else data.decode("latin-1").strip().lower()
        if not HEX32.fullmatch(text):
            raise CannotTell("The key file holds neither PEM, nor 32 bytes, nor 64 hex digits.")
        return cls(frozenset({text}))

    @classmethod
    def _of_organisations(cls, files: dict[str, bytes], needed: int | None) -> "Trust":
        """`files` by organisation; under "" each certificate is an organisation's own, under its number."""
        try:
            from cryptography.x509 import load_pem_x509_certificates

            found = {name: load_pem_x509_certificates(data) for name, data in files.items()}
        except Exception:  # the library is missing, or a file is none of its kind
            raise CannotTell("The organisations' roots cannot be read as PEM certificates.") from None
        orderers = tuple(("orderers", root) for root in found.pop("orderers", ()))
        roots = tuple(
            (name or f"organisation {number}", root)
            for name, certificates in found.items()
            for number, root in enumerate(certificates, 1)
        )
        members = len({name for name, _ in roots})
        needed = members // 2 + 1 if needed is None else needed
        if not 1 <= needed <= members:
            raise CannotTell(f"--needed must be 1 to the number of organisations that you trust, {members}.")
        return cls(roots=roots, orderers=orderers, needed=needed)

    def accepts(self, key: bytes) -> bool:
        return bool({key.hex(), sha256(key).hex()} & self.accepted)


@dataclass(frozen=True)
class Written:
    """What a transaction wrote under a name, in which block, when (seconds since 1970), and who signed it:
    in words, and which of a channel's organisations."""

    value: bytes
    block: int
    time: int
    signers: str = "The ledger"
    organisations: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Checkpoint:
    """The size and root of the log named `origin` as they stand on the ledger, in which block, and when
    (seconds since 1970). `previous` is the size and root that the ledger found it to extend, if any.
    """

    origin: str
    size: int
    root: bytes
    previous: tuple[int, bytes] | None
    block: int
    time: int
    signers: str = "The ledger"


# Part 6. What an embedded ledger signed


def check_embedded(evidence: Json, name: str, trust: Trust) -> Written:
    """The embedded ledger: a signed block that holds the transaction that wrote the name.

    1. the key is the one that the reader trusts
    2. it signed the block's header
    3. the transaction, judged valid, is in that block
    4. it wrote something under this name
    """
    only(evidence, "envelope", "header", "key", "kind", "path", "position", "signature", "validity")
    # 1
    key = hash_of(evidence, "key")
    if trust.roots:
        raise CannotTell("This is an embedded ledger: give its public key with --trust.")
    if not trust.accepts(key):
        raise Tampered("The evidence is by another key than the one you trust.")
    # 2
    header_bytes = field_of(evidence, "header", str).encode()
    if not signed_by(key, field_of(evidence, "signature", str), b"consent-gateway block\x00" + header_bytes):
        raise Tampered("The ledger's signature over the block does not hold.")
    header = parse_canonical(header_bytes, "The block's header")
    if header.get("version") != 1:
        raise CannotTell("The block is of a version that this program does not know.")
    # 3
    position, count = field_of(evidence, "position", int), field_of(header, "count", int)
    envelope = field_of(evidence, "envelope", str).encode()
    leaf = sha256(b"\x00" + field_of(evidence, "validity", str).encode() + b"\n" + envelope)
    path = [unhex(node) for node in field_of(evidence, "path", list)]
    if not 0 <= position < count or path_root(position, count, leaf, path) != hash_of(header, "transactions"):
        raise Tampered("The transaction is not in the block that the ledger signed.")
    if evidence["validity"] != "VALID":
        raise Tampered("The transaction was not valid, so it wrote nothing.")
    # 4
    body = field_of(parse_canonical(envelope, "The transaction"), "body", dict)
    written = field_of(body, "writes_b64", dict).get(name)
    if not isinstance(written, str):
        raise Tampered("The transaction wrote nothing under this name.")
    value = base64.b64decode(written, validate=True)
    return Written(value, field_of(header, "number", int), field_of(header, "time", int))


def signed_by(key: bytes, signature: str, message: bytes) -> bool:
    """Ed25519 (RFC 8032), signature in lower-case hex."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise CannotTell(NO_LIBRARY) from None
    if not re.fullmatch(r"[0-9a-f]{128}", signature):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


# Part 7. What the organisations of a Fabric channel signed


def check_fabric(evidence: Json, name: str, trust: Trust) -> Written:
    """A Fabric channel: the block with the transaction that wrote the name, as its peer keeps it.

    The fields' numbers are those of Fabric's protos: common/common.proto, peer/transaction.proto,
    peer/proposal.proto, peer/proposal_response.proto, ledger/rwset, msp/identities.proto.

    1. the block is whole: its header holds the digest of its transactions
    2. an orderer whom the reader trusts signed that header, where the reader trusts any
    3. the transaction is there, on the channel that is named, and the peer found it valid
    4. what the endorsers signed is an answer to the proposal that it carries
    5. enough organisations whom the reader trusts endorsed it
    6. what they endorsed writes something under this name
    """
    only(evidence, "block", "channel", "kind", "position")
    if not trust.roots:
        raise CannotTell("This is a Fabric channel: give the roots of its organisations with --trust.")
    encoded = field_of(evidence, "block", str)
    block = base64.b64decode(encoded, validate=True)
    # 1
    known = (set(protobuf(block)), set(protobuf(inside(block, 3)))) == ({1, 2, 3}, {1})
    if not known or base64.b64encode(block).decode() != encoded:
        raise Tampered("The block has parts that no block has.")
    header, envelopes = inside(block, 1), each(inside(block, 2), 1)
    if inside(header, 3) != sha256(b"".join(envelopes)):
        raise Tampered("The block's transactions are not those that its header names.")
    metadata = each(inside(block, 3), 1)
    # 2
    if trust.orderers and not is_ordered(header, metadata[0], trust):
        raise Tampered("No orderer whom you trust signed the block.")
    # 3
    position = field_of(evidence, "position", int)
    if not 0 <= position < min(len(envelopes), len(metadata[2])):
        raise Tampered("The transaction is not in the block.")
    payload = inside(envelopes[position], 1)
    channel_header, signature_header = inside(payload, 1, 1), inside(payload, 1, 2)
    if number_in(channel_header, 1) != 3 or inside(channel_header, 4).decode() != evidence["channel"]:
        raise Tampered("The transaction is of another kind or channel.")
    if metadata[2][position] != 0:
        raise Tampered("The transaction was not valid, so it wrote nothing.")
    # 4
    action = inside(payload, 2, 1, 2)
    answer = inside(action, 2, 1)
    if inside(answer, 1) != sha256(channel_header + signature_header + inside(action, 1)):
        raise Tampered("The endorsers signed the answer to another proposal.")
    # 5
    time = number_in(inside(channel_header, 3), 1)
    endorsed = {
        signer
        for endorsement in each(inside(action, 2), 2)
        if (signer := who_signed(inside(endorsement, 1), "peer", trust.roots, time))
        and ecdsa_holds(inside(endorsement, 1), inside(endorsement, 2), answer + inside(endorsement, 1))
    }
    if len(endorsed) < trust.needed:
        raise Tampered(
            f"{len(endorsed)} of the organisations that you trust signed this; {trust.needed} must."
        )
    # 6
    chaincode = inside(answer, 2, 4, 2)
    written = {
        inside(write, 1).decode(): inside(write, 3)
        for space in each(inside(answer, 2, 1), 2)
        if inside(space, 1) == chaincode
        for write in each(inside(space, 2), 3)
        if not number_in(write, 2)
    }
    if name not in written:
        raise Tampered("The transaction wrote nothing under this name.")
    signers = f"{' and '.join(sorted(endorsed))}, on channel {evidence['channel']},"
    return Written(written[name], number_in(header, 1), time, signers, frozenset(endorsed))


def is_ordered(header: bytes, metadata: bytes, trust: Trust) -> bool:
    """Whether one of the signatures in the block's metadata is by an orderer whom the reader trusts."""
    number = number_in(header, 1)
    digits = number.to_bytes(number.bit_length() // 8 + 1, "big")
    parts = b"".join(der(*part) for part in ((2, digits), (4, inside(header, 2)), (4, inside(header, 3))))
    value = inside(metadata, 1)
    for signature in each(metadata, 2):
        if 3 in protobuf(signature):
            raise CannotTell("BFT orderers sign without naming themselves. Verify without orderers.pem.")
        signed_header = inside(signature, 1)
        signer = inside(signed_header, 1)
        if who_signed(signer, "orderer", trust.orderers, None) and ecdsa_holds(
            signer, inside(signature, 2), value + signed_header + der(0x30, parts)
        ):
            return True
    return False


def who_signed(identity: bytes, unit: str, roots: tuple[tuple[str, Any], ...], at: int | None) -> str | None:
    """The organisation whose root issued this SerializedIdentity, for a node of this kind, valid at `at`
    (seconds since 1970): None where there is none."""
    certificate = certificate_of(identity)
    units = [name.value for name in certificate.subject if name.oid.dotted_string == "2.5.4.11"]
    if unit not in units:
        return None
    begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if at is not None and not begins <= at <= ends:
        return None
    return next((organisation for organisation, root in roots if is_issued_by(certificate, root)), None)


def is_issued_by(certificate: Any, root: Any) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except Exception:  # of many kinds: another issuer, another kind of key, a broken signature
        return False
    return True


def certificate_of(identity: bytes) -> Any:
    try:
        from cryptography.x509 import load_pem_x509_certificate
    except ImportError:
        raise CannotTell(NO_LIBRARY) from None
    try:
        return load_pem_x509_certificate(inside(identity, 2))
    except ValueError:
        raise CannotTell("A signer's certificate cannot be read.") from None


def ecdsa_holds(identity: bytes, signature: bytes, message: bytes) -> bool:
    """ECDSA with SHA-256, by the key of the identity's certificate."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey

    key = certificate_of(identity).public_key()
    if not isinstance(key, EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, message, ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


# Part 8. Fabric's bytes, read with no other library: protobuf, DER


def protobuf(message: bytes) -> dict[int, list[Any]]:
    """A message's fields by their number: an int for a varint, bytes for anything with a length."""
    fields: dict[int, list[Any]] = {}
    at, end = 0, len(message)

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= end or shift > 63:
                raise CannotTell("A part of the block ends too early.")
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < end:
        tag = varint()
        if tag & 7 not in (0, 2):
            raise CannotTell("A part of the block is of a form that this program does not know.")
        value: Any = varint()
        if tag & 7 == 2:
            at, value = at + value, message[at : at + value]
        fields.setdefault(tag >> 3, []).append(value)
    if at != end:
        raise CannotTell("A part of the block ends too early.")
    return fields


def each(message: bytes, field: int) -> list[bytes]:
    """The values of a repeated field that are messages, strings or bytes."""
    found = protobuf(message).get(field, [])
    if not all(isinstance(value, bytes) for value in found):
        raise CannotTell("A part of the block is of a form that this program does not know.")
    return found


def inside(message: bytes, *path: int) -> bytes:
    """The field at the end of a path of fields, each there at most once; empty where there is none."""
    for number in path:
        found = each(message, number)
        if len(found) > 1:
            raise CannotTell("A part of the block stands there twice.")
        message = found[0] if found else b""
    return message


def number_in(message: bytes, field: int) -> int:
    found = protobuf(message).get(field, [0])
    if len(found) != 1 or not isinstance(found[0], int):
        raise CannotTell("A part of the block is of a form that this program does not know.")
    return found[0]


def der(tag: int, value: bytes) -> bytes:
    """One DER value (X.690), of at most 64 KiB."""
    length = len(value)
    head = bytes([length]) if length < 128 else bytes([0x82]) + length.to_bytes(2, "big")
    if 128 <= length < 256:
        head = bytes([0x81, length])
    return bytes([tag]) + head + value


# Part 9. Evidence of either ledger


EVIDENCE: dict[str, Callable[[Json, str, Trust], Written]] = {
    "embedded": check_embedded,
    "fabric": check_fabric,
}


def check_evidence(claim: Json, trust: Trust) -> Checkpoint:
    """That the ledger signed this size and root of the log that is named. Raises Tampered, CannotTell."""
    only(claim, "evidence", "origin", "root", "size")
    origin, size, root = field_of(claim, "origin", str), field_of(claim, "size", int), hash_of(claim, "root")
    found = check_written(field_of(claim, "evidence", dict), f"checkpoint/{origin}", trust)
    value = parse_canonical(found.value, "The checkpoint")
    if (field_of(value, "size", int), hash_of(value, "root")) != (size, root):
        raise Tampered("The ledger holds another size or root.")
    before = value.get("previous")
    previous = None if before is None else (field_of(before, "size", int), hash_of(before, "root"))
    return Checkpoint(origin, size, root, previous, found.block, found.time, found.signers)


def check_written(evidence: Json, name: str, trust: Trust) -> Written:
    """What the ledger signed under this name of its state. Raises Tampered, CannotTell."""
    check = EVIDENCE.get(field_of(evidence, "kind", str))
    if check is None:
        raise CannotTell("The evidence is of a ledger that this program does not know.")
    return check(evidence, name, trust)


# Part 9a. The checkpoint as a signed note (c2sp.org/tlog-checkpoint, signed-note, tlog-cosignature)


@dataclass(frozen=True)
class NoteKey:
    """Who signs notes: a name, the key's id (4 bytes), its kind and the Ed25519 key.

    In text (a vkey): `name+id in hex+base64 of kind and key`. Kind 1 signs the text as it is; kind 4, a
    witness, signs when it saw it as well.
    """

    name: str
    id: bytes
    kind: int
    key: bytes

    @classmethod
    def read(cls, text: Any) -> "NoteKey":
        match = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})", str(text))
        data = base64.b64decode(match[3]) if match else b""
        if not match or base64.b64encode(data).decode() != match[3] or data[0] not in (1, 4):
            raise CannotTell("A key for notes is not of the form name+id+key.")
        name, id = match[1], sha256(match[1].encode() + b"\n" + data)[:4]
        if id.hex() != match[2]:
            raise CannotTell("A key for notes does not have the id that it names.")
        return cls(name, id, data[0], data[1:])

    def signed(self, signature: bytes, text: bytes) -> int:
        """When it signed this text, in seconds since 1970 (0: it does not say). Raises Tampered."""
        at = 0
        if self.kind == 4:
            at, signature = int.from_bytes(signature[:8], "big"), signature[8:]
            text = b"cosignature/v1\ntime %d\n" % at + text
        if not signed_by(self.key, signature.hex(), text):
            raise Tampered(f"The signature of {self.name} on the note does not hold.")
        return at


def note_text(name: str, size: int, root: bytes) -> bytes:
    """The text of a checkpoint: whose log, how many rows, its root."""
    return f"{name}\n{size}\n{base64.b64encode(root).decode()}\n".encode()


def read_note(data: bytes) -> tuple[bytes, list[tuple[str, bytes, bytes]]]:
    """A signed note's text, and its signatures: name, key's id, signature. Raises CannotTell."""
    text, gap, rest = data.rpartition(b"\n\n")
    signatures = []
    for line in rest.split(b"\n")[:-1]:
        match = re.fullmatch(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})", line.decode("utf-8", "replace"))
        try:
            blob = base64.b64decode(match[2], validate=True) if match else b""
        except ValueError:
            blob = b""
        if not match or len(blob) < 5 or base64.b64encode(blob).decode() != match[2]:
            raise CannotTell("The note has a line that is no signature.")
        signatures.append((match[1], blob[:4], blob[4:]))
    if not gap or not rest.endswith(b"\n") or not signatures:
        raise CannotTell("The note is not a signed note.")
    return text + b"\n", signatures


def check_note(data: bytes, size: int, root: bytes, log: NoteKey, witnesses: list[NoteKey]) -> dict[str, int]:
    """Which witnesses cosigned the note of a checkpoint, and when (seconds since 1970).

    1. it speaks of the log's size and root
    2. the log's own key signed it
    3. every other signature is of a witness that is named, and holds
    """
    # 1
    text, signatures = read_note(data)
    if text != note_text(log.name, size, root):
        raise Tampered("The note speaks of another checkpoint.")
    # 2 and 3
    known = {(key.name, key.id): key for key in (log, *witnesses)}
    seen: dict[str, int] = {}
    for name, id, signature in signatures:
        key = known.pop((name, id), None)
        if key is None:
            raise Tampered("The note has a signature of somebody whom the manifest does not name, or twice.")
        seen[name] = key.signed(signature, text)
    if (log.name, log.id) in known:
        raise Tampered("The log's own key did not sign the note.")
    return {name: at for name, at in seen.items() if name != log.name}


# Part 9b. A timestamp of the note's text (RFC 3161; CMS, RFC 5652), read with no other library

SIGNED_DATA, TST_INFO = "2a864886f70d010702", "2a864886f70d0109100104"
CONTENT_TYPE, MESSAGE_DIGEST = "2a864886f70d010903", "2a864886f70d010904"
SIGNING_CERTIFICATE = "2a864886f70d010910022f"  # version 2, RFC 5816
DIGESTS = {"608648016503040201": "sha256", "608648016503040202": "sha384", "608648016503040203": "sha512"}
# rsaEncryption, and RSA or ECDSA with this digest.
SIGNATURES = {
    "sha256": ("2a864886f70d010101", "2a864886f70d01010b", "2a8648ce3d040302"),
    "sha384": ("2a864886f70d010101", "2a864886f70d01010c", "2a8648ce3d040303"),
    "sha512": ("2a864886f70d010101", "2a864886f70d01010d", "2a8648ce3d040304"),
}
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"


def values(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """DER values (X.690) one after another: tag, content, and all of its bytes. Raises CannotTell."""
    found, at = [], 0
    while at < len(data):
        head, long = 2, data[at + 1] if at + 1 < len(data) else 255
        size = long
        if long & 128:
            head += long & 127
            size = int.from_bytes(data[at + 2 : at + head], "big") if 128 < long < 133 else len(data)
        content = data[at + head : at + head + size]
        if len(content) != size or (long & 128 and size < 128):
            raise CannotTell("The timestamp is not DER.")
        found.append((data[at], content, data[at : at + head + size]))
        at += head + size
    return found


def under(data: bytes, tag: int) -> bytes:
    """The content of the one value that `data` is, which has this tag."""
    (value,) = values(data)
    if value[0] != tag:
        raise CannotTell("The timestamp has a part that this program does not know.")
    return value[1]


def check_timestamp(token: bytes, text: bytes, roots: list[Any]) -> tuple[str, str, bool]:
    """Who stamped this text, when, and whether one of the roots vouches for them (with none: False).

    1. what was stamped is the digest of the text
    2. the signed attributes hold the digest of what the token says
    3. the certificate that they name signed them
    4. it is one for time stamping, and was valid then
    5. a root that the reader trusts issued it, directly or through one certificate of the token
    """
    version, digests, content, chain, signers = values(under(_content(token, SIGNED_DATA), 0x30))
    info = under(_content(content[2], TST_INFO), 0x04)
    certificates = [_certificate(value[2]) for value in values(under(chain[2], 0xA0))]
    told = values(under(under(signers[2], 0x31), 0x30))
    # 1
    fields = values(under(info, 0x30))
    algorithm, imprint = values(fields[2][1])
    if imprint[1] != hashlib.new(_digest(algorithm[1]), text).digest():
        raise Tampered("The timestamp is of something else.")
    at = next(value[1] for value in fields if value[0] == 0x18).decode()
    # 2
    attributes = {}
    for attribute in values(told[3][1]):
        name, held = values(attribute[1])
        attributes[name[1].hex()] = held[1]
    digest = _digest(told[2][1])
    if under(attributes[CONTENT_TYPE], 0x06).hex() != TST_INFO:
        raise Tampered("The timestamp's signature is for something else.")
    if under(attributes[MESSAGE_DIGEST], 0x04) != hashlib.new(digest, info).digest():
        raise Tampered("The timestamp does not say what was signed.")
    # 3
    named = values(values(under(attributes[SIGNING_CERTIFICATE], 0x30))[0][1])
    first = values(named[0][1])
    by = _digest(first[0][1]) if first[0][0] == 0x30 else "sha256"
    wanted = next(value[1] for value in first if value[0] == 0x04)
    found = [one for one, der_bytes in certificates if hashlib.new(by, der_bytes).digest() == wanted]
    if not found:
        raise CannotTell("The timestamp does not hold the certificate of whoever signed it.")
    certificate = found[0]
    # What is not signed has one right value: versions, whose certificate, which digest, which signature.
    right = (version[2], digests[2], told[0][2], told[1][2], told[3][0], told[5][0], len(told)) == (
        b"\x02\x01\x03", der(0x31, told[2][2]), b"\x02\x01\x01", _named(certificate), 0xA0, 0x04, 6,
    )  # fmt: skip
    if not right or not any(
        under(told[4][2], 0x30) in (der(0x06, one), der(0x06, one) + b"\x05\x00")
        for one in map(bytes.fromhex, SIGNATURES[digest])
    ):
        raise CannotTell("The timestamp is of a form that this program does not know.")
    if not certificate_holds(certificate, told[5][1], b"\x31" + told[3][2][1:], digest):
        raise Tampered("The timestamp's signature does not hold.")
    # 4
    from cryptography import x509

    moment = f"{at[:4]}-{at[4:6]}-{at[6:8]}T{at[8:10]}:{at[10:12]}:{at[12:14]}Z"
    begins, ends = (
        each.strftime("%Y-%m-%dT%H:%M:%SZ")
        for each in (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    )
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if TIME_STAMPING not in {use.dotted_string for use in uses} or not begins <= moment <= ends:
        raise Tampered("The timestamp's certificate was not for stamping the time then.")
    # 5
    between = [one for one, _ in certificates if one is not certificate]
    vouched = any(
        is_issued_by(certificate, root)
        or any(is_issued_by(certificate, one) and is_issued_by(one, root) for one in between)
        for root in roots
    )
    if roots and not vouched:
        raise Tampered("None of the roots that you trust vouches for whoever stamped the time.")
    return certificate.subject.rfc4514_string(), moment, vouched


def _content(data: bytes, kind: str) -> bytes:
    """What a CMS ContentInfo of this kind holds."""
    held = values(under(data, 0x30))
    if len(held) != 2 or held[0][2] != der(0x06, bytes.fromhex(kind)):
        raise CannotTell("The timestamp is of a form that this program does not know.")
    return under(held[1][2], 0xA0)


def _named(certificate: Any) -> bytes:
    """A certificate's issuer and serial number (CMS IssuerAndSerialNumber)."""
    serial = certificate.serial_number
    return der(
        0x30,
        certificate.issuer.public_bytes() + der(0x02, serial.to_bytes(serial.bit_length() // 8 + 1, "big")),
    )


def _digest(algorithm: bytes) -> str:
    kind, *more = values(algorithm)
    if [one[2] for one in more] not in ([], [b"\x05\x00"]):
        raise CannotTell("The timestamp is of a form that this program does not know.")
    name = DIGESTS.get(kind[1].hex() if kind[0] == 0x06 else "")
    if name is None:
        raise CannotTell("The timestamp uses a digest that this program does not know.")
    return name


def _certificate(data: bytes) -> tuple[Any, bytes]:
    try:
        from cryptography.x509 import load_der_x509_certificate
    except ImportError:
        raise CannotTell(NO_LIBRARY) from None
    return load_der_x509_certificate(data), data


def certificate_holds(certificate: Any, signature: bytes, message: bytes, digest: str) -> bool:
    """RSA (PKCS #1 v1.5) or ECDSA by the certificate's key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    key, hashed = certificate.public_key(), getattr(hashes, digest.upper())()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), hashed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(hashed))
        else:
            raise CannotTell("The timestamp's key is of a kind that this program does not know.")
    except InvalidSignature:
        return False
    return True


# Part 10. The checks of an export


@dataclass(frozen=True)
class Besides:
    """Whom the reader wants to have vouched besides the ledger: witnesses (vkeys), a time stamper's roots."""

    witnesses: tuple[NoteKey, ...] = ()
    roots: tuple[Any, ...] = ()

    @classmethod
    def read(cls, witnesses: list[str], roots: str | None) -> "Besides":
        keys = tuple(NoteKey.read(text) for text in witnesses)
        if not roots:
            return cls(keys)
        try:
            from cryptography.x509 import load_pem_x509_certificates

            return cls(keys, tuple(load_pem_x509_certificates(Path(roots).read_bytes())))
        except Exception:  # the library or the file is missing, or it is none of its kind
            raise CannotTell("What is given with --tsa cannot be read as PEM certificates.") from None


class ExportVerifier:
    """The checks, in order; a later one uses what an earlier one read, or says that it is missing."""

    def __init__(
        self, export: Export, trust: str | None, needed: int | None = None, besides: Besides | None = None
    ) -> None:
        self.export, self.besides = export, besides or Besides()
        self.trust, self.needed = trust, needed
        self.manifest: Json | None = None
        self.manifest_digest = ""
        self.proof: Json | None = None
        self.signed: Checkpoint | None = None
        self.rows: int | None = None
        steps = [self.files, self.signatures, self.inclusion, self.consistency, self.completeness]
        wanted = set(OPTIONAL) & set(export.names) or self.besides.witnesses or self.besides.roots
        self.steps = (*steps, self.witnesses) if wanted else tuple(steps)

    def files(self, check: Check) -> None:
        """1. The known files and no others, each with the digest and size that the manifest names."""
        known, there = set(NAMES), set(self.export.names)
        if MANIFEST in there:
            manifest, data = read_json(self.export, MANIFEST)
            if field_of(manifest, "format", str) != FORMAT:
                raise CannotTell("The manifest is of a format that this program does not know.")
            self.manifest, self.manifest_digest = manifest, sha256(data).hex()
            known |= set(field_of(manifest, "files", dict))
        if missing := known - there:
            raise CannotTell(f"Missing: {', '.join(sorted(missing))}.")
        known |= there & set(OPTIONAL)
        if extra := there - known:
            named = ", ".join(ascii(name)[1:-1][:60] for name in sorted(extra)[:5])
            raise CannotTell(
                f"{len(extra)} file(s) are here that do not belong to an export: {named}. Take them out."
            )
        self.export.check()
        assert self.manifest is not None
        fields = ("custodian", "files", "format", "ledger", "made", "rows", "selection")
        only(self.manifest, *fields, *(["note"] if "note" in self.manifest else []))
        files = field_of(self.manifest, "files", dict)
        plain = all(DOCUMENT.fullmatch(name) for name in files) and len(files) <= MOST_FILES
        if not plain or not set(DIGESTED) <= set(files) or set(UNDIGESTED) & set(files):
            raise CannotTell("The manifest does not name the files of an export.")
        for name in files:
            digest, size = hashlib.sha256(), 0
            with self.export.open(name) as file:
                while block := file.read(BLOCK):
                    digest.update(block)
                    size += len(block)
            only(files[name], "bytes", "sha256")
            if files[name] != {"bytes": size, "sha256": digest.hexdigest()}:
                raise Tampered(f"{name} is not the file that the manifest names.")
        check.says.append(
            f"{len(known)} files are here, and no others; {len(files)} have the manifest's digests."
        )

    def signatures(self, check: Check) -> None:
        """2. The ledger's signatures over the checkpoint, by whom the reader trusts."""
        proof, _ = read_json(self.export, PROOF)
        only(proof, "checkpoint", "earlier", "export", "format")
        if proof["format"] != FORMAT:
            raise CannotTell("The proof is of a format that this program does not know.")
        self.proof = proof
        found = check_evidence(proof["checkpoint"], Trust.read(self.trust, self.needed))
        self.signed = found
        check.says.append(
            f"{found.signers} signed, in block {found.block} at {utc(found.time)}, "
            f"the log {found.origin!r} of {found.size} rows; root {found.root.hex()}."
        )

    def inclusion(self, check: Check) -> None:
        """3. The rows, and the row that records this export, stand in the log that was signed."""
        proof = self._proof()
        size, root = field_of(proof["checkpoint"], "size", int), hash_of(proof["checkpoint"], "root")
        only(proof["export"], "leaf", "line")
        at, line = field_of(proof["export"], "leaf", int), field_of(proof["export"], "line", str).encode()
        tree = Tree()
        with self.export.open(SIBLINGS) as sibling_file, self.export.open(ROWS) as row_file:
            siblings, rows = each_line(sibling_file, SIBLINGS), _Rows(row_file, self._needle())
            for first, end in runs(self.export):
                if end > at:
                    raise Tampered("A row is claimed to stand behind the record of its own export.")
                fill(tree, first, siblings)
                while tree.size < end:
                    tree.extend(rows.take(end - tree.size))
            rows.finish()
            fill(tree, at, siblings)
            tree.append(0, sha256(b"\x00" + line))
            fill(tree, size, siblings)
            if next(siblings, None) is not None:
                raise Tampered("siblings.txt has more hashes than the proof needs.")
        self.rows = rows.taken
        if tree.size != size or tree.root() != root:
            raise Tampered("The rows do not lead to the root that the ledger holds: something was changed.")
        if self.manifest is None:
            raise CannotTell(
                "The rows are in the log; the manifest that is recorded there could not be read."
            )
        record = parse_canonical(line, "The record of this export")
        if record.get("kind") != "export.made" or record["details"].get("manifest") != self.manifest_digest:
            raise Tampered("The log records this export with another manifest.")
        check.says.append(
            f"{self.rows} rows and the record of this export are in the log, each unchanged, at its place."
        )

    def consistency(self, check: Check) -> None:
        """4. The log only grew: what an earlier checkpoint held is the beginning of what this one holds.

        The ledger takes no checkpoint that does not extend the one before, and says which that was. So an
        earlier one must be shown where there is one, and the ledger vouches for those between the two.
        """
        earlier = self._proof()["earlier"]
        if self.signed is None:
            raise CannotTell("The checkpoint could not be read, or does not hold.")
        now, before = self.signed, self.signed.previous
        if before is None:
            if earlier is not None:
                raise Tampered("The ledger says that this is the log's first checkpoint.")
            check.says.append("The ledger says that this is the log's first checkpoint.")
            return
        if earlier is None:
            raise Tampered(f"The ledger holds an earlier checkpoint, of {before[0]} rows, that is not shown.")
        only(earlier, "evidence", "origin", "path", "root", "size")
        claim = {name: value for name, value in earlier.items() if name != "path"}
        found = check_evidence(claim, Trust.read(self.trust, self.needed))
        path = [unhex(node) for node in field_of(earlier, "path", list)]
        if found.origin != now.origin or not is_consistent(found.size, now.size, found.root, now.root, path):
            raise Tampered("An earlier checkpoint of the ledger does not fit: the log was rewritten.")
        if found.size > before[0] or (found.size == before[0] and found.root != before[1]):
            raise Tampered("The ledger found it to extend another log.")
        check.says.append(
            f"It begins with the log of {found.size} rows in block {found.block}; root {found.root.hex()}. "
            f"The ledger found it to extend its checkpoint of {before[0]} rows."
        )

    def completeness(self, check: Check) -> None:
        """5. Nothing is left out between the first and the last row; or what a selection cannot show."""
        proof = self._proof()
        if self.manifest is None or self.rows is None:
            raise CannotTell("The manifest or the rows could not be read.")
        details = parse_canonical(proof["export"]["line"].encode(), "The record of this export")["details"]
        found = list(islice(runs(self.export), 2))
        first = found[0][0] if found else 0
        last = max((end for _, end in runs(self.export)), default=first)
        if not details["rows"] == self.manifest["rows"] == self.rows:
            raise Tampered("The number of rows is not the number that was recorded.")
        if (details["first"], details["end"]) != (first, last):
            raise Tampered("The rows do not begin and end where it was recorded.")
        selection = field_of(self.manifest, "selection", dict)
        only(selection, "about", "from", "until")
        if selection["about"] is None:
            if len(found) > 1:
                raise Tampered("The export says that it leaves nothing out, and has gaps.")
            whole = (
                " That is the whole log up to this export."
                if (first, last) == (0, proof["export"]["leaf"])
                else ""
            )
            days = (
                " That no other row is of the days asked for is the exporter's word; an export of the whole "
                "log shows it."
                if selection["from"] or selection["until"]
                else ""
            )
            check.says.append(
                f"Rows {first} to {last} (not included) of the log are all here, without a gap.{whole}{days}"
            )
        else:
            check.says.append(
                f"Every row here names the one {selection['about']['field']} of the manifest. A selection "
                f"cannot show that no other row does; an export of the whole log can."
            )

    def witnesses(self, check: Check) -> None:
        """6. The note of the checkpoint, who cosigned it, and when its time was stamped.

        The log and the witnesses are those that the manifest names, which the log itself holds; whom the
        reader names must have signed.
        """
        if self.manifest is None or self.signed is None or NOTE not in self.export.names:
            raise CannotTell("There is no note of the checkpoint, or no checkpoint that holds.")
        named: Any = self.manifest.get("note")
        only(named, "log", "witnesses")
        log, witnesses = NoteKey.read(named["log"]), [NoteKey.read(one) for one in named["witnesses"]]
        with self.export.open(NOTE) as file:
            data = file.read(MAX_JSON)
        seen = check_note(data, self.signed.size, self.signed.root, log, witnesses)
        check.says.append(f"{log.name} signed the note of the checkpoint.")
        for name, at in sorted(seen.items()):
            check.says.append(f"{name} cosigned it at {utc(at)}.")
        if not seen:
            check.says.append("No witness cosigned it.")
        for wanted in self.besides.witnesses:
            if wanted not in witnesses or wanted.name not in seen:
                raise CannotTell(f"{wanted.name}, whom you named, did not cosign it.")
        if TIMESTAMP in self.export.names:
            with self.export.open(TIMESTAMP) as file:
                token = file.read(MAX_JSON)
            who, when, vouched = check_timestamp(token, read_note(data)[0], list(self.besides.roots))
            vouch = "a root that you trust vouches for it" if vouched else "--tsa says whom you trust"
            check.says.append(f"{who} stamped its time: {when} ({vouch}).")
        elif self.besides.roots:
            raise CannotTell("It has no timestamp.")

    def _needle(self) -> bytes:
        """What every row of a selection holds; empty where the rows are a part of the log without gaps."""
        about = (self.manifest or {}).get("selection", {}).get("about")
        if about is None:
            return b""
        only(about, "field", "value")
        if about["field"] not in SELECTED or not re.fullmatch(r"[0-9a-f-]{36,64}", str(about["value"])):
            raise CannotTell("The manifest selects by something that this program does not know.")
        return canonical({about["field"]: about["value"]})[1:-1]

    def _proof(self) -> Json:
        if self.proof is None:
            raise CannotTell("The proof could not be read.")
        return self.proof


class _Rows:
    """rows.ndjson, taken a portion at a time as leaf hashes."""

    def __init__(self, file: BinaryIO, needle: bytes) -> None:
        self._blocks = lines(file, ROWS)
        self._block: list[bytes] = []
        self._at = 0
        self._needle = needle
        self.taken = 0

    def take(self, count: int) -> list[bytes]:
        """The hashes of the next rows: at least one, at most `count`."""
        if self._at == len(self._block):
            self._block, self._at = next(self._blocks, []), 0
            if not self._block:
                raise Tampered("There are fewer rows than leaves.txt lists.")
        portion = self._block[self._at : self._at + count]
        self._at += len(portion)
        self.taken += len(portion)
        if self._needle and not all(self._needle in line for line in portion):
            raise Tampered("A row does not name what the manifest selects by.")
        make = hashlib.sha256
        return [make(b"\x00" + line).digest() for line in portion]

    def finish(self) -> None:
        if self._at < len(self._block) or next(self._blocks, None):
            raise Tampered("There are more rows than leaves.txt lists.")


# Part 11. The checks of a proof of single rows


class RowsVerifier:
    """The checks, in order; the third where there is a file that the rows are of."""

    def __init__(self, data: bytes, trust: Trust, of: bytes | None = None) -> None:
        self.data, self.trust, self.of = data, trust, of
        self.proof: Json | None = None
        self.steps = (self.signatures, self.inclusion, *(() if of is None else (self.content,)))

    def signatures(self, check: Check) -> None:
        """1. The ledger's signatures over the checkpoint, by whom the reader trusts."""
        proof = parse_canonical(self.data, "The proof")
        if proof.get("format") != PROOF_FORMAT:
            raise CannotTell("The proof is of a format that this program does not know.")
        only(proof, "checkpoint", "format", "rows")
        signed = check_evidence(proof["checkpoint"], self.trust)
        self.proof = proof
        check.says.append(
            f"{signed.signers} signed, in block {signed.block}, the log {signed.origin!r} of {signed.size} "
            f"rows."
        )

    def inclusion(self, check: Check) -> None:
        """2. Each row's path leads to the root that was signed."""
        if self.proof is None:
            raise CannotTell("The proof could not be read.")
        checkpoint, last = self.proof["checkpoint"], -1
        size, root = checkpoint["size"], hash_of(checkpoint, "root")
        for row in field_of(self.proof, "rows", list):
            only(row, "leaf", "line", "path")
            at, line = field_of(row, "leaf", int), field_of(row, "line", str).encode()
            path = [unhex(node) for node in field_of(row, "path", list)]
            if not last < at < size or path_root(at, size, sha256(b"\x00" + line), path) != root:
                raise Tampered("A row does not lead to the root that the ledger holds: it was changed.")
            last = at
        if last < 0:
            raise CannotTell("The proof is of no row.")
        check.says.append(f"{len(self.proof['rows'])} row(s) are in that log, each unchanged, at its place.")

    def content(self, check: Check) -> None:
        """3. Each row says that these very bytes were sent."""
        if self.proof is None or self.of is None:
            raise CannotTell("The proof could not be read.")
        digest = sha256(self.of).hex()
        for row in self.proof["rows"]:
            line = parse_canonical(row["line"].encode(), "The row")
            sent = field_of(line, "details", dict)
            if line.get("kind") != "result.sent":
                raise CannotTell("The proof is not of a result that was sent.")
            if hash_of(sent, "content").hex() != digest:
                raise Tampered("Other bytes were sent than this file holds.")
            check.says.append(
                f"These bytes were sent on {line['time']} to {line['actor']['id']}: the result "
                f"{sent['output']} of job {sent['job']}, delivered by {sent['tx_id']}."
            )


# Part 12. A consent that a patient signed with a passkey, an emergency that a clinician did


class SignedConsentVerifier:
    """The two checks, in order. What the consent says is not in the file.

    The challenge of the passkey's signature (Web Authentication Level 3, section 7.2) is the commitment,
    and the commitment is what the ledger holds under the consent's id.
    """

    def __init__(self, data: bytes, trust: Trust) -> None:
        self.data, self.trust = data, trust
        self.signed: Json | None = None
        self.steps = (self.signature, self.commitment)

    def signature(self, check: Check) -> None:
        """1. A passkey signed the commitment, having checked who used it."""
        signed = parse_canonical(self.data, "The signed consent")
        if signed.get("format") != SIGNED_FORMAT:
            raise CannotTell("The file is of a format that this program does not know.")
        only(signed, "commitment", "consent", "evidence", "format", "signature")
        key = check_passkey(signed["signature"], hash_of(signed, "commitment"))
        self.signed = signed
        check.says.append(
            f"The passkey with the key {sha256(key).hex()} signed the commitment, at "
            f"{signed['signature']['origin']}, after it had checked who used it. Whose passkey it is, this "
            f"file does not show."
        )

    def commitment(self, check: Check) -> None:
        """2. The ledger holds that very commitment under the consent's id."""
        if self.signed is None:
            raise CannotTell("The signature could not be read, or does not hold.")
        name = f"consent/{hash_of(self.signed, 'consent').hex()}"
        written = check_written(field_of(self.signed, "evidence", dict), name, self.trust)
        if parse_canonical(written.value, "The consent").get("commitment") != self.signed["commitment"]:
            raise Tampered("The ledger holds another commitment for this consent.")
        check.says.append(f"{written.signers} signed that very commitment, in block {written.block}.")


class SignedEmergencyVerifier:
    """The two checks, in order. Whose records it was, who opened them and why is not in the file.

    The challenge of the passkey's signature is the emergency's digest, and the digest is what the ledger has
    of it: among those that an organisation recorded, which it signs alone, or, once the others saw it, under
    a name of its own. Before that, fewer than the reader asks for may have signed: then nobody can tell yet.
    """

    def __init__(self, data: bytes, trust: Trust) -> None:
        self.data, self.trust = data, trust
        self.signed: Json | None = None
        self.steps = (self.signature, self.record)

    def signature(self, check: Check) -> None:
        """1. A passkey signed the emergency's digest, having checked who used it."""
        signed = parse_canonical(self.data, "The signed emergency")
        if signed.get("format") != EMERGENCY_FORMAT:
            raise CannotTell("The file is of a format that this program does not know.")
        only(signed, "access", "completed", "digest", "evidence", "format", "organisation", "signature")
        key = check_passkey(signed["signature"], hash_of(signed, "digest"))
        self.signed = signed
        check.says.append(
            f"The passkey with the key {sha256(key).hex()} signed the emergency's digest, at "
            f"{signed['signature']['origin']}, after it had checked who used it. Whose passkey it is, this "
            f"file does not show."
        )

    def record(self, check: Check) -> None:
        """2. The ledger holds that very digest of this emergency."""
        if self.signed is None:
            raise CannotTell("The signature could not be read, or does not hold.")
        access, own = hash_of(self.signed, "access").hex(), field_of(self.signed, "organisation", str)
        is_completed = field_of(self.signed, "completed", bool)
        name = f"access/{access}/{own}" if is_completed else f"emergency/{own}"
        evidence = field_of(self.signed, "evidence", dict)
        trust = self.trust if is_completed else replace(self.trust, needed=min(self.trust.needed, 1))
        written = check_written(evidence, name, trust)
        held = parse_canonical(written.value, "The emergency")
        if not is_completed:
            held = next((one for one in field_of(held, "open", list) if one["access"] == access), {})
        if held.get("digest") != self.signed["digest"]:
            raise Tampered("The ledger holds another digest of this emergency.")
        if len(written.organisations) < self.trust.needed:
            raise CannotTell(
                f"{written.signers} signed that very digest, in block {written.block}. The emergency was not "
                f"completed when this file was made: {self.trust.needed} organisations must sign."
            )
        check.says.append(f"{written.signers} signed that very digest, in block {written.block}.")


def check_passkey(signature: Any, challenge: bytes) -> bytes:
    """The key (DER SubjectPublicKeyInfo) whose passkey signed the challenge. Raises Tampered, CannotTell.

    1. the browser asked for a signature of this challenge, on a page of the site that is named
    2. the passkey made it for that site, with its user there and verified
    3. the key signed both
    """
    only(signature, *SIGNATURE_FIELDS)
    said, client_data = blob_of(signature, "authenticator_data_b64"), blob_of(signature, "client_data_b64")
    key, origin = blob_of(signature, "public_key_b64"), field_of(signature, "origin", str)
    # 1
    asked = json.loads(client_data)
    expected = base64.urlsafe_b64encode(challenge).rstrip(b"=").decode()
    if not isinstance(asked, dict) or (asked.get("type"), asked.get("challenge"), asked.get("origin")) != (
        "webauthn.get", expected, origin,
    ):  # fmt: skip
        raise Tampered("The passkey signed something else, or on another site.")
    if asked.get("crossOrigin", False) is not False or "topOrigin" in asked:
        raise Tampered("It was signed in a frame of another site.")
    # 2
    site = (urlsplit(origin).hostname or "").encode()
    if len(said) < 37 or said[:32] != sha256(site) or said[32] & 0b101 != 0b101:
        raise Tampered("The passkey was made for another site, or did not check who used it.")
    # 3
    if not passkey_holds(key, blob_of(signature, "signature_b64"), said + sha256(client_data)):
        raise Tampered("The passkey's signature does not hold.")
    return key


def blob_of(value: Any, key: str) -> bytes:
    """Bytes in base64, in its one spelling."""
    text = field_of(value, key, str)
    found = base64.b64decode(text, validate=True)
    if base64.b64encode(found).decode() != text:
        raise Tampered("The file has another spelling of the same bytes.")
    return found


def passkey_holds(der: bytes, signature: bytes, message: bytes) -> bool:
    """ES256 on P-256, EdDSA with Ed25519, or RS256 of at least 2048 bits."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
        from cryptography.hazmat.primitives.serialization import load_der_public_key
    except ImportError:
        raise CannotTell(NO_LIBRARY) from None
    key = load_der_public_key(der)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        else:
            raise CannotTell("The passkey's key is of a kind that this program does not know.")
    except InvalidSignature:
        return False
    return True


# Part 13. The program


def verify(
    path: str | Path,
    trust: str | None,
    needed: int | None = None,
    *,
    witnesses: list[str] | None = None,
    tsa: str | None = None,
    of: str | Path | None = None,
) -> Report:
    """Run all checks on what is at `path`: an export, a proof of single rows, a signed consent or a
    signed emergency.

    `witnesses` (vkeys) must have cosigned an export's checkpoint; `tsa` is a PEM file of roots, one of which
    must vouch for its timestamp. `of` is the file whose bytes a proof of rows says were sent.
    """
    report = Report()
    try:
        if of is not None:
            proof = Path(path).read_bytes()[:MAX_JSON]
            return verify_rows(proof, Trust.read(trust, needed), Path(of).read_bytes())
        if str(path).endswith(".json") and Path(path).is_file():
            with Path(path).open("rb") as file:
                data = file.read(MAX_JSON)
            for format, verify_one in SIGNED.items():
                if b'"format":"%s"' % format.encode() in data:
                    return verify_one(data, Trust.read(trust, needed))
            return verify_rows(data, Trust.read(trust, needed))
        besides = Besides.read(witnesses or [], tsa)
        verifier = ExportVerifier(open_export(Path(path)), trust, needed, besides)
    except (CannotTell, OSError) as error:
        report.checks.append(Check("Files", says=[str(error)]))
        return report
    return report.run_all(verifier.steps)


def verify_rows(data: bytes, trust: Trust, of: bytes | None = None) -> Report:
    """Run the checks on the bytes of a proof of single rows, and on those of the file that it is of."""
    return Report().run_all(RowsVerifier(data, trust, of).steps)


def verify_signed_consent(data: bytes, trust: Trust) -> Report:
    """Run both checks on the bytes of a signed consent."""
    return Report().run_all(SignedConsentVerifier(data, trust).steps)


def verify_signed_emergency(data: bytes, trust: Trust) -> Report:
    """Run both checks on the bytes of a signed emergency."""
    return Report().run_all(SignedEmergencyVerifier(data, trust).steps)


SIGNED = {SIGNED_FORMAT: verify_signed_consent, EMERGENCY_FORMAT: verify_signed_emergency}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="verify.py", description="Verify an audit export of Consent Gateway, offline."
    )
    parser.add_argument(
        "export", help="the export: a folder or a .zip; or a proof, a signed consent or emergency: a .json"
    )
    parser.add_argument(
        "--trust",
        metavar="WHOM",
        help="the ledger's public key (a file, its hex, or its fingerprint), or the roots of a Fabric "
        "channel's organisations (a folder of PEM files, or one PEM file)",
    )
    parser.add_argument(
        "--needed", type=int, metavar="M", help="organisations that must have signed (default: most of them)"
    )
    parser.add_argument(
        "--witness",
        action="append",
        default=[],
        metavar="KEY",
        help="a witness that must have cosigned: vkey",
    )
    parser.add_argument("--tsa", metavar="ROOTS", help="PEM file of roots that vouch for the timestamp")
    parser.add_argument("--of", metavar="FILE", help="the result that a proof is of, as it came")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    report = verify(
        options.export,
        options.trust,
        options.needed,
        witnesses=options.witness,
        tsa=options.tsa,
        of=options.of,
    )
    if options.json:
        checks = {c.name.lower(): {"status": c.status, "says": c.says} for c in report.checks}
        print(json.dumps({"verdict": report.verdict, "exit": report.exit, "checks": checks}))
        return report.exit
    for check in report.checks:
        print(f"{check.name + ':':14}{check.status:10}{' '.join(check.says)}")
    print(f"\n{report.verdict.upper()}")
    return report.exit


if __name__ == "__main__":
    sys.exit(main())
