"""Notes of checkpoints: signed, cosigned by a real witness, stamped by a real time stamper."""

import base64
import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.checks import witnesses_can_be_asked
from gateway.compliance import attesting
from gateway.demo.home import free_port
from gateway.processes import listens_on
from gateway.relay import settle
from ledger import verify, witness
from ledger.audit import merkle, notes, sealing
from ledger.audit.export import Export
from ledger.audit.models import AuditBatch
from ledger.audit.notes import LOG, WITNESS, Signer
from ledger.errors import InvalidInput
from ledger.verify import NoteKey, Tampered, note_text, sha256
from ledger.witness import Refused, Witness
from tests.audit.test_verify import trust

__all__ = ["trust"]  # a fixture

SEEDS = {LOG: bytes(range(32)), WITNESS: bytes(range(1, 33))}
LEAVES = [sha256(b"\x00" + bytes([n])) for n in range(20)]
POSITIONS = 120  # flipped bits of each file


def own(kind: int = LOG) -> Signer:
    return Signer("log.example/audit" if kind == LOG else "witness.example", kind, SEEDS[kind])


# The form


def test_a_note_is_of_three_lines_and_signed_lines_after_an_empty_one() -> None:
    text = note_text("log.example/audit", 3, bytes(32))
    assert text.decode().split("\n") == ["log.example/audit", "3", "A" * 43 + "=", ""]
    note = text + b"\n" + own().sign(text).encode()
    read, ((name, id, signature),) = verify.read_note(note)
    assert (read, name, id, len(signature)) == (text, own().name, own().key.id, 64)
    assert own().key.signed(signature, text) == 0
    with pytest.raises(Tampered):
        own().key.signed(signature, text.replace(b"3", b"4"))


def test_a_cosignature_says_when() -> None:
    text = note_text("log.example/audit", 3, bytes(32))
    _, ((_, id, signature),) = verify.read_note(
        text + b"\n" + own(WITNESS).sign(text, at=1_700_000_000).encode()
    )
    assert id == sha256(b"witness.example\n\x04" + own(WITNESS).key.key)[:4]
    assert own(WITNESS).key.signed(signature, text) == 1_700_000_000
    with pytest.raises(Tampered):
        own(WITNESS).key.signed((1).to_bytes(8, "big") + signature[8:], text)


def test_keys_in_text() -> None:
    for kind in SEEDS:
        assert NoteKey.read(own(kind).vkey) == own(kind).key
    name, id, held = own().vkey.split("+", 2)
    for wrong in ("", f"{name}+{id}", f"{name}+00000000+{held}", f"a b+{id}+{held}"):
        with pytest.raises(verify.CannotTell):
            NoteKey.read(wrong)


def test_a_key_is_its_owners_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert notes.main([str(tmp_path / "key"), "--name", "log.example/audit"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert NoteKey.read(first).kind == LOG
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidInput):
        Signer.read(tmp_path / "key", name="a hospital", kind=LOG)


# The witness


def checkpoint(size: int, leaves: list[bytes] = LEAVES) -> str:
    tree = verify.Tree()
    tree.extend(leaves[:size])
    text = note_text(own().name, size, tree.root())
    return f"{text.decode()}\n{own().sign(text)}"


def body(old: int, size: int, leaves: list[bytes] = LEAVES) -> bytes:
    def node(level: int, index: int) -> bytes:
        tree = verify.Tree()
        tree.extend(leaves[index << level : (index + 1) << level])
        return tree.root()

    path = merkle.consistency_proof(old, size, node) if 0 < old < size else []
    lines = [f"old {old}", *(base64.b64encode(one).decode() for one in path)]
    return ("\n".join(lines) + "\n\n" + checkpoint(size, leaves)).encode()


@pytest.fixture
def seen(tmp_path: Path) -> Witness:
    return Witness(tmp_path, own(WITNESS), [own().key], clock=lambda: 1_700_000_000)


def refused(seen: Witness, sent: bytes) -> tuple[int, str]:
    with pytest.raises(Refused) as refusal:
        seen.add_checkpoint(sent)
    return refusal.value.status, refusal.value.told


def test_a_witness_cosigns_what_grew_and_nothing_else(seen: Witness, tmp_path: Path) -> None:
    assert seen.add_checkpoint(body(0, 5)).startswith("\u2014 witness.example ")
    assert seen.add_checkpoint(body(5, 5))  # the same again
    assert seen.add_checkpoint(body(5, 13))
    assert refused(seen, body(5, 14)) == (409, "13\n")  # it knows more by now
    rewritten = [bytes(32), *LEAVES[1:]]
    assert refused(seen, body(13, 20, rewritten))[0] == 422
    assert refused(seen, body(13, 13, rewritten)) == (409, "13\n")
    again = Witness(tmp_path, own(WITNESS), [own().key])  # started again, it knows what it cosigned
    assert refused(again, body(0, 20)) == (409, "13\n")
    assert again.add_checkpoint(body(13, 20))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", 400),
        (b"old x\n\n" + checkpoint(3).encode(), 400),
        (body(4, 3), 400),
        (b"old 0\n\n" + checkpoint(3).replace("log.example", "another.example").encode(), 404),
        (b"old 0\n\n" + checkpoint(3).replace("\n3\n", "\n4\n").encode(), 403),
        (b"old 0\n\n" + checkpoint(3).replace("\u2014 log.example/audit", "\u2014 x").encode(), 403),
        (b"old 0\n" + base64.b64encode(bytes(32)) + b"\n\n" + checkpoint(3).encode(), 422),
    ],
)
def test_what_is_no_checkpoint_of_a_log_it_knows(seen: Witness, sent: bytes, status: int) -> None:
    assert refused(seen, sent)[0] == status
    assert seen.add_checkpoint(body(0, 3))


