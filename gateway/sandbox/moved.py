"""`python -m gateway.sandbox.moved ARGUMENTS…`: a Python program of the product, under the sandbox's clock.

The clock takes the place of the machine's before anything of the program is imported, so that whatever takes
`time.time` as its clock takes this one. The web process keeps the machine's for what clients sign: their
clocks were not moved.
"""

import os
import runpy
import sys
import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from gateway.sandbox.control import Clock


def main(arguments: list[str]) -> None:
    """`-m MODULE …` or `FILE …`, as after `python`."""
    if os.environ.get("GATEWAY_PRODUCTION", "0").lower() not in {"", "0", "false", "no", "off"}:
        sys.exit("The sandbox's clock moves: never in production.")
    is_module = arguments[0] == "-m"
    program = arguments[1] if is_module else arguments[0]
    sys.argv = arguments[1:] if is_module else arguments
    clock = Clock(Path(os.environ["GATEWAY_HOME"]))
    is_web = program == "gunicorn"
    if not is_web:
        time.time = clock
    if is_web or not is_module:
        _move_django(clock)
    if is_module:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


def _move_django(clock: Clock) -> None:
    from django.conf import settings
    from django.utils import timezone

    def now() -> datetime:
        zone: tzinfo | None = UTC if settings.USE_TZ else None
        return datetime.fromtimestamp(clock(), tz=zone)

    timezone.now = now


if __name__ == "__main__":
    main(sys.argv[1:])
