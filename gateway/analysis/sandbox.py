"""The walls around a job child: what it takes away from itself, and how a worker starts it.

The child confines itself before it reads its first byte of input. Where bubblewrap is installed and
works, the child is started inside one as well and sees no file but the code that it runs.
"""

import ctypes
import functools
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from gateway.analysis import seccomp

ROOT = Path(__file__).resolve().parent.parent.parent
MODULE = "gateway.analysis.child"

MEMORY_BYTES = 1 << 30
CPU_SECONDS = 900
OPEN_FILES = 64

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4

log = logging.getLogger(__name__)


def confine(*, parent: int | None, memory: int = MEMORY_BYTES, cpu: int = CPU_SECONDS) -> list[str]:
    """Give up, for the rest of this process, all that a job child does not need.

    `parent` is the worker's process id (None inside bubblewrap, which has its own). Returns what this
    system cannot enforce. Raises OSError where it should be able to and refuses: then do not go on.
    """
    # 1. Nothing is left behind: no core dump, no file, bounded memory, time and descriptors.
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_AS, memory),
    ):
        try:
            resource.setrlimit(limit, (most, most))
        except ValueError as error:  # already lower than asked
            _, hard = resource.getrlimit(limit)
            if hard == resource.RLIM_INFINITY or hard > most:
                raise OSError(str(error)) from error
    if sys.platform != "linux":
        return ["system calls", "memory is unreadable to others", "ends with its worker", "files"]
    # 2. Nobody else of this account reads its memory, and it ends with its worker.
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0
        or libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel refused prctl")
    if parent is not None and os.getppid() != parent:
        raise OSError("the worker ended before its child was confined")
    # 3. No network, no new process or program, no written file.
    if not seccomp.is_supported():
        return ["system calls"]
    seccomp.apply()
    return []


def start() -> subprocess.Popen[bytes]:
    """Start a job child with pipes for its input and output, nothing of our environment and no other file.

    Its errors go nowhere: a traceback may quote a record.
    """
    inside = has_bubblewrap()
    parent = "0" if inside else str(os.getpid())
    python = [sys.executable, "-s", "-B", "-m", MODULE, parent]
    return subprocess.Popen(
        [*_bubblewrap(), *python] if inside else python,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={},
        close_fds=True,
        start_new_session=True,
        bufsize=0,
    )


@functools.cache
def has_bubblewrap() -> bool:
    """Whether bubblewrap is installed and this system lets it make its namespaces. Says loudly if not."""
    if sys.platform == "linux" and shutil.which("bwrap"):
        trial = [*_bubblewrap(), sys.executable, "-S", "-c", "pass"]
        try:
            works = subprocess.run(trial, capture_output=True, cwd=ROOT, env={}, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            works = None
        if works is not None and works.returncode == 0:
            return True
        log.warning("bubblewrap is installed but this system refuses it: %s", NOT_WRAPPED)
    else:
        log.warning("bubblewrap is not installed: %s", NOT_WRAPPED)
    return False


def not_enforced() -> list[str]:
    """What this machine does not enforce on job children, in plain words; empty where all of it holds."""
    found = [] if has_bubblewrap() else [f"bubblewrap around job children: {NOT_WRAPPED}"]
    if not seccomp.is_supported():
        found.append(
            "system calls of job children: no filter fits this machine, so they could reach the network"
        )
    return found


NOT_WRAPPED = (
    "job children can read the files that this account can read. They still have no network, start no "
    "program and write no file, where seccomp works."
)


def _bubblewrap() -> list[str]:
    """All namespaces new; read-only, and only the interpreter, its libraries and the code of the child."""
    seen = [Path("/usr"), Path("/etc/ld.so.cache"), Path(sys.base_prefix), Path(sys.prefix)]
    seen += [Path(sys.executable).resolve().parent.parent, ROOT / "gateway", ROOT / "ledger"]
    arguments = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]  # first: the code may lie below /dev/shm
    for folder in ("/bin", "/lib", "/lib64"):
        if Path(folder).is_symlink():
            arguments += ["--symlink", os.readlink(folder), folder]
        elif Path(folder).is_dir():
            seen.append(Path(folder))
    for path in dict.fromkeys(seen):
        if path.exists() and path != Path("/"):
            arguments += ["--ro-bind", str(path), str(path)]
    return [
        str(shutil.which("bwrap")),
        *arguments,
        "--chdir",
        str(ROOT),
        "--",
    ]
