"""How log lines are written: what happened and where, never with whom or what.

An exception's own words may quote a value (a database does), and a path may name a job: a line has the
exception's type and the places in the code that it came through.
"""

import logging
import traceback
from types import TracebackType

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Line(logging.Formatter):
    """One line for each record; a traceback without its message and without source lines."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name} {message}", style="{")

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 (the name is logging's)
        kind, _, trace = ei
        places = [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
        return "\n".join([f"  {kind.__name__ if kind else 'unknown'} at", *places])


class WithoutPath(logging.Filter):
    """Django's own records of requests say the path: here they say only what went wrong."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = f"answered {getattr(record, 'status_code', 'with an error')}", ()
        return True
