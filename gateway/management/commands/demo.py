"""`manage.py demo`: the whole story with real parts, then the portal on localhost."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.demo.home import base, emptied, free_port
from gateway.processes import stop_by_sigterm

if TYPE_CHECKING:
    from gateway.demo.people import Cast
    from gateway.demo.states import Person
    from gateway.processes import Processes

MARKER = "this-is-a-demonstration"
INTERRUPTED = 130  # as a shell says of Ctrl-C


class Command(BaseCommand):
    help = "Play the story: grant, job, result, stop, refused job, verified export; then serve the portal."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="play the story and exit with one JSON object"
        )
        parser.add_argument("--port", type=int, default=8000, help="where the portal is served afterwards")
        parser.add_argument(
            "--ledger", choices=["embedded", "fabric"], default=os.environ.get("LEDGER", "embedded")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """The settings know one home from the start, so the telling runs in a process that has its own."""
        if os.environ.get("GATEWAY_DEMO_HOME") != str(settings.HOME):
            self._again_at_home(options)
        go_on = stop_by_sigterm()
        home = settings.HOME
        port = free_port() if options["once"] else free_port(options["port"])
        try:
            seen = self._tell(home, port, options, go_on)
        except KeyboardInterrupt:  # all that it started is stopped by now
            self.stderr.write("Stopped.")
            sys.exit(INTERRUPTED if options["once"] else 0)
        finally:
            if options["once"]:
                shutil.rmtree(home, ignore_errors=True)
        if seen is not None:
            self.stdout.write(json.dumps(seen))
            if not all(value for value in seen.values()):
                sys.exit(1)

    def _again_at_home(self, options: dict[str, Any]) -> None:
        """Start over with an empty home: `var/demo`, or one that `--once` removes again."""
        home = (
            Path(tempfile.mkdtemp(prefix="once-", dir=base())) if options["once"] else emptied("demo", MARKER)
        )
        environment = {
            **os.environ,
            "GATEWAY_HOME": str(home),
            "GATEWAY_DEMO_HOME": str(home),
            # The people of a demonstration have no phones; it is said where they are listed.
            "GATEWAY_STAFF_SECOND_FACTOR": "0",
            "GATEWAY_LOG_LEVEL": os.environ.get("GATEWAY_LOG_LEVEL", "WARNING"),
        }
        if options["ledger"] == "fabric":
            environment["LEDGER_URL"] = f"fabric://{home / 'fabric' / 'profile.json'}"
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606

    def _tell(
        self, home: Path, port: int, options: dict[str, Any], go_on: Callable[[], None]
    ) -> dict[str, Any] | None:
        from gateway import installation
        from gateway.demo import people
        from gateway.demo.story import Story, StoryError
        from ledger.errors import GatewayError

        begun = time.monotonic()

        def say(sentence: str) -> None:
            go_on()
            self.stderr.write(f"{time.monotonic() - begun:6.1f} s  {sentence}")

        try:
            with people.network(home, options["ledger"], say):
                say("Making an installation: keys, ledger, keyholder, database")
                installation.make(home)
                say("Starting its processes")
                with installation.start(home, port=port) as processes:
                    for limit in installation.limits():
                        self.stderr.write(self.style.WARNING(f"          Not enforced here: {limit}"))
                    story = Story(home, f"http://127.0.0.1:{port}", processes, say, home / "data")
                    seen = story.play()
                    for name, held in asdict(seen).items():
                        say(f"{'✓' if held else '✗'} {name.replace('_', ' ')}")
                    if options["once"]:
                        return {**asdict(seen), "ledger_kind": options["ledger"]}
                    say("Bringing one person into each state that a page can show")
                    assert story.cast is not None
                    everyone = people.gather_states(story.cast, home / "states")
                    self._serve(port, processes, story.cast, *everyone)
        except (StoryError, GatewayError) as error:
            raise CommandError(str(error)) from None
        return None

    def _serve(
        self, port: int, processes: "Processes", cast: "Cast", password: str, everyone: "list[Person]"
    ) -> None:
        from gateway.analysis.catalogue import find
        from gateway.demo import people

        self.stdout.write(f"\nThe portal is at http://localhost:{port}/ . Every state to look at:")
        for person in everyone:
            who = person.patient.user.email if person.patient.user else f"/invitation/{person.code}"
            self.stdout.write(f"  {who:34} {person.what}")
        self.stdout.write(f"All of them sign in with the password {password}")
        self.stdout.write("Who plays in the story, and the staff:")
        for who in cast.sign_ins:
            self.stdout.write(f"  {who}")
        self.stdout.write("Staff sign in without a second step here; an installation asks them for one.")
        if cast:
            key = settings.HOME / "helix.jwk"
            key.write_text(json.dumps(cast.client_key))
            key.chmod(0o600)
            self.stdout.write("Helix AI's client for the API (docs/quickstart.md):")
            self.stdout.write(f"  URL=http://localhost:{port} CLIENT={cast.client_id}")
            self.stdout.write(f"  KEY={key} MODEL={find('pce').digest()}")
            self.stdout.write(f"  TRUST={people.trusted()}")
        self.stdout.write(f"For the other commands, this installation is GATEWAY_HOME={settings.HOME}")
        self.stdout.write("Ctrl-C stops it.")
        self.stdout.flush()
        while not (ended := processes.ended()):
            time.sleep(1)
        raise CommandError(f"{', '.join(ended)} ended. See {settings.HOME / 'logs'}.")
