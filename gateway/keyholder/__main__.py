"""`python -m gateway.keyholder FOLDER --ledger URL [--channel NAME=URL …]`: the keyholder's process, in the
foreground.

It is ready when the socket accepts. SIGTERM and SIGINT finish the calls under way and end it.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.keyholder.kek import FileKEK
from gateway.keyholder.rotation import rewrap_all
from gateway.keyholder.server import ONE_ACCOUNT, harden, roles_of, start
from gateway.keyholder.service import Service
from gateway.keyholder.store import Store
from ledger.channels import Channels, named, pairs
from ledger.errors import GatewayError
from ledger.webauthn import origin_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    environment = os.environ.get
    parser.add_argument(
        "--channel",
        action="append",
        metavar="NAME=URL",
        help="another channel than home; repeat it (LEDGER_CHANNELS)",
    )
    parser.add_argument("--kek", type=Path, help="file of the KEK (default: FOLDER/kek)")
    parser.add_argument(
        "--old-kek",
        type=Path,
        default=environment("KEYHOLDER_OLD_KEK"),
        metavar="FILE",
        help="the KEK before this one, as long as keys are wrapped by it: they are rewrapped meanwhile "
        "(KEYHOLDER_OLD_KEK)",
    )
    parser.add_argument("--socket", type=Path, help="where to listen (default: FOLDER/keyholder.sock)")
    parser.add_argument(
        "--group",
        default=environment("KEYHOLDER_GROUP"),
        help="group of the socket, which then has mode 0660",
    )
    parser.add_argument(
        "--allow",
        action="append",
        metavar="ROLE=ACCOUNT",
        default=(environment("KEYHOLDER_ALLOW") or "").split(),
        help="worker, web, relay or ingest, and the account that may make its calls (KEYHOLDER_ALLOW)",
    )
    parser.add_argument(
        "--origin",
        default=environment("GATEWAY_URL", "http://localhost:8000"),
        metavar="URL",
        help="where the portal is: only what patients sign there counts (GATEWAY_URL)",
    )
    parser.add_argument(
        "--emergencies",
        type=int,
        default=int(environment("KEYHOLDER_EMERGENCIES") or 0),
        metavar="NUMBER",
        help="how many emergencies may begin within an hour; 0: none (KEYHOLDER_EMERGENCIES)",
    )
    parser.add_argument(
        "--emergencies-signed",
        action="store_true",
        default=environment("KEYHOLDER_EMERGENCIES_SIGNED") == "1",
        help="begin and open only those that the clinician's own passkey signed "
        "(KEYHOLDER_EMERGENCIES_SIGNED=1)",
    )
    parser.add_argument(
        "--copies",
        type=int,
        default=int(environment("KEYHOLDER_COPIES") or 0),
        metavar="NUMBER",
        help="how many copies for patients without a passkey may begin within an hour; 0: none "
        "(KEYHOLDER_COPIES)",
    )
    parser.add_argument(
        "--accept-clock",
        action="store_true",
        help="go on by this machine's clock although it went back; only once you know why it did",
    )
    parser.add_argument(
        "--lease", type=int, default=3600, metavar="SECONDS", help="how long a release opens records"
    )


def run(folder: Path, urls: Mapping[str, str], options: argparse.Namespace) -> int:
    """Serve until a signal, on the channels of these LEDGER_URLs. The exit status: 0, or 1 with a sentence on
    stderr."""
    harden()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        roles = roles_of(options.allow)
        old = FileKEK(Path(options.old_kek)) if options.old_kek else None
        store = Store(folder, FileKEK(options.kek or folder / "kek"), old=old)
        if options.accept_clock:
            store.put_latest(int(time.time()))
        channels = Channels.open(urls, identity="keyholder")
        service = Service(
            store,
            channels,
            lease=options.lease,
            origin=origin_of(options.origin),
            emergencies=options.emergencies,
            emergencies_signed=options.emergencies_signed,
            copies=options.copies,
        )
        server = start(
            service,
            options.socket or folder / "keyholder.sock",
            roles=roles,
            group=options.group,
        )
    except GatewayError as error:
        _say(f"{error.message} ({error.code})")
        return 1
    if os.geteuid() in roles or not roles:
        _say(ONE_ACCOUNT)
    rewrapping = threading.Thread(
        target=rewrap_all, args=(store, stop), kwargs={"lease": options.lease, "said": _say}
    )
    if old is not None:
        rewrapping.start()
    stop.wait()
    if old is not None:
        rewrapping.join()
    server.close()
    channels.close()
    store.close()
    return 0


def _say(text: str) -> None:
    print(f"keyholder: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gateway.keyholder", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ledger", required=True, metavar="URL", help="of the channel home")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        others = options.channel or [os.environ.get("LEDGER_CHANNELS", "")]
        urls = named(options.ledger, pairs(" ".join(others)))
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return run(options.folder, urls, options)


if __name__ == "__main__":
    sys.exit(main())
