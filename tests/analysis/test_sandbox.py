"""The job child's walls, each tried from inside with the real system call.

A probe confines itself exactly as the child does and then tries what it must not be able to do.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.analysis import sandbox, seccomp
from gateway.analysis.children import JobChild, ahead
from gateway.analysis.part import Part
from gateway.analysis.pipes import ChildFailed, Frame
from ledger.errors import GatewayError

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.skipif(
    not seccomp.is_supported(), reason="seccomp filters for x86-64 and arm64 Linux only"
)

PROBE = """
import sys
sys.path.insert(0, {root!r})
from gateway.analysis import sandbox
import {imports}
assert sandbox.confine(parent=None, memory={memory}) == []
try:
    {attempt}
except BaseException as error:
    print(type(error).__name__, getattr(error, "errno", ""))
else:
    print("it could")
"""


def probe(attempt: str, imports: str = "os", memory: int = sandbox.MEMORY_BYTES) -> str:
    code = PROBE.format(root=str(ROOT), imports=imports, attempt=attempt, memory=memory)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.strip() or f"ended by {done.returncode}: {done.stderr[-300:]}"


@pytest.mark.parametrize(
    ("imports", "attempt"),
    [
        ("socket", "socket.socket(socket.AF_INET)"),
        ("socket", "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)"),
        ("socket", "socket.socket(socket.AF_UNIX)"),
        ("socket", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"),
        ("socket", "socket.socketpair()"),
        ("os", "os.fork()"),
        ("os", "os.execv('/bin/true', ['true'])"),
        ("os", "os.posix_spawn('/bin/true', ['true'], {})"),
        ("os", "os.kill(os.getppid(), 0)"),
        ("fcntl", "fcntl.fcntl(0, fcntl.F_SETOWN, 1)"),
        ("fcntl", "fcntl.fcntl(0, fcntl.F_SETSIG, 9)"),
        ("fcntl", "fcntl.fcntl(0, 15, bytes(8))"),
        ("os", "os.setpriority(os.PRIO_PROCESS, 0, 19)"),
        ("os", "os.pidfd_open(1)"),
        ("os", "os.memfd_create('x')"),
        ("os", "open('/tmp/job-child-wrote', 'w')"),
        ("os", "os.open('/tmp', os.O_TMPFILE | os.O_RDWR)"),
        ("os", "os.open('/dev/null', os.O_WRONLY)"),
        ("os", "os.mkdir('/tmp/job-child-made')"),
        ("os", "os.unlink('/tmp/job-child-wrote')"),
        ("os", "os.rename('/tmp/a', '/tmp/b')"),
        ("os", "os.chmod('/tmp', 0o777)"),
        ("os", "os.truncate('/tmp/x', 0)"),
        ("resource", "resource.setrlimit(resource.RLIMIT_CORE, (1, 1))"),
        ("resource", "resource.prlimit(0, resource.RLIMIT_FSIZE, (1, 1))"),
    ],
)
def test_a_child_cannot(imports: str, attempt: str) -> None:
    answer = probe(attempt, imports)
    # Python tells a setrlimit that was refused as a ValueError, every other refusal as EPERM.
    assert answer == ("ValueError" if "setrlimit" in attempt else "PermissionError 1")


NEVER = [
    "socket", "connect", "bind", "ptrace", "process_vm_readv", "io_uring_setup", "bpf", "keyctl", "mount",
    "unshare", "setns", "open_by_handle_at", "userfaultfd", "memfd_create", "kexec_load", "execveat",
    "perf_event_open", "pidfd_getfd", "init_module", "sendto", "msgget", "msgsnd", "shmget", "shmat", "semop",
]  # fmt: skip


def test_the_raw_system_calls_answer_eperm() -> None:
    import platform

    numbers = seccomp.ARCHITECTURES[platform.machine()].numbers
    asked = [numbers[name] for name in NEVER]
    attempt = f"print([(libc.syscall(n, 0, 0, 0, 0, 0, 0), ctypes.get_errno()) for n in {asked}])"
    answer = probe(f"libc = ctypes.CDLL(None, use_errno=True); {attempt}", "ctypes")
    assert answer.splitlines()[0] == str([(-1, 1)] * len(NEVER))


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 is of x86-64 only")
def test_an_x32_number_ends_the_child() -> None:
    answer = probe("ctypes.CDLL(None).syscall(0x40000000 | 41, 2, 1, 0)", "ctypes")
    assert answer.startswith(f"ended by {-signal.SIGSYS}")


def test_files_can_still_be_read_and_threads_started() -> None:
    assert probe("open('/proc/self/status').read()") == "it could"
    assert probe("t = threading.Thread(target=int); t.start(); t.join()", "threading") == "it could"


def test_memory_is_bounded() -> None:
    assert probe("bytearray(1 << 29)", memory=1 << 28).startswith("MemoryError")
    assert probe("bytearray(1 << 20)", memory=1 << 28) == "it could"


def test_no_core_dump_and_no_reading_of_its_memory() -> None:
    core = probe("print([line for line in open('/proc/self/limits') if 'core' in line][0])").split()
    assert core[4:6] == ["0", "0"]
    assert probe("print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))", "ctypes").startswith("0")  # PR_GET_DUMPABLE


def test_the_filters_of_both_architectures_are_well_formed() -> None:
    for architecture in seccomp.ARCHITECTURES.values():
        program = seccomp.program(architecture)
        assert len(program) < 4096  # BPF_MAXINSNS
        for place, (_, if_true, if_false, _) in enumerate(program):
            assert place + max(if_true, if_false) < len(program)
        assert len(set(architecture.numbers.values())) == len(architecture.numbers)


@pytest.fixture
def started_ahead() -> Iterator[None]:
    ahead.begin()
    yield
    ahead.end()


@pytest.fixture(params=["bubblewrap", "plain", "ahead"])
def child(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> JobChild:
    if request.param == "bubblewrap" and not sandbox.has_bubblewrap():
        pytest.skip("bubblewrap is not installed or refused here")
    if request.param == "plain":
        monkeypatch.setattr(sandbox, "has_bubblewrap", lambda: False)
    if request.param == "ahead":
        request.getfixturevalue("started_ahead")
    return JobChild()


def test_the_real_child_is_confined(child: JobChild) -> None:
    with child:
        assert child.unenforced == []
        assert len(bytes.fromhex(child.public_key)) == 32
        inner = max(_family(child.pid))
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{inner}/status").read_text().splitlines())
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
        assert resource.prlimit(inner, resource.RLIMIT_FSIZE) == (0, 0)
        assert resource.prlimit(inner, resource.RLIMIT_CORE) == (0, 0)
        environment = Path(f"/proc/{inner}/environ").read_bytes()
        assert b"PATH=" not in environment
        assert b"GATEWAY" not in environment


def test_it_answers_malformed_frames_with_a_code_alone(child: JobChild) -> None:
    with child:
        for name, given in (
            ("finish", {}),
            ("nonsense", {}),
            ("chunk", {"chunk": 1}),
            ("start", {"model": "x"}),
        ):
            with pytest.raises(ChildFailed) as told:
                child.call(name, given)
            assert told.value.code in {"child_failed", "child_no_subject"}


def test_what_takes_too_long_and_what_takes_too_much_have_codes(child: JobChild) -> None:
    with child:
        for pid in _family(child.pid):
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ChildFailed) as told:
            child.call("finish", {}, timeout=0.1)
    assert told.value.code == "child_timeout"
    part = Part([])
    part.handlers["finish"] = lambda given: {"far": bytearray(1 << 62)}
    assert part.answer({"finish": {}}) == {"error": "child_memory"}


@pytest.mark.parametrize(
    "said",
    [
        {"error": "alice_is_hiv_positive"},
        {"error": "envelope_alice"},
        {"error": ["alice"]},
        {"error": "child_failed", "kind": "Alice\nCRITICAL root all is well"},
        {"error": "child_failed", "kind": {"name": "alice"}},
    ],
)
def test_a_models_words_reach_no_log_and_no_code(
    child: JobChild, said: Frame, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that writes to the pipe itself cannot hand a record on as if it were a code of ours."""
    with child:
        monkeypatch.setattr(child, "_read", lambda timeout: said)
        with pytest.raises(GatewayError) as told:
            child.call("finish", {})
    assert told.value.code == "child_failed"
    assert "alice" not in (caplog.text + told.value.message).lower()


