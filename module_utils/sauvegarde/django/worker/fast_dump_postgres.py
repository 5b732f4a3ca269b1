"""Make a fixture's bytes from what PostgreSQL's COPY writes: one row a line, tabs between, `\\N` for NULL."""

from __future__ import annotations

import decimal
import re
from typing import TYPE_CHECKING, Any, Callable

from .dates_beyond_python import BeyondPython, stock_text
from .fast_dump import CONTROL, WHOLE_KINDS, FastDump, exact_json, kind_of, quoted
from .fast_or_stock import FastNotPossible
from .model_selection import is_generated

if TYPE_CHECKING:
    from .django_types import Connection, Field
    from .fast_dump import Texts, Values

_BYTES = 1 << 18  # of COPY's lines that are encoded together


class PostgresFastDump(FastDump):
    """COPY escapes text nearly as JSON does, so most texts are taken as they are."""

    def prepare(self) -> None:
        columns = ", ".join(f"{self.table}.{self.quote(field.column)}" for field in self.fields)
        sql = f"SELECT {columns} FROM {self.table} ORDER BY {self.key}"
        if self.many:
            names = ", ".join(f"c{index}" for index in range(len(self.fields)))
            lists = ", ".join(map(self._members_sql, self.many, self.member_kinds))
            sql = f"SELECT r.*, {lists} FROM ({sql}) AS r({names})"
        self.copy = f"COPY ({sql}) TO STDOUT"
        if "%" in sql:
            raise FastNotPossible("its query has a percent sign")

    def _members_sql(self, field: Field, kind: str) -> str:
        """Return SQL for the JSON text of a row's list."""
        value = "m.v::text" if kind in WHOLE_KINDS else "to_json(m.v::text)::text"
        pairs = self.pairs_sql(field, "{} = r.c0")
        return f"(SELECT '[' || string_agg({value}, '{self.style.comma}') || ']' FROM ({pairs}) AS m(s, v))"

    def write(self, add: Callable[[Texts], None]) -> int:
        lines = _Lines(self, add)
        with self.connection.cursor() as cursor, self.connection.wrap_database_errors:
            # As the drivers expect moments and intervals, and as they are read below.
            cursor.execute("SET LOCAL DateStyle = 'ISO'")
            cursor.execute("SET LOCAL IntervalStyle = 'postgres'")
            if hasattr(cursor.cursor, "copy_expert"):  # psycopg2
                cursor.cursor.copy_expert(self.copy, lines)
            else:
                with cursor.cursor.copy(self.copy) as copy:
                    for piece in copy:
                        lines.write(bytes(piece))
        return lines.end()

    def batch(self, data: bytes) -> Texts:
        """Return the texts of whole lines."""
        # Read by `texts`, which `rendered` calls below. \v is an escape that JSON does not have. A backslash in the
        # text before a v looks like it, which is only slower.
        self._is_dirty = b"\\v" in data or len(data.translate(None, CONTROL)) != len(data)
        # One replacement for all columns: texts become JSON strings, which need escaped quotes. `_members` and
        # `_decoded` remove the backslash again where a column is no text.
        lines = data.replace(b'"', b'\\"').split(b"\n")
        lines.pop()
        columns = list(zip(*[line.split(b"\t") for line in lines]))
        count = len(self.fields)
        return self.rendered(columns[:count], [self._members(values) for values in columns[count:]])

    def _members(self, values: Values) -> Texts:
        # JSON inside COPY: its quotes were escaped like the text's, its backslashes are double.
        return [b"[]" if value == b"\\N" else value.replace(b'\\"', b'"').replace(b"\\\\", b"\\") for value in values]

    # --- encoders -----------------------------------------------------------------------------------------------------

    def texts(self, values: Values, null: bytes) -> Texts:
        if self._is_dirty:
            return [null if value == b"\\N" else quoted(_decoded(value)) for value in values]
        return [null if value == b"\\N" else b'"' + value + b'"' for value in values]

    def whole(self, values: Values) -> Texts:
        return [b"null" if value == b"\\N" else value for value in values]

    def uuids(self, values: Values, field: Field) -> Texts:
        return [b"null" if value == b"\\N" else b'"' + value + b'"' for value in values]

    def booleans(self, values: Values, field: Field) -> Texts:
        texts = {b"t": b"true", b"f": b"false", b"\\N": b"null"}
        return [texts[value] for value in values]

    def moments(self, values: Values, field: Field) -> Texts:
        return self._dates(_exact_moment if self.style.exact else _moment, values, field)

    def days(self, values: Values, field: Field) -> Texts:
        return self._dates(_day, values, field)

    def _dates(self, text: Callable[[bytes], bytes], values: Values, field: Field) -> Texts:
        try:
            return [text(value) for value in values]
        except BeyondPython:
            return [self._date(text, value, field) for value in values]

    def _date(self, text: Callable[[bytes], bytes], value: bytes, field: Field) -> bytes:
        try:
            return text(value)
        except BeyondPython:
            if self.style.exact:
                return b'"' + value + b'"'
            self.model_dump.endless[field.name] += 1
            return stock_text(value, field, kind_of(field), self.connection)

    def reader_of(self, field: Field) -> Callable[[Any], Any]:
        kind = field.get_internal_type()
        read: Callable[[Any], Any]
        if kind == "JSONField":
            of_values = field.output_field if is_generated(field) else field
            read = lambda text: of_values.from_db_value(text, None, self.connection)  # noqa: E731 - one of several
            if self.is_exact(field):

                def exact(value: bytes) -> Any:
                    text = None if value == b"\\N" else _decoded(value)
                    return None if text is None else exact_json(text, text, field, read)

                return exact
        elif kind == "DurationField":
            read = _interval_reader(self.connection)
        else:
            read = {"DecimalField": decimal.Decimal, "FloatField": float}.get(kind, str)
        return lambda value: None if value == b"\\N" else read(_decoded(value))


