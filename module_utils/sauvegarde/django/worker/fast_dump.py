"""Write a model's rows as a fixture's bytes from the database's own text, column by column.

For models whose columns are all of Django's plain kinds, behind a plain manager, with no masks and no natural keys.
Most values never become Python objects. Python reads a value that is not plain, as `model_dump` does, and writes the
same bytes. `fast_dump_postgres` and `fast_dump_sqlite` know how each database writes its text.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Callable, Protocol

from django.conf import settings
from django.db import models
from django.db.models.query import QuerySet

from .exact_values import json_special, keeps_json
from .fast_or_stock import FastNotPossible
from .lossy_values import escaped

if TYPE_CHECKING:
    from .django_types import Connection, Field, Model, Queryset
    from .json_style import Style, ToText

Values = Sequence[Any]  # the database's values of one column
Texts = list[bytes]  # their JSON

# Control characters that JSON has to escape, and that neither COPY nor the replacements in `texts` change.
CONTROL = bytes([*range(1, 9), 11, 12, *range(14, 32)])
TEXT_KINDS = ("CharField", "TextField", "SlugField", "FileField", "FilePathField")
WHOLE_KINDS = (
    *("IntegerField", "BigIntegerField", "SmallIntegerField", "AutoField", "BigAutoField", "SmallAutoField"),
    *("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField"),
)
_OTHER_KINDS = ("DecimalField", "DurationField", "FloatField", "GenericIPAddressField", "JSONField")
_KINDS = (*TEXT_KINDS, *WHOLE_KINDS, *_OTHER_KINDS, "BooleanField", "DateTimeField", "DateField", "UUIDField")


class DumpedModel(Protocol):
    """What a fast dump needs of a `model_dump.ModelDump`."""

    connection: Connection
    endless: Counter[str]
    masking: Any
    model: type[Model]
    queryset: Queryset
    style: Style
    using: str
    with_key: bool

    def columns(self) -> list[Field]: ...

    def encoder(self, field: Field) -> tuple[ToText, ToText]: ...

    def is_natural(self, field: Field) -> bool: ...

    def many(self) -> list[Field]: ...

    def template(self) -> str: ...


class FastDump:
    """The fast dump of one model. Raises FastNotPossible if its rows must be read as Python's values.

    Each encoder takes one column of a chunk and returns its texts. Subclasses define the encoders below.
    """

    def __init__(self, model_dump: DumpedModel) -> None:
        self.model_dump, self.style = model_dump, model_dump.style
        self.connection = model_dump.connection
        if not settings.USE_TZ or getattr(self.connection, "timezone_name", "") != "UTC":
            raise FastNotPossible("its database has moments in another time zone than UTC")
        self.quote = self.connection.ops.quote_name
        meta = model_dump.model._meta
        self.table = self.quote(meta.db_table)
        self.key = f"{self.table}.{self.quote(meta.pk.column)}"
        self.fields, self.many = model_dump.columns(), model_dump.many()
        self._check()
        self.member_kinds = [kind_of(field.remote_field.model._meta.pk) for field in self.many]
        if any(kind not in (*TEXT_KINDS, *WHOLE_KINDS) for kind in self.member_kinds):
            raise FastNotPossible("its lists have members with keys of another kind")
        self.encoders = [self._encoder(field) for field in self.fields]
        self.skip = 0 if model_dump.with_key else 1
        self.around = self._around()
        self.comma = self.style.comma.encode("ascii")
        self.prepare()

    def _check(self) -> None:
        if any(self.model_dump.is_natural(field) for field in (*self.fields, *self.many)):
            raise FastNotPossible("it has natural keys to look up")
        pk = self.model_dump.model._meta.pk
        # Stock orders by the key's field, which means by the order of the model that the key points to.
        if pk.remote_field is not None and pk.remote_field.model._meta.ordering:
            raise FastNotPossible("its order is that of another model")
        plain = QuerySet(self.model_dump.model).using(self.model_dump.using).order_by(pk.name).values_list("pk")
        if self._sql(plain) != self._sql(self.model_dump.queryset.values_list("pk")):
            raise FastNotPossible("its manager chooses rows")

    def _sql(self, queryset: Any) -> str:
        sql, params = queryset.query.get_compiler(self.model_dump.using).as_sql()
        if params or "%" in sql:
            raise FastNotPossible("its query has parameters")
        return str(sql)

    def _encoder(self, field: Field) -> Callable[[Values], Texts]:
        kind = kind_of(field)
        if kind in (*TEXT_KINDS, "GenericIPAddressField"):
            null = b'""' if kind == "FileField" else b"null"  # stock writes a missing file as an empty name
            return lambda values: self.texts(values, null)
        if kind in WHOLE_KINDS:
            return self.whole
        quick = {"DateTimeField": self.moments, "DateField": self.days, "UUIDField": self.uuids}
        quick["BooleanField"] = self.booleans
        if kind in quick and type(field).value_to_string.__module__.startswith("django."):
            return lambda values: quick[kind](values, field)
        return lambda values: self.others(values, field)

    def is_exact(self, field: Field) -> bool:
        """Return whether the field's JSON goes into the dump as it is. Masks need Python's values."""
        masking = self.model_dump.masking
        is_masked = masking and masking.mask(self.model_dump.model._meta.label_lower, field.name)
        return self.style.exact and not is_masked and keeps_json(field)

    def pairs_sql(self, field: Field, where: str) -> str:
        """Return SQL for a many-to-many field's pairs (row, member), in the order in which stock writes them.

        `where`: a condition, with `{}` for the column of the row's key.
        """
        through = field.remote_field.through
        source = through._meta.get_field(field.m2m_field_name())
        target = through._meta.get_field(field.m2m_reverse_field_name())
        pairs = QuerySet(through).using(self.model_dump.using).order_by(target.name, target.attname)
        pairs = pairs.values_list(source.attname, target.attname)
        name = f"{self.quote(through._meta.db_table)}.{self.quote(source.column)}"
        return self._sql(pairs.extra(where=[where.format(name)]))

    def rendered(self, columns: Sequence[Values], lists: Iterable[Texts]) -> Texts:
        """Return the objects' texts, from their columns' values and the texts of their lists."""
        texts = [encode(values) for encode, values in zip(self.encoders, columns)]
        if self.style.pretty:
            lists = [[self._indented(text) for text in column] for column in lists]
        parts: list[Iterable[bytes]] = [self.around[0]]
        for column, after in zip((*texts[self.skip :], *lists), self.around[1:]):
            parts += [column, after]
        return list(map(b"".join, zip(*parts)))

    def _around(self) -> list[Iterable[bytes]]:
        """Return the texts before, between and after an object's values, each without end."""
        count = len(self.fields) - self.skip + len(self.many)
        text = self.model_dump.template() % (("\0",) * count)
        return [itertools.repeat(part) for part in text.encode("utf-8").split(b"\0")]

    def _indented(self, text: bytes) -> bytes:
        return text if text == b"[]" else self.style.value(json.loads(text.decode("utf-8")), 2).encode("utf-8")

    def others(self, values: Values, field: Field) -> Texts:
        """Encode values by way of Python's, as the driver and Django make them."""
        encode, read = self.model_dump.encoder(field)[1], self.reader_of(field)
        return [escaped(encode(read(value))) for value in values]

    # --- for each database --------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the statements."""
        raise NotImplementedError

    def write(self, add: Callable[[Texts], None]) -> int:
        """Pass lists of texts to `add`; returns how many texts there were."""
        raise NotImplementedError

    def texts(self, values: Values, null: bytes) -> Texts:
        raise NotImplementedError

    def whole(self, values: Values) -> Texts:
        raise NotImplementedError

    def moments(self, values: Values, field: Field) -> Texts:
        raise NotImplementedError

    def days(self, values: Values, field: Field) -> Texts:
        raise NotImplementedError

    def uuids(self, values: Values, field: Field) -> Texts:
        raise NotImplementedError

    def booleans(self, values: Values, field: Field) -> Texts:
        raise NotImplementedError

    def reader_of(self, field: Field) -> Callable[[Any], Any]:
        """Return the function from one of the column's values to the value that Django makes of it."""
        raise NotImplementedError


def kind_of(field: Field) -> str:
    """Return the kind of the column's values; a reference's values are of the kind that it leads to."""
    cls = type(field)
    if field.remote_field is not None:
        kind = kind_of(field.target_field)
        plain = (*TEXT_KINDS, *WHOLE_KINDS, "UUIDField")
        if kind not in plain or cls.value_to_string is not models.Field.value_to_string:
            raise FastNotPossible(f"its field {field.name} has values of its own kind")
        return kind
    kind = field.get_internal_type()
    converted = hasattr(field, "from_db_value") and cls is not getattr(models, "JSONField", None)
    if kind not in _KINDS or converted or not cls.__module__.startswith("django.db.models."):
        raise FastNotPossible(f"its field {field.name} has values of its own kind")
    return kind


def quoted(text: str) -> bytes:
    return encode_basestring(text).encode("utf-8")


def exact_json(text: str, raw: Any, field: Field, read: Callable[[Any], Any]) -> Any:
    """Return what an exact dump holds for a column's JSON text: a special form, or what `read` returns."""
    special = json_special(text, field.null)
    return read(raw) if special is None else special
