"""docs/conformance.md names every requirement that the catalogues put on a server, and tests that exist."""

import csv
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "conformance.md").read_text()
PAGES = ("backend-services.html", "client-confidential-asymmetric.html")


def named(section: str) -> set[int]:
    table = TEXT.partition(f"## {section}")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    return {int(number) for row in rows for number in row.split(",")}


def required(path: Path, catalogue: str, pages: tuple[str, ...] = ()) -> set[int]:
    """The ids of what SHALL or SHALL NOT be, by a server."""
    with path.open(encoding="utf-8-sig") as file:
        return {
            int(row["ID"])
            for row in csv.DictReader(file)
            if row["Req Set"] == catalogue
            and row["Conformance"] in ("SHALL", "SHALL NOT")
            and "Server" in row["Actors"]
            and (not pages or any(page in row["URL"] for page in pages))
        }


@pytest.mark.parametrize(
    ("section", "file", "catalogue", "pages"),
    [
        (
            "Bulk Data Access 2.0.0",
            "inferno-bulk-data-requirements.csv",
            "hl7.fhir.uv.bulkdata_2.0.0",
            (),
        ),
        (
            "SMART App Launch 2.2.0: Backend Services, asymmetric keys",
            "inferno-smart-app-launch-requirements.csv",
            "hl7.fhir.uv.smart-app-launch_2.2.0",
            PAGES,
        ),
    ],
)
def test_every_requirement_is_named_once_and_no_other(
    sample_data: Path, section: str, file: str, catalogue: str, pages: tuple[str, ...]
) -> None:
    wanted = required(sample_data / "specs" / file, catalogue, pages)
    assert len(wanted) > 30
    assert named(section) == wanted


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", TEXT))))
def test_every_test_that_it_names_exists(test: str) -> None:
    file, _, name = test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), test
