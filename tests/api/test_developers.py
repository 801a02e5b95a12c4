"""`/developers/`: every operation and every code that is answered has a page."""

import ast
import html
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from gateway.api.codes import CODES
from gateway.api.developers import operations

ROOT = Path(__file__).resolve().parents[2]
# Where the codes that a client can be answered with are written.
ROOMS = [
    *(ROOT / "gateway" / "api").rglob("*.py"),
    *(ROOT / "gateway" / "accounts").glob("*.py"),
    *(ROOT / "gateway" / "analysis").glob("*.py"),
    ROOT / "consent" / "asking.py",
    ROOT / "consent" / "referrals.py",
    ROOT / "ledger" / "errors.py",
]
# Said to staff or to a person who signs in, or never said at all: no client is answered with these.
OF_OTHERS = {
    "attempt_over", "claim_lost", "job_cancelled", "model_of_another", "not_yours", "signer_failed",
    "code_missing", "own_approval", "reasons", "already_served", "asked", "committed", "release_unsettled",
    "own_proof", "own_result", "proof_method", "reason", "removed", "result_closed", "result_gone",
    "result_settled", "state", "email_taken", "link_invalid", "no_account", "staff_account",
}  # fmt: skip


def codes_in(path: Path) -> Iterator[str]:
    """What stands as `code="…"` in a call, or as a class' `code = "…"`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            for word in node.keywords:
                if (
                    word.arg == "code"
                    and isinstance(word.value, ast.Constant)
                    and isinstance(word.value.value, str)
                ):
                    yield word.value.value
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                if (
                    isinstance(line, ast.Assign)
                    and getattr(line.targets[0], "id", "") == "code"
                    and isinstance(line.value, ast.Constant)
                ):
                    yield str(line.value.value)


def test_every_code_that_is_answered_has_a_page() -> None:
    found = {code for path in ROOMS for code in codes_in(path)} - OF_OTHERS - {""}
    assert len(found) > 40
    assert found - CODES.keys() == set()


@pytest.mark.parametrize("code", sorted(CODES))
def test_the_page_of_a_code(client: Client, code: str) -> None:
    page = client.get(f"/developers/errors/{code}")
    assert page.status_code == 200
    assert CODES[code].title in page.content.decode().replace("&#x27;", "'")


@pytest.mark.django_db
def test_the_type_of_a_problem_leads_to_its_page(client: Client, call: Callable[..., Any]) -> None:
    problem = call("GET", f"jobs/{'0' * 64}").json()
    assert problem["type"] == "http://localhost:8000/developers/errors/not_available"
    assert client.get(problem["type"].removeprefix("http://localhost:8000")).status_code == 200
    outcome = client.get("/fhir/Patient").json()["issue"][0]["details"]["coding"][0]
    assert outcome == {"system": "http://localhost:8000/developers/errors", "code": "unauthenticated"}


def test_the_quickstart_is_the_one_that_is_run(client: Client) -> None:
    """tests/api/test_quickstart.py runs the commands of docs/quickstart.md: here they are the same."""
    index = html.unescape(client.get("/developers/").content.decode())
    guide = (ROOT / "docs" / "quickstart.md").read_text()
    for block in re.findall(r"```\w+\n(.*?)```", guide, re.DOTALL):
        assert f"<code>{block.strip()}</code>" in index


def test_every_operation_has_a_page_with_its_call(client: Client) -> None:
    index = client.get("/developers/").content.decode()
    assert operations()
    for each in operations():
        assert f"/developers/operations/{each['id']}" in index
        page = client.get(f"/developers/operations/{each['id']}").content.decode()
        assert "curl -s http://localhost:8000" in page
        for member in each["takes"]:
            assert f"<code>{member['name']}</code>" in page


@pytest.mark.parametrize("path", ["errors/nonsense", "operations/nonsense"])
def test_what_is_not_there_is_404(client: Client, path: str) -> None:
    assert client.get(f"/developers/{path}").status_code == 404


def test_the_list_of_codes_names_each(client: Client) -> None:
    page = client.get("/developers/errors/").content.decode()
    assert all(f"<code>{code}</code>" in page for code in CODES)


def test_the_guides_examples_do_not_age() -> None:
    """A date that was right when it was written is refused one day: examples work theirs out."""
    guide = (ROOT / "docs" / "api.md").read_text()
    examples = [line for line in guide.splitlines() if line.startswith("    ")]
    assert any("$(day 30)" in line for line in examples)
    assert not [line for line in examples if re.search(r"\b20\d\d-\d\d-\d\d", line)]
    (function,) = {line.strip() for line in examples if line.strip().startswith("day()")}
    said = subprocess.run(
        ["sh", "-c", f"{function}\nday 30"], capture_output=True, text=True, check=True, timeout=30
    )
    assert date.fromisoformat(said.stdout.strip()) - date.today() in (timedelta(30), timedelta(31))
