"""A worker's end of a job child: start it, learn its key, hand it chunks, take its sealed result."""

import builtins
import contextlib
import logging
import os
import subprocess
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from gateway.analysis import sandbox
from gateway.analysis.pipes import ChildFailed, read_frame, write_frame
from ledger.errors import EnvelopeError

START_SECONDS = 30.0
ANSWER_SECONDS = 45.0  # less than a job's lease

# All that a child may say of a failure. The model's code runs in it: what else it says could be a record.
CODES = frozenset(
    {
        "child_failed",
        "child_memory",
        "child_no_subject",
        "envelope_tampered",
        "envelope_too_large",
        "invalid_input",
        "malformed_id",
        "malformed_key",
        "onnx_inputs",
        "onnx_malformed",
        "onnx_missing",
        "piece_too_large",
        "unknown_model",
    }
)

log = logging.getLogger(__name__)


class Ahead:
    """The next child, started before there is a part for it, so that no job waits for Python to start.

    It has put its walls up and made its key; it has read nothing, and serves one part as any other does. Used
    from one thread alone: a child ends with the thread that started it.
    """

    def __init__(self) -> None:
        self._begun = False
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """From now on there is one."""
        self._begun = True
        self.prepare()

    def prepare(self) -> None:
        if self._begun and self._process is None:
            try:
                self._process = sandbox.start()
            except OSError:
                log.warning("no job child could be started ahead; the next job starts its own")

    def take(self) -> subprocess.Popen[bytes] | None:
        """The one that waits, if it still does."""
        process, self._process = self._process, None
        if process is not None and process.poll() is not None:
            _end(process)
            return None
        return process

    def end(self) -> None:
        """From now on there is none."""
        self._begun = False
        if (process := self.take()) is not None:
            _end(process)


ahead = Ahead()


class JobChild:
    """One running child; a context manager that leaves none behind. Raises ChildFailed, EnvelopeError."""

    def __init__(self) -> None:
        waited = ahead.take()
        try:
            self._meet(waited or sandbox.start())
        except ChildFailed:
            if waited is None:
                raise
            self._meet(sandbox.start())
        if self.unenforced:
            log.warning("this system does not enforce on job children: %s", ", ".join(self.unenforced))
        ahead.prepare()

    def _meet(self, process: subprocess.Popen[bytes]) -> None:
        """Learn its key. Raises ChildFailed, and then it is ended."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._input, self._output = process.stdin.fileno(), process.stdout.fileno()
        try:
            os.set_blocking(self._input, False)
            hello = self._read(START_SECONDS)
            self.public_key = str(hello["key"])
            self.unenforced = [str(each) for each in hello["unenforced"]]
        except KeyError:
            self.close()
            raise ChildFailed("The job child did not say who it is.") from None
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, name: str, given: Mapping[str, Any], *, timeout: float = ANSWER_SECONDS) -> dict[str, Any]:
        """One frame, one answer (see part.py)."""
        write_frame(self._input, {name: dict(given)}, timeout=timeout)
        answer = self._read(timeout)
        if "error" not in answer:
            return answer
        said = answer["error"]
        code = said if isinstance(said, str) and said in CODES else "child_failed"
        if code.startswith("envelope_"):
            raise EnvelopeError("A sealed chunk of a job does not open.", code=code)
        log.error("job child: %s %s", code, _kind(answer.get("kind")))
        raise ChildFailed("The job child could not do its work.", code=code)

    def _read(self, timeout: float) -> dict[str, Any]:
        answer = read_frame(self._output, timeout=timeout)
        if answer is None:
            raise ChildFailed("The job child ended before its work was done.")
        return answer

    def close(self) -> None:
        _end(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of it is wanted any more: it is killed, and not waited for to leave by itself."""
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()


def _kind(said: object) -> str:
    """The class of an error where it is one of Python's own; any other word is the model's."""
    kind = getattr(builtins, said, None) if isinstance(said, str) else None
    return kind.__name__ if isinstance(kind, type) and issubclass(kind, BaseException) else ""