def test_it_ends_when_its_input_closes(child: JobChild) -> None:
    family = _family(child.pid)
    assert child._process.stdin is not None
    child._process.stdin.close()
    assert _gone(family)
    child.close()


def waiting() -> int:
    """The process id of the child that was started ahead."""
    assert ahead._process is not None
    return ahead._process.pid


def test_one_that_was_started_ahead_serves_one_part_and_ends(started_ahead: None) -> None:
    first = waiting()
    with JobChild() as child:
        assert child.pid == first
        second, family = waiting(), _family(first)
    assert _gone(family)
    with JobChild() as next_one:
        assert next_one.pid == second != first
        assert next_one.public_key != child.public_key


def test_one_that_died_while_it_waited_is_replaced(started_ahead: None) -> None:
    for pid in reversed(_family(dead := waiting())):
        os.kill(pid, signal.SIGKILL)
    with JobChild() as child:
        assert child.pid != dead


@pytest.mark.parametrize(
    "start", ["child = JobChild(); pid = child.pid", "ahead.begin(); pid = ahead._process.pid"]
)
def test_it_dies_with_its_worker(start: str) -> None:
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from gateway.analysis.children import JobChild, ahead\n"
        f"{start}; print(pid, flush=True); time.sleep(60)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert worker.stdout is not None
    family = _family(int(worker.stdout.readline()))
    worker.kill()
    worker.wait()
    worker.stdout.close()
    assert _gone(family)


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def _gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
