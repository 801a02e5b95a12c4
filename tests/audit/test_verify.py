"""The verifier: one flipped bit anywhere, and every way we can think of to lie, is never "verified"."""

import json
import os
import random
import shutil
import struct
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.utils import timezone

from ledger import verify
from ledger.audit import merkle, sealing
from ledger.audit.bundle import Attached
from ledger.embedded.folder import read_public_key
from tests.audit.conftest import CHARLIE

pytestmark = pytest.mark.django_db

POSITIONS = 150  # in each file; all of them in make test-all
REPORT = "report.csv"  # a document that goes with the rows
FILES = (*verify.NAMES, REPORT)


@pytest.fixture
def trust(ledger_folder: Path) -> str:
    return read_public_key(ledger_folder)


@pytest.fixture
def bundle(act: Any, export_to: Any, relay: Any, tmp_path: Path) -> Path:
    """An export with rows of two people, an earlier checkpoint, and its own record behind."""
    act(3)
    act(4, subject=CHARLIE)
    sealing.seal()
    relay()
    act(2)
    out = tmp_path / "out"
    export_to(out, attached=documents())
    return out


def documents() -> list[Attached]:
    return [Attached(REPORT, "who used what", [b"when,who\n", b"2026-10-01,Helix AI\n"])]


@pytest.fixture
def selected(act: Any, export_to: Any, tmp_path: Path) -> Path:
    act(2)
    act(2, subject=CHARLIE)
    act(3)
    export_to(tmp_path / "selected", subject=CHARLIE, attached=documents())
    return tmp_path / "selected"


def zipped(folder: Path) -> Path:
    """The same files as the exporter would put them into a .zip."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name in (
            "rows.ndjson",
            "leaves.txt",
            REPORT,
            "verify.py",
            "README.txt",
            "manifest.json",
            "siblings.txt",
            "proof.json",
        ):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, verify.Archive.ATTRIBUTES
            archive.writestr(entry, (folder / name).read_bytes())
    return path


def status_of(path: Path, trust: str, name: str) -> str:
    return next(check.status for check in verify.verify(path, trust).checks if check.name == name)


def flips(path: Path, positions: Iterator[int] | list[int]) -> Iterator[int]:
    """Flip one bit at each position in turn, yield the position, and put it back."""
    original = path.read_bytes()
    chance = random.Random(len(original))
    with path.open("r+b") as file:
        for position in positions:
            file.seek(position)
            file.write(bytes([original[position] ^ 1 << chance.randrange(8)]))
            file.flush()
            yield position
            file.seek(position)
            file.write(original[position : position + 1])
            file.flush()
    assert path.read_bytes() == original


def some(size: int) -> list[int]:
    return sorted(random.Random(size).sample(range(size), min(size, POSITIONS)))


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_a_file(bundle: Path, selected: Path, trust: str, name: str) -> None:
    for folder in (bundle, selected):
        file = folder / name
        for position in flips(file, some(file.stat().st_size)):
            assert verify.verify(folder, trust).exit != 0, f"{name} at {position}"
        assert verify.verify(folder, trust).exit == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted({*FILES} - {"README.txt", "verify.py"}))
def test_a_flipped_bit_at_every_byte(selected: Path, trust: str, name: str) -> None:
    file = selected / name
    for position in flips(file, list(range(file.stat().st_size))):
        assert verify.verify(selected, trust).exit != 0, f"{name} at {position}"


def test_a_flipped_bit_in_the_zip(bundle: Path, trust: str) -> None:
    """Every byte of its own structure, and some of the files'."""
    path = zipped(bundle)
    assert verify.verify(path, trust).exit == 0
    size = path.stat().st_size
    own: list[int] = []
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            own += range(entry.header_offset, entry.header_offset + 30 + len(entry.filename))
        own += range(archive.start_dir, size)
    for position in flips(path, own + some(size)):
        assert verify.verify(path, trust).exit != 0, f"at {position}"


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_grown_empty_or_missing(bundle: Path, trust: str, name: str) -> None:
    file = bundle / name
    data = file.read_bytes()
    for changed in (data[:-1], data + b"\n", data + b"0", b""):
        if changed != data:
            file.write_bytes(changed)
            assert verify.verify(bundle, trust).exit != 0
    file.unlink()
    assert verify.verify(bundle, trust).exit == 2


def test_a_document_that_the_manifest_does_not_name(bundle: Path, trust: str) -> None:
    (bundle / "more.csv").write_bytes(b"")
    assert status_of(bundle, trust, "Files") == "unknown"
    redigest(bundle, "more.csv")
    assert verify.verify(bundle, trust).exit == 1  # the log records another manifest


