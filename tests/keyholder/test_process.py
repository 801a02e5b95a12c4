"""The keyholder as a process of its own: the client, what it hides, who may call what."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.keyholder.client import Keyholder
from gateway.keyholder.envelope import PartUnwrapper, open_chunk, seal_chunk
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.params import Params
from gateway.keyholder.server import MOST_AT_ONCE, ONE_ACCOUNT, ROLES, _calls, roles_of, start
from ledger.client import connect
from ledger.errors import AccessDenied, InvalidInput, KeyholderUnavailable, RefusedTransition
from ledger.rpc import from_b64, to_b64
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
    assert keyholder.enrol_many(channels={alice: "home"}) == {alice: made["index_key"]}
    many = keyholder.new_chunks_many(chunks={alice: [{**header, "chunk": new_id()}]})  # type: ignore[typeddict-item]
    assert [len(key) for key in many.values()] == [32]
    too_many = dict.fromkeys((new_id() for _ in range(MOST_AT_ONCE + 1)), "home")
    with pytest.raises(InvalidInput, match="20,000 at most"):
        keyholder.enrol_many(channels=too_many)
    with pytest.raises(RefusedTransition):
        keyholder.index(patient=next(iter(too_many)))
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
    for name in frozenset().union(*ROLES.values()):
        if name in calls:
            try:
                connection.call(name, {})
            except InvalidInput:
                continue  # allowed, and then it looked at the parameters
            assert name in {"output_key", "file_openings"}  # which take none
        else:
            with pytest.raises(AccessDenied) as found:
                connection.call(name, {})
            assert found.value.code == "call_refused"
    assert connection.call("status", {})["enforced"] is False
    connection.close()


def test_every_call_is_some_roles(house: House) -> None:
    assert set(_calls(house.service)) == frozenset().union(*ROLES.values())


@pytest.mark.parametrize("kind", ["emergency", "own_copy"])
def test_what_a_person_reads_brings_no_key_of_it(house: House, kind: str) -> None:
    from ledger.rpc import Connection

    house.serve(house.ledger, emergencies=1, copies=1)
    alice, access = house.patient(), new_id()
    server = start(house.service, house.home / "k.sock")
    connection = Connection(house.home / "k.sock")
    begin = "emergency_access" if kind == "emergency" else kind
    asked = {"access": access, "patient": alice, "details": {}, "expires": int(time.time()) + 3600}
    answers = [connection.call(begin, asked), connection.call(f"{kind}_index", {"access": access})]
    chunks = [
        {"chunk": one["chunk"], "sealed_b64": to_b64(house.blobs[one["chunk"]])}
        for one in answers[-1]["chunks"]
    ]
    answers.append(connection.call(f"read_{kind}", {"access": access, "chunks": chunks}))
    connection.close()
    server.close()
    assert sorted(from_b64(one["ndjson_b64"]) for one in answers[-1]["records"]) == [
        b'{"code":2}\n',
        b'{"value":1}\n',
    ]
    for header in house.store.headers(alice):
        assert header.dek.hex() not in json.dumps(answers)
        assert to_b64(header.dek) not in json.dumps(answers)


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
