"""The contract is deterministic because of what it cannot reach: no clock, no random, no float."""

import ast
import sys
from pathlib import Path

import pytest

import ledger.contract

FILES = sorted(Path(ledger.contract.__file__).parent.glob("*.py"))
FORBIDDEN = {
    "time",
    "random",
    "secrets",
    "os",
    "uuid",
    "socket",
    "threading",
    "subprocess",
    "asyncio",
    "locale",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_pure(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        for module in _imports(node):
            top = module.split(".")[0]
            assert top in sys.stdlib_module_names or module.startswith("ledger.contract"), module
            assert top not in FORBIDDEN, module
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), f"float, {node.lineno}"
        assert not isinstance(node, ast.Div), f"true division, line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"now", "utcnow", "today", "fromtimestamp", "astimezone"}, node.lineno
        if isinstance(node, ast.Name):
            assert node.id not in {"open", "float", "hash", "id", "eval", "exec", "__import__"}, node.lineno


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0
        return [str(node.module)]
    return []


def test_only_the_version_reads_files_and_those_are_its_own() -> None:
    readers = [path.name for path in FILES if "pathlib" in path.read_text()]
    assert readers == ["version.py"]
