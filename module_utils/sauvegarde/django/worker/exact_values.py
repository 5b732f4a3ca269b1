"""Inside the site: values that a database holds and stock fixtures lose: JSON null, infinity, dates beyond Python's.

A dump with the option `exact` writes them in a form of its own, and loads take it: JSON null (SQL's NULL is `null` as
ever) as the object `JSON_NULL`, JSON with numbers that Python's floats do not hold as its text under the key
`JSON_TEXT`, a date that Python cannot hold as PostgreSQL's text.
"""

import datetime
import decimal
import functools
import json
import re
from typing import Any, Dict, List, Optional

from django.db import models

from ..fixture_stream import JSON_TEXT
from .site_models import rows_of

JSON_NULL = {"__json_null__": True}
# Numbers that may need more than a float, as PostgreSQL and SQLite match texts, and as Python does.
_LONG = re.compile(r"[0-9.]{17}|[0-9][eE]")
_LONG_IN = {
    "postgresql": "{0} ~ '[0-9.]{{17}}'",
    "sqlite": "{0} GLOB '*" + 17 * "[0-9.]" + "*' OR {0} GLOB '*[0-9][eE]*'",
}
# Escapes that not every database takes in a text: half a character, NUL.
_ESCAPES = ("\\ud", "\\u0000")
DATES = ("DateField", "DateTimeField")
_DATE = re.compile(
    r"-?infinity\Z|\d{4,}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d(?::\d\d)*)?)?(?: BC)?\Z", re.ASCII
)
_DECIMAL = ("NaN", "Infinity", "-Infinity")
HEXADECIMAL = re.compile(r"(?:[0-9A-Fa-f]{2})+\Z", re.ASCII)
_OIDS = (1082, 1114, 1184)  # date, timestamp, timestamptz


def is_special(kind: str, value: Any) -> bool:
    """Whether a fixture's value, of a field of that kind, is one that only PostgreSQL's own text can give."""
    if type(value) is not str:
        return False
    if kind == "DecimalField":
        return value in _DECIMAL
    return (
        kind in DATES
        and (not value[:4].isdigit() or value[4:5] != "-" or value.endswith("BC"))
        and bool(_DATE.match(value))
    )


def limit(kind: str, value: str) -> str:
    """The last or the first date that Python holds, in place of one beyond."""
    first = value.startswith("-") or value.endswith("BC")
    end = datetime.datetime.min if first else datetime.datetime.max
    return end.date().isoformat() if kind == "DateField" else end.isoformat() + "Z"


def keeps_json(field: Any) -> bool:
    """Whether the field holds JSON and converts its values as Django does."""
    json_field = getattr(models, "JSONField", None)
    if json_field is None or not isinstance(field, json_field):
        return False
    names = ("from_db_value", "get_prep_value", "get_db_prep_value", "get_db_prep_save")
    return all(
        getattr(type(field), name).__module__.startswith("django.db.models.") for name in names if hasattr(field, name)
    )


def json_special(text: str, null: bool) -> Optional[Dict[str, Any]]:
    """What an exact fixture holds for a database's JSON text whose value in Python is another; None where it is not.

    null: whether the field can hold SQL's NULL, which Python does not tell from JSON's.
    """
    if text == "null":
        return JSON_NULL if null else None
    if not _LONG.search(text) or any(each in text.lower() for each in _ESCAPES):
        return None
    inexact: List[str] = []

    def number(digits: str) -> float:
        found = float(digits)
        if decimal.Decimal(digits) != decimal.Decimal(repr(found)):
            inexact.append(digits)
        return found

    try:
        json.loads(text, parse_float=number, parse_constant=_refuse)
    except ValueError:
        return None
    return {JSON_TEXT: text} if inexact else None


def _refuse(constant: str) -> None:
    raise ValueError(constant + " is no JSON")


def json_text(value: Any) -> Optional[str]:
    """The database's text of what `json_special` made; None of any other value."""
    if value == JSON_NULL:
        return "null"
    text = value.get(JSON_TEXT) if type(value) is dict and len(value) == 1 else None
    return text if type(text) is str and json_special(text, False) is not None else None


def is_raster(field: Any) -> bool:
    """Whether the field holds rasters, of which stock writes an empty text."""
    return getattr(field, "geom_type", None) == "RASTER"


def raster_text(field: Any, connection: Any) -> str:
    """SQL of a raster's own text: hexadecimal digits, as PostGIS takes them."""
    quote = connection.ops.quote_name
    return f"CAST({quote(field.model._meta.db_table)}.{quote(field.column)} AS text)"


def raster_of(value: Any) -> Any:
    """The same text of an object's raster."""
    if value is None or isinstance(value, str):
        return value
    from django.contrib.gis.db.backends.postgis.pgraster import to_pgraster  # only where there is GDAL

    return bytes(to_pgraster(value)).hex().upper()


def raster_values(text: str) -> Any:
    """What an object's raster is made of, of its text."""
    from django.contrib.gis.db.backends.postgis.pgraster import from_pgraster  # only where there is GDAL

    return from_pgraster(text)


def special_values(model: Any, connection: Any) -> Dict[str, Dict[Any, Any]]:
    """{field: {key of an object: what an exact fixture holds}} of the values that Python's own do not tell."""
    found: Dict[str, Dict[Any, Any]] = {}
    quote, postgres = connection.ops.quote_name, connection.vendor == "postgresql"
    for field in model._meta.local_concrete_fields:
        column = f"{quote(model._meta.db_table)}.{quote(field.column)}"
        if keeps_json(field):
            text = f"CAST({column} AS text)"
            where = f"{text} = 'null' OR {_LONG_IN[connection.vendor].format(text)}"
            made: Any = functools.partial(json_special, null=field.null)
        elif postgres and field.get_internal_type() in DATES:
            where, made = f"NOT {column} BETWEEN '0001-01-01' AND '9999-12-31 23:59:59.999999'", str
        else:
            continue
        rows = rows_of(model, connection.alias).extra(
            select={"sauvegarde_text": f"CAST({column} AS text)"}, where=[where]
        )
        texts = rows.order_by().values_list("pk", "sauvegarde_text").iterator()
        values = {pk: value for pk, value in ((pk, made(text)) for pk, text in texts) if value is not None}
        if values:
            found[field.name] = values
    return found


def read_endless_dates(connection: Any) -> None:
    """Let psycopg 3 read dates that Python cannot hold as its last or first one, as psycopg2 does with infinity."""
    raw = connection.connection
    if not (hasattr(raw, "pgconn") and hasattr(raw, "adapters")):
        return
    from psycopg import DataError
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    def endless(base: Any, kind: Any, aware: bool) -> Any:
        class Endless(Loader):
            """Asks the loader that was registered, which may be one in C that has no subclasses."""

            timezone = getattr(base, "timezone", None)  # Django compares it

            def __init__(self, oid: int, context: Any = None) -> None:
                super().__init__(oid, context)
                self._base = base(oid, context)

            def load(self, data: Any) -> Any:
                try:
                    return self._base.load(data)
                except DataError:
                    text = bytes(data)
                    end = kind.min if text.startswith(b"-") or text.endswith(b"BC") else kind.max
                    return end.replace(tzinfo=datetime.timezone.utc) if aware else end

        return Endless

    for oid in _OIDS:
        base = raw.adapters.get_loader(oid, Format.TEXT)
        if base is not None:
            kind = datetime.date if oid == _OIDS[0] else datetime.datetime
            raw.adapters.register_loader(oid, endless(base, kind, oid == _OIDS[2]))
