"""Handle dates that PostgreSQL holds and Python does not: infinity, years beyond 9999 or before 1.

psycopg2 reads infinity as Python's last (and first) date, so stock `dumpdata` writes that. A dump does the same and
warns. With psycopg 3, and for every other such date, stock stops; the error here names the model and how to find the
rows. A dump with the option `exact` writes such dates as PostgreSQL's text, and loads take it (see `exact_values`).
"""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Any

from ...errors import SauvegardeError

if TYPE_CHECKING:
    from .django_types import Connection, Field, Model

DATE_FIELDS = ("DateField", "DateTimeField")
_DATE = re.compile(
    r"-?infinity\Z|\d{4,}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d(?::\d\d)*)?)?(?: BC)?\Z", re.ASCII
)
_OIDS = (1082, 1114, 1184)  # date, timestamp, timestamptz
_ENDS = {
    (b"infinity", "DateTimeField"): b'"9999-12-31T23:59:59.999Z"',
    (b"infinity", "DateField"): b'"9999-12-31"',
    (b"-infinity", "DateTimeField"): b'"0001-01-01T00:00:00Z"',
    (b"-infinity", "DateField"): b'"0001-01-01"',
}


class BeyondPython(Exception):
    """A value in COPY's text that Python's dates cannot hold."""


def is_beyond_python(kind: str, value: str) -> bool:
    """Return whether a fixture's text, of a field of this kind, is a date that only PostgreSQL holds."""
    return (
        kind in DATE_FIELDS
        and (not value[:4].isdigit() or value[4:5] != "-" or value.endswith("BC"))
        and bool(_DATE.match(value))
    )


def nearest_date(kind: str, value: str) -> str:
    """Return Python's first or last date, in place of a date beyond it."""
    is_first = value.startswith("-") or value.endswith("BC")
    end = datetime.datetime.min if is_first else datetime.datetime.max
    return end.date().isoformat() if kind == "DateField" else end.isoformat() + "Z"


def stock_text(value: bytes, field: Field, kind: str, connection: Connection) -> bytes:
    """Return an infinite date as stock writes it. Raises where stock stops. `kind`: of the column's values."""
    psycopg2 = hasattr(connection.connection, "get_dsn_parameters")
    text = _ENDS.get((value, kind)) if psycopg2 else None
    if text is None:
        raise unreadable(field.model, "{} is {}".format(field.name, value.decode("utf-8", "replace")))
    return text


def warning(label: str, name: str, count: int) -> str:
    """Return the warning of a dump that wrote infinite dates as Python's last or first."""
    return f"{label}.{name}: infinity in {count} row(s) is written as 9999-12-31 or 0001-01-01, as stock dumpdata does."


def unreadable(model: type[Model], why: object) -> SauvegardeError:
    """Return the error for a row that Python cannot read, with a query that finds it."""
    meta = model._meta
    dates = [field for field in meta.local_fields if field.get_internal_type() in DATE_FIELDS]
    query = ""
    if dates:
        quoted = ['"' + field.column.replace('"', '""') + '"' for field in (meta.pk, *dates)]
        conditions = [f"NOT {name} BETWEEN '0001-01-01' AND '9999-12-31'" for name in quoted[1:]]
        query = 'SELECT {} FROM "{}" WHERE {};'.format(", ".join(quoted), meta.db_table, " OR ".join(conditions))
    return SauvegardeError(
        f"A row of {meta.label_lower} holds a value that Python cannot read.",
        str(why),
        "Stock dumpdata stops there, too. Correct the rows. " + ("A date may be the reason: " + query if query else ""),
    )


def read_endless_dates(connection: Connection) -> None:
    """Let psycopg 3 read dates beyond Python's as its last or first one, as psycopg2 does with infinity."""
    raw = connection.connection
    if not (hasattr(raw, "pgconn") and hasattr(raw, "adapters")):
        return
    from psycopg.pq import Format

    for oid in _OIDS:
        base = raw.adapters.get_loader(oid, Format.TEXT)
        if base is not None:
            kind = datetime.date if oid == _OIDS[0] else datetime.datetime
            raw.adapters.register_loader(oid, _endless_loader(base, kind, oid == _OIDS[2]))


def _endless_loader(base: Any, kind: Any, aware: bool) -> Any:
    """Return a psycopg 3 loader that asks `base`, and gives the end of `kind` for what `base` cannot load.

    `base` may be a class in C, which cannot be subclassed.
    """
    from psycopg import DataError
    from psycopg.adapt import Loader

    parent: Any = Loader

    class Endless(parent):
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
