"""ledger/rpc.py: calls over a Unix socket."""

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ledger import rpc
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.errors import (
    AccessDenied,
    GatewayError,
    InvalidInput,
    KeyholderUnavailable,
    LedgerError,
    NotCommitted,
    RefusedTransition,
)


def echo(params: Json, uid: int) -> Json:
    return {"params": params, "uid": uid}


def raises(error: Exception) -> rpc.Method:
    def method(params: Json, uid: int) -> Json:
        raise error

    return method


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "s.sock"


def test_a_call_is_answered_and_the_server_knows_the_caller(path: Path) -> None:
    with rpc.serve(path, {"echo": echo}), rpc.Connection(path) as connection:
        answer = connection.call("echo", {"data_b64": rpc.to_b64(b"\x00\xff"), "n": 2**53 - 1})
    assert answer["uid"] == os.geteuid()
    assert answer["params"]["n"] == 2**53 - 1
    assert rpc.from_b64(answer["params"]["data_b64"]) == b"\x00\xff"


def test_the_socket_is_for_this_account_alone(path: Path) -> None:
    with rpc.serve(path, {}):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_group_may_be_let_to_the_socket(path: Path) -> None:
    with rpc.serve(path, {}, group=os.getegid()):
        assert path.stat().st_mode & 0o777 == 0o660
        assert path.stat().st_gid == os.getegid()


def test_an_unknown_group_is_said(path: Path) -> None:
    with pytest.raises(LedgerError, match="no such group"):
        rpc.serve(path, {}, group="no-such-group-here")
    rpc.serve(path, {}).close()


def test_another_account_is_turned_away(path: Path) -> None:
    with rpc.serve(path, {"echo": echo}, uids={os.geteuid() + 1}), rpc.Connection(path) as connection:
        with pytest.raises(AccessDenied) as refusal:
            connection.call("echo", {})
        assert refusal.value.code == "account_refused"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to run as a separate account")
def test_a_separate_account_is_known_by_the_kernel(path: Path) -> None:
    path.parent.chmod(0o755)
    # It says nothing about itself that the server would believe.
    script = f"""
import os, socket, struct, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
try: s.connect({str(path)!r})
except PermissionError: sys.exit()
body = b'{{"method":"echo","params":{{"uid":0}}}}'
try: s.sendall(struct.pack(">I", len(body)) + body)
except BrokenPipeError: pass  # turned away already; the reason can still be read
sys.stdout.write(s.recv(65536)[4:].decode())
"""

    def ask() -> str:
        return subprocess.check_output([sys.executable, "-c", script], text=True, stderr=subprocess.DEVNULL)

    with rpc.serve(path, {"echo": echo}, uids={0, 65534}, group=65534):
        assert '"uid":65534}' in ask()
    with rpc.serve(path, {"echo": echo}, group=65534):
        assert "account_refused" in ask()
    with rpc.serve(path, {"echo": echo}, uids={0, 65534}):
        assert ask() == ""  # the file's mode keeps it out already


@pytest.mark.parametrize(
    "error",
    [
        RefusedTransition("Not now.", code="consent_exists"),
        InvalidInput("Malformed."),
        KeyholderUnavailable("Gone."),
        NotCommitted("Conflict.", validity="MVCC_READ_CONFLICT"),
        Refused("already_revoked", "It is stopped already."),
    ],
)
def test_an_error_is_raised_again_as_it_was(path: Path, error: GatewayError | Refused) -> None:
    with (
        rpc.serve(path, {"fail": raises(error)}),
        rpc.Connection(path) as connection,
        pytest.raises(type(error)) as raised,
    ):
        connection.call("fail", {})
    assert (raised.value.code, raised.value.message) == (error.code, error.message)
    if isinstance(error, NotCommitted):
        assert raised.value.validity == error.validity
    if isinstance(error, GatewayError):
        assert raised.value.status == error.status


def test_a_fault_tells_and_logs_nothing_of_what_was_sent(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        rpc.serve(path, {"fail": raises(ValueError("alice"))}),
        rpc.Connection(path) as connection,
        pytest.raises(GatewayError) as raised,
    ):
        connection.call("fail", {"name": "alice"})
    assert raised.value.code == "internal_error"
    assert "alice" not in str(raised.value) + caplog.text
    assert "ValueError at test_rpc.py" in caplog.text


def test_an_unknown_method_is_an_error(path: Path) -> None:
    with rpc.serve(path, {}), rpc.Connection(path) as connection, pytest.raises(InvalidInput) as raised:
        connection.call("nothing", {})
    assert raised.value.code == "unknown_method"


def test_nobody_listens(path: Path) -> None:
    connection = rpc.Connection(path, unavailable=KeyholderUnavailable)
    with pytest.raises(KeyholderUnavailable, match=r"No process listens on s\.sock"):
        connection.call("echo", {})


