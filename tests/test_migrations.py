"""The migrations make the tables that the models ask for, from nothing, with real commands."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import ConnectionHandler, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from gateway.records.models import Chunk, Moved
from tests.test_demo import empty_database
from tests.test_layers import LAYERS

REPOSITORY = Path(__file__).resolve().parent.parent


def tables(database: BaseDatabaseWrapper) -> dict[str, Any]:
    """Each of our tables: its columns with type and null, and its constraints and indexes."""
    found = {}
    with database.cursor() as cursor:
        inspect = database.introspection
        for name in inspect.table_names(cursor):
            if name not in ours():
                continue
            columns = {
                column.name: (inspect.get_field_type(column.type_code, column), column.null_ok)
                for column in inspect.get_table_description(cursor, name)
            }
            constraints = sorted(
                (
                    [*(each["columns"] or [])],
                    each["primary_key"], each["unique"], each["index"], each["check"],
                    str(each["foreign_key"]),
                )
                for each in inspect.get_constraints(cursor, name).values()
            )  # fmt: skip
            found[name] = (columns, constraints)
    return found


def ours() -> set[str]:
    """Tables of our own apps; other packages answer for theirs."""
    configs = [config for config in apps.get_app_configs() if config.name.split(".")[0] in LAYERS]
    models = [model for config in configs for model in config.get_models(include_auto_created=True)]
    return {model._meta.db_table for model in models}


@pytest.mark.django_db
def test_migrations_make_what_the_models_say(tmp_path: Path) -> None:
    with empty_database() as own:
        environment = {**os.environ, **own, "GATEWAY_HOME": str(tmp_path)}
        run = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(run, env=environment, cwd=REPOSITORY, check=True)
        migrated = ConnectionHandler({"default": where(own, tmp_path)})["default"]
        try:
            assert tables(migrated) == tables(connection)
            assert set(tables(migrated)) == ours()
        finally:
            migrated.close()


@pytest.mark.django_db
def test_what_was_sealed_anew_before_is_written_down_batch_by_batch(alice: Any) -> None:
    migration = import_module("gateway.records.migrations.0003_whereabouts")
    many = 2 * migration.AT_ONCE + 1
    Chunk.objects.bulk_create([Chunk(patient=alice, blob=b"x", act="a") for _ in range(many)])
    Chunk.objects.create(patient=alice, blob=b"x")
    Chunk.objects.create(patient=alice, blob=b"x", act="a", retired_at=timezone.now())
    migration.unknown_before(apps, None)
    made = Chunk.objects.exclude(act="").filter(retired_at=None)
    found = Moved.objects.filter(patient=alice, old="").values_list("new", flat=True)
    assert sorted(found) == sorted(made.values_list("pk", flat=True))
    assert len(found) == many


def where(own: dict[str, str], home: Path) -> dict[str, Any]:
    if not own:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": home / "db.sqlite3"}
    return {**connection.settings_dict, "NAME": own["DATABASE_URL"].split("?")[0].rsplit("/", 1)[1]}
