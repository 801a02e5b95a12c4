"""What import-linter cannot see: relations named by a string, and models looked up by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

from django.apps import apps

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("ledger", "consent", "gateway")


def layer(module: str) -> int:
    return LAYERS.index(module.split(".", maxsplit=1)[0])


def ours() -> list[str]:
    return [config.name for config in apps.get_app_configs() if config.name.split(".")[0] in LAYERS]


def test_every_relation_points_down() -> None:
    checked = 0
    for config in apps.get_app_configs():
        if config.name not in ours():
            continue
        for model in config.get_models():
            for field in model._meta.get_fields():
                # The person who signs in is Django's own seam (AUTH_USER_MODEL), not a layer's.
                if field.auto_created or not field.is_relation or field.related_model is None:
                    continue
                target = apps.get_app_config(field.related_model._meta.app_label).name
                if target not in ours() or field.related_model is apps.get_model("accounts", "User"):
                    continue
                assert layer(target) <= layer(config.name), f"{model.__name__}.{field.name} points up"
                checked += 1
    assert checked > 5


def looked_up(tree: ast.AST) -> Iterator[str]:
    """First arguments of get_model, import_module, import_string and include."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in {"get_model", "import_module", "import_string"} and isinstance(
                node.args[0].value, str
            ):
                yield node.args[0].value


def test_nothing_is_looked_up_by_a_name_from_above() -> None:
    labels = {config.label: config.name for config in apps.get_app_configs()}
    files = [file for top in LAYERS for file in (ROOT / top).rglob("*.py") if "migrations" not in file.parts]
    assert len(files) > 30
    for file in files:
        for name in looked_up(ast.parse(file.read_text())):
            target = labels.get(name.split(".")[0], name)
            if target.split(".")[0] in LAYERS:
                assert layer(target) <= layer(file.relative_to(ROOT).parts[0]), f"{file.name} looks up {name}"


def test_no_room_without_a_name() -> None:
    forbidden = {"utils", "core", "common", "helpers", "misc"}
    for top in LAYERS:
        for path in (ROOT / top).rglob("*"):
            assert path.stem not in forbidden, path.name


def test_every_file_says_which_room_it_is() -> None:
    for top in LAYERS:
        for file in (ROOT / top).rglob("*.py"):
            text = file.read_text()
            if text.strip() and "migrations" not in file.parts:
                assert ast.get_docstring(ast.parse(text)), f"{file.relative_to(ROOT)} has no docstring"
