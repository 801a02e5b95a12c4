"""Fabric's own commands, run to their end: once, or again and again until the network is ready for them."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence

from deploy.fabric.binaries import Binaries

READY_SECONDS = 60


class NetworkError(Exception):
    """A step failed. The text says which, and where its log is."""


class Commands:
    """`peer`, `osnadmin`, `configtxgen`, `configtxlator` of one release."""

    def __init__(self, binaries: Binaries) -> None:
        self._binaries = binaries

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> str:
        """What it printed. Raises NetworkError with the last line that it said."""
        done = self._attempt(command, environment)
        if done.returncode != 0:
            raise NetworkError(f"{' '.join(command[:4])}: {_last_line(done)}")
        return done.stdout

    def retry(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        done: str = "",
        given: str | None = None,
    ) -> None:
        """Run it until it succeeds (and says `done`); `given` in its error means that it was done before."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            ran = self._attempt(command, environment)
            said = ran.stdout + ran.stderr
            if (ran.returncode == 0 and done in said) or (given is not None and given in said):
                return
            if time.monotonic() > deadline:
                raise NetworkError(f"{' '.join(command[:4])}: {_last_line(ran)}")
            time.sleep(0.2)

    def _attempt(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._binaries.path(command[0]), *command[1:]],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"