@pytest.mark.parametrize("name", ["../out.csv", ".hidden", "a/b.csv", "proof.json", "x" * 60])
def test_a_document_under_a_name_that_no_export_has(bundle: Path, trust: str, name: str) -> None:
    digest = {"bytes": 0, "sha256": verify.sha256(b"").hex()}
    rewrite(bundle, "manifest.json", lambda manifest: manifest["files"].update({name: digest}))
    assert verify.verify(bundle, trust).exit != 0


@pytest.mark.parametrize("field", ["model", "requester", "request"])
def test_a_selection_by_what_its_rows_name(
    act: Any, export_to: Any, trust: str, tmp_path: Path, field: str
) -> None:
    value = "6f1d6c1e-3b5e-4a53-9a57-0c7d6f0f1a2b" if field == "requester" else "cd" * 32
    act(2)
    act(2, **{field: value})
    act(1, subject=CHARLIE, **{field: value})
    out = tmp_path / "by-field"
    export_to(out, about=(field, value))
    assert (out / "leaves.txt").read_text() == "2 5\n"
    assert verify.verify(out, trust).exit == 0
    rewrite(out, "manifest.json", lambda m: m["selection"]["about"].update(value="ab" * 32))
    assert status_of(out, trust, "Inclusion") == "tampered"


def rewrite(folder: Path, name: str, change: Callable[[Any], None]) -> None:
    value = json.loads((folder / name).read_bytes())
    change(value)
    (folder / name).write_bytes(verify.canonical(value))


def redigest(folder: Path, name: str) -> None:
    """Make the manifest name the file as it is now, as one would who edits both."""
    data = (folder / name).read_bytes()
    digest = {"bytes": len(data), "sha256": verify.sha256(data).hex()}
    rewrite(folder, "manifest.json", lambda manifest: manifest["files"].update({name: digest}))


@pytest.mark.parametrize("name", [*verify.DIGESTED, REPORT])
def test_a_file_and_the_manifest_changed_together(bundle: Path, trust: str, name: str) -> None:
    with (bundle / name).open("ab") as file:
        file.write(b"\n")
    redigest(bundle, name)
    assert verify.verify(bundle, trust).exit == 1
    assert status_of(bundle, trust, "Inclusion") == "tampered"


def test_a_row_left_out(bundle: Path, trust: str) -> None:
    rows = (bundle / "rows.ndjson").read_bytes().splitlines(keepends=True)
    (bundle / "rows.ndjson").write_bytes(b"".join(rows[:4] + rows[5:]))
    redigest(bundle, "rows.ndjson")
    assert verify.verify(bundle, trust).exit == 1


def test_two_rows_swapped(bundle: Path, trust: str) -> None:
    rows = (bundle / "rows.ndjson").read_bytes().splitlines(keepends=True)
    (bundle / "rows.ndjson").write_bytes(b"".join([*rows[:2], rows[3], rows[2], *rows[4:]]))
    redigest(bundle, "rows.ndjson")
    assert status_of(bundle, trust, "Inclusion") == "tampered"


@pytest.mark.parametrize(
    "names", [["proof.json"], ["proof.json", "siblings.txt"], ["rows.ndjson"], ["manifest.json"]]
)
def test_parts_of_two_exports_exchanged(
    bundle: Path, selected: Path, export_to: Any, trust: str, names: list[str]
) -> None:
    """Two true exports of one log, the second of the whole log too: no part of one stands in the other."""
    another = bundle.with_name("another")
    export_to(another)
    assert verify.verify(another, trust).exit == 0
    for folder in (another, selected):
        mine = {name: (bundle / name).read_bytes() for name in names}
        for name in names:
            (bundle / name).write_bytes((folder / name).read_bytes())
        assert verify.verify(bundle, trust).exit != 0
        for name, data in mine.items():
            (bundle / name).write_bytes(data)
    assert verify.verify(bundle, trust).exit == 0


def test_what_the_verifier_says_to_a_stranger(
    bundle: Path, act: Any, export_to: Any, trust: str, tmp_path: Path
) -> None:
    """When the ledger signed; which file is one too many; and what a part of some days cannot show."""
    signed = verify.verify(bundle, trust).checks[1].says[0]
    assert time.strftime(" at %Y-%m-%d ", time.gmtime()) in signed
    export_to(tmp_path / "days", since=timezone.now() - timedelta(days=1))
    (whole,), (days,) = (verify.verify(one, trust).checks[4].says for one in (bundle, tmp_path / "days"))
    assert "the exporter's word" in days
    assert "the exporter's word" not in whole
    (bundle / ".DS_Store").write_bytes(b"")
    assert "to an export: .DS_Store. Take them out." in verify.verify(bundle, trust).checks[0].says[0]


