"""`python -m ledger.embedded FOLDER`: the embedded ledger's process, in the foreground, without Django.

It is ready when the socket accepts. SIGTERM and SIGINT commit what is queued and end it.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ledger.embedded.server import LedgerProcess
from ledger.errors import GatewayError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-uid",
        type=int,
        action="append",
        default=[],
        metavar="UID",
        help="an account that may connect",
    )
    parser.add_argument("--group", help="group of the socket (mode 0660); the default is mode 0600")
    parser.add_argument("--max-pages", type=int, help="SQLite pages that the file may have")


def run(folder: Path, *, allow_uid: Sequence[int], group: str | None, max_pages: int | None) -> int:
    """Serve until a signal. The exit status: 0, or 1 with a sentence on stderr."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        process = LedgerProcess(folder, uids={os.geteuid(), *allow_uid}, group=group, max_pages=max_pages)
    except GatewayError as error:
        print(f"ledger: {error.message} ({error.code})", file=sys.stderr)
        return 1
    stop.wait()
    process.close()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ledger.embedded", description=__doc__)
    parser.add_argument("folder", type=Path)
    add_arguments(parser)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return run(options.folder, allow_uid=options.allow_uid, group=options.group, max_pages=options.max_pages)


if __name__ == "__main__":
    sys.exit(main())
