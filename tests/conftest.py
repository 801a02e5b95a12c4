"""The cast, and a real ledger and keyholder to play with.

alice is a patient, bob a clinician, charlie a stranger, helix an AI vendor, dana the compliance officer.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.processes import Processes, Spec, listens_at, python

ROOM = 6 << 30  # bytes: what the tests leave behind at most, and more than a small machine has
ORIGIN = "http://localhost:8000"  # settings.PUBLIC_URL
DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@dataclass
class Installation:
    """A running embedded ledger and keyholder in a folder of their own."""

    home: Path
    processes: Processes

    @property
    def ledger_url(self) -> str:
        return f"embedded://{self.home / 'ledger'}"

    @property
    def keyholder_socket(self) -> str:
        return str(self.home / "keyholder" / "keyholder.sock")


def start_installation(origin: str = ORIGIN) -> Installation:
    """`origin`: where the pages are on which patients sign."""
    from gateway.keyholder.kek import FileKEK
    from ledger.embedded.folder import make_ledger

    home = Path(tempfile.mkdtemp(prefix="gw-"))
    for folder in ("ledger", "keyholder"):
        (home / folder).mkdir(mode=0o700)
    make_ledger(home / "ledger")
    FileKEK.create(home / "keyholder" / "kek")
    found = Installation(home, Processes(home))
    found.processes.start(
        Spec(
            "ledger",
            python("-m", "ledger.embedded", str(home / "ledger")),
            listens_at(home / "ledger" / "ledger.sock"),
        )
    )
    found.processes.start(
        Spec(
            "keyholder",
            python(
                "-m",
                "gateway.keyholder",
                str(home / "keyholder"),
                "--ledger",
                found.ledger_url,
                "--origin",
                origin,
                "--emergencies",
                "1000",
                "--copies",
                "1000",
            ),
            listens_at(home / "keyholder" / "keyholder.sock"),
        )
    )
    return found


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """After a test with transactions of its own, what migrating makes is put back row by row.

    Django would make the content types, permissions and groups anew each time, which takes longer than most
    of these tests; tests/portal/test_admin.py has the signal that makes them.
    """
    from django.core.management.commands import flush
    from django.db import connection, transaction

    def rows(table: str) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            return cursor.fetchall()

    def put_back(*_: Any) -> None:
        with transaction.atomic(), connection.constraint_checks_disabled(), connection.cursor() as cursor:
            for table, kept in made.items():
                marks = ", ".join(["%s"] * len(kept[0]))
                cursor.executemany(f"INSERT INTO {connection.ops.quote_name(table)} VALUES ({marks})", kept)

    with django_db_blocker.unblock():
        tables = connection.introspection.django_table_names(only_existing=True)
        made = {table: kept for table in tables if (kept := rows(table))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "emit_post_migrate_signal", put_back)
        yield


@pytest.fixture(scope="session")
def shared_installation() -> Iterator[Installation]:
    found = start_installation()
    yield found
    found.processes.stop_all()
    shutil.rmtree(found.home, ignore_errors=True)


@pytest.fixture
def installation(shared_installation: Installation, settings: Any) -> Installation:
    """The session's ledger and keyholder, which the settings point to."""
    settings.LEDGER_URL = shared_installation.ledger_url
    settings.KEYHOLDER_SOCKET = shared_installation.keyholder_socket
    return shared_installation


@pytest.fixture
def own_installation(settings: Any) -> Iterator[Installation]:
    """A ledger and keyholder that the test may kill or spoil."""
    found = start_installation()
    settings.LEDGER_URL, settings.KEYHOLDER_SOCKET = found.ledger_url, found.keyholder_socket
    yield found
    found.processes.stop_all()
    shutil.rmtree(found.home, ignore_errors=True)


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Synthetic FHIR that lies beside the repository."""
    if not DATA.is_dir():
        pytest.skip(f"no sample data at {DATA}")
    return DATA


@pytest.fixture
def user(db: None) -> Callable[..., Any]:
    from gateway.accounts.addresses import confirm_without_asking
    from gateway.accounts.models import User

    def make(name: str, **fields: Any) -> User:
        made = User.objects.create_user(name, f"{name}@example.org", "correct horse battery", **fields)
        confirm_without_asking(made)
        return made

    return make


@pytest.fixture(autouse=True)
def english() -> None:
    """Whatever language the last request of the test before was answered in."""
    from django.conf import settings
    from django.utils import translation

    translation.activate(settings.LANGUAGE_CODE)


@pytest.fixture(autouse=True)
def no_relay(settings: Any) -> None:
    """No relay follows the ledger for a test's own database, so nobody waits for one."""
    settings.REPLAY_SECONDS = None


@pytest.fixture
def alice(user: Callable[..., Any]) -> Any:
    """A patient who is invited, proofed and linked."""
    from django.utils import timezone

    from consent.models import Patient

    return Patient.objects.create(
        user=user("alice"), name="Alice Example", record_id="alice-1", proofed_at=timezone.now()
    )


@pytest.fixture
def bob(user: Callable[..., Any]) -> Any:
    """A clinician."""
    return user("bob", is_staff=True)


@pytest.fixture
def charlie(user: Callable[..., Any]) -> Any:
    """A stranger: another patient."""
    from consent.models import Patient

    return Patient.objects.create(user=user("charlie"), name="Charlie Example", record_id="charlie-1")


@pytest.fixture
def helix(db: None) -> Any:
    """An AI vendor."""
    from consent.models import Requester

    return Requester.objects.create(name="Helix AI")


@pytest.fixture
def pce(helix: Any) -> Any:
    """The risk model, approved for helix, as the catalogue has it."""
    from gateway.analysis.catalogue import find
    from gateway.analysis.models import AIModel

    model = find("pce")
    return AIModel.objects.create(
        digest=model.digest(),
        name=model.name,
        version=model.version,
        provider=helix,
        card=model.describe(),
        state=AIModel.State.APPROVED,
    )


@pytest.fixture
def dana(user: Callable[..., Any]) -> Any:
    """The compliance officer."""
    return user("dana", is_staff=True)


def pytest_configure(config: pytest.Config) -> None:
    """Signing in costs a test nothing; how passwords are kept is Django's to test."""
    from django.conf import settings

    keep_files_in_memory(config)
    # An installation has a folder for static files, here an empty one.
    static = tempfile.TemporaryDirectory(prefix="gw-static-")
    config.add_cleanup(static.cleanup)
    settings.STATIC_ROOT = static.name
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def keep_files_in_memory(config: pytest.Config) -> None:
    """Ledger and keyholder wait for the disk at each commit. No test needs that: a kill loses no write.

    Only where there is memory for it and TMPDIR says nothing else. The workers of one run share a folder.
    """
    memory = Path("/dev/shm")
    if "TMPDIR" in os.environ or not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < ROOM:
        return
    folder = tempfile.TemporaryDirectory(prefix="gw-", dir=memory, ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    Path(folder.name).chmod(0o711)  # processes under another account have theirs within
    os.environ["TMPDIR"] = tempfile.tempdir = folder.name


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The last lines of a run: how many tests did not run, and why."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"not run: {count} ({reason.removeprefix('Skipped: ')})")