def test_rows_hidden_behind_a_hash(bundle: Path, trust: str) -> None:
    """The last row is left out, and its hash is put among the siblings: the tree holds, the count fails."""
    rows = (bundle / "rows.ndjson").read_bytes().splitlines(keepends=True)
    hidden = merkle.leaf_hash(rows[-1].rstrip(b"\n")).hex()
    (bundle / "rows.ndjson").write_bytes(b"".join(rows[:-1]))
    (bundle / "leaves.txt").write_text(f"0 {len(rows) - 1}\n")
    siblings = (bundle / "siblings.txt").read_text()
    (bundle / "siblings.txt").write_text(f"{hidden}\n{siblings}")
    redigest(bundle, "rows.ndjson")
    redigest(bundle, "leaves.txt")
    report = verify.verify(bundle, trust)
    assert report.exit == 1
    assert {check.name: check.status for check in report.checks}["Completeness"] == "tampered"


def test_another_trusted_key(bundle: Path) -> None:
    report = verify.verify(bundle, "ab" * 32)
    assert report.exit == 1
    assert "another key" in report.checks[1].says[0]


def test_a_block_that_somebody_else_signed(bundle: Path, trust: str) -> None:
    """Everything is made anew under an own key, which is then named in the proof."""
    forger = Ed25519PrivateKey.generate()

    def forge(proof: Any) -> None:
        evidence = proof["checkpoint"]["evidence"]
        evidence["key"] = forger.public_key().public_bytes_raw().hex()
        evidence["signature"] = forger.sign(b"consent-gateway block\x00" + evidence["header"].encode()).hex()

    rewrite(bundle, "proof.json", forge)
    assert status_of(bundle, trust, "Signatures") == "tampered"
    rewrite(bundle, "proof.json", lambda proof: proof["checkpoint"]["evidence"].update(key=trust))
    assert status_of(bundle, trust, "Signatures") == "tampered"


def test_another_root_under_a_true_signature(bundle: Path, trust: str) -> None:
    rewrite(bundle, "proof.json", lambda proof: proof["checkpoint"].update(root="00" * 32))
    assert status_of(bundle, trust, "Signatures") == "tampered"


def test_a_checkpoint_in_place_of_another(bundle: Path, trust: str) -> None:
    """True evidence of the earlier checkpoint does not stand for the later one."""
    rewrite(
        bundle,
        "proof.json",
        lambda proof: proof["checkpoint"].update(evidence=proof["earlier"]["evidence"]),
    )
    assert status_of(bundle, trust, "Signatures") == "tampered"


def test_a_transaction_that_was_not_valid(bundle: Path, trust: str) -> None:
    rewrite(
        bundle,
        "proof.json",
        lambda proof: proof["checkpoint"]["evidence"].update(validity="MVCC_READ_CONFLICT"),
    )
    assert status_of(bundle, trust, "Signatures") == "tampered"


def test_a_log_that_was_rewritten(bundle: Path, trust: str) -> None:
    rewrite(
        bundle,
        "proof.json",
        lambda proof: proof["earlier"].update(path=["00" * 32] * len(proof["earlier"]["path"])),
    )
    assert status_of(bundle, trust, "Consistency") == "tampered"


def test_an_earlier_checkpoint_that_is_kept_back(bundle: Path, trust: str) -> None:
    """The ledger says which checkpoint this one extends, so an export cannot say that there was none."""
    rewrite(bundle, "proof.json", lambda proof: proof.update(earlier=None))
    assert status_of(bundle, trust, "Consistency") == "tampered"


def test_a_checkpoint_of_another_log(bundle: Path, trust: str) -> None:
    rewrite(bundle, "proof.json", lambda proof: proof["checkpoint"].update(origin="Lakeside"))
    assert status_of(bundle, trust, "Signatures") == "tampered"


def test_a_row_of_somebody_else_in_a_selection(selected: Path, bundle: Path, trust: str) -> None:
    other = (bundle / "rows.ndjson").read_bytes().splitlines(keepends=True)[0]
    rows = (selected / "rows.ndjson").read_bytes().splitlines(keepends=True)
    (selected / "rows.ndjson").write_bytes(b"".join([other, *rows[1:]]))
    redigest(selected, "rows.ndjson")
    assert verify.verify(selected, trust).exit == 1


@pytest.mark.parametrize("key", [None, "", "no-such-file", "abcd", "zz" * 32])
def test_without_a_key_it_cannot_tell(bundle: Path, key: str | None) -> None:
    report = verify.verify(bundle, key)
    assert (report.exit, report.checks[1].status) == (2, "unknown")


