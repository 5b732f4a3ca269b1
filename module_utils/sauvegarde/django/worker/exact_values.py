"""Write and read values that a database holds and stock fixtures lose: JSON null, long numbers in JSON, rasters.

A dump with the option `exact` writes them in a form of its own, and loads take it. JSON null becomes the object
`JSON_NULL` (SQL's NULL is `null`, as in every fixture). JSON with numbers that Python's floats cannot hold becomes the
database's text under the key `JSON_TEXT`. Dates beyond Python's are PostgreSQL's text (see `dates_beyond_python`).
"""

from __future__ import annotations

import decimal
import functools
import json
import re
from typing import TYPE_CHECKING, Any, Callable

from django.db import models

from ..fixture_stream import JSON_TEXT
from .dates_beyond_python import DATE_FIELDS, is_beyond_python
from .model_selection import rows_of

if TYPE_CHECKING:
    from .django_types import Connection, Field, Model

JSON_NULL = {"__json_null__": True}
# Numbers that may need more digits than a float has: as Python, PostgreSQL and SQLite match them.
_LONG = re.compile(r"[0-9.]{17}|[0-9][eE]")
_LONG_IN = {
    "postgresql": "{0} ~ '[0-9.]{{17}}'",
    "sqlite": "{0} GLOB '*" + 17 * "[0-9.]" + "*' OR {0} GLOB '*[0-9][eE]*'",
}
# Escapes that not every database takes in a text: half a character, NUL.
_ESCAPES = ("\\ud", "\\u0000")
_DECIMALS = ("NaN", "Infinity", "-Infinity")
HEXADECIMAL = re.compile(r"(?:[0-9A-Fa-f]{2})+\Z", re.ASCII)


def is_special(kind: str, value: Any) -> bool:
    """Return whether a fixture's value, of a field of this kind, is one that only PostgreSQL's own text can hold."""
    if type(value) is not str:
        return False
    return value in _DECIMALS if kind == "DecimalField" else is_beyond_python(kind, value)


def keeps_json(field: Field) -> bool:
    """Return whether the field holds JSON and converts its values as Django does."""
    json_field = getattr(models, "JSONField", None)
    if json_field is None or not isinstance(field, json_field):
        return False
    names = ("from_db_value", "get_prep_value", "get_db_prep_value", "get_db_prep_save")
    return all(
        getattr(type(field), name).__module__.startswith("django.db.models.") for name in names if hasattr(field, name)
    )


def json_special(text: str, null: bool) -> dict[str, Any] | None:
    """Return what an exact fixture holds for the database's JSON text; None if Python's value is the same.

    null: whether the field can hold SQL's NULL, which Python cannot tell from JSON's.
    """
    if text == "null":
        return dict(JSON_NULL) if null else None
    if not _LONG.search(text) or any(escape in text.lower() for escape in _ESCAPES):
        return None
    inexact: list[str] = []

    def number(digits: str) -> float:
        value = float(digits)
        if decimal.Decimal(digits) != decimal.Decimal(repr(value)):
            inexact.append(digits)
        return value

    try:
        json.loads(text, parse_float=number, parse_constant=_refuse)
    except ValueError:
        return None
    return {JSON_TEXT: text} if inexact else None


def _refuse(constant: str) -> None:
    raise ValueError(constant + " is no JSON")


def json_text(value: Any) -> str | None:
    """Return the database's text of what `json_special` returned; None for any other value."""
    if value == JSON_NULL:
        return "null"
    text = value.get(JSON_TEXT) if type(value) is dict and len(value) == 1 else None
    return text if type(text) is str and json_special(text, False) is not None else None


def is_raster(field: Field) -> bool:
    """Return whether the field holds rasters, for which stock writes an empty text."""
    return getattr(field, "geom_type", None) == "RASTER"


def raster_text(field: Field, connection: Connection) -> str:
    """Return SQL for a raster's own text: hexadecimal digits, as PostGIS takes them."""
    quote = connection.ops.quote_name
    return f"CAST({quote(field.model._meta.db_table)}.{quote(field.column)} AS text)"


def raster_of(value: Any) -> Any:
    """Return the same text for the raster of an object."""
    if value is None or isinstance(value, str):
        return value
    from django.contrib.gis.db.backends.postgis.pgraster import to_pgraster  # needs GDAL

    return bytes(to_pgraster(value)).hex().upper()


def raster_values(text: str) -> Any:
    """Return what builds an object's raster, from its text."""
    from django.contrib.gis.db.backends.postgis.pgraster import from_pgraster  # needs GDAL

    return from_pgraster(text)


def special_values(model: type[Model], connection: Connection) -> dict[str, dict[Any, Any]]:
    """Return {field: {key of an object: what an exact fixture holds}} of the values that Python's own lose."""
    special: dict[str, dict[Any, Any]] = {}
    quote, postgres = connection.ops.quote_name, connection.vendor == "postgresql"
    for field in model._meta.local_concrete_fields:
        column = f"{quote(model._meta.db_table)}.{quote(field.column)}"
        convert: Callable[[str], Any] = str
        if keeps_json(field):
            text = f"CAST({column} AS text)"
            where = f"{text} = 'null' OR {_LONG_IN[connection.vendor].format(text)}"
            convert = functools.partial(json_special, null=field.null)
        elif postgres and field.get_internal_type() in DATE_FIELDS:
            where = f"NOT {column} BETWEEN '0001-01-01' AND '9999-12-31 23:59:59.999999'"
        else:
            continue
        rows = rows_of(model, connection.alias).extra(
            select={"sauvegarde_text": f"CAST({column} AS text)"}, where=[where]
        )
        texts = rows.order_by().values_list("pk", "sauvegarde_text").iterator()
        values = {pk: value for pk, value in ((pk, convert(text)) for pk, text in texts) if value is not None}
        if values:
            special[field.name] = values
    return special
