"""Find values in an SQLite file that its columns' fields cannot read, and say how to correct them.

SQLite takes any value into any column: bytes that are not UTF-8, zero dates, text in a decimal column. Django raises an
error that names no row, or reads a date that it does not understand as NULL.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from django.utils.dateparse import parse_date, parse_datetime, parse_time

from ...errors import SauvegardeError
from .fast_or_stock import key_fields

if TYPE_CHECKING:
    from .django_types import Connection, Field, Model

PARSED = {"DateTimeField": parse_datetime, "DateField": parse_date, "TimeField": parse_time}
_NAMED = 20
_MIDNIGHT = re.compile(r"(\d{4}-\d\d-\d\d)[ T]00:00:00(?:\.0+)?\Z", re.ASCII)


class Unreadable(Exception):
    """A value that its field reads as NULL although it is not."""


@dataclass(frozen=True)
class Oddity:
    """A value that its field cannot read, with its row's key (a part for each column) and the reason."""

    field: Field
    key: tuple[Any, ...]
    value: Any
    why: str


def reader(field: Field, connection: Connection) -> Callable[[Any], Any]:
    """Return the function from the driver's raw value, texts as bytearrays, to the one that Django makes of it."""
    column = field.get_col(field.model._meta.db_table)
    converters = connection.ops.get_db_converters(column) + column.get_db_converters(connection)
    parse = PARSED.get(field.get_internal_type(), str)

    def read(value: Any) -> Any:
        if type(value) is bytearray:
            value = parse(value.decode("utf-8"))
            if value is None:
                raise Unreadable("it is no date or time that Django knows")
        for convert in converters if value is not None else ():
            value = convert(value, column, connection)
        return value

    return read


def oddities(model: type[Model], connection: Connection, kinds: Collection[str] = ()) -> list[Oddity]:
    """Return what the model's own table holds that its fields cannot read. `kinds`: of fields, all if empty."""
    meta, quote = model._meta, connection.ops.quote_name
    # A geometry's raw value is not what its field reads.
    fields = [field for field in meta.local_concrete_fields if not hasattr(field, "geom_type")]
    fields = [field for field in fields if not kinds or field.get_internal_type() in kinds]
    if not fields:
        return []
    keys = key_fields(model)
    columns = ", ".join("+" + quote(field.column) for field in [*keys, *fields])  # without declared types
    readers = [reader(field, connection) for field in fields]
    odd: list[Oddity] = []
    raw = connection.connection
    kept, raw.text_factory = raw.text_factory, bytearray
    try:
        for row in raw.execute(f"SELECT {columns} FROM {quote(meta.db_table)}"):
            key = row[: len(keys)]
            for field, read, value in zip(fields, readers, row[len(keys) :]):
                try:
                    read(value)
                except UnicodeDecodeError:
                    odd.append(Oddity(field, key, value, "its bytes are not UTF-8"))
                except (Unreadable, ValueError, TypeError, AttributeError, ArithmeticError) as error:
                    odd.append(Oddity(field, key, value, str(error)))
    finally:
        raw.text_factory = kept
    return odd


def error_of(model: type[Model], odd: Sequence[Oddity], hidden: bool) -> SauvegardeError:
    """Return the error that names the values. `hidden`: they are to be masked, and are not shown."""
    table = model._meta.db_table
    lines, fixes = [], []
    for one in odd[:_NAMED]:
        value = "" if hidden else f", value {_shown(one.value)}"
        key = ", ".join(map(_text, one.key))
        lines.append(f"table {table}, column {one.field.column}, key {key}{value}: {one.why}")
        fixes.append(
            "UPDATE {} SET {} = {} WHERE {};".format(
                *map(_quoted, (table, one.field.column)),
                "…" if hidden else _suggested(one),
                " AND ".join(
                    f"{_quoted(field.column)} = {_literal(_text(part)) if type(part) is bytearray else part}"
                    for field, part in zip(key_fields(model), one.key)
                ),
            )
        )
    if len(odd) > _NAMED:
        lines.append(f"… and {len(odd) - _NAMED} more")
    return SauvegardeError(
        f"{model._meta.label_lower} holds {len(odd)} value(s) that its fields cannot read.",
        "\n".join(lines),
        "Nothing was written. Correct the database, for example: " + " ".join(fixes[:5]),
    )


def _shown(value: Any) -> str:
    if type(value) is bytearray:
        return '"' + value.decode("utf-8", "backslashreplace") + '"'
    return repr(value)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if type(value) is bytearray else str(value)


def _suggested(odd: Oddity) -> str:
    """Return a literal in place of the value, as far as it can be guessed."""
    kind, raw = odd.field.get_internal_type(), odd.value
    try:
        text = bytes(raw).decode("utf-8") if isinstance(raw, (bytes, bytearray)) else str(raw)
    except UnicodeDecodeError:
        return _literal(bytes(raw).decode("latin-1"))
    with contextlib.suppress(ValueError, ArithmeticError):
        midnight = _MIDNIGHT.match(text)
        if kind == "DateField" and midnight:
            datetime.datetime.strptime(midnight.group(1), "%Y-%m-%d")
            return _literal(midnight.group(1))
        if kind == "DecimalField":
            number = decimal.Decimal(text.strip().replace(",", "."))
            if number.is_finite():
                return str(number)
    return "NULL" if odd.field.null else "…"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
