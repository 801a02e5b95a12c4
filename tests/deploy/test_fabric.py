"""What a network on loopback is made of, without Fabric: certificates, packages, processes, messages."""

import json
import os
import signal
import socket
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from deploy.fabric import package
from deploy.fabric.__main__ import certificates, main
from deploy.fabric.binaries import Binaries, BinariesMissing
from deploy.fabric.pki import ATTRIBUTES, OrganisationFiles, expiries
from deploy.fabric.processes import Processes, free_ports


def test_missing_binaries_are_said_with_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FABRIC_BIN_DIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["fabric", "up", str(tmp_path / "network")])
    assert main() == 2
    said = capsys.readouterr().err
    assert "install-fabric.sh" in said
    assert "FABRIC_BIN_DIR" in said
    assert not (tmp_path / "network").exists()


def test_a_folder_that_was_named_and_lacks_them_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FABRIC_BIN_DIR", str(tmp_path))
    with pytest.raises(BinariesMissing, match="FABRIC_BIN_DIR has no peer"):
        Binaries.find()


def test_the_configuration_beside_the_binaries_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "config").mkdir()
    for name in ("peer", "orderer", "configtxgen", "configtxlator", "osnadmin"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho ' Version: v3.1.5'\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("FABRIC_BIN_DIR", str(tmp_path / "bin"))
    monkeypatch.delenv("FABRIC_CFG_PATH", raising=False)
    with pytest.raises(BinariesMissing, match=r"core\.yaml"):
        Binaries.find()
    for name in ("core.yaml", "orderer.yaml"):
        (tmp_path / "config" / name).touch()
    found = Binaries.find()
    assert found.config == tmp_path / "config"
    assert found.version() == (3, 1)


def test_packages_are_the_same_to_the_byte(tmp_path: Path) -> None:
    given = {"label": "x_1", "address": "127.0.0.1:1", "roots": "R", "certificate": "C", "key": "K"}
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        package.write_package(path, **given)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert package.package_id(paths[0]).startswith("x_1:")
    package.write_package(paths[1], **{**given, "address": "127.0.0.1:2"})
    assert package.package_id(paths[0]) != package.package_id(paths[1])
    # It holds a key.
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o600


def test_identities_carry_their_role_and_keys_are_for_their_owner(tmp_path: Path) -> None:
    files = OrganisationFiles.make(tmp_path / "org", "RiversideMSP")
    folder = files.identity("keyholder", unit="client", role="keyholder")
    certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    certificate.verify_directly_issued_by(files.ca.certificate)
    value = certificate.extensions.get_extension_for_oid(ATTRIBUTES).value
    assert json.loads(value.public_bytes()) == {"attrs": {"gateway.role": "keyholder"}}
    keys = [path for path in tmp_path.rglob("*") if path.suffix == ".key" or path.parent.name == "keystore"]
    assert keys
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


def test_certificates_that_end_soon_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Options:
        folder, days = tmp_path, 30

    files = OrganisationFiles.make(tmp_path / "org", "RiversideMSP")
    files.identity("gateway", unit="client", role="gateway")
    assert certificates(Options()) == 0  # type: ignore[arg-type]
    files.identity("keyholder", unit="client", role="keyholder", valid=timedelta(days=3))
    assert certificates(Options()) == 1  # type: ignore[arg-type]
    assert "org/identities/keyholder/cert.pem" in capsys.readouterr().out
    first, _ = expiries(tmp_path)[0]
    assert first < datetime.now(UTC) + timedelta(days=4)


def test_a_process_is_found_again_and_stopped_by_its_own_id(tmp_path: Path) -> None:
    first = Processes(tmp_path, bound=True)
    first.start("sleeper", [sys.executable, "-c", "import time; print('up'); time.sleep(60)"], {})
    found = Processes(tmp_path, bound=True)
    assert found.names() == ["sleeper"]
    assert found.pid("sleeper") == first.pid("sleeper")
    first.stop(["sleeper"])
    assert found.pid("sleeper") is None
    assert found.names() == []


def test_an_id_that_was_given_to_somebody_else_is_never_signalled(tmp_path: Path) -> None:
    processes = Processes(tmp_path, bound=True)
    (tmp_path / "pids").mkdir()
    (tmp_path / "pids" / "peer").write_text(json.dumps({"pid": os.getpid(), "started": "1"}))
    assert not processes.running("peer")
    with pytest.raises(ProcessLookupError):
        processes.signal("peer", signal.SIGTERM)
    processes.stop(["peer"])  # we are still here
    assert processes.names() == []


def test_free_ports_are_different_and_none_that_a_connection_may_take() -> None:
    ports = free_ports(30)
    assert len(set(ports)) == 30
    with socket.socket() as listening, socket.socket() as connected:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        connected.connect(listening.getsockname())
        assert max(ports) < connected.getsockname()[1]
