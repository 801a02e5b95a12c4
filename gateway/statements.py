"""Statements that are asked for all the time, and so written once.

Django writes a query's SQL anew each time, which for a row or two takes twenty times as long as the database
takes to answer. A Statement keeps the SQL that Django wrote the first time: what is read is still said in
the terms of the models, and only the values change. `insert` writes one statement for many rows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Expression, Field, Model, QuerySet

Row = tuple[Any, ...]
T = TypeVar("T")
AT_ONCE = 500
# Where a column's values come in another form than the field's: its place, and what turns them.
Converters = list[tuple[int, list[Callable[..., Any]], Any]]


class Given(Expression):
    """The place of a value that comes with each call, in the form of `field` where its database form differs
    (a UUID's, say)."""

    def __init__(self, name: str, field: "Field[Any, Any] | None" = None) -> None:
        super().__init__()
        self.name, self.form = name, field

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        return "%s", (self,)


class Statement:
    """`write` makes a query of `values_list`, with a Given wherever a value differs from call to call."""

    def __init__(self, write: Callable[[], "QuerySet[Any, Any]"]) -> None:
        self._write = write
        self._written: dict[str, tuple[str, Row, Converters]] = {}

    def rows(self, **given: Any) -> list[Row]:
        """As `list(queryset)` gives them."""
        connection = connections[DEFAULT_DB_ALIAS]
        if (written := self._written.get(connection.vendor)) is None:
            written = self._written[connection.vendor] = self._compile(connection)
        sql, places, converters = written
        with connection.cursor() as cursor:
            cursor.execute(sql, [_value(place, given, connection) for place in places])
            found: list[Row] = cursor.fetchall()
        return [_converted(row, converters, connection) for row in found] if converters else found

    def _compile(self, connection: Any) -> tuple[str, Row, Converters]:
        compiler = self._write().query.get_compiler(connection=connection)
        sql, places = compiler.as_sql()
        found = compiler.get_converters([column for column, _, _ in compiler.select])
        return sql, tuple(places), [(at, turns, column) for at, (turns, column) in found.items()]


def _value(place: Any, given: dict[str, Any], connection: Any) -> Any:
    if not isinstance(place, Given):
        return place
    value = given[place.name]
    return value if place.form is None else place.form.get_db_prep_value(value, connection)


def _converted(row: Row, converters: Converters, connection: Any) -> Row:
    values = list(row)
    for at, turns, column in converters:
        for turn in turns:
            values[at] = turn(values[at], column, connection)
    return tuple(values)


def insert(model: type[Model], fields: Sequence[str], rows: Sequence[Row]) -> None:
    """Keep rows in their order; `fields` are all that the database does not fill in by itself, and take their
    values as they are (texts, numbers, bytes). Raises DatabaseError."""
    connection = connections[DEFAULT_DB_ALIAS]
    quote = connection.ops.quote_name
    named = {field.name: str(field.column) for field in model._meta.concrete_fields}
    columns = ", ".join(quote(named[name]) for name in fields)
    places = ", ".join(["%s"] * len(fields))
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({places})"  # noqa: S608 (of the model)
    with connection.cursor() as cursor:
        cursor.executemany(sql, rows)


def in_batches(values: Iterable[T]) -> Iterator[list[T]]:
    """As many together as one statement names."""
    rest = iter(values)
    while batch := list(islice(rest, AT_ONCE)):
        yield batch