# The whole of it: a log with a witness and a time stamper, an export, a stranger who checks


@dataclass
class Vouched:
    """A witness in a process of its own, and a time stamper."""

    witness: str
    roots: Path


@pytest.fixture(scope="session")
def stamper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A time stamper that answers with `openssl ts`, and its root."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tsa")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    (folder / "ext").write_text("extendedKeyUsage=critical,timeStamping\nbasicConstraints=CA:FALSE\n")
    (folder / "cnf").write_text(
        "[tsa]\ndefault_tsa=t\n[t]\nserial=serial\nsigner_digest=sha256\ndefault_policy=1.2.3.4\n"
        "digests=sha256\ness_cert_id_alg=sha256\n"
    )
    (folder / "serial").write_text("01\n")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=Root of time", "-days", "9")  # fmt: skip
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out", "tsa.csr",
            "-subj", "/CN=Stamper of time")  # fmt: skip
    openssl("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "tsa.pem", "-days", "8", "-extfile", "ext")  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (folder / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            openssl("ts", "-reply", "-config", "cnf", "-queryfile", "query", "-signer", "tsa.pem",
                    "-inkey", "tsa.key", "-out", "reply")  # fmt: skip
            self.send_response(200)
            self.end_headers()
            self.wfile.write((folder / "reply").read_bytes())

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder / "ca.pem"
    server.shutdown()
    server.server_close()


