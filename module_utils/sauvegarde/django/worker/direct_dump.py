"""Inside the site: a model's rows as a fixture's bytes, made of the database's own text, column by column.

For models whose columns are all of Django's plain kinds, behind a plain manager, with nothing to mask and no natural
keys to look up. No Python object is made of most values: PostgreSQL's COPY escapes text nearly as JSON does, SQLite's
text is escaped many values at a time. What is not plain is read as `worker_dump` says, and comes to the same bytes.
"""

import decimal
import json
import re
from json.encoder import encode_basestring

from django.conf import settings
from django.db import connections, models
from django.db.models.query import QuerySet

from .exact_values import json_special, keeps_json
from .lossy_values import escaped
from .odd_dates import Beyond, written
from .site_models import is_generated
from .unreadable_values import reader

_ROWS = 100  # rows, or bytes, of which texts are made at a time
_BYTES = 1 << 18
# What neither COPY nor the replacements below change, and JSON has to.
_CONTROL = bytes([*range(1, 9), 11, 12, *range(14, 32)])
_TEXT = ("CharField", "TextField", "SlugField", "FileField", "FilePathField")
_WHOLE = ("IntegerField", "BigIntegerField", "SmallIntegerField", "AutoField", "BigAutoField", "SmallAutoField")
_WHOLE += ("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField")
_OTHERS = ("DecimalField", "DurationField", "FloatField", "GenericIPAddressField", "JSONField")
_KINDS = (*_TEXT, *_WHOLE, *_OTHERS, "BooleanField", "DateTimeField", "DateField", "UUIDField")


class _NotDirect(Exception):
    """Something stands between the rows and their texts."""


def direct(reader):
    """The direct way for the reader's model, or None where it must be read as rows."""
    connection = connections[reader.using]
    way = {"postgresql": _Postgres, "sqlite": _Sqlite}.get(connection.vendor)
    utc = settings.USE_TZ and getattr(connection, "timezone_name", "") == "UTC"
    if way is None or not utc or reader.masking is not None:
        return None
    try:
        return way(reader, connection)
    except _NotDirect:
        return None


def _kind(field):
    """The kind of the column's values; a reference's are of the kind that it leads to."""
    cls = type(field)
    if field.remote_field is not None:
        kind = _kind(field.target_field)
        if kind not in (*_TEXT, *_WHOLE, "UUIDField") or cls.value_to_string is not models.Field.value_to_string:
            raise _NotDirect()
        return kind
    kind = field.get_internal_type()
    converted = hasattr(field, "from_db_value") and cls is not getattr(models, "JSONField", None)
    if kind not in _KINDS or converted or not cls.__module__.startswith("django.db.models."):
        raise _NotDirect()
    return kind


