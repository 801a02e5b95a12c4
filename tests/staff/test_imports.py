"""The administrator sees what was taken in, how far it is, and what was refused; and no name of a file."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from gateway.records import imports
from gateway.records.models import ImportRun
from tests.conftest import Installation
from tests.records.conftest import alice_id, observation, patient, write

__all__ = ["alice_id", "write"]
pytestmark = pytest.mark.django_db


def shown(client: Client, run: ImportRun | None = None) -> str:
    path = reverse("staff_import", args=[run.pk]) if run else reverse("staff_imports")
    page = client.get(path)
    assert page.status_code == 200
    return " ".join(page.content.decode().split())


def test_every_import_is_listed_with_what_became_of_it(
    member: Callable[..., Client],
    installation: Installation,
    settings: Any,
    write: Callable[..., Path],
    alice_id: str,
) -> None:
    settings.KEYHOLDER_SOCKET = installation.keyholder_socket
    admin = member("administrator")
    assert "Nothing was taken in yet" in shown(admin)
    write("1.ndjson", patient(alice_id))
    bad = write(
        "Alice-Example.ndjson",
        observation("a", f"Patient/{alice_id}"),
        {"resourceType": "Observation", "id": "x"},
    )
    with pytest.raises(SystemExit):
        call_command("ingest", str(bad.parent), stdout=StringIO())
    run = ImportRun.objects.get()
    listed, page = shown(admin), shown(admin, run)
    assert "Done</strong>" in listed
    assert "2 of 2" in listed
    assert "1 file<" in listed
    assert "File 2, line 2" in page
    assert "Observation.status" in page
    assert "Alice-Example" not in listed + page
    call_command("ingest", str(bad.parent), "--lenient", stdout=StringIO())
    assert "1 record is set aside" in shown(admin)


def test_a_run_under_way_says_how_far_it_is(member: Callable[..., Client]) -> None:
    run = imports.begin([])
    ImportRun.objects.update(bytes=200)
    counts = {"resources": 4406, "refused": [{"file": "x"}], "files": {}}
    imports.note(run.pk, counts, files_done=0, bytes_done=50)
    admin = member("administrator")
    page = shown(admin, run)
    assert "It is under way" in page
    assert "25 %" in page
    assert '<dd class="govuk-summary-list__value">4,406</dd>' in page
    for path in (reverse("staff_import", args=[run.pk]), reverse("staff_imports")):
        assert ">4\xa0406<" in admin.get(path, headers={"accept-language": "es"}).content.decode()
    ImportRun.objects.update(seen_at=run.started_at - 2 * imports.SILENT)
    assert "Ended without a word" in shown(admin)


def test_nobody_else_sees_it(member: Callable[..., Client]) -> None:
    assert member("clinician").get(reverse("staff_imports")).status_code == 403
