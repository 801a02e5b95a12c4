"""`python -m deploy.fabric up|down|status|add-org|upgrade|certificates FOLDER`: a network on loopback."""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.fabric.binaries import BinariesMissing
from deploy.fabric.commands import NetworkError
from deploy.fabric.network import ORGANISATIONS, Network
from deploy.fabric.pki import expiries
from ledger.client import HOME


def _say(text: str) -> None:
    print(f"  {text} ...", flush=True)


def up(options: argparse.Namespace) -> int:
    """Make the network where there is none, and the channels that it has not yet, and start it."""
    others = [name for name in options.channel if name != HOME]
    if (options.folder / "network.json").exists():
        network = Network.load(options.folder)
        network.add_channels(others)
    else:
        network = Network.make(
            options.folder,
            organisations=options.organisation or ORGANISATIONS[: options.organisations],
            needed=options.needed,
            orderers=4 if options.bft else options.orderers,
            bft=options.bft,
            batch_timeout=options.batch_timeout,
            channels=others,
        )
    network.up(_say)
    print(f"{len(network.organisations)} organisations, {network.settings.needed} must endorse.")
    print(f"LEDGER_URL={network.url}")
    if others := [f"{name}={url}" for name, url in network.urls.items() if name != HOME]:
        print(f'LEDGER_CHANNELS="{" ".join(others)}"')
    return 0


def down(options: argparse.Namespace) -> int:
    """Stop its processes; the folder stays."""
    Network.load(options.folder).down()
    return 0


def status(options: argparse.Namespace) -> int:
    """One line for each process; exit 1 unless all run."""
    states = Network.load(options.folder).status()
    for name, runs in states.items():
        print(f"{name:32} {'runs' if runs else 'does not run'}")
    return 0 if all(states.values()) else 1


def add_org(options: argparse.Namespace) -> int:
    """Let one more organisation join, on every channel."""
    network = Network.load(options.folder)
    network.add_organisation(options.name)
    print(f"{len(network.organisations)} organisations, {network.settings.needed} must endorse.")
    return 0


def upgrade(options: argparse.Namespace) -> int:
    """Commit the contract as it stands in this clone as the next version."""
    network = Network.load(options.folder)
    network.deploy(version=network.settings.version + 1)
    print(f"version {network.settings.version}")
    return 0


def certificates(options: argparse.Namespace) -> int:
    """List what ends within `--days`; exit 1 if anything does."""
    limit = datetime.now(UTC) + timedelta(days=options.days)
    ending = [(when, path) for when, path in expiries(options.folder) if when <= limit]
    for when, path in ending:
        print(f"{when:%Y-%m-%d %H:%M} UTC  {path.relative_to(options.folder)}")
    if not ending:
        print(f"No certificate ends within {options.days} days.")
    return 1 if ending else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.fabric", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, function: object) -> argparse.ArgumentParser:
        doc = getattr(function, "__doc__", "")
        sub = commands.add_parser(name, help=doc)
        sub.add_argument("folder", type=Path, help="where the network lies")
        sub.set_defaults(run=function)
        return sub

    making = command("up", up)
    making.add_argument("--organisations", type=int, default=2, choices=(2, 3), help="how many (2)")
    making.add_argument("--organisation", action="append", metavar="MSP", help="one by name; repeat it")
    making.add_argument("--needed", type=int, help="how many must endorse (a majority)")
    making.add_argument("--orderers", type=int, default=1, help="Raft orderers (1)")
    making.add_argument("--bft", action="store_true", help="four BFT orderers (Fabric 3)")
    making.add_argument(
        "--channel", action="append", default=[], metavar="NAME", help="one beside home; repeat it"
    )
    making.add_argument("--batch-timeout", default="200ms", help="how long a block waits (200ms)")
    command("down", down)
    command("status", status)
    command("add-org", add_org).add_argument("name", metavar="MSP")
    command("upgrade", upgrade)
    command("certificates", certificates).add_argument("--days", type=int, default=30)
    return parser


def main() -> int:
    options = _parser().parse_args()
    try:
        return int(options.run(options))
    except (BinariesMissing, NetworkError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
