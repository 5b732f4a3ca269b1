"""Inside the site: what the target's database would not keep of a value, found before anything is written.

Each finding is a problem of its own kind (`load.POLICIES`), which names the value and what would be stored of it.
"""

import datetime
import decimal
import json
import re
from typing import Any, Callable, Optional

SQLITE_DIGITS = 15  # of a decimal that SQLite keeps: it stores them as floating point numbers
_WHOLE_OF_SQLITE = 2**63
_SURROGATE = re.compile("[\ud800-\udfff]")


def of_decimal(value: decimal.Decimal, field: Any) -> Optional[decimal.Decimal]:
    """What Django reads back from SQLite where that is another number; else None."""
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
    """Whether the duration has more microseconds than SQLite's integers hold."""
    return abs(value // datetime.timedelta(microseconds=1)) >= _WHOLE_OF_SQLITE


def has_surrogate(text: str) -> bool:
    """Whether the text holds half of a pair that stands for one character (an emoji that was cut)."""
    return bool(_SURROGATE.search(text))


def without_surrogates(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def escaped(text: str) -> bytes:
    """The bytes of a JSON text, surrogates as JSON's own escapes."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text).encode("utf-8")


def any_in(value: Any, is_wrong: Callable[[Any], bool]) -> bool:
    """Whether a JSON value, or anything inside it, is wrong."""
    if isinstance(value, dict):
        return any(is_wrong(key) or any_in(item, is_wrong) for key, item in value.items())
    if isinstance(value, list):
        return any(any_in(item, is_wrong) for item in value)
    return is_wrong(value)


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """A JSON value with everything inside it changed."""
    if isinstance(value, dict):
        return {change(key): mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [mapped(item, change) for item in value]
    return change(value)


def is_nan(value: Any) -> bool:
    """Whether the value is a number that JSON does not have: not a number, or infinite."""
    return isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))


def short(value: Any) -> str:
    """A JSON value for a message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:59] + "…"