def test_a_second_server_refuses(path: Path) -> None:
    with rpc.serve(path, {"echo": echo}), rpc.Connection(path) as connection:
        with pytest.raises(rpc.AlreadyServed):
            rpc.serve(path, {})
        assert connection.call("echo", {})["uid"] == os.geteuid()


def test_a_stale_socket_is_replaced_but_no_other_file(path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    rpc.serve(path, {}).close()
    path.write_text("something of somebody")
    with pytest.raises(LedgerError, match="not a socket"):
        rpc.serve(path, {})
    assert path.read_text() == "something of somebody"


def test_a_long_path_works(folder: Path) -> None:
    deep = folder / ("d" * 120)
    deep.mkdir()
    with rpc.serve(deep / "s.sock", {"echo": echo}), rpc.Connection(deep / "s.sock") as connection:
        assert connection.call("echo", {"a": "b"})["params"] == {"a": "b"}


def test_after_a_restart_the_call_goes_through_on_a_new_connection(path: Path) -> None:
    with rpc.Connection(path) as connection:
        for _ in range(2):
            with rpc.serve(path, {"echo": echo}):
                assert connection.call("echo", {})["uid"] == os.geteuid()


def test_a_call_that_may_have_been_received_is_not_repeated(path: Path) -> None:
    """The server reads the whole request and dies: nobody knows whether it acted."""
    received = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def die_after_reading() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            received.append(sock.recv(65536))
            sock.close()

    threading.Thread(target=die_after_reading, daemon=True).start()
    with rpc.Connection(path) as connection, pytest.raises(LedgerError, match="may have acted"):
        connection.call("echo", {})
    listener.close()
    assert len(received) == 1


def test_a_late_answer_is_an_error_and_never_the_next_calls(path: Path) -> None:
    def slow(params: Json, uid: int) -> Json:
        time.sleep(params["ms"] / 1000)
        return params

    with rpc.serve(path, {"slow": slow}), rpc.Connection(path) as connection:
        with pytest.raises(LedgerError, match="in time"):
            connection.call("slow", {"ms": 400}, timeout=0.05)
        assert connection.call("slow", {"ms": 0}) == {"ms": 0}


def test_calls_run_side_by_side(path: Path) -> None:
    everyone = threading.Barrier(8)

    def meet(params: Json, uid: int) -> Json:
        everyone.wait(5)
        return {}

    with rpc.serve(path, {"meet": meet}), rpc.Connection(path) as connection:
        threads = [threading.Thread(target=connection.call, args=("meet", {})) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
    assert not everyone.broken


def test_closing_answers_the_call_under_way(path: Path) -> None:
    entered = threading.Event()
    answers: list[Json] = []

    def slow(params: Json, uid: int) -> Json:
        entered.set()
        time.sleep(0.2)
        return {"done": True}

    server = rpc.serve(path, {"slow": slow})
    with rpc.Connection(path) as connection:
        thread = threading.Thread(target=lambda: answers.append(connection.call("slow", {})))
        thread.start()
        entered.wait(5)
        server.close()
        thread.join(5)
    assert answers == [{"done": True}]
    assert not path.exists()


def raw(path: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(path))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
        return answer


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (struct.pack(">I", rpc.MAX_FRAME + 1), b"frame_too_large"),
        (frame(b"{"), b"not_json"),
        (frame(b"[]"), b"not_json"),
        (frame(b'{"a":NaN}'), b"not_json"),
        (frame(b"[" * 100_000), b"not_json"),
        (frame(b'{"a":"\\ud800"}'), b"not_json"),
        (frame(b'{"method":"echo","params":[]}'), b"not_json"),
        (frame(b'{"method":{},"params":{}}'), b"unknown_method"),
        (b"\x00\x00", b""),
        (struct.pack(">I", 100) + b"half", b""),
    ],
)
def test_a_malformed_frame_is_answered_or_dropped_and_harms_nobody(
    path: Path, data: bytes, code: bytes
) -> None:
    with rpc.serve(path, {"echo": echo}), rpc.Connection(path) as connection:
        answer = raw(path, data)
        assert code in answer
        assert bool(answer) == bool(code)
        assert connection.call("echo", {})["uid"] == os.geteuid()


def test_what_is_too_large_or_no_json_is_not_sent(path: Path) -> None:
    with rpc.serve(path, {"echo": echo}), rpc.Connection(path) as connection:
        with pytest.raises(InvalidInput):
            connection.call("echo", {"x": "y" * rpc.MAX_FRAME})
        with pytest.raises(InvalidInput):
            connection.call("echo", {"x": b"bytes"})
    with pytest.raises(InvalidInput):
        rpc.from_b64("not base64!")


def test_a_fork_does_not_share_sockets(path: Path) -> None:
    with rpc.serve(path, {"echo": echo}), rpc.Connection(path) as connection:
        connection.call("echo", {})
        child = os.fork()
        if child == 0:
            same = connection.call("echo", {"who": "child"})["params"] == {"who": "child"}
            os._exit(0 if same else 1)
        for number in range(50):
            assert connection.call("echo", {"n": number})["params"] == {"n": number}
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