def test_the_forms_of_a_key_file(bundle: Path, ledger_folder: Path, trust: str, tmp_path: Path) -> None:
    raw = bytes.fromhex(trust)
    (tmp_path / "raw").write_bytes(raw)
    (tmp_path / "hex").write_text(trust.upper() + "\n")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    pem = Ed25519PublicKey.from_public_bytes(raw).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "pem").write_bytes(pem)
    (tmp_path / "bad").write_bytes(pem.replace(b"A", b"!"))
    exits = [verify.verify(bundle, str(tmp_path / form)).exit for form in ("raw", "hex", "pem", "bad")]
    assert exits == [0, 0, 0, 2]


def test_without_cryptography_it_cannot_tell(
    bundle: Path, trust: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    report = verify.verify(bundle, trust)
    assert report.exit == 2
    assert "pip install cryptography" in report.checks[1].says[0]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"null", b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":1.5}', b"[" * 100_000,
        b"9" * 1_000_000,        b'{"format":"consent-gateway audit export 3"}', b'{"format":7}', b"\xff\xfe",
        b'{"a":"\\ud800"}', b'{"b":1,"a":2}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["manifest.json", "proof.json"])
def test_malformed_json(bundle: Path, trust: str, name: str, data: bytes) -> None:
    (bundle / name).write_bytes(data)
    assert verify.verify(bundle, trust).exit != 0


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, True, -1, 2**60, "\ud800"])
def test_a_field_of_another_type(bundle: Path, trust: str, value: Any) -> None:
    original = (bundle / "proof.json").read_bytes()

    def places(node: Any) -> Iterator[tuple[Any, Any]]:
        for key in (
            list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
        ):
            yield node, key
            yield from places(node[key])

    count = len(list(places(json.loads(original))))
    for n in range(count):
        proof = json.loads(original)
        node, key = list(places(proof))[n]
        if node[key] == value and type(node[key]) is type(value):
            continue
        node[key] = value
        (bundle / "proof.json").write_text(json.dumps(proof, sort_keys=True, separators=(",", ":")))
        assert verify.verify(bundle, trust).exit in {1, 2}, key


def test_a_line_without_end_takes_no_memory(bundle: Path, trust: str) -> None:
    with (bundle / "rows.ndjson").open("wb") as file:
        file.truncate(300 << 20)  # sparse
    tracemalloc.start()
    report = verify.verify(bundle, trust)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.exit == 1
    assert peak < 32 << 20


def test_links_and_strange_files_are_refused(bundle: Path, trust: str, tmp_path: Path) -> None:
    rows = bundle / "rows.ndjson"
    shutil.move(rows, tmp_path / "elsewhere")
    rows.symlink_to(tmp_path / "elsewhere")
    assert verify.verify(bundle, trust).exit == 2
    rows.unlink()
    os.mkfifo(rows)
    assert verify.verify(bundle, trust).exit == 2


def test_an_extra_file(bundle: Path, trust: str) -> None:
    (bundle / "extra.txt").write_text("what is this?")
    report = verify.verify(bundle, trust)
    assert (report.exit, report.checks[0].status) == (2, "unknown")


@pytest.mark.parametrize("name", ["../rows.ndjson", "/etc/passwd", "a/rows.ndjson", "rows.ndjson"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_path_or_a_second_name_in_the_zip(bundle: Path, trust: str, name: str) -> None:
    path = zipped(bundle)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    assert verify.verify(path, trust).exit == 2


def test_a_zip_bomb(trust: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("rows.ndjson", "w") as file,
    ):
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    assert verify.verify(path, trust).exit == 2
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_bytes_around_or_inside_the_zip(bundle: Path, trust: str) -> None:
    path = zipped(bundle)
    data = path.read_bytes()
    end = struct.unpack("<4s4H2IH", data[-22:])
    commented = data[:-2] + struct.pack("<H", 2) + b"hi"
    between = data[: end[6]] + b"x" + data[end[6] : -22] + struct.pack("<4s4H2IH", *end[:6], end[6] + 1, 0)
    for changed in (b"x" + data, data + b"x", commented, between, data[:-1], b"PK", b""):
        path.write_bytes(changed)
        assert verify.verify(path, trust).exit == 2


def test_no_export_at_all(trust: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert verify.verify(tmp_path / "nothing", trust).exit == 2
    assert verify.verify(tmp_path / "empty", trust).exit == 2


def test_what_it_prints(bundle: Path, trust: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(bundle), "--trust", trust]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in out[:5]] == [
        "Files",
        "Signatures",
        "Inclusion",
        "Consistency",
        "Completeness",
    ]
    assert out[-1] == "VERIFIED"
    assert verify.main([str(bundle), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "cannot tell"
    assert answer["checks"]["signatures"]["status"] == "unknown"
    assert answer["checks"]["files"]["status"] == "verified"
    with pytest.raises(SystemExit) as caught:
        verify.main([])
    assert caught.value.code == 2
