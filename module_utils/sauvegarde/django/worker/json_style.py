"""Write objects as stock `dumpdata` writes them, byte for byte: JSON with any indent, or JSON lines."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections.abc import Sequence
from typing import Any, Callable

from django.core import serializers
from django.core.serializers.json import DjangoJSONEncoder

ToText = Callable[[Any], str]

quote = json.encoder.encode_basestring
_encode = DjangoJSONEncoder(ensure_ascii=False).encode
# Types whose values a serialized object holds as they are, as Django's `is_protected_type`.
PROTECTED = (type(None), int, float, decimal.Decimal, datetime.datetime, datetime.date, datetime.time)
_SCALARS: dict[type, ToText] = {
    str: quote,
    int: int.__repr__,
    float: lambda value: repr(value) if math.isfinite(value) else json.dumps(value),
    bool: lambda value: "true" if value else "false",
    type(None): lambda value: "null",
    datetime.date: lambda value: '"' + value.isoformat() + '"',
    decimal.Decimal: lambda value: '"' + str(value) + '"',
}


class _ExactEncoder(DjangoJSONEncoder):
    """Keeps microseconds. A moment without any is written as stock writes it."""

    def default(self, o: Any) -> Any:
        if getattr(o, "microsecond", 0) % 1000 and not (isinstance(o, datetime.time) and o.tzinfo):
            text: str = o.isoformat()
            return text[:-6] + "Z" if text.endswith("+00:00") else text
        return super().default(o)


def _moment(value: datetime.datetime) -> str:
    """Return a moment as `DjangoJSONEncoder` writes it, with fewer steps."""
    text = value.isoformat()
    if value.microsecond:
        text = text[:23] + text[26:]
    return '"' + (text[:-6] + "Z" if text.endswith("+00:00") else text) + '"'


# The shortest way for columns that cannot be NULL. A value of another type raises.
_QUICK: dict[str, ToText] = {
    "CharField": quote,
    "TextField": quote,
    "SlugField": quote,
    "IntegerField": int.__repr__,
    "BigIntegerField": int.__repr__,
    "PositiveIntegerField": int.__repr__,
    "AutoField": int.__repr__,
    "BigAutoField": int.__repr__,
}


class Style:
    """How objects look as text: the format (json or jsonl), the indent, and whether microseconds are kept (`exact`).

    `scalars`: the writers of simple values, by their type; `quick`: those of whole columns, by the field's internal
    type. `start`, `first`, `between`, `after`, `end`: the texts around and between objects.
    """

    def __init__(self, form: str, indent: int | None, exact: bool = False) -> None:
        self.form, self.exact = form, exact
        encoder = _ExactEncoder if exact else DjangoJSONEncoder
        moment = encoder().default
        exact_moment: ToText = lambda value: '"' + moment(value) + '"'  # noqa: E731 - needed twice
        self.scalars = {**_SCALARS, datetime.datetime: exact_moment}
        self.quick = dict(_QUICK, DateTimeField=exact_moment if exact else _moment)
        self.indent = indent if form == "json" else None  # 0 is an indent, too: one line each, without blanks
        self.pretty = self.indent is not None
        # As stock: separators are shortened if an indent is set, and in JSON lines.
        separators = (",", ": ") if self.pretty or form == "jsonl" else None
        self.entry: ToText = encoder(ensure_ascii=False, indent=self.indent, separators=separators).encode
        self.comma = "," if self.pretty or form == "jsonl" else ", "
        # How an empty list looks differs between versions of Django.
        empty = serializers.serialize(form, [], indent=self.indent)
        self.start, self.end = empty[:1], empty[1:]
        if form == "jsonl":
            self.first, self.between, self.after = "", "", "\n"
        else:
            self.first, self.between, self.after = ("\n", ",\n", "") if self.indent else ("", ", ", "")

    def value(self, value: Any, level: int) -> str:
        """Return any value as text, inside an object at this depth."""
        scalar = self.scalars.get(type(value))
        if scalar is not None:
            return scalar(value)
        text = self.entry(value)
        return text.replace("\n", self._line(level)) if self.pretty else text

    def template(self, label: str, names: Sequence[str], with_key: bool) -> str:
        """Return the text of an object with a `%s` for the key and for each named field."""
        fields = [quote(name).replace("%", "%%") + ": %s" for name in names]
        body = (self.comma + self._line(2)).join(fields)
        parts = ['"model": ' + quote(label)]
        if with_key:
            parts.append('"pk": %s')
        parts.append('"fields": {' + (self._line(2) + body + self._line(1) if fields else "") + "}")
        return "{" + self._line(1) + (self.comma + self._line(1)).join(parts) + self._line(0) + "}"

    def _line(self, level: int) -> str:
        return "\n" + " " * (self.indent * level) if self.indent is not None else ""


def fixture_value(value: Any) -> Any:
    """Return what a fixture holds for the value, parsed from JSON again."""
    return json.loads(_encode(value))


class Stub:
    """An object with one attribute: all that a stock field's `value_to_string` needs."""

    def __init__(self, name: str, value: Any) -> None:
        setattr(self, name, value)
