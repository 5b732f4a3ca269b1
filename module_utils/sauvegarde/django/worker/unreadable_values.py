"""Inside the site: values in an SQLite file that its columns' fields cannot read, named with the way to correct them.

SQLite takes any value into any column: bytes that are no UTF-8, zero dates, text in a decimal column. Django raises an
error that names no row, or reads a date that it does not understand as NULL.
"""

import contextlib
import datetime
import decimal
import re
from typing import Any, Callable, Iterable, List, NamedTuple, Tuple

from django.utils.dateparse import parse_date, parse_datetime, parse_time

from ...errors import SauvegardeError

PARSED = {"DateTimeField": parse_datetime, "DateField": parse_date, "TimeField": parse_time}
_NAMED = 20
_MIDNIGHT = re.compile(r"(\d{4}-\d\d-\d\d)[ T]00:00:00(?:\.0+)?\Z", re.ASCII)


class Unreadable(Exception):
    """A value that its field reads as NULL though it is none."""


class Oddity(NamedTuple):
    """One such value: its field, its row's key (a part for each column), the raw value and why it cannot be read."""

    field: Any
    key: Tuple[Any, ...]
    value: Any
    why: str


def reader(field: Any, connection: Any) -> Callable[[Any], Any]:
    """A function from the driver's raw value, texts as bytearrays, to the one that Django makes of it."""
    column = field.get_col(field.model._meta.db_table)
    converters = connection.ops.get_db_converters(column) + column.get_db_converters(connection)
    parse = PARSED.get(field.get_internal_type(), str)

    def made(each: Any) -> Any:
        if type(each) is bytearray:
            each = parse(each.decode("utf-8"))
            if each is None:
                raise Unreadable("it is no date or time that Django knows")
        for convert in converters if each is not None else ():
            each = convert(each, column, connection)
        return each

    return made


def oddities(model: Any, connection: Any, kinds: Iterable[str] = ()) -> List[Oddity]:
    """What the model's own table holds that its fields cannot read; of these `kinds` only, where some are named."""
    meta, quote = model._meta, connection.ops.quote_name
    # A geometry's raw value is not what its field reads.
    fields = [each for each in meta.local_concrete_fields if not hasattr(each, "geom_type")]
    fields = [each for each in fields if not kinds or each.get_internal_type() in kinds]
    if not fields:
        return []
    keys = _keys(model)
    columns = ", ".join("+" + quote(field.column) for field in [*keys, *fields])  # without declared types
    readers = [reader(field, connection) for field in fields]
    found: List[Oddity] = []
    raw = connection.connection
    kept, raw.text_factory = raw.text_factory, bytearray
    try:
        for row in raw.execute(f"SELECT {columns} FROM {quote(meta.db_table)}"):
            key = row[: len(keys)]
            for field, read, value in zip(fields, readers, row[len(keys) :]):
                try:
                    read(value)
                except UnicodeDecodeError:
                    found.append(Oddity(field, key, value, "its bytes are not UTF-8"))
                except (Unreadable, ValueError, TypeError, AttributeError, ArithmeticError) as error:
                    found.append(Oddity(field, key, value, str(error)))
    finally:
        raw.text_factory = kept
    return found


def _keys(model: Any) -> List[Any]:
    """The fields of the model's key."""
    return list(getattr(model._meta, "pk_fields", [model._meta.pk]))


def error_of(model: Any, found: List[Oddity], hidden: bool) -> SauvegardeError:
    """The error that names them. `hidden`: the values are to be masked, and are not shown."""
    table = model._meta.db_table
    lines, fixes = [], []
    for each in found[:_NAMED]:
        value = "" if hidden else f", value {_shown(each.value)}"
        key = ", ".join(map(_text, each.key))
        lines.append(f"table {table}, column {each.field.column}, key {key}{value}: {each.why}")
        fixes.append(
            "UPDATE {} SET {} = {} WHERE {};".format(
                *map(_quoted, (table, each.field.column)),
                "…" if hidden else _suggested(each),
                " AND ".join(
                    f"{_quoted(field.column)} = {_literal(_text(part)) if type(part) is bytearray else part}"
                    for field, part in zip(_keys(model), each.key)
                ),
            )
        )
    if len(found) > _NAMED:
        lines.append(f"… and {len(found) - _NAMED} more")
    return SauvegardeError(
        f"{model._meta.label_lower} holds {len(found)} value(s) that its fields cannot read.",
        "\n".join(lines),
        "Nothing was written. Correct the database, for example: " + " ".join(fixes[:5]),
    )


def _shown(value: Any) -> str:
    if type(value) is bytearray:
        return '"' + value.decode("utf-8", "backslashreplace") + '"'
    return repr(value)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if type(value) is bytearray else str(value)


def _suggested(each: Oddity) -> str:
    """A literal in place of the value, as far as it can be guessed."""
    kind, raw = each.field.get_internal_type(), each.value
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
    return "NULL" if each.field.null else "…"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
