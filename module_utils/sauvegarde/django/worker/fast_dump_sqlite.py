"""Make a fixture's bytes from the values of SQLite's own cursor, without the driver's conversions.

Texts come as bytearrays, and so differ from blobs. They are escaped for JSON many at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable

from .fast_dump import CONTROL, WHOLE_KINDS, FastDump, exact_json, quoted
from .unreadable_values import reader

if TYPE_CHECKING:
    from .django_types import Field
    from .fast_dump import Texts, Values

_ROWS = 100  # rows that are encoded together
_TEXT: Any = bytearray  # as which the driver gives texts


class SqliteFastDump(FastDump):
    """Reads with statements of its own on the driver's connection."""

    def prepare(self) -> None:
        # The sign takes a column's declared type away, and with it the driver's conversion.
        columns = ", ".join(f"+{self.table}.{self.quote(field.column)}" for field in self.fields)
        self.select = f"SELECT {columns} FROM {self.table} ORDER BY {self.key}"
        # The members of a chunk: those of all keys from its first to its last.
        self.members = [self.pairs_sql(field, "{} BETWEEN ?1 AND ?2") for field in self.many]

    def write(self, add: Callable[[Texts], None]) -> int:
        connection, count = self.connection.connection, 0
        kept, connection.text_factory = connection.text_factory, _TEXT
        try:
            with self.connection.wrap_database_errors:
                rows = connection.execute(self.select)
                for chunk in iter(lambda: rows.fetchmany(_ROWS), []):
                    columns = list(zip(*chunk))
                    add(self.rendered(columns, self._members(connection, columns[0])))
                    count += len(chunk)
        finally:
            connection.text_factory = kept
        return count

    def _members(self, connection: Any, keys: Values) -> Iterator[Texts]:
        """Yield the texts of the chunk's lists, for each many-to-many field."""
        keys = _decoded(keys)
        for sql, kind in zip(self.members, self.member_kinds):
            lists: dict[Any, Texts] = {}
            pairs = connection.execute(sql, (keys[0], keys[-1])).fetchall()
            if pairs:
                sources, members = zip(*pairs)
                texts = self.whole(members) if kind in WHOLE_KINDS else self.texts(members, b"null")
                for source, text in zip(_decoded(sources), texts):
                    lists.setdefault(source, []).append(text)
            yield [b"[" + self.comma.join(lists[key]) + b"]" if key in lists else b"[]" for key in keys]

    # --- encoders -----------------------------------------------------------------------------------------------------

    def texts(self, values: Values, null: bytes) -> Texts:
        data = b"\0".join([value if type(value) is _TEXT else b"" for value in values])
        data.decode("utf-8")  # raises for bytes that are no text, which SQLite takes
        if len(data.translate(None, CONTROL)) != len(data):
            return self._odd_texts(values, null)
        for char, escape in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t")):
            data = data.replace(char, escape)
        texts = data.split(b"\0")
        if len(texts) != len(values):  # a text holds a NUL character
            return self._odd_texts(values, null)
        return [b'"' + text + b'"' if type(value) is _TEXT else _odd(value, null) for value, text in zip(values, texts)]

    def _odd_texts(self, values: Values, null: bytes) -> Texts:
        return [quoted(value.decode("utf-8")) if type(value) is _TEXT else _odd(value, null) for value in values]

    def whole(self, values: Values) -> Texts:
        if set(map(type, values)) == {int}:
            return str(list(values))[1:-1].encode("ascii").split(b", ")
        return [b"%d" % value if type(value) is int else _odd(value, b"null") for value in values]

    def uuids(self, values: Values, field: Field) -> Texts:
        return [
            b'"%b-%b-%b-%b-%b"' % (value[:8], value[8:12], value[12:16], value[16:20], value[20:])
            if type(value) is _TEXT and _HEXADECIMAL.match(value)
            else self.others([value], field)[0]
            for value in values
        ]

    def booleans(self, values: Values, field: Field) -> Texts:
        # As Django's converter for the driver: whatever is not 1 is false.
        return [b"null" if value is None else b"true" if value in (1, b"1") else b"false" for value in values]

    def moments(self, values: Values, field: Field) -> Texts:
        exact = self.style.exact
        return [
            b'"%bT%bZ"' % (value[:10], value[11:] if exact and value[23:] != b"000" else value[11:23])
            if type(value) is _TEXT and _MOMENT.match(value)
            else self.others([value], field)[0]
            for value in values
        ]

    def days(self, values: Values, field: Field) -> Texts:
        return [
            b'"%b"' % value if type(value) is _TEXT and _DAY.match(value) else self.others([value], field)[0]
            for value in values
        ]

    def reader_of(self, field: Field) -> Callable[[Any], Any]:
        read = reader(field, self.connection)
        if not self.is_exact(field):
            return read

        def exact(value: Any) -> Any:
            try:
                text = value.decode("utf-8") if isinstance(value, (bytes, bytearray)) else ""
            except UnicodeDecodeError:
                text = ""  # `read` raises an error that names it
            return exact_json(text, value, field, read)

        return exact


# As Django writes them into SQLite: microseconds are left out if there are none. A leap day takes the long way.
_DAYS = rb"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
_MOMENT = re.compile(rb"(?!0000)\d{4}-" + _DAYS + rb" (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{6})?\Z")
_DAY = re.compile(rb"(?!0000)\d{4}-" + _DAYS + rb"\Z")
_HEXADECIMAL = re.compile(rb"[0-9a-f]{32}\Z")


def _decoded(keys: Values) -> Values:
    if _TEXT not in map(type, keys):
        return keys
    return [key.decode("utf-8") if type(key) is _TEXT else key for key in keys]


def _odd(value: Any, null: bytes) -> bytes:
    """Return the text of a value of another type than its column's, which SQLite allows."""
    if value is None:
        return null
    if type(value) in (int, float):
        return json.dumps(value).encode("ascii")
    return quoted(value.decode("utf-8") if type(value) is _TEXT else str(value))
