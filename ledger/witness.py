"""A witness: it cosigns checkpoints of a log that only grew, as a second organisation sees it.

    python -m ledger.witness FOLDER --name NAME --log VKEY [--listen HOST:PORT]

It speaks c2sp.org/tlog-witness: POST /add-checkpoint. What it cosigned last is in FOLDER, and is on disk
before it answers, so that it never cosigns two logs that do not extend each other. It knows nothing of what
is logged.
"""

import argparse
import base64
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ledger.audit.notes import WITNESS, Signer, make_key
from ledger.contract.merkle import is_consistent
from ledger.verify import CannotTell, NoteKey, Tampered, note_text, read_note, sha256

MOST_BYTES = 64 * 1024
MOST_HASHES = 63  # tlog-witness: at most


class Refused(Exception):
    """A checkpoint is not cosigned: an HTTP status, and what is answered."""

    def __init__(self, status: int, told: str = "", kind: str = "text/plain") -> None:
        super().__init__(status)
        self.status, self.told, self.kind = status, told, kind


class Witness:
    """Cosigns for the logs that it was told of. `clock` gives seconds since 1970."""

    def __init__(
        self, folder: Path, signer: Signer, logs: list[NoteKey], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._signer, self._clock = folder, signer, clock
        self._logs: Mapping[str, NoteKey] = {log.name: log for log in logs}
        self._guard = threading.Lock()

    def add_checkpoint(self, body: bytes) -> str:
        """The line of the cosignature. Raises Refused.

        1. it is a checkpoint of a log that we know, signed by that log
        2. it begins where we know the log to end
        3. it is consistent with what we cosigned last
        """
        old, proof, note = _parts(body)
        # 1
        text, size, root = self._signed(note)
        log = text.split(b"\n")[0].decode()
        with self._guard:
            known = self._known(log)
            # 2
            if old > size:
                raise Refused(400)
            if old != known["size"]:
                raise Refused(409, f"{known['size']}\n", "text/x.tlog.size")
            # 3
            was = bytes.fromhex(known["root"])
            same = old == size and not proof and was == root
            grown = 0 < old < size and is_consistent(old, size, was, root, proof)
            if old == size and not same and old:
                raise Refused(409, f"{known['size']}\n", "text/x.tlog.size")
            if not (same or grown or (old == 0 and not proof)):
                raise Refused(422)
            self._keep(log, size, root)
            return self._signer.sign(text, at=int(self._clock()))

    def _signed(self, note: bytes) -> tuple[bytes, int, bytes]:
        try:
            text, signatures = read_note(note)
            name, size, root = text.decode().split("\n")[:3]
            log = self._logs.get(name)
            if log is None:
                raise Refused(404)
            count, hashed = int(size), base64.b64decode(root, validate=True)
            if text != note_text(name, count, hashed) or len(hashed) != 32:
                raise Refused(400)
            mine = [one for signer, id, one in signatures if (signer, id) == (log.name, log.id)]
            if not mine:
                raise Refused(403)
            log.signed(mine[0], text)
        except Tampered:
            raise Refused(403) from None
        except (CannotTell, ValueError):
            raise Refused(400) from None
        return text, count, hashed

    def _path(self, log: str) -> Path:
        return self._folder / f"{sha256(log.encode()).hex()}.json"

    def _known(self, log: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._path(log).read_text())
        except FileNotFoundError:
            return {"root": "", "size": 0}
        return found

    def _keep(self, log: str, size: int, root: bytes) -> None:
        """On disk, whole or not at all."""
        path = self._path(log)
        part = path.with_suffix(".part")
        with part.open("w") as file:
            json.dump({"log": log, "root": root.hex(), "size": size}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def _parts(body: bytes) -> tuple[int, list[bytes], bytes]:
    """The size before, the proof, the signed note. Raises Refused."""
    head, gap, note = body.partition(b"\n\n")
    first, *hashes = head.split(b"\n")
    try:
        word, size = first.split(b" ")
        proof = [base64.b64decode(one, validate=True) for one in hashes]
        if word != b"old" or not gap or len(proof) > MOST_HASHES or any(len(one) != 32 for one in proof):
            raise ValueError
        return int(size), proof, note
    except ValueError:
        raise Refused(400) from None


def serve(witness: Witness, host: str, port: int) -> ThreadingHTTPServer:
    """Listening; `serve_forever` runs it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, told, kind = 200, "", "text/plain"
            try:
                if self.path != "/add-checkpoint" or not 0 < length <= MOST_BYTES:
                    raise Refused(404 if length else 400)
                told = witness.add_checkpoint(self.rfile.read(length))
            except Refused as refused:
                status, told, kind = refused.status, refused.told, refused.kind
            answer = told.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: what it cosigned is in its folder."""

    return ThreadingHTTPServer((host, port), Handler)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ledger.witness", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="its key, and what it cosigned last")
    parser.add_argument("--name", required=True, help="under which it signs: a host name, no spaces")
    parser.add_argument("--log", action="append", default=[], metavar="VKEY", help="a log that it watches")
    parser.add_argument("--listen", default="127.0.0.1:8765", metavar="HOST:PORT")
    options = parser.parse_args(arguments)
    options.folder.mkdir(mode=0o700, exist_ok=True)
    if not (options.folder / "key").exists():
        make_key(options.folder / "key")
    signer = Signer.read(options.folder / "key", name=options.name, kind=WITNESS)
    print(signer.vkey, flush=True)
    try:
        logs = [NoteKey.read(text) for text in options.log]
    except CannotTell as error:
        parser.error(str(error))
    if not logs:
        return 0  # its key is all that was asked for
    host, _, port = options.listen.rpartition(":")
    serve(Witness(options.folder, signer, logs), host, int(port)).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
