"""The documents say what is there."""

import json
import re
from pathlib import Path

import pytest

from gateway.management.commands.decide import answer_case

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])

WITH_TESTS = ("threats.md", "compliance.md", "validation.md")
NAMED = sorted(
    {
        found
        for page in WITH_TESTS
        for found in re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / page).read_text())
    }
)


def test_the_threats_name_tests() -> None:
    assert len(NAMED) > 100


def test_each_legal_element_names_its_test() -> None:
    """Every row of the tables below "Each legal element" ends with a test."""
    text = (ROOT / "docs" / "compliance.md").read_text().split("## Each legal element")[1]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "Shown by" not in line]
    assert len(rows) > 40
    assert [row for row in rows if "::test_" not in row.split("|")[-2]] == []


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[f"{file}::{test}" for file, test in NAMED])
def test_every_test_that_a_page_names_exists(file: str, test: str) -> None:
    path = TESTS / file
    assert path.is_file(), f"tests/{file} is gone"
    assert re.search(rf"^\s*def {test}\(", path.read_text(), re.MULTILINE), f"{test} is gone"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_in_the_readme_exists() -> None:
    commands = set(re.findall(r"manage\.py ([a-z_]+)", (ROOT / "README.md").read_text()))
    there = {path.stem for path in (ROOT / "gateway" / "management" / "commands").glob("*.py")}
    assert commands <= there


def test_every_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text())) - {"what"}
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets - there <= {"it", "and"}


def test_the_flow_names_files_and_functions_that_exist() -> None:
    """`file.py:function` in docs/flow.md; a file may be named from within its room."""
    text = (ROOT / "docs" / "flow.md").read_text()
    named = re.findall(r"`([\w/]+\.py)(?::(\w+))?`", text)
    assert len(named) > 30
    sources = [path for top in ("ledger", "consent", "gateway") for path in (ROOT / top).rglob("*.py")]
    for file, function in named:
        found = [path for path in sources if str(path.relative_to(ROOT)).endswith(file)]
        assert found, f"{file} is gone"
        if function:
            assert any(re.search(rf"\b{function}\b", path.read_text()) for path in found), (
                f"{file}:{function}"
            )


def test_the_case_in_the_contract_has_the_answer_beside_it() -> None:
    text = (ROOT / "docs" / "contract.md").read_text()
    case, answer = text.split("A case, here on several lines:")[1].split("and its answer:")
    given = json.dumps(json.loads(case)).encode()
    assert answer_case(given) == json.loads(answer.split("\n\n")[1])


def test_a_file_of_more_than_500_lines_has_a_reason() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text().split("## Long files")[1]
    named = set(re.findall(r"^\| `([\w/]+\.py)` \|", text, re.MULTILINE))
    folders = ("ledger", "consent", "gateway", "deploy/fabric", "deploy/client")
    long = {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if not path.is_symlink() and len(path.read_text().splitlines()) > 500
    }
    assert named == long
