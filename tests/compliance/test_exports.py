"""Exports end to end: asked for, made with a real ledger and keyholder, handed out, verified."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from consent.models import Consent
from gateway.compliance import kinds, sealed, services
from gateway.compliance.kinds import KINDS
from gateway.compliance.models import Export, ExportPart
from ledger import verify
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.errors import AccessDenied, EnvelopeError, InvalidInput
from tests.compliance.conftest import Year

pytestmark = pytest.mark.django_db

BY = Actor.system("test")
FILES = {
    "accounting": {"accounting.pdf", "accounting.csv"},
    "authorization": {"authorization.pdf", "consent.ndjson"},
    "package": {"package.pdf", "package.html", "package.json"},
    "fhir": {"Consent.ndjson", "AuditEvent.ndjson", "Provenance.ndjson"},
    "register": {"register.pdf", "register.csv", "register.json"},
    "ai-act": {"model-log.pdf", "model-log.csv", "model-log.json"},
    "breach": {"notice.pdf", "notice.html", "affected.csv"},
    "log": set(),
}


def about(year: Year, kind: str) -> dict[str, Any]:
    """What a kind has to be told."""
    known = {
        "patient": year.patient,
        "consent": year.consent,
        "model": year.model.digest,
        "requester": year.requester,
    }
    return {name: known[name] for name in KINDS[kind].needs}


def asked(year: Year, kind: str, **more: Any) -> Export:
    return services.ask(kind=kind, by=BY, language="en", background=False, **{**about(year, kind), **more})


@pytest.fixture
def made(year: Year, relay: Callable[[], None]) -> Callable[..., Export]:
    def make(kind: str, **more: Any) -> Export:
        found = services.make(asked(year, kind, **more).pk, wait=relay)
        assert found is not None
        assert (found.state, found.error_code) == ("ready", "")
        return found

    return make


@pytest.fixture
def trust(own_installation: Any) -> str:
    return str(own_installation.home / "ledger" / "ledger.pub")


def written(export: Export, folder: Path) -> Path:
    out = folder / f"{export.kind}.zip"
    out.write_bytes(b"".join(services.read(export=export, by=BY)))
    return out


def test_every_kind_is_a_bundle_that_verifies(
    year: Year, made: Callable[..., Export], trust: str, tmp_path: Path
) -> None:
    """One after another on one log; the files of each are there, and none names a patient in its rows."""
    assert FILES.keys() == KINDS.keys()
    for kind, files in FILES.items():
        out = written(made(kind), tmp_path)
        report = verify.verify(out, trust)
        assert report.exit == 0, (kind, report.checks)
        with zipfile.ZipFile(out) as archive:
            assert set(archive.namelist()) == {*verify.NAMES, *files}
            rows = archive.read("rows.ndjson").decode()
            assert all(name in archive.read("README.txt").decode() for name in files)
        assert rows
        assert year.patient.name not in rows
        field, value = kinds.of(Export(kind=kind)).needs[:1], ""
        if field == ("patient",):
            value = year.patient.pseudonym
        elif field == ("model",):
            value = year.model.digest
        elif field == ("requester",):
            value = str(year.requester.pk)
        elif field == ("consent",):
            value = year.consent.request_id
        assert all(value in row for row in rows.splitlines())


def test_the_log_of_one_client_and_of_some_days(
    year: Year, made: Callable[..., Export], trust: str, tmp_path: Path
) -> None:
    of_client = written(made("log", requester=year.requester), tmp_path)
    assert verify.verify(of_client, trust).exit == 0
    with zipfile.ZipFile(of_client) as archive:
        rows = archive.read("rows.ndjson").decode().splitlines()
    assert rows
    assert all(f'"requester":"{year.requester.pk}"' in row for row in rows)
    tomorrow = timezone.localdate() + timedelta(days=1)
    assert made("log", since=tomorrow).rows == 0
    assert made("log", until=tomorrow).rows > len(rows)


def test_one_flipped_bit_in_any_part_of_any_file(
    made: Callable[..., Export], trust: str, tmp_path: Path
) -> None:
    out = written(made("accounting"), tmp_path)
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(out) as archive:
        archive.extractall(folder)
    assert verify.verify(folder, trust).exit == 0
    for name in sorted(os.listdir(folder)):
        original = (folder / name).read_bytes()
        for position in {0, len(original) // 3, len(original) // 2, max(len(original) - 1, 0)}:
            spoilt = bytearray(original or b"\1")
            spoilt[position] ^= 1
            (folder / name).write_bytes(spoilt)
            assert verify.verify(folder, trust).exit != 0, f"{name} at {position}"
        (folder / name).write_bytes(original)
    assert verify.verify(folder, trust).exit == 0


def test_a_stranger_verifies_with_the_program_that_is_inside(
    made: Callable[..., Export], trust: str, tmp_path: Path
) -> None:
    written(made("authorization"), tmp_path)
    with zipfile.ZipFile(tmp_path / "authorization.zip") as archive:
        archive.extract("verify.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-P", "verify.py", "authorization.zip", "--trust", trust],
        check=False, cwd=tmp_path, capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done
    for check in ("Files", "Signatures", "Inclusion", "Consistency", "Completeness"):
        assert f"{check}:" in done.stdout


def test_each_act_is_a_row_of_the_log(year: Year, made: Callable[..., Export]) -> None:
    export = made("accounting")
    b"".join(services.read(export=export, by=Actor.staff(3)))
    services.delete(export=export, by=BY)
    rows = AuditRow.objects.filter(kind__startswith="export.").order_by("pk")
    told = [json.loads(bytes(row.line)) for row in rows]
    assert [each["kind"] for each in told] == ["export.asked", "export.made", "export.read", "export.deleted"]
    assert {each["details"]["export"] for each in told} == {export.pk}
    assert {each["details"]["code"] for each in told} == {"accounting"}
    assert {each["subject"] for each in told} == {year.patient.pseudonym}
    assert told[2]["details"]["digest"] == export.digest
    assert told[2]["actor"] == {"id": Actor.staff(3).id, "kind": "staff"}


def test_progress_is_told(year: Year, relay: Callable[[], None]) -> None:
    seen: list[tuple[int, int]] = []
    export = asked(year, "log")
    services.make(export.pk, wait=relay, progress=lambda each: seen.append((each.written, each.rows)))
    assert seen
    assert seen[-1][0] == seen[-1][1] > 0


def test_the_command(
    year: Year, relay: Any, trust: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    out = tmp_path / "accounting.zip"
    with monkeypatch.context() as here:  # the relay runs while it waits
        here.setattr("ledger.audit.export.time.sleep", lambda _: relay())
        call_command("export", "accounting", "--patient", year.patient.record_id, "--out", str(out), "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["file"], told["size"]) == ("accounting", str(out), out.stat().st_size)
    assert verify.sha256(out.read_bytes()).hex() == told["sha256"]
    assert out.stat().st_mode & 0o077 == 0
    assert verify.verify(out, trust).exit == 0
    assert Export.objects.get().state == Export.State.GONE  # it is the caller's now
    with pytest.raises(CommandError, match="export_exists"):
        call_command("export", "log", "--out", str(out))


# Without a ledger


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["accounting"], "export_needs_patient"),
        (["accounting", "--patient", "nobody"], "no patient"),
        (["log", "--client", "helix"], "no AI provider"),
        (["ai-act", "--model", "ab" * 32], "unknown_model"),
        (["authorization", "--consent", "ab" * 32], "no choice"),
        (["package", "--patient", "alice-1", "--from", "2026-01-01"], "export_scope"),
        (["log", "--from", "2026-01-02", "--to", "2026-01-01"], "export_period"),
    ],
)
def test_the_command_refuses(year: Year, arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        call_command("export", *arguments)
    assert not Export.objects.exists()


def test_an_authorization_that_lacks_an_element_is_refused_when_it_is_asked_for(year: Year) -> None:
    Consent.objects.filter(pk=year.consent.pk).update(given_by="phone")
    with pytest.raises(InvalidInput, match=r"Signature \(164\.508\(c\)\(1\)\(vi\)\)"):
        services.ask(
            kind="authorization", by=BY, language="en", consent=Consent.objects.get(pk=year.consent.pk)
        )
    assert not Export.objects.exists()
    assert not AuditRow.objects.filter(kind="export.asked").exists()


@pytest.fixture
def no_keyholder(settings: Any, tmp_path: Path) -> None:
    settings.KEYHOLDER_SOCKET = str(tmp_path / "nobody.sock")
    settings.LEDGER_URL = f"embedded://{tmp_path}"


@pytest.mark.usefixtures("no_keyholder")
def test_a_ledger_that_is_down_is_tried_again_and_given_up(year: Year) -> None:
    export = asked(year, "log")
    for turn in range(services.MOST_TRIES):
        found = services.make(export.pk)
        assert found is not None
        assert found.tries == turn + 1
    assert (found.state, found.error_code) == ("failed", "ledger_no_key")
    assert services.make(export.pk) is None


def test_who_waits_for_a_worker(year: Year) -> None:
    export = asked(year, "log")
    assert services.waiting() == []  # somebody has it in hand
    late = timezone.now() - timedelta(seconds=1)
    for state in ("queued", "running"):
        Export.objects.filter(pk=export.pk).update(state=state, lease_until=late)
        assert services.waiting() == [export.pk]
    Export.objects.filter(pk=export.pk).update(tries=services.MOST_TRIES)
    assert services.waiting() == []
    services.drop_old()
    export.refresh_from_db()
    assert (export.state, export.error_code) == ("failed", "export_lost")


def test_two_workers_make_it_once(year: Year) -> None:
    export = asked(year, "log")
    assert services._claim(export.pk)
    assert services.make(export.pk) is None


def test_a_maker_that_was_taken_over_from_writes_nothing_more(year: Year) -> None:
    slow = asked(year, "log")
    assert services._claim(slow.pk)
    slow.refresh_from_db()
    Export.objects.filter(pk=slow.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert services._claim(slow.pk)
    services._keep(slow, BytesIO(b"late"), 1)
    services._fail(slow, "late", again=False)
    slow.refresh_from_db()
    assert (slow.state, slow.tries, slow.error_code, slow.digest) == ("running", 2, "", "")
    assert not ExportPart.objects.exists()


# At rest


@pytest.fixture
def kept(year: Year, tmp_path: Path, monkeypatch: Any) -> Export:
    monkeypatch.setattr(sealed, "PART", 8)
    export = asked(year, "log")
    path = tmp_path / "file"
    path.write_bytes(bytes(range(20)))
    with path.open("rb") as file:
        export.digest, export.size = sealed.keep(export, file)
    export.state, export.expires_at = Export.State.READY, timezone.now() + timedelta(hours=1)
    export.save()
    return export


def test_what_lies_there_is_sealed(kept: Export) -> None:
    assert b"".join(sealed.read(kept)) == bytes(range(20))
    parts = [bytes(part.sealed) for part in ExportPart.objects.filter(export=kept).order_by("number")]
    assert len(parts) == 3
    assert not any(bytes(range(4)) in part for part in parts)


@pytest.mark.parametrize("spoil", ["a bit", "the end", "the order", "the export", "the secret"])
def test_what_was_tampered_with_does_not_open(kept: Export, spoil: str, settings: Any) -> None:
    parts = ExportPart.objects.filter(export=kept).order_by("number")
    if spoil == "a bit":
        part = parts[1]
        part.sealed = bytes([part.sealed[0] ^ 1]) + bytes(part.sealed[1:])
        part.save()
    elif spoil == "the end":
        parts.reverse()[0].delete()
    elif spoil == "the order":
        first, second = parts[0], parts[1]
        first.sealed, second.sealed = second.sealed, first.sealed
        first.save()
        second.save()
    elif spoil == "the export":
        other = Export.objects.create(kind="log", language="en", digest=kept.digest)
        ExportPart.objects.filter(export=kept).update(export=other)
        kept = other
    else:
        settings.SECRET_KEY = "another"
    with pytest.raises(EnvelopeError):
        b"".join(sealed.read(kept))


def test_what_has_expired_is_deleted_and_the_row_stays(kept: Export) -> None:
    assert services.drop_old() == 0
    Export.objects.filter(pk=kept.pk).update(expires_at=timezone.now())
    with pytest.raises(AccessDenied):
        services.read(export=kept, by=BY)
    assert services.drop_old() == 1
    kept.refresh_from_db()
    assert kept.state == Export.State.GONE
    assert not ExportPart.objects.exists()
    assert AuditRow.objects.filter(kind="export.deleted").count() == 1
    assert services.drop_old() == 0