class _Direct:
    """One model's way. `columns` of values in, lists of texts out; each encoder takes one column of a chunk."""

    def __init__(self, reader, connection):
        self.reader, self.connection, self.style = reader, connection, reader.style
        self.quote = connection.ops.quote_name
        meta = reader.model._meta
        self.table = self.quote(meta.db_table)
        self.key = f"{self.table}.{self.quote(meta.pk.column)}"
        self.fields, self.many = reader.columns(), reader.many()
        if any(reader.is_natural(field) for field in (*self.fields, *self.many)):
            raise _NotDirect()
        # Stock orders by the key's field, and so as the model that it points to wants.
        if meta.pk.remote_field is not None and meta.pk.remote_field.model._meta.ordering:
            raise _NotDirect()
        plain = QuerySet(reader.model).using(reader.using).order_by(meta.pk.name).values_list("pk")
        if self._sql(plain) != self._sql(reader.queryset.values_list("pk")):
            raise _NotDirect()
        self.member_kinds = [_kind(field.remote_field.model._meta.pk) for field in self.many]
        if any(kind not in (*_TEXT, *_WHOLE) for kind in self.member_kinds):
            raise _NotDirect()
        self.encoders = [self._encoder(field) for field in self.fields]
        self.template = reader.template().encode("utf-8").replace(b"%s", b"%b")
        self.skip = 0 if reader.with_key else 1
        self.comma = self.style.comma.encode("ascii")
        self.prepare()

    def _sql(self, queryset):
        sql, params = queryset.query.get_compiler(self.reader.using).as_sql()
        if params or "%" in sql:
            raise _NotDirect()
        return sql

    def _encoder(self, field):
        kind = _kind(field)
        if kind in _TEXT:
            null = b'""' if kind == "FileField" else b"null"  # a file that is not there has an empty name
            return lambda values: self.texts(values, null)
        if kind in _WHOLE:
            return self.whole
        quick = {"DateTimeField": self.moments, "DateField": self.days, "UUIDField": self.uuids}
        quick["BooleanField"] = self.booleans
        if kind in quick and type(field).value_to_string.__module__.startswith("django."):
            return lambda values: quick[kind](values, field)
        return lambda values: self.others(values, field)

    def is_exact(self, field):
        """Whether the field's JSON goes into the dump as it is; masks work on Python's values."""
        masking = self.reader.masking
        masked = masking and masking.mask(self.reader.model._meta.label_lower, field.name)
        return self.style.exact and not masked and keeps_json(field)

    def others(self, values, field):
        """By Python's own values, as the driver and Django make them."""
        encode, value = self.reader.encoder(field)[1], self.value(field)
        return [escaped(encode(value(each))) for each in values]

    def pairs(self, field, where):
        """SQL of a many-to-many field's pairs (row, member) in the order in which stock writes them."""
        through = field.remote_field.through
        source = through._meta.get_field(field.m2m_field_name())
        target = through._meta.get_field(field.m2m_reverse_field_name())
        pairs = QuerySet(through).using(self.reader.using).order_by(target.name, target.attname)
        pairs = pairs.values_list(source.attname, target.attname)
        name = f"{self.quote(through._meta.db_table)}.{self.quote(source.column)}"
        return self._sql(pairs.extra(where=[where.format(name)]))

    def rendered(self, columns, lists):
        """The objects' texts, of their columns' values and the texts of their lists."""
        made = [encode(values) for encode, values in zip(self.encoders, columns)]
        if self.style.pretty:
            lists = [[self._indented(text) for text in texts] for texts in lists]
        template = self.template
        return [template % row for row in zip(*made[self.skip :], *lists)]

    def _indented(self, text):
        return text if text == b"[]" else self.style.value(json.loads(text.decode("utf-8")), 2).encode("utf-8")


def _quoted(text):
    return encode_basestring(text).encode("utf-8")


class _Postgres(_Direct):
    """Through COPY: one row a line, tabs between, its own escapes, `\\N` for NULL."""

    def prepare(self):
        columns = ", ".join(f"{self.table}.{self.quote(field.column)}" for field in self.fields)
        sql = f"SELECT {columns} FROM {self.table} ORDER BY {self.key}"
        if self.many:
            names = ", ".join(f"c{place}" for place in range(len(self.fields)))
            lists = ", ".join(map(self._list, self.many, self.member_kinds))
            sql = f"SELECT r.*, {lists} FROM ({sql}) AS r({names})"
        self.copy = f"COPY ({sql}) TO STDOUT"
        if "%" in sql:
            raise _NotDirect()

    def _list(self, field, kind):
        value = "m.v::text" if kind in _WHOLE else "to_json(m.v::text)::text"
        pairs = self.pairs(field, "{} = r.c0")
        return f"(SELECT '[' || string_agg({value}, '{self.style.comma}') || ']' FROM ({pairs}) AS m(s, v))"

    def write(self, add):
        """Hand lists of texts to `add`; returns how many there were."""
        rows = _Rows(self, add)
        with self.connection.cursor() as cursor, self.connection.wrap_database_errors:
            # As the drivers want moments and intervals, and as they are read below.
            cursor.execute("SET LOCAL DateStyle = 'ISO'")
            cursor.execute("SET LOCAL IntervalStyle = 'postgres'")
            if hasattr(cursor.cursor, "copy_expert"):  # psycopg2
                cursor.cursor.copy_expert(self.copy, rows)
            else:
                with cursor.cursor.copy(self.copy) as copy:
                    for piece in copy:
                        rows.write(bytes(piece))
        return rows.end()

    def batch(self, data):
        """The texts of whole lines."""
        # \v is an escape of COPY's only; a backslash in the text before a v looks like it, and is only slower.
        self.dirty = b"\\v" in data or len(data.translate(None, _CONTROL)) != len(data)
        lines = data.replace(b'"', b'\\"').split(b"\n")
        lines.pop()
        columns = list(zip(*[line.split(b"\t") for line in lines]))
        count = len(self.fields)
        return self.rendered(columns[:count], [self._lists(values) for values in columns[count:]])

    def _lists(self, values):
        # JSON inside COPY: its quotes were escaped like the text's, its backslashes are double.
        return [b"[]" if each == b"\\N" else each.replace(b'\\"', b'"').replace(b"\\\\", b"\\") for each in values]

    def texts(self, values, null):
        if self.dirty:
            return [null if each == b"\\N" else _quoted(_plain(each)) for each in values]
        return [null if each == b"\\N" else b'"' + each + b'"' for each in values]

    def whole(self, values):
        return [b"null" if each == b"\\N" else each for each in values]

    def uuids(self, values, field):
        return [b"null" if each == b"\\N" else b'"' + each + b'"' for each in values]

    def booleans(self, values, field):
        known = {b"t": b"true", b"f": b"false", b"\\N": b"null"}
        return [known[each] for each in values]

    def moments(self, values, field):
        return self._dates(_exact_moment if self.style.exact else _moment, values, field)

    def days(self, values, field):
        return self._dates(_day, values, field)

    def _dates(self, text, values, field):
        try:
            return [text(each) for each in values]
        except Beyond:
            return [self._date(text, each, field) for each in values]

    def _date(self, text, value, field):
        try:
            return text(value)
        except Beyond:
            if self.style.exact:
                return b'"' + value + b'"'
            self.reader.endless[field.name] += 1
            return written(value, field, _kind(field), self.connection)

    def value(self, field):
        """A function from a column's bytes to the value that the driver and Django make of them."""
        kind = field.get_internal_type()
        if kind == "JSONField":
            of_values = field.output_field if is_generated(field) else field
            made = lambda text: of_values.from_db_value(text, None, self.connection)  # noqa: E731 - one of several
            if self.is_exact(field):

                def exact(each):
                    text = None if each == b"\\N" else _plain(each)
                    return None if text is None else _exact_json(text, text, field, made)

                return exact
        elif kind == "DurationField":
            made = _interval(self.connection)
        else:
            made = {"DecimalField": decimal.Decimal, "FloatField": float}.get(kind, str)
        return lambda each: None if each == b"\\N" else made(_plain(each))


