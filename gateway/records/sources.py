"""Files from strangers, as a stream of resources with the place where each stands. No Django, no database.

Bulk Data NDJSON is read line by line, a Bundle entry by entry; memory holds one resource, and of a
Bundle the place of each. A resource's bytes are those of the file, never JSON written again.
"""

import codecs
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gateway.records.strict_json import MAX_RESOURCE_BYTES, Refused, read

NDJSON_SUFFIXES = frozenset({".ndjson", ".jsonl"})
SUFFIXES = NDJSON_SUFFIXES | {".json"}
BUNDLE_TYPES = frozenset({"collection", "transaction"})
_WINDOW = 256 * 1024
_DELETED = re.compile(r"([A-Z][A-Za-z]{1,40})/([A-Za-z0-9\-.]{1,64})")
_BLANK = b" \t\r\n"
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh")
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


class Place(NamedTuple):
    """Where one resource stands: its first line and byte (line from 1), and its element in a Bundle."""

    line: int
    offset: int
    length: int
    entry: str = ""


class BundleEntry(NamedTuple):
    place: Place
    full_url: str
    kind: str
    id: str
    is_deleted: bool = False


class Source:
    """One open file. `digest()` reads all of it; the iterators read what is open, so it cannot be swapped.

    `addresses` are fullUrls that hold beyond the file: none, but for what came out of a Bundle.
    """

    addresses: Mapping[str, str] = {}
    # Whether its very bytes were validated before: then they are not again (Section).
    is_checked = False
    start = 0  # its first byte in its file

    def __init__(self, path: Path) -> None:
        """Raises Refused for what is no plain file of FHIR JSON."""
        self.path = path
        self.is_ndjson = path.suffix.lower() in NDJSON_SUFFIXES
        try:
            # Non-blocking: a named pipe must not hold the run up.
            self.file: BinaryIO = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        except OSError as error:
            raise Refused("file_unreadable", f"cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(self.file.fileno()).st_mode):
            self.file.close()
            raise Refused("file_unreadable", "is not a plain file")
        self.size = os.fstat(self.file.fileno()).st_size
        head = os.pread(self.file.fileno(), 8, 0)
        if head.startswith(_COMPRESSED):
            self._close_and_refuse("compressed", "is compressed: unpack it first, where its size can be seen")
        if head.startswith(_MARKS):
            self._close_and_refuse("byte_order_mark", "begins with a byte order mark; save it as plain UTF-8")

    def _close_and_refuse(self, code: str, message: str) -> None:
        self.file.close()
        raise Refused(code, message)

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def digest(self) -> str:
        """SHA-256 (hex) of the file as it is now."""
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()  # type: ignore[arg-type]

    def is_still(self, digest: str) -> bool:
        """Whether the bytes that were read are those of this digest."""
        return self.digest() == digest

    def at(self, place: Place) -> bytes:
        return os.pread(self.file.fileno(), place.length, place.offset)

    def lines(self) -> Iterator[tuple[Place, bytes | None]]:
        """Each line that is not blank, without its line break; None for one that is too long."""
        return self._lines(0, None, 0)

    def _lines(self, offset: int, end: int | None, number: int) -> Iterator[tuple[Place, bytes | None]]:
        """Those that begin between two bytes, or up to the file's end; `number` lines come before them."""
        self.file.seek(offset)
        while (end is None or offset < end) and (line := self.file.readline(MAX_RESOURCE_BYTES + 2)):
            number, start = number + 1, offset
            offset += self._read(line)
            too_long = len(line) > MAX_RESOURCE_BYTES and not line.endswith(b"\n")
            while too_long and (rest := self.file.readline(_WINDOW)):
                offset += self._read(rest)
                if rest.endswith(b"\n"):
                    break
            if too_long:
                yield Place(number, start, 0), None
            elif bare := line.strip(_BLANK):
                yield Place(number, start, len(line)), bare

    def _read(self, data: bytes) -> int:
        return len(data)

    def sections(self, size: int) -> Iterator["Section"]:
        """An NDJSON file in pieces of `size` bytes, each up to the end of its last line."""
        start = lines = 0
        while start < self.size:
            self.file.seek(start + size)
            while (rest := self.file.readline(_WINDOW)) and not rest.endswith(b"\n"):
                pass
            section = Section(self, start, min(self.file.tell(), self.size), lines)
            yield section
            start, lines = section.end, lines + section.breaks

    def entries(self) -> Iterator[BundleEntry]:
        """Each entry of the Bundle that holds a resource or asks to delete one, in its order.

        Raises Refused (with the place, as `BundleFault`) for anything that is not a Bundle to take in.
        """
        self.file.seek(0)
        yield from _Bundle(_Text(self.file)).entries()


class Section(Source):
    """Lines of an NDJSON file from one byte to another; the file stays open when it is done.

    `sha256` (hex) is of those bytes as they were when it was made; `breaks` are the line breaks among them.
    """

    is_ndjson = True

    def __init__(self, whole: Source, start: int, end: int, lines_before: int) -> None:
        self.path, self.file, self.size = whole.path, whole.file, end - start
        self.start, self.end, self._before = start, end, lines_before
        hashed, self.breaks = hashlib.sha256(), 0
        self.file.seek(start)
        left = self.size
        while left and (data := self.file.read(min(left, _WINDOW))):
            hashed.update(data)
            self.breaks += data.count(b"\n")
            left -= len(data)
        self.sha256 = hashed.hexdigest()
        self._hashed = hashlib.sha256()

    def __exit__(self, *_: object) -> None:
        pass

    def lines(self) -> Iterator[tuple[Place, bytes | None]]:
        self._hashed = hashlib.sha256()
        return self._lines(self.start, self.end, self._before)

    def _read(self, data: bytes) -> int:
        self._hashed.update(data)
        return len(data)

    def is_still(self, digest: str) -> bool:
        """As it was read last, not as the file is now."""
        return self._hashed.hexdigest() == digest


class OneResource(Source):
    """A single resource in memory, read as a file of one line. `addresses` are its Bundle's."""

    is_ndjson = True

    def __init__(self, raw: bytes, addresses: Mapping[str, str]) -> None:
        self.path, self.size, self.addresses = Path("-"), len(raw), addresses
        self.file = BytesIO(raw)

    def is_still(self, digest: str) -> bool:
        return True  # it is in memory, and the digest is of the file that it came in

    def lines(self) -> Iterator[tuple[Place, bytes | None]]:
        raw = self.file.read()
        yield Place(1, 0, len(raw)), raw if len(raw) <= MAX_RESOURCE_BYTES else None


def deleted(request: object, element: str) -> tuple[str, str]:
    """Type and id of what a Bundle's entry asks to delete (FHIR R4: DELETE [type]/[id]). Raises Refused."""
    said = request if isinstance(request, dict) else {}
    named = _DELETED.fullmatch(said["url"]) if isinstance(said.get("url"), str) else None
    if said.get("method") != "DELETE" or named is None:
        raise Refused(
            "deletion_unclear", "must ask to DELETE one resource by Type/id", element=f"{element}.request"
        )
    return named[1], named[2]


class BundleFault(Refused):
    """A Bundle that cannot be read on from here."""

    def __init__(self, fault: Refused, place: Place) -> None:
        super().__init__(fault.code, fault.message, element=fault.element or place.entry)
        self.place = place


class _Text:
    """A window on a UTF-8 file that moves forward, value by value, and counts bytes and lines."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._ended = False
        self.offset, self.line = 0, 1

    def place(self, length: int = 0, entry: str = "") -> Place:
        return Place(self.line, self.offset, length, entry)

    def next(self) -> str:
        """The next character that is not blank, not consumed; "" at the end."""
        while True:
            at, text = self._at, self._text
            while at < len(text) and text[at] in " \t\r\n":
                at += 1
            self._move(at)
            if at < len(text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> None:
        if self.next() != expected:
            raise Refused("malformed_json", f"is not JSON: {expected} should stand here")
        self._move(self._at + 1)

    def took(self, expected: str) -> bool:
        """Consume `expected` if it comes next."""
        if self.next() != expected:
            return False
        self._move(self._at + 1)
        return True

    def value(self, entry: str = "") -> tuple[Any, bytes, Place]:
        """The next JSON value as json reads it, its bytes as received, and where they stand."""
        self.next()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
                if end < len(self._text) or not self._more():
                    break
            except RecursionError:
                raise Refused("too_deep", "is nested too deeply") from None
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > MAX_RESOURCE_BYTES:
                    raise Refused("resource_too_large", f"is larger than {MAX_RESOURCE_BYTES // 2**20} MB "
                                  "or is not JSON") from None  # fmt: skip
                if not self._more():
                    self._move(min(error.pos, len(self._text)))
                    raise Refused("malformed_json", "is not JSON") from None
            except ValueError:
                raise Refused("number_too_long", "holds a number of too many digits") from None
        raw = self._text[self._at : end].encode()
        place = self.place(len(raw), entry)
        self._move(end)
        return value, raw, place

    def _move(self, to: int) -> None:
        passed = self._text[self._at : to]
        self.offset += len(passed) if passed.isascii() else len(passed.encode())
        self.line += passed.count("\n")
        self._at = to

    def _more(self) -> bool:
        """Read on: twice as much as is still unread, so that a long value is tried few times."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        data = self._file.read(max(_WINDOW, len(rest)))
        try:
            decoded = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError:
            raise Refused("not_utf8", "is not valid UTF-8 in what follows here") from None
        if data:
            self._text, self._at = rest + decoded, 0
        else:
            self._ended = True
        return bool(data)


class _Bundle:
    """FHIR R4 Bundle: its members in any order, `entry` one by one."""

    def __init__(self, text: _Text) -> None:
        self._text = text
        self._count = 0
        self._deletes = False
        self._said: dict[str, Any] = {}

    def entries(self) -> Iterator[BundleEntry]:
        try:
            yield from self._members()
        except BundleFault:
            raise
        except Refused as fault:
            entry = f"Bundle.entry[{self._count}]" if self._count else "Bundle"
            raise BundleFault(fault, self._text.place(entry=entry)) from None

    def _members(self) -> Iterator[BundleEntry]:
        for name in self._object():
            if name == "entry":
                yield from self._entry_list()
            else:
                value, raw, _ = self._text.value()
                read(b'{"":' + raw + b"}")
                self._said[name] = value
        if self._text.next():
            raise Refused("malformed_json", "has something after its end")
        if self._said.get("resourceType") != "Bundle":
            raise Refused("not_a_bundle", "is not a FHIR Bundle; NDJSON files end in .ndjson")
        if self._said.get("type") not in BUNDLE_TYPES:
            raise Refused("bundle_type", "must be a collection or a transaction", element="Bundle.type")
        if self._deletes and self._said["type"] != "transaction":
            raise Refused("bundle_type", "must be a transaction, since it deletes", element="Bundle.type")

    def _object(self) -> Iterator[str]:
        """The names of an object; the caller takes each value. A name given twice is refused."""
        self._text.take("{")
        if self._text.took("}"):
            return
        names: set[str] = set()
        while True:
            name = self._text.value()[0] if self._text.next() == '"' else None
            if name is None:
                raise Refused("malformed_json", "is not JSON: a name should stand here")
            if name in names:
                raise Refused("duplicate_key", "gives one name twice in the same object")
            names.add(name)
            self._text.take(":")
            yield name
            if not self._text.took(","):
                break
        self._text.take("}")

    def _entry_list(self) -> Iterator[BundleEntry]:
        self._text.take("[")
        if self._text.took("]"):
            return
        while True:
            if (entry := self._entry(f"Bundle.entry[{self._count}]")) is not None:
                yield entry
            self._count += 1
            if not self._text.took(","):
                break
        self._text.take("]")

    def _entry(self, element: str) -> BundleEntry | None:
        said: dict[str, Any] = {}
        place = None
        for name in self._object():
            value, raw, where = self._text.value(entry=element)
            if name == "resource":
                place = where
            else:
                read(b'{"":' + raw + b"}")
            said[name] = value
        request = said.get("request")
        if isinstance(request, dict) and request.get("method") == "DELETE" and place is None:
            self._deletes = True
            return BundleEntry(self._text.place(entry=element), "", *deleted(request, element), True)
        if isinstance(request, dict) and request.get("method") not in ("POST", "PUT"):
            raise Refused("method_not_taken", "asks for something else than to store a resource",
                          element=f"{element}.request.method")  # fmt: skip
        if place is None:
            raise Refused("entry_empty", "holds no resource", element=f"{element}.resource")
        resource = said["resource"] if isinstance(said["resource"], dict) else {}
        return BundleEntry(
            place,
            str(said.get("fullUrl", "")),
            str(resource.get("resourceType", "")),
            str(resource.get("id", "")),
        )