@pytest.fixture
def vouched(stamper: tuple[str, Path], tmp_path: Path, settings: Any) -> Iterator[Vouched]:
    url, roots = stamper
    key, port = tmp_path / "log.key", free_port()
    notes.make_key(key)
    settings.CHECKPOINT_KEY, settings.CHECKPOINT_NAME = str(key), "log.example/audit"
    own_signer = attesting.signer()
    assert own_signer is not None
    process = subprocess.Popen(
        [sys.executable, "-m", "ledger.witness", str(tmp_path / "witness"), "--name", "witness.example",
         "--log", own_signer.vkey, "--listen", f"127.0.0.1:{port}"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    vkey = process.stdout.readline().strip()
    assert settle(20, listens_on(port))
    settings.WITNESSES, settings.TIMESTAMP_URL = [f"{vkey}|http://127.0.0.1:{port}"], url
    yield Vouched(vkey, roots)
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def bundle(
    vouched: Vouched, act: Any, export_to: Callable[..., Export], relay: Callable[[], None], tmp_path: Path
) -> Path:
    """Two checkpoints were cosigned before; the export's is the third."""
    for count in (3, 40):
        act(count)
        sealing.seal()
        relay()
        attesting.attest_newest()
    act(2)
    out = tmp_path / "out"
    export_to(out, vouching=attesting.vouching(), attest=attesting.attest)
    return out


pytestmark = pytest.mark.django_db


def said(report: verify.Report) -> str:
    return " ".join(report.checks[-1].says)


def test_a_bundle_shows_who_else_vouches(bundle: Path, vouched: Vouched, trust: str) -> None:
    report = verify.verify(bundle, trust)
    assert (report.verdict, report.checks[-1].name) == ("verified", "Witnesses")
    assert "witness.example cosigned it at" in said(report)
    assert "CN=Stamper of time stamped its time" in said(report)
    assert "--tsa says whom you trust" in said(report)
    insisted = verify.verify(bundle, trust, witnesses=[vouched.witness], tsa=str(vouched.roots))
    assert insisted.verdict == "verified"
    assert "a root that you trust vouches for it" in said(insisted)
    assert AuditBatch.objects.exclude(note="").count() == 3
    # Another program reads the timestamp as well.
    text, _ = verify.read_note((bundle / verify.NOTE).read_bytes())
    done = subprocess.run(
        ["openssl", "ts", "-verify", "-token_in", "-in", str(bundle / verify.TIMESTAMP), "-digest",
         sha256(text).hex(), "-CAfile", str(vouched.roots)],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_program_in_the_bundle_prints_it(bundle: Path, vouched: Vouched, trust: str) -> None:
    words = [str(bundle / "verify.py"), str(bundle), "--trust", trust, "--json", "--witness", vouched.witness]
    done = subprocess.run([sys.executable, *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checks"]["witnesses"]["status"] == "verified"


def test_who_is_insisted_on_and_did_not_sign(
    bundle: Path, vouched: Vouched, trust: str, tmp_path: Path
) -> None:
    other = Signer("another.example", WITNESS, SEEDS[LOG]).vkey
    assert verify.verify(bundle, trust, witnesses=[other]).verdict == "cannot tell"
    assert verify.verify(bundle, trust, witnesses=["no key"]).verdict == "cannot tell"
    (tmp_path / "none.pem").write_text("no certificate")
    assert verify.verify(bundle, trust, tsa=str(tmp_path / "none.pem")).verdict == "cannot tell"
    (bundle / verify.TIMESTAMP).unlink()
    assert verify.verify(bundle, trust, tsa=str(vouched.roots)).verdict == "cannot tell"
    assert verify.verify(bundle, trust).verdict == "verified"


@pytest.mark.parametrize("name", verify.OPTIONAL)
def test_one_flipped_bit(bundle: Path, vouched: Vouched, trust: str, name: str) -> None:
    """With the stamper's root at hand nothing in either file can be changed."""
    data = (bundle / name).read_bytes()
    for at in random.Random(7).sample(range(len(data) * 8), POSITIONS):
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        (bundle / name).write_bytes(changed)
        report = verify.verify(bundle, trust, tsa=str(vouched.roots))
        assert report.verdict != "verified", at


def test_who_is_away_holds_nothing_up(
    vouched: Vouched, settings: Any, act: Any, export_to: Callable[..., Export], tmp_path: Path, trust: str
) -> None:
    settings.TIMESTAMP_URL = f"http://127.0.0.1:{free_port()}"
    vkey, _, _ = settings.WITNESSES[0].partition("|")
    settings.WITNESSES = [f"{vkey}|{settings.TIMESTAMP_URL}"]
    act(2)
    export_to(tmp_path / "out", vouching=attesting.vouching(), attest=attesting.attest)
    report = verify.verify(tmp_path / "out", trust)
    assert report.verdict == "verified"
    assert "No witness cosigned it." in said(report)


def test_a_witness_that_lies_is_not_believed(vouched: Vouched, settings: Any, act: Any, relay: Any) -> None:
    """Whoever answers at its address signs with another key: the line is not kept."""
    impostor = Witness(Path(settings.CHECKPOINT_KEY).parent, own(WITNESS), [attesting.signer().key])  # type: ignore[union-attr]
    server = witness.serve(impostor, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    vkey, _, _ = settings.WITNESSES[0].partition("|")
    settings.WITNESSES = [f"{vkey}|http://127.0.0.1:{server.server_address[1]}"]
    act()
    sealing.seal()
    relay()
    attesting.attest_newest()
    server.shutdown()
    server.server_close()
    assert AuditBatch.objects.get().note.count("\u2014") == 1


def test_without_a_key_there_is_no_note(settings: Any, act: Any, relay: Any) -> None:
    act()
    sealing.seal()
    relay()
    attesting.attest_newest()
    assert attesting.vouching() is None
    assert AuditBatch.objects.get().note == ""
    settings.CHECKPOINT_KEY, settings.WITNESSES = "", ["nobody"]
    with pytest.raises(InvalidInput):
        attesting.witnesses()
    assert [error.id for error in witnesses_can_be_asked(None)] == ["gateway.E020"]