def _exact_json(text, raw, field, made):
    """What an exact dump holds of a column's JSON text, or what `made` makes of its raw value."""
    special = json_special(text, field.null)
    return made(raw) if special is None else special


_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


def _plain(value):
    """The text of COPY's column, its quotes escaped by `batch`: a backslash and a quote are the quote."""
    value = value.replace(b'\\"', b'"')
    if b"\\" in value:
        value = _ESCAPE.sub(lambda match: _ESCAPES.get(match.group(1), match.group(1)), value)
    return value.decode("utf-8")


def _moment(value):
    """`2015-03-01 06:30:12.345678+00` as Django's encoder writes it: cut to milliseconds, if it has any."""
    if value[4:5] == b"-" and value[10:11] == b" " and value[-3:] == b"+00":
        if len(value) == 22:
            return b'"%bT%bZ"' % (value[:10], value[11:19])
        return b'"%bT%bZ"' % (value[:10], (value[11:-3] + b"00")[:12])
    if value == b"\\N":
        return b"null"
    raise Beyond()


def _exact_moment(value):
    """The same with its microseconds, if it has any behind the milliseconds."""
    if len(value) > 26 and value[10:11] == b" " and value[4:5] == b"-" and value[-3:] == b"+00":
        return b'"%bT%bZ"' % (value[:10], (value[11:-3] + b"00")[:15])
    return _moment(value)


def _day(value):
    if len(value) == 10:
        return b'"' + value + b'"'
    if value == b"\\N":
        return b"null"
    raise Beyond()


def _interval(connection):
    """The driver's function from an interval's text to its value."""
    if hasattr(connection.connection, "pgconn") and hasattr(connection.connection, "adapters"):  # psycopg 3
        from psycopg.adapt import Transformer
        from psycopg.pq import Format

        load = Transformer(connection.connection).get_loader(1186, Format.TEXT).load
        return lambda text: load(text.encode("ascii"))
    from psycopg2.extensions import PYINTERVAL

    return lambda text: PYINTERVAL(text, None)


class _Rows:
    """The file into which COPY writes its rows, each by a write of its own."""

    def __init__(self, way, add):
        self._way, self._add = way, add
        self._lines, self._size, self._count = [], 0, 0

    def write(self, line):
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _BYTES:
            self._flush()

    def _flush(self):
        texts = self._way.batch(b"".join(self._lines))
        self._lines, self._size = [], 0
        self._count += len(texts)
        self._add(texts)

    def end(self):
        if self._lines:
            self._flush()
        return self._count


