"""Inside the site: values that a database holds and stock fixtures lose: JSON null, infinity, dates beyond Python's.

A dump with the option `exact` writes them in a form of its own, and loads take it: JSON null (SQL's NULL is `null` as
ever) as the object `JSON_NULL`, a date that Python cannot hold as PostgreSQL's text.
"""

import datetime
import re
from typing import Any, Dict

from django.db import models

from .worker_models import rows_of

JSON_NULL = {"__json_null__": True}
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


def keeps_json_null(field: Any) -> bool:
    """Whether the field can hold SQL's NULL and JSON's, and converts its values as Django does."""
    json_field = getattr(models, "JSONField", None)
    if json_field is None or not isinstance(field, json_field) or not field.null:
        return False
    names = ("from_db_value", "get_prep_value", "get_db_prep_value", "get_db_prep_save")
    return all(
        getattr(type(field), name).__module__.startswith("django.db.models.") for name in names if hasattr(field, name)
    )


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
        if keeps_json_null(field):
            where, made = f"CAST({column} AS text) = 'null'", lambda text: JSON_NULL
        elif postgres and field.get_internal_type() in DATES:
            where, made = f"NOT {column} BETWEEN '0001-01-01' AND '9999-12-31 23:59:59.999999'", str
        else:
            continue
        rows = rows_of(model, connection.alias).extra(
            select={"sauvegarde_text": f"CAST({column} AS text)"}, where=[where]
        )
        values = {pk: made(text) for pk, text in rows.order_by().values_list("pk", "sauvegarde_text").iterator()}
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
        class Endless(Loader):  # type: ignore[misc]
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
