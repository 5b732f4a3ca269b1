"""Write one model's objects as a fixture holds them, byte for byte as stock `dumpdata` does.

Three ways lead to the same bytes; `fast_or_stock` says which a model allows:
1. The database's own text, column by column (`fast_dump`), where all columns are plain.
2. Rows of values, with lists read in bulk. If the model takes part in building its objects (its own `__init__`, a
   listener to `post_init`), an object is built for each row.
3. Django's serializer (stock), if a field or manager has its own code. The result records it.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Callable

from django.core.serializers.python import Serializer as PythonSerializer
from django.db import DatabaseError, DataError, connections, models
from django.db.models.fields.files import FileDescriptor

from ..field_masks import Empty
from .dates_beyond_python import unreadable
from .exact_values import is_raster, raster_of, raster_text, special_values
from .fast_dump import FastDump
from .fast_dump_postgres import PostgresFastDump
from .fast_dump_sqlite import SqliteFastDump
from .fast_or_stock import FastNotPossible, dumps_objects, why_dump_stock
from .json_style import PROTECTED, Stub, fixture_value, quote
from .lossy_values import escaped
from .model_selection import exported_rows, is_generated, rows_of
from .unreadable_values import PARSED, error_of, oddities

if TYPE_CHECKING:
    from ..worker_request import DumpOptions
    from .django_types import Connection, Entry, Field, Model, Queryset
    from .json_style import Style, ToText
    from .natural_key_export import NaturalKeys

_CHUNK = 100  # rows in memory
_FAST_DUMPS: dict[str, type[FastDump]] = {"postgresql": PostgresFastDump, "sqlite": SqliteFastDump}


class ModelDump:
    """The objects of one model as texts.

    `masking`: the masks of its fields, or None. `stock_reason`: why Django's serializer writes it, or an empty text.
    `endless`: how many infinite dates were written as Python's last or first one, by field.
    """

    def __init__(
        self, model: type[Model], options: DumpOptions, using: str, style: Style, masking: Any, keys: NaturalKeys
    ) -> None:
        self.model, self.options, self.using = model, options, using
        self.style, self.masking, self.keys = style, masking, keys
        self.connection: Connection = connections[using]
        # References that are numbers, although their targets have natural keys.
        self.numbers: Collection[str] = masking.numbers.get(model._meta.label_lower, ()) if masking else ()
        rows = (rows_of if options.all else exported_rows)(model, using)
        self.queryset: Queryset = rows.order_by(model._meta.pk.name)
        if options.pks:
            self.queryset = self.queryset.filter(pk__in=options.pks)
        self.stock_reason = why_dump_stock(model, self.queryset, self.many(), options.natural_primary, options.all)
        self.needs_objects = not self.stock_reason and dumps_objects(model)
        self.endless: collections.Counter[str] = collections.Counter()
        self.special: dict[str, dict[Any, Any]] = {}  # see `exact_values.special_values`
        self.with_key = not (options.natural_primary and hasattr(model, "natural_key"))

    def write(self, add: Callable[[Sequence[bytes]], None]) -> int:
        """Pass the objects' texts to `add`, a list at a time; returns how many there were."""
        fast = None if self.stock_reason or self.needs_objects else self._fast_dump()
        if fast is not None:
            return fast.write(add)
        if self.style.exact:
            self.special = {
                name: values
                for name, values in special_values(self.model, self.connection).items()
                if not (self.masking and self.masking.mask(self.model._meta.label_lower, name))
            }
        self._check_sqlite()
        count = 0
        texts = self._from_objects() if self.stock_reason else self._from_rows()
        for some in iter(lambda: list(islice(texts, _CHUNK)), []):
            add([escaped(text) for text in some])
            count += len(some)
        return count

    def _fast_dump(self) -> FastDump | None:
        """Return the fast dump of the model, or None if it must be read as rows."""
        cls = _FAST_DUMPS.get(self.connection.vendor)
        if cls is None or self.masking is not None:
            return None
        try:
            return cls(self)
        except FastNotPossible:
            return None

    def _check_sqlite(self) -> None:
        """Raise for values that Django would read as NULL."""
        if self.connection.vendor == "sqlite":
            with self.connection.wrap_database_errors:
                odd = oddities(self.model, self.connection, PARSED)
            if odd:
                raise error_of(self.model, odd, self.masking is not None)

    def read_error(self, error: Exception) -> Exception:
        """Return the error that names what could not be read, or the error itself."""
        odd = []
        if self.connection.vendor == "sqlite":
            with contextlib.suppress(DatabaseError), self.connection.wrap_database_errors:
                odd = oddities(self.model, self.connection)
        if odd:
            return error_of(self.model, odd, self.masking is not None)
        if isinstance(error, DataError) or "out of range" in str(error) or "must be in" in str(error):
            return unreadable(self.model, error)
        return error

    # --- what a fixture holds -----------------------------------------------------------------------------------------

    def many(self) -> list[Field]:
        """Return the many-to-many fields that a fixture of the model holds."""
        return [
            field
            for field in self.model._meta.local_many_to_many
            if field.serialize and field.remote_field.through._meta.auto_created
        ]

    def columns(self) -> list[Field]:
        """Return the key, and then the columns among a fixture's fields, in the order of the model as stock does."""
        fields = [field for field in self.model._meta.local_fields if field.serialize]
        if self.masking:
            fields = [field for field in fields if not is_generated(field)]
        return [self.model._meta.pk, *fields]

    def template(self) -> str:
        """Return the text of an object with a `%s` for the key (if it has one), each of the columns and the lists."""
        names = [field.name for field in (*self.columns()[1:], *self.many())]
        return self.style.template(self.model._meta.label_lower, names, self.with_key)

    def is_natural(self, field: Field) -> bool:
        """Return whether the field's references are written as natural keys."""
        return bool(
            self.options.natural_foreign
            and field.remote_field is not None
            and hasattr(field.remote_field.model, "natural_key")
            and field.name not in self.numbers
        )

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _from_rows(self) -> Iterator[str]:
        """Yield the texts. Columns are read in one query, each many-to-many field in one more for each chunk."""
        columns, many, template = self.columns(), self.many(), self.template()
        quick, sure = (list(some) for some in zip(*[self.encoder(field) for field in columns]))
        natural = [(index, field) for index, field in enumerate(columns) if index and self.is_natural(field)]
        special = [
            (index, self.special[field.name])
            for index, field in enumerate(columns)
            if index and field.name in self.special
        ]
        skip = 0 if self.with_key else 1
        rows = self._rows(columns)
        for chunk in iter(lambda: list(islice(rows, _CHUNK)), []):
            for index, field in natural:
                quick[index] = sure[index] = self._natural_encoder(field, [row[index] for row in chunk])
            lists = [self._lists(field, [row[0] for row in chunk]) for field in many]
            for row in chunk:
                try:
                    texts = [encode(value) for encode, value in zip(quick, row)]
                except (TypeError, AttributeError):  # a value of another type than the field's
                    texts = [encode(value) for encode, value in zip(sure, row)]
                for index, values in special:
                    if row[0] in values:
                        texts[index] = self.style.value(values[row[0]], 2)
                for members in lists:
                    texts.append(members.get(row[0], "[]"))
                yield template % tuple(texts[skip:])

    def _rows(self, columns: Sequence[Field]) -> Iterator[Any]:
        if not self.needs_objects:
            queryset, names = self.queryset, [field.attname for field in columns]
            for index, field in enumerate(columns):
                if is_raster(field):
                    names[index] = f"sauvegarde_raster_{index}"
                    queryset = queryset.extra(select={names[index]: raster_text(field, self.connection)})
            return queryset.values_list(*names).iterator(chunk_size=_CHUNK)
        objects = self.queryset.iterator(chunk_size=_CHUNK)
        return (tuple([field.value_from_object(item) for field in columns]) for item in objects)

    def encoder(self, field: Field) -> tuple[ToText, ToText]:
        """Return two functions from a column's value to its text: a quick one, and one that takes every value."""
        value_text = self.style.value
        own = type(field).value_to_string is not models.Field.value_to_string
        name = field.attname
        to_text: Callable[[Any], Any] | None = field.value_to_string if own else None
        if is_raster(field):
            to_text = lambda item: raster_of(getattr(item, name))  # noqa: E731 - one of two
        file_field = isinstance(inspect.getattr_static(self.model, name, None), FileDescriptor)
        scalars = self.style.scalars

        def plain(value: Any) -> Any:
            # As Django: numbers, moments and NULL as they are, all else through the field's own text.
            if value is None and file_field:
                return ""
            if isinstance(value, PROTECTED):
                return value
            return str(value) if to_text is None else to_text(Stub(name, value))

        def encode(value: Any) -> str:
            kind = type(value)
            if kind is str and to_text is None:
                return quote(value)
            if kind in scalars and kind is not str and not file_field:
                return scalars[kind](value)
            return value_text(plain(value), 2)

        mask = self._mask(field)
        if mask is None:
            quick = None if own or field.null or file_field else self.style.quick.get(field.get_internal_type())
            return (quick or encode), encode
        masked: ToText = lambda value: value_text(mask(fixture_value(plain(value))), 2)  # noqa: E731 - needed twice
        return masked, masked

    def _natural_encoder(self, field: Field, values: Sequence[Any]) -> ToText:
        """Return the function from a reference's value to the text of its natural key, for these values."""
        emptied = self._emptied(field)
        if emptied is not None:
            return lambda value: self.style.value(emptied(value), 2)
        model = field.remote_field.model
        # A base manager of the site's own may hide rows, too.
        manager = rows_of(model, self.using) if self.options.all else model._base_manager
        keys = self.keys.fetch(field, manager, field.target_field.attname, values)
        return lambda value: "null" if value is None else self.style.value(keys[value], 2)

    def _lists(self, field: Field, pks: Sequence[Any]) -> dict[Any, str]:
        """Return {key: text of the list} of one many-to-many field, for the chunk's keys."""
        if self._emptied(field) is not None:
            return {}
        through = field.remote_field.through
        source = through._meta.get_field(field.m2m_field_name())
        target = through._meta.get_field(field.m2m_reverse_field_name())
        # In the order of the related model, by its key if it has no order: always the same.
        pairs = list(
            through._base_manager.using(self.using)
            .filter(**{source.attname + "__in": pks})
            .order_by(target.name, target.attname)
            .values_list(source.attname, target.attname)
        )
        member = self._member_function(field, pairs)
        lists: dict[Any, list[Any]] = {}
        for pk, value in pairs:
            lists.setdefault(pk, []).append(member(value))
        return {pk: self.style.value(members, 2) for pk, members in lists.items()}

    def _member_function(self, field: Field, pairs: Sequence[tuple[Any, Any]]) -> Callable[[Any], Any]:
        """Return the function from a member's key to what the fixture holds."""
        related = field.remote_field.model
        if self.is_natural(field):
            manager = rows_of(related, self.using) if self.options.all else related._default_manager
            return self.keys.fetch(field, manager, "pk", [pair[1] for pair in pairs]).__getitem__
        key = related._meta.pk
        mask = self._member_mask(field)

        def member(value: Any) -> Any:
            plain = value if isinstance(value, PROTECTED) else key.value_to_string(Stub(key.attname, value))
            return mask(fixture_value(plain)) if mask else plain

        return member

    # --- masks --------------------------------------------------------------------------------------------------------

    def _mask(self, field: Field) -> Any:
        return self.masking.mask(self.model._meta.label_lower, field.name) if self.masking else None

    def _emptied(self, field: Field) -> Callable[[Any], Any] | None:
        """Return the mask of a relation that is written as natural keys: it can only be emptied."""
        mask = self._mask(field)
        return mask if isinstance(mask, Empty) else None

    def _member_mask(self, field: Field) -> Any:
        """Return the mask of one member of a many-to-many field: that of the key it points to."""
        if self.masking is None or self._mask(field) is None:
            return None
        related = field.remote_field.model._meta.concrete_model._meta
        return self.masking.mask(related.label_lower, related.pk.name)

    # --- stock --------------------------------------------------------------------------------------------------------

    def _from_objects(self) -> Iterator[str]:
        objects = self.queryset.iterator(chunk_size=_CHUNK)
        for chunk in iter(lambda: list(islice(objects, _CHUNK)), []):
            entries = PythonSerializer().serialize(
                chunk,
                use_natural_foreign_keys=self.options.natural_foreign,
                use_natural_primary_keys=self.options.natural_primary,
            )
            if self.numbers:
                for entry, plain in zip(entries, PythonSerializer().serialize(chunk)):
                    entry["fields"].update((name, plain["fields"][name]) for name in self.numbers)
            for item, entry in zip(chunk, entries):
                yield self.style.entry(self._completed(item, entry))

    def _completed(self, item: Model, entry: Entry) -> Entry:
        """Return the serialized object with what stock loses, and masked."""
        for field in filter(is_raster, self.model._meta.local_fields):
            entry["fields"][field.name] = raster_of(getattr(item, field.attname))
        for name, values in self.special.items():
            if name in entry["fields"] and item.pk in values:
                entry["fields"][name] = values[item.pk]
        if self.masking:
            plain = self._without_generated(fixture_value(entry))
            masked: Entry = self.masking.entry(plain, self.options.natural_foreign)
            return masked
        return entry

    def _without_generated(self, entry: Entry) -> Entry:
        names = {field.name for field in self.model._meta.local_fields if is_generated(field)}
        return dict(entry, fields={name: value for name, value in entry["fields"].items() if name not in names})
