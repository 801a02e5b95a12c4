"""`manage.py sandbox`: twelve synthetic patients, a clock to move ahead, faults to switch on."""

import json
import os
import re
import sys
import time
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gateway.demo.home import base, emptied, free_port
from gateway.processes import Processes, Spec, stop_by_sigterm
from gateway.sandbox import control

if TYPE_CHECKING:
    from gateway.demo.people import Cast
    from gateway.demo.states import Person

NAME, MARK = "sandbox", "this-is-a-sandbox"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
# What a switch takes away, by the name of its process.
PROCESSES = ("ledger", "keyholder")


class Command(BaseCommand):
    help = "A sandbox for AI engineers: synthetic patients, each in one state; never for records of anybody."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        acts = parser.add_subparsers(required=True, metavar="up|advance|fault|show", dest="act")
        up = acts.add_parser("up", help="make it anew and serve it until Ctrl-C")
        up.add_argument("--port", type=int, default=8000)
        up.add_argument("--crowd", type=int, default=0, help="so many more patients, who all share")
        advance = acts.add_parser("advance", help="move its clock ahead")
        advance.add_argument("by", help="such as 90m, 12h, 30d or 2w")
        fault = acts.add_parser("fault", help="make something fail, or work again")
        fault.add_argument("name", choices=sorted(control.FAULTS))
        fault.add_argument("state", choices=["on", "off"])
        acts.add_parser("show", help="its clock and its faults, as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("The sandbox is never a production. Unset GATEWAY_PRODUCTION.")
        if options["act"] == "up":
            self._up(options["port"], options["crowd"])
            return
        home = base() / NAME
        if not (home / MARK).exists():
            raise CommandError(f"There is no sandbox at {home}. Begin with: manage.py sandbox up")
        try:
            if options["act"] == "advance":
                control.advance(home, seconds_of(options["by"]))
            if options["act"] == "fault":
                control.set_fault(home, options["name"], on=options["state"] == "on")
        except ValueError as error:
            raise CommandError(str(error)) from None
        now = control.read(home)
        faults = {name: name in now.faults for name in control.FAULTS}
        self.stdout.write(json.dumps({"ahead_seconds": now.ahead, "faults": faults}))

    def _up(self, port: int, crowd: int) -> None:
        """The settings know one home from the start, so the sandbox runs in a process that has its own."""
        if os.environ.get("GATEWAY_SANDBOX_HOME") != str(settings.HOME):
            home = emptied(NAME, MARK)
            environment = {
                **os.environ,
                "GATEWAY_HOME": str(home),
                "GATEWAY_SANDBOX_HOME": str(home),
                "GATEWAY_STAFF_SECOND_FACTOR": "0",  # nobody here has a phone
                "GATEWAY_LOG_LEVEL": os.environ.get("GATEWAY_LOG_LEVEL", "WARNING"),
            }
            os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606
        from ledger.errors import GatewayError

        stop_by_sigterm()
        try:
            self._serve(settings.HOME, free_port(port), crowd)
        except GatewayError as error:
            raise CommandError(error.message) from None
        except KeyboardInterrupt:  # all that it started is stopped by now
            self.stderr.write("Stopped.")

    def _serve(self, home: Path, port: int, crowd: int) -> None:
        from gateway import installation
        from gateway.demo import people
        from gateway.sandbox.catalogue import PEOPLE

        self.stderr.write("Making twelve patients, each in one state; this takes half a minute")
        installation.make(home)
        environment = {
            "DJANGO_SETTINGS_MODULE": "gateway.sandbox.settings",
            "GATEWAY_URL": f"http://localhost:{port}",
        }
        with Processes(home, environment) as processes:
            for spec in installation.specs(home, port=port):
                processes.start(_moved(spec))
            cast = people.staff_and_helix()
            _approve(people.register_model(cast.helix))
            if crowd:
                self.stderr.write(f"Making {crowd} more, who all say yes")
                people.gather_crowd(cast, home / "crowd", count=crowd)
            password, everyone = people.gather_states(cast, home / "states", only=tuple(PEOPLE))
            self._tell(home, port, cast, password, everyone)
            while True:
                obey(processes, control.read(home).faults)
                if ended := processes.ended():
                    raise CommandError(f"{', '.join(ended)} ended. See {home / 'logs'}.")
                time.sleep(0.2)

    def _tell(self, home: Path, port: int, cast: "Cast", password: str, everyone: "list[Person]") -> None:
        from gateway.analysis.catalogue import find
        from gateway.demo import people
        from gateway.sandbox.catalogue import PEOPLE

        key, shell = home / "helix.jwk", home / "shell"
        key.write_text(json.dumps(cast.client_key))
        key.chmod(0o600)
        url = f"http://localhost:{port}"
        shell.write_text(
            f"export URL={url} CLIENT={cast.client_id} KEY={key}\n"
            f"export MODEL={find('pce').digest()} TRUST={people.trusted()}\n"
        )
        self.stdout.write(f"\nThe sandbox is at {url}/ . Its patients, password {password}:")
        for person in everyone:
            gives = "a result" if PEOPLE[person.state].delivered else "nothing"
            self.stdout.write(f"  {person.user.email:22} {person.what}; a job gets {gives}")
        self.stdout.write("The staff:")
        for who in cast.sign_ins:
            self.stdout.write(f"  {who}")
        self.stdout.write("In another terminal, in a virtual environment of yours (docs/quickstart.md):")
        self.stdout.write(f"  pip install {settings.BASE_DIR / 'deploy' / 'client'}")
        self.stdout.write(f"  . {shell}")
        self.stdout.write("  consentctl login $URL --client $CLIENT --key $KEY")
        self.stdout.write("Ctrl-C stops it.")
        self.stdout.flush()


def obey(processes: Processes, faults: tuple[str, ...]) -> None:
    """Stop what a switch takes away, start what it gives back."""
    for name in PROCESSES:
        if name in faults and processes.is_alive(name):
            processes.stop(name)
        elif name not in faults and name not in processes.ended() and not processes.is_alive(name):
            processes.restart(name)


def seconds_of(text: str) -> int:
    """`30d` in seconds. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if not found:
        raise ValueError("Say how far, such as 90m, 12h, 30d or 2w.")
    return int(found[1]) * UNITS[found[2]]


def _moved(spec: Spec) -> Spec:
    """The same program under the sandbox's clock; the broker is no program of ours."""
    runs, *arguments = spec.command
    if runs != sys.executable:
        return spec
    return replace(spec, command=[runs, "-m", "gateway.sandbox.moved", *arguments])


def _approve(digest: str) -> None:
    """Wait until the ledger has the model. Raises CommandError."""
    from gateway.analysis.models import AIModel

    for _ in range(600):
        if AIModel.objects.filter(digest=digest, state=AIModel.State.APPROVED).exists():
            return
        time.sleep(0.1)
    raise CommandError("The ledger did not take the model within a minute. See the logs.")