_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


def _decoded(value: bytes) -> str:
    """Return the text of COPY's column after `batch`, which put a backslash before each quote."""
    value = value.replace(b'\\"', b'"')
    if b"\\" in value:
        value = _ESCAPE.sub(lambda match: _ESCAPES.get(match.group(1), match.group(1)), value)
    return value.decode("utf-8")


def _moment(value: bytes) -> bytes:
    """Return `2015-03-01 06:30:12.345678+00` as Django's encoder writes it: cut to milliseconds, if it has any."""
    if value[4:5] == b"-" and value[10:11] == b" " and value[-3:] == b"+00":
        if len(value) == 22:
            return b'"%bT%bZ"' % (value[:10], value[11:19])
        return b'"%bT%bZ"' % (value[:10], (value[11:-3] + b"00")[:12])
    if value == b"\\N":
        return b"null"
    raise BeyondPython()


def _exact_moment(value: bytes) -> bytes:
    """Return the same with its microseconds, if it has any behind the milliseconds."""
    if len(value) > 26 and value[10:11] == b" " and value[4:5] == b"-" and value[-3:] == b"+00":
        return b'"%bT%bZ"' % (value[:10], (value[11:-3] + b"00")[:15])
    return _moment(value)


def _day(value: bytes) -> bytes:
    if len(value) == 10:
        return b'"' + value + b'"'
    if value == b"\\N":
        return b"null"
    raise BeyondPython()


def _interval_reader(connection: Connection) -> Callable[[str], Any]:
    """Return the driver's function from an interval's text to its value."""
    if hasattr(connection.connection, "pgconn") and hasattr(connection.connection, "adapters"):  # psycopg 3
        from psycopg.adapt import Transformer
        from psycopg.pq import Format

        load = Transformer(connection.connection).get_loader(1186, Format.TEXT).load
        return lambda text: load(text.encode("ascii"))
    from psycopg2.extensions import PYINTERVAL

    return lambda text: PYINTERVAL(text, None)


class _Lines:
    """The file into which COPY writes its rows, each by a write of its own."""

    def __init__(self, fast_dump: PostgresFastDump, add: Callable[[Texts], None]) -> None:
        self._fast_dump, self._add = fast_dump, add
        self._lines: list[bytes] = []
        self._size, self._count = 0, 0

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _BYTES:
            self._flush()

    def _flush(self) -> None:
        texts = self._fast_dump.batch(b"".join(self._lines))
        self._lines, self._size = [], 0
        self._count += len(texts)
        self._add(texts)

    def end(self) -> int:
        """Encode what is left; returns the number of all texts."""
        if self._lines:
            self._flush()
        return self._count
