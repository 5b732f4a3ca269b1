"""Find what the target's database would not keep of a value, before anything is written.

Each finding is a problem of its own kind (`data_load.POLICIES`), which names the value and what would be stored.
"""

from __future__ import annotations

import datetime
import decimal
import json
import re
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from .django_types import Field

SQLITE_DIGITS = 15  # significant digits of a decimal in SQLite, which stores it as a floating point number
_SQLITE_INTEGERS = 2**63
_SURROGATE = re.compile("[\ud800-\udfff]")


def of_decimal(value: decimal.Decimal, field: Field) -> decimal.Decimal | None:
    """Return what Django reads back from SQLite if that is another number; else None."""
    if len(value.normalize().as_tuple().digits) <= SQLITE_DIGITS:
        return None
    raw = int(value) if not field.decimal_places else float(value)
    read = decimal.Context(prec=SQLITE_DIGITS).create_decimal_from_float(raw)
    try:
        kept = read.quantize(decimal.Decimal(1).scaleb(-field.decimal_places), context=field.context)
    except decimal.InvalidOperation:
        kept = read
    return None if kept == value else kept


def is_too_long(value: datetime.timedelta) -> bool:
    """Return whether the duration has more microseconds than SQLite's integers hold."""
    return abs(value // datetime.timedelta(microseconds=1)) >= _SQLITE_INTEGERS


def has_surrogate(text: str) -> bool:
    """Return whether the text holds half of a pair that stands for one character (such as a cut emoji)."""
    return bool(_SURROGATE.search(text))


def is_broken(value: Any) -> bool:
    """Return whether the JSON value is a text with half of a surrogate pair."""
    return isinstance(value, str) and has_surrogate(value)


def without_surrogates(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def escaped(text: str) -> bytes:
    """Return the bytes of a JSON text, with surrogates as JSON's own escapes."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text).encode("utf-8")


def has_nul(value: Any) -> bool:
    """Return whether the JSON value is a text with a NUL character, which PostgreSQL cannot store."""
    return isinstance(value, str) and "\0" in value


def without_nul(value: Any) -> Any:
    return value.replace("\0", "") if isinstance(value, str) else value


def any_in(value: Any, is_wrong: Callable[[Any], bool]) -> bool:
    """Return whether a JSON value, or anything inside it, is wrong."""
    if isinstance(value, dict):
        return any(is_wrong(key) or any_in(item, is_wrong) for key, item in value.items())
    if isinstance(value, list):
        return any(any_in(item, is_wrong) for item in value)
    return is_wrong(value)


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a JSON value with everything inside it changed."""
    if isinstance(value, dict):
        return {change(key): mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [mapped(item, change) for item in value]
    return change(value)


def is_nan(value: Any) -> bool:
    """Return whether the value is a number that JSON does not have: not a number, or infinite."""
    return isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))


def short(value: Any) -> str:
    """Return a JSON value for a message, at most 60 characters long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:59] + "…"
