"""Write values as PostgreSQL's text: arrays, hstores, ranges, and the scalars inside them."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import ipaddress
import json
import uuid
from typing import Any, Callable

from .fast_or_stock import FastNotPossible

_ADDRESSES = (ipaddress.IPv4Address, ipaddress.IPv6Address)
# Values that `marshal` writes and that COPY or a statement takes as they are.
PLAIN_TYPES = {str, int, float, bool, bytes, type(None)}


def plain_value(value: Any, name: str, postgres: bool) -> Any:
    """Return the value as one of `PLAIN_TYPES`, equal to it for the database.

    `name`: of the field, for the message; `postgres`: whether PostgreSQL's text forms are allowed. Raises
    FastNotPossible for values of other kinds.
    """
    kind = type(value)
    if kind in PLAIN_TYPES:
        return value
    for base in (bool, str, int):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, datetime.datetime):
        return _in_utc(value)
    text = _scalar_text(value)
    if text is not None:
        return text
    binary = getattr(value, "adapted", getattr(value, "obj", value))
    if isinstance(binary, (bytes, bytearray, memoryview)):
        return bytes(binary)
    if binary is not value and hasattr(value, "dumps"):
        return _json_text(value, binary)
    text = postgres_text(value) if postgres else None
    if text is None:
        raise FastNotPossible(f"its field {name} has values of its own kind")
    return text


def postgres_text(value: Any) -> str | None:
    """Return PostgreSQL's text of an array, an hstore or a range; None for anything else."""
    if isinstance(value, (list, tuple)):
        return "{" + ",".join(["NULL" if item is None else _element(item) for item in value]) + "}"
    if isinstance(value, dict) and all(isinstance(part, (str, type(None))) for pair in value.items() for part in pair):
        return ",".join(
            "{}=>{}".format(_quoted(key), "NULL" if item is None else _quoted(item)) for key, item in value.items()
        )
    if all(hasattr(value, name) for name in ("isempty", "lower", "upper", "lower_inc", "upper_inc")):
        if value.isempty:
            return "empty"
        ends = ["" if end is None else _quoted(_text(end)) for end in (value.lower, value.upper)]
        return "{}{},{}{}".format("[" if value.lower_inc else "(", *ends, "]" if value.upper_inc else ")")
    return None


def _element(value: Any) -> str:
    """Return the text of an array's element."""
    if isinstance(value, (list, tuple)):
        return postgres_text(value) or ""
    return _quoted(_text(value))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(value: Any) -> str:
    """Return the text of a value inside an array or a range."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    text = _scalar_text(value)
    if text is not None:
        return text
    inner = getattr(value, "adapted", getattr(value, "obj", value))
    if inner is not value and hasattr(value, "dumps"):
        return _json_text(value, inner)
    if isinstance(inner, (bytes, bytearray, memoryview)):
        return "\\x" + bytes(inner).hex()
    text = postgres_text(value)
    if text is None:
        raise FastNotPossible("it holds values of their own kind")
    return text


def _scalar_text(value: Any) -> str | None:
    """Return the text of a day, time, duration, number, UUID or address; None for anything else."""
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"
    if isinstance(value, (decimal.Decimal, uuid.UUID, *_ADDRESSES)):
        return str(value)
    return None


def _json_text(adapter: Any, value: Any) -> str:
    """Return the text that a driver's JSON adapter sends. In psycopg 3 its `dumps` is an attribute that may be None."""
    dumps: Callable[[Any], str] = adapter.dumps or json.dumps
    return dumps(value)


def _in_utc(value: datetime.datetime) -> str:
    """Return one text for a moment, whatever its time zone: keys are compared by it."""
    with contextlib.suppress(OverflowError):  # the first and the last moments have no other time zone
        value = value if value.tzinfo is None else value.astimezone(datetime.timezone.utc)
    return str(value)
