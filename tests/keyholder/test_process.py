"""The keyholder as a process of its own: the client, what it hides, who may call what."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.keyholder.__main__ import add_arguments
from gateway.keyholder.client import Keyholder
from gateway.keyholder.envelope import PartUnwrapper, open_chunk, seal_chunk
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.server import ACCESSES, ONE_ACCOUNT, ROLES, Params, roles_of, start
from ledger.client import connect
from ledger.errors import AccessDenied, InvalidInput, KeyholderUnavailable
from tests.keyholder.house import HELIX, MODEL, REQUEST, Child, House, fhir_consent, new_id


def approve_model(url: str) -> None:
    ledger = connect(url, identity="gateway")
    card = {"model": MODEL, "card": "0" * 64, "provider": HELIX, "state": "approved"}
    envelope = ledger.prepare("RegisterModel", card)
    ledger.send(envelope)
    assert ledger.outcome(envelope.tx_id, timeout=10).is_valid
    ledger.close()


def test_a_job_over_the_socket_and_a_keyholder_that_dies(own_installation: Any) -> None:
    approve_model(own_installation.ledger_url)
    keyholder = Keyholder(own_installation.keyholder_socket)
    alice, consent, chunk, subject = new_id(), new_id(), new_id(), new_id()
    keyholder.enrol(patient=alice)
    header = {"chunk": chunk, "version": 1, "resource_type": "Observation", "labels": ["N"], "count": 1}
    made = keyholder.new_chunks(patient=alice, chunks=[header])  # type: ignore[list-item]
    place = {"patient": alice, "chunk": chunk, "version": 1}
    blob = seal_chunk(made["keys"][chunk], b"{}\n", **place)
    assert len(made["index_key"]) == 32
    keyholder.confirm_chunks(chunks=[{"chunk": chunk, "version": 1}])
    assert keyholder.index(patient=alice) == [{"resource_type": "Observation", "labels": ["N"], "count": 1}]
    assert keyholder.grant(consent=consent, patient=alice, fhir=fhir_consent())["state"] == "committed"

    child = Child(new_id())
    parts = [{"part": 0, "key": child.public, "subjects": [{"subject": subject, "patient": alice}]}]
    asked = {"job": child.job, "attempt": 1}
    assert keyholder.release(**asked, request=REQUEST, parts=parts)["decision"] == "permit"  # type: ignore[arg-type]

    # Killed in mid-job, it comes back with everything that it had answered.
    own_installation.processes.kill("keyholder")
    with pytest.raises(KeyholderUnavailable):
        keyholder.open_chunks(**asked, part=0, subject=subject)
    own_installation.processes.restart("keyholder")
    opened = keyholder.open_chunks(**asked, part=0, subject=subject)
    (one,) = opened["chunks"]
    dek = PartUnwrapper(child.keys[0], **asked, part=0).unwrap(
        one["wrapped"], subject=subject, chunk=chunk, version=1
    )
    assert open_chunk(dek, blob, **place) == b"{}\n"
    keyholder.stop(consent=consent)
    with pytest.raises(AccessDenied) as found:
        keyholder.open_chunks(**asked, part=0, subject=subject)
    assert found.value.code == "consent_stopped"

    status = keyholder.status()
    assert (status["patients"], status["enforced"], status["boundary"]) == (1, False, ONE_ACCOUNT)
    assert ONE_ACCOUNT in (own_installation.home / "logs" / "keyholder.log").read_text()
    # Its memory goes to no file.
    pid = own_installation.processes.pid("keyholder")
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if "core file" in line).split()[4:6] == ["0", "0"]
    secrets = (alice, consent, chunk, child.job, subject, MODEL)
    log = (own_installation.home / "logs" / "keyholder.log").read_text()
    assert not any(secret in log for secret in secrets)


def test_nobody_listening_is_said(tmp_path: Path) -> None:
    with pytest.raises(KeyholderUnavailable):
        Keyholder(tmp_path / "none.sock").status()


def test_a_wrong_kek_stops_the_start(own_installation: Any) -> None:
    own_installation.processes.stop("keyholder")
    folder = own_installation.home / "keyholder"
    (folder / "kek").unlink()
    FileKEK.create(folder / "kek")
    done = subprocess.run(
        [sys.executable, "-m", "gateway.keyholder", str(folder), "--ledger", own_installation.ledger_url],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "This KEK does not belong to this store" in done.stderr


def test_it_imports_neither_django_nor_the_database() -> None:
    check = (
        "import sys, gateway.keyholder.__main__; print([m for m in sys.modules if m.startswith('django')])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def socket(house: House, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = house.home / "k.sock"
    server = start(house.service, path, roles={os.geteuid(): {request.param}})
    yield path
    server.close()


@pytest.mark.parametrize(
    ("socket", "calls"), [(role, calls) for role, calls in ROLES.items()], indirect=["socket"]
)
def test_an_account_makes_the_calls_of_its_role_alone(socket: Path, calls: frozenset[str]) -> None:
    from ledger.rpc import Connection

    connection = Connection(socket)
    for name in ACCESSES.union(*ROLES.values()):
        if name in calls:
            try:
                connection.call(name, {})
            except InvalidInput:
                continue  # allowed, and then it looked at the parameters
            assert name == "output_key"
        else:
            with pytest.raises(AccessDenied) as found:
                connection.call(name, {})
            assert found.value.code == "call_refused"
    assert connection.call("status", {})["enforced"] is False
    connection.close()


@pytest.mark.parametrize("roles", [None, {os.geteuid(): set(ROLES)}, {os.geteuid() + 1: set(ROLES)}])
@pytest.mark.parametrize("accesses", [None, False, True])
def test_an_access_is_for_our_own_account_where_it_was_allowed(
    house: House, accesses: bool | None, roles: dict[int, set[str]] | None
) -> None:
    from ledger.rpc import Connection

    options: dict[str, Any] = {} if accesses is None else {"accesses": accesses}
    server = start(house.service, house.home / "k.sock", roles=roles, **options)
    connection = Connection(house.home / "k.sock")
    for name in ACCESSES:
        # Allowed means that it looks at the parameters.
        with pytest.raises(InvalidInput if accesses else AccessDenied) as found:
            connection.call(name, {})
        assert accesses or found.value.code == "call_refused"
    connection.close()
    server.close()


def test_accesses_are_off_unless_the_start_says_so() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args([]).allow_accesses is False


def test_roles_are_told_by_account() -> None:
    assert roles_of(["worker=7", "web=7", "relay=root"]) == {7: {"worker", "web"}, 0: {"relay"}}
    for wrong in ("worker", "boss=7", "worker=", "worker=nobody-of-this-name"):
        with pytest.raises(InvalidInput):
            roles_of([wrong])


@pytest.mark.parametrize(
    ("take", "value"),
    [
        ("id", None), ("id", "x"), ("id", "AB" * 32), ("id", 3), ("number", True), ("number", -1),
        ("number", "1"), ("number", 1.0), ("number", 2**53), ("text", ""), ("text", "x" * 65),
        ("ids", ["x"]), ("ids", "00" * 32),
        ("each", [1]), ("json", []),
    ],
)  # fmt: skip
def test_a_malformed_parameter_is_refused_and_not_quoted(take: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as found:
        getattr(Params({"field": value}), take)("field")
    assert json.dumps(value) not in found.value.message