class _Sqlite(_Direct):
    """Through the driver's own cursor, without conversions: texts come as bytearrays, and so differ from blobs."""

    def prepare(self):
        # The sign takes a column's declared type away, and with it the driver's conversion.
        columns = ", ".join(f"+{self.table}.{self.quote(field.column)}" for field in self.fields)
        self.select = f"SELECT {columns} FROM {self.table} ORDER BY {self.key}"
        # The members of a chunk: those of all keys from its first to its last.
        self.between = [self.pairs(field, "{} BETWEEN ?1 AND ?2") for field in self.many]

    def write(self, add):
        """Hand lists of texts to `add`; returns how many there were."""
        connection, count = self.connection.connection, 0
        kept, connection.text_factory = connection.text_factory, bytearray
        try:
            with self.connection.wrap_database_errors:
                rows = connection.execute(self.select)
                for chunk in iter(lambda: rows.fetchmany(_ROWS), []):
                    columns = list(zip(*chunk))
                    add(self.rendered(columns, self._lists(connection, columns[0])))
                    count += len(chunk)
        finally:
            connection.text_factory = kept
        return count

    def _lists(self, connection, keys):
        keys = [_decoded(key) for key in keys]
        for sql, kind in zip(self.between, self.member_kinds):
            lists = {}
            pairs = connection.execute(sql, (keys[0], keys[-1])).fetchall()
            if pairs:
                sources, members = zip(*pairs)
                texts = self.whole(members) if kind in _WHOLE else self.texts(members, b"null")
                for source, text in zip(sources, texts):
                    lists.setdefault(_decoded(source), []).append(text)
            yield [b"[" + self.comma.join(lists[key]) + b"]" if key in lists else b"[]" for key in keys]

    def texts(self, values, null):
        plain = [each if type(each) is bytearray else b"" for each in values]
        data = b"\0".join(plain)
        data.decode("utf-8")  # SQLite takes any bytes
        if data.count(b"\0") != len(plain) - 1 or len(data.translate(None, _CONTROL)) != len(data):
            return [_quoted(each.decode("utf-8")) if type(each) is bytearray else _odd(each, null) for each in values]
        for char, escape in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t")):
            data = data.replace(char, escape)
        return [
            b'"' + text + b'"' if type(each) is bytearray else _odd(each, null)
            for each, text in zip(values, data.split(b"\0"))
        ]

    def whole(self, values):
        return [b"%d" % each if type(each) is int else _odd(each, b"null") for each in values]

    def uuids(self, values, field):
        return [
            b'"%b-%b-%b-%b-%b"' % (each[:8], each[8:12], each[12:16], each[16:20], each[20:])
            if type(each) is bytearray and _HEXADECIMAL.match(each)
            else self.others([each], field)[0]
            for each in values
        ]

    def booleans(self, values, field):
        # As Django's converter for the driver: whatever is not 1 is false.
        return [b"null" if each is None else b"true" if each in (1, b"1") else b"false" for each in values]

    def moments(self, values, field):
        exact = self.style.exact
        return [
            b'"%bT%bZ"' % (each[:10], each[11:] if exact and each[23:] != b"000" else each[11:23])
            if type(each) is bytearray and _MOMENT.match(each)
            else self.others([each], field)[0]
            for each in values
        ]

    def days(self, values, field):
        return self.others(values, field)

    def value(self, field):
        """A function from the driver's value to the one that Django makes of it."""
        made = reader(field, self.connection)
        if not self.is_exact(field):
            return made

        def exact(value):
            try:
                text = value.decode("utf-8") if isinstance(value, (bytes, bytearray)) else ""
            except UnicodeDecodeError:
                text = ""  # which is named by the reader
            return _exact_json(text, value, field, made)

        return exact


# As Django writes them into SQLite: the microseconds are left out where there are none. A leap day takes the long way.
_DAYS = rb"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
_MOMENT = re.compile(rb"(?!0000)\d{4}-" + _DAYS + rb" (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{6})?\Z")
_HEXADECIMAL = re.compile(rb"[0-9a-f]{32}\Z")


def _decoded(key):
    return key.decode("utf-8") if type(key) is bytearray else key


def _odd(value, null):
    """A value of another type than its column's, which SQLite allows."""
    if value is None:
        return null
    if type(value) in (int, float):
        return json.dumps(value).encode("ascii")
    return _quoted(value.decode("utf-8") if type(value) is bytearray else str(value))
