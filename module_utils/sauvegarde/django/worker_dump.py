"""Inside the site: what stock `dumpdata` writes, byte for byte, from one snapshot and with bulk reads.

A model is read fast, as rows, when nothing of the site's stands between a row and its object; where the model has a
hand in making its objects (its own `__init__`, a listener to `post_init`), as objects, with lists read in bulk all the
same. Where a field or manager has a will of its own, its objects go through Django's own serializer, and the result
says so. Where not even a row's values are wanted, `worker_direct` goes faster still.
"""

import collections
import contextlib
import datetime
import decimal
import inspect
import json
from itertools import islice

from django.apps import apps
from django.conf import settings
from django.core import serializers
from django.core.serializers.json import DjangoJSONEncoder
from django.core.serializers.python import Serializer as PythonSerializer
from django.db import DatabaseError, DataError, OperationalError, connections, models
from django.db.models import signals
from django.db.models.fields.files import FileDescriptor
from django.db.models.manager import BaseManager
from django.db.models.query import ModelIterable, QuerySet

from ..errors import SauvegardeError
from .leaks import Originals
from .masking import Empty, Masking
from .privacy import actions, masked_names
from .set_masking import SetMasking
from .worker_dates import unreadable, warning
from .worker_derived import left_out, tables_of
from .worker_direct import direct
from .worker_exact import is_raster, raster_of, raster_text, read_endless_dates, special_values
from .worker_leaks import from_database, from_entry
from .worker_losses import escaped
from .worker_models import (
    description,
    exported_rows,
    hidden_attribute,
    is_generated,
    raw_numbers,
    rows_of,
    selected,
    snapshot,
)
from .worker_oddities import PARSED, Unreadable, error_of, oddities
from .worker_people import learn_from_database, learn_from_entry

# What reading a value raises that its field does not understand.
_UNREAD = (DataError, OperationalError, ValueError, TypeError, AttributeError, ArithmeticError, Unreadable)
# Rows read, and texts joined, at a time: what bounds the memory.
_CHUNK = 100
_WRITE = 1 << 18
_KEYS_KEPT = 20000

_quote = json.encoder.encode_basestring
_encode = DjangoJSONEncoder(ensure_ascii=False).encode
_SCALARS = {
    str: _quote,
    int: int.__repr__,
    bool: lambda value: "true" if value else "false",
    type(None): lambda value: "null",
    datetime.date: lambda value: '"' + value.isoformat() + '"',
    decimal.Decimal: lambda value: '"' + str(value) + '"',
}


class ExactEncoder(DjangoJSONEncoder):
    """Keeps microseconds; a moment without any looks as stock writes it."""

    def default(self, o):
        if getattr(o, "microsecond", 0) % 1000 and not (isinstance(o, datetime.time) and o.tzinfo):
            text = o.isoformat()
            return text[:-6] + "Z" if text.endswith("+00:00") else text
        return super().default(o)


def _moment(value):
    """As `DjangoJSONEncoder` writes a moment, without its detours."""
    text = value.isoformat()
    if value.microsecond:
        text = text[:23] + text[26:]
    return '"' + (text[:-6] + "Z" if text.endswith("+00:00") else text) + '"'


# The shortest way for columns that cannot be NULL; another type in them raises.
_QUICK = {
    "CharField": _quote,
    "TextField": _quote,
    "SlugField": _quote,
    "IntegerField": int.__repr__,
    "BigIntegerField": int.__repr__,
    "PositiveIntegerField": int.__repr__,
    "AutoField": int.__repr__,
    "BigAutoField": int.__repr__,
}


class Style:
    """How one object looks as text: `json` (with an indent or without) or `jsonl`; `exact` keeps microseconds."""

    def __init__(self, form, indent, exact=False):
        self.form, self.exact = form, exact
        encoder = ExactEncoder if exact else DjangoJSONEncoder
        moment = encoder().default
        self.scalars = dict(_SCALARS)
        self.scalars[datetime.datetime] = lambda value: '"' + moment(value) + '"'
        self.quick = dict(_QUICK, DateTimeField=self.scalars[datetime.datetime] if exact else _moment)
        self.indent = indent if form == "json" else None  # 0 is one, too: lines without any blank before them
        self.pretty = self.indent is not None
        # As stock: the separators are shortened wherever an indent is given, and in JSON lines.
        separators = (",", ": ") if self.pretty or form == "jsonl" else None
        self.entry = encoder(ensure_ascii=False, indent=self.indent, separators=separators).encode
        self.comma = "," if self.pretty or form == "jsonl" else ", "
        # How a list begins and ends has changed between versions of Django: the site's own says.
        empty = serializers.serialize(form, [], indent=self.indent)
        self.start, self.end = empty[:1], empty[1:]
        if form == "jsonl":
            self.first, self.between, self.after = "", "", "\n"
        else:
            self.first, self.between, self.after = ("\n", ",\n", "") if self.indent else ("", ", ", "")

    def value(self, value, level):
        """Any value as text, inside an object at this depth."""
        simple = self.scalars.get(type(value))
        if simple is not None:
            return simple(value)
        text = self.entry(value)
        return text.replace("\n", "\n" + " " * (self.indent * level)) if self.pretty else text

    def template(self, label, names, with_key):
        """The text of an object with a `%s` for the key and for each named field."""
        line = (lambda level: "\n" + " " * (self.indent * level)) if self.pretty else (lambda level: "")
        fields = [_quote(name).replace("%", "%%") + ": %s" for name in names]
        body = (self.comma + line(2)).join(fields)
        parts = ['"model": ' + _quote(label)]
        if with_key:
            parts.append('"pk": %s')
        parts.append('"fields": {' + (line(2) + body + line(1) if fields else "") + "}")
        return "{" + line(1) + (self.comma + line(1)).join(parts) + line(0) + "}"


class NaturalKeys:
    """Natural keys of related objects, fetched many at a time."""

    def __init__(self, using, masking):
        self.using, self.masking = using, masking
        self._known = {}

    def fetch(self, field, manager, name, values):
        """{value: natural key} of what the field points to, by the values of its own field `name`."""
        model = field.remote_field.model
        known = self._known.setdefault((model, name), {})
        missing = {value for value in values if value is not None and value not in known}
        if missing:
            if len(known) > _KEYS_KEPT:
                # A new one: the texts of the running chunk are still made from the old one.
                known = self._known[model, name] = {}
                missing = {value for value in values if value is not None}
            masks = self.masking.natural(field.model._meta.label_lower, field.name) if self.masking else []
            # What natural keys are commonly made of: a permission's holds its content type's.
            nested = [
                field.name
                for field in model._meta.concrete_fields
                if field.remote_field is not None and hasattr(field.related_model, "natural_key")
            ]
            for related in manager.using(self.using).filter(**{name + "__in": missing}).select_related(*nested):
                known[getattr(related, name)] = self._masked(related.natural_key() if related else None, masks)
            for value in missing - known.keys():
                if getattr(field, "db_constraint", True):
                    raise self._nowhere(field, value)
                # The database never promised that it leads anywhere: the number, which loads take as well.
                mask = self.masking.mask(model._meta.concrete_model._meta.label_lower, name) if self.masking else None
                value_text = model._meta.get_field(name).value_to_string(Stub(name, value))
                plain = value if isinstance(value, _PROTECTED) else value_text
                known[value] = mask(_plain(plain)) if mask else plain
        return known

    def _nowhere(self, field, value):
        meta, target = field.model._meta, field.remote_field.model._meta
        which = "a row"
        if not field.many_to_many:
            row = rows_of(field.model, self.using).filter(**{field.attname: value}).values_list("pk").first()
            which = repr(row[0]) if row else which
        return SauvegardeError(
            f"{meta.label_lower} {which}, {field.name}: points to {target.label_lower} {value!r}, which is not there.",
            "Its natural key cannot be written.",
            "Mend the row, or dump without natural keys.",
        )

    def _masked(self, key, masks):
        if key is None or not any(masks):
            return key
        return [mask(part) if mask else part for part, mask in zip(key, masks)]


def _plain(value):
    """What a fixture holds for the value."""
    return json.loads(_encode(value))


class Stub:
    """Just enough of an object for a stock field's `value_to_string`."""

    def __init__(self, name, value):
        setattr(self, name, value)


class Reader:
    """The objects of one model as texts."""

    def __init__(self, model, options, style, masking, keys):
        self.model, self.style, self.masking, self.keys = model, style, masking, keys
        # References that are numbers, whatever natural keys there are.
        self.numbers = masking.numbers.get(model._meta.label_lower, ()) if masking else ()
        self.using = options["database"]
        self.natural_foreign = options["natural_foreign"]
        self.natural_primary = options["natural_primary"]
        self.all = options["all"]
        rows = (rows_of if self.all else exported_rows)(model, self.using)
        self.queryset = rows.order_by(model._meta.pk.name)
        if options["pks"]:
            self.queryset = self.queryset.filter(pk__in=options["pks"])
        self.reason = self._reason()
        self.made = not self.reason and self._made()
        self.endless = collections.Counter()  # infinite dates, by their field
        self.special = {}  # values that the objects do not tell, as `worker_exact.special_values` has them
        self.with_key = not (self.natural_primary and hasattr(model, "natural_key"))

    def write(self, add):
        """Hand the objects' texts (bytes) to `add`, a list at a time; returns how many there were."""
        way = None if self.reason or self.made else direct(self)
        if way is not None:
            return way.write(add)
        if self.style.exact:
            self.special = {
                name: values
                for name, values in special_values(self.model, connections[self.using]).items()
                if not (self.masking and self.masking.mask(self.model._meta.label_lower, name))
            }
        if connections[self.using].vendor == "sqlite":
            # What Django would read as NULL.
            with connections[self.using].wrap_database_errors:
                found = oddities(self.model, connections[self.using], PARSED)
            if found:
                raise error_of(self.model, found, self.masking is not None)
        count = 0
        texts = self._stock() if self.reason else self._fast()
        for some in iter(lambda: list(islice(texts, _CHUNK)), []):
            add([escaped(text) for text in some])
            count += len(some)
        return count

    def _without_generated(self, entry):
        names = {field.name for field in self.model._meta.local_fields if is_generated(field)}
        return dict(entry, fields={name: value for name, value in entry["fields"].items() if name not in names})

    def unread(self, error):
        """The error that names what could not be read, or the error itself."""
        connection = connections[self.using]
        found = []
        if connection.vendor == "sqlite":
            with contextlib.suppress(DatabaseError), connection.wrap_database_errors:
                found = oddities(self.model, connection)
        if found:
            return error_of(self.model, found, self.masking is not None)
        if isinstance(error, DataError) or "out of range" in str(error) or "must be in" in str(error):
            return unreadable(self.model, error)
        return error

    # --- fast: rows ---------------------------------------------------------------------------------------------------

    def _reason(self):
        """Why the model must go through Django's serializer, or an empty text."""
        model, queryset = self.model, self.queryset
        if len(getattr(model._meta, "pk_fields", [model._meta.pk])) > 1:
            return "has a key of several columns"
        if model._meta.parents and self.natural_primary:
            return "inherits from another model's table, whose key it writes"
        if queryset._iterable_class is not ModelIterable or queryset._prefetch_related_lookups:
            return "has a manager with a way of its own"
        if type(queryset).iterator is not QuerySet.iterator or type(queryset).values_list is not QuerySet.values_list:
            return "has a manager with a way of its own"
        for field in model._meta.local_fields:
            reason = self._field_reason(field)
            if reason:
                return f"its field {field.name} {reason}"
        for field in self.many() if not self.all else ():
            if type(field.remote_field.model._default_manager).get_queryset is not BaseManager.get_queryset:
                return f"what its field {field.name} points to has a manager with a way of its own"
        return ""

    def _field_reason(self, field):
        cls = type(field)
        if cls.value_from_object is not models.Field.value_from_object:
            return "is read in its own way"
        if not cls.value_to_string.__module__.startswith(("django.db.", "django.contrib.")):
            return "is written in its own way"
        return ""

    def _made(self):
        """Whether an object must be made of each row, since the model has a hand in it: its values are the object's."""
        model = self.model
        own = model.from_db.__func__ is not models.Model.from_db.__func__ or model.__init__ is not models.Model.__init__
        listened = signals.pre_init.has_listeners(model) or signals.post_init.has_listeners(model)
        return own or listened or any(hidden_attribute(model, field) for field in model._meta.local_fields)

    def many(self):
        """The many-to-many fields that a fixture of the model holds."""
        return [
            field
            for field in self.model._meta.local_many_to_many
            if field.serialize and field.remote_field.through._meta.auto_created
        ]

    def columns(self):
        """The key, and then the columns that a fixture has among the fields: as stock, in the order of the model."""
        fields = [field for field in self.model._meta.local_fields if field.serialize]
        if self.masking:
            fields = [field for field in fields if not is_generated(field)]
        return [self.model._meta.pk, *fields]

    def template(self):
        """The text of an object with a place for each of the columns (for the key, where it has one) and lists."""
        names = [field.name for field in (*self.columns()[1:], *self.many())]
        return self.style.template(self.model._meta.label_lower, names, self.with_key)

    def _fast(self):
        """Rows in, texts out. `columns` are read in one query, each many-to-many field in one more a chunk."""
        columns, many, template = self.columns(), self.many(), self.template()
        quick, sure = (list(some) for some in zip(*[self.encoder(field) for field in columns]))
        natural = [(place, field) for place, field in enumerate(columns) if place and self.is_natural(field)]
        special = [(n, self.special[each.name]) for n, each in enumerate(columns) if n and each.name in self.special]
        skip = 0 if self.with_key else 1
        rows = self._rows(columns)
        for chunk in iter(lambda: list(islice(rows, _CHUNK)), []):
            for place, field in natural:
                quick[place] = sure[place] = self._natural_encoder(field, [row[place] for row in chunk])
            lists = [self._lists(field, [row[0] for row in chunk]) for field in many]
            for row in chunk:
                try:
                    texts = [encode(value) for encode, value in zip(quick, row)]
                except (TypeError, AttributeError):  # a value of another type than the field's
                    texts = [encode(value) for encode, value in zip(sure, row)]
                for place, values in special:
                    if row[0] in values:
                        texts[place] = self.style.value(values[row[0]], 2)
                for members in lists:
                    texts.append(members.get(row[0], "[]"))
                yield template % tuple(texts[skip:])

    def _rows(self, columns):
        if not self.made:
            queryset, names = self.queryset, [field.attname for field in columns]
            for place, field in enumerate(columns):
                if is_raster(field):
                    names[place] = f"sauvegarde_raster_{place}"
                    queryset = queryset.extra(select={names[place]: raster_text(field, connections[self.using])})
            return queryset.values_list(*names).iterator(chunk_size=_CHUNK)
        objects = self.queryset.iterator(chunk_size=_CHUNK)
        return (tuple([field.value_from_object(item) for field in columns]) for item in objects)

    def is_natural(self, field):
        return bool(
            self.natural_foreign
            and field.remote_field is not None
            and hasattr(field.remote_field.model, "natural_key")
            and field.name not in self.numbers
        )

    def encoder(self, field):
        """Two functions from a column's value to its text: a quick one, and one that takes every value."""
        value_text = self.style.value
        own = type(field).value_to_string is not models.Field.value_to_string
        to_text = field.value_to_string if own else None
        if is_raster(field):
            to_text = lambda item: raster_of(getattr(item, name))  # noqa: E731 - one of two
        name = field.attname
        file_field = isinstance(inspect.getattr_static(self.model, name, None), FileDescriptor)
        scalars = self.style.scalars

        def plain(value):
            # As `is_protected_type`: numbers, moments and NULL as they are, all else through the field's own text.
            if value is None and file_field:
                return ""
            if isinstance(value, _PROTECTED):
                return value
            return str(value) if to_text is None else to_text(Stub(name, value))

        def encode(value):
            kind = type(value)
            if kind is str and to_text is None:
                return _quote(value)
            if kind in scalars and kind is not str and not file_field:
                return scalars[kind](value)
            return value_text(plain(value), 2)

        mask = self._mask(field)
        if mask is None:
            quick = None if own or field.null or file_field else self.style.quick.get(field.get_internal_type())
            return (quick or encode), encode
        masked = lambda value: value_text(mask(_plain(plain(value))), 2)  # noqa: E731 - twice the same, on purpose
        return masked, masked

    def _mask(self, field):
        return self.masking.mask(self.model._meta.label_lower, field.name) if self.masking else None

    def _emptied(self, field):
        """The mask of a relation that is written by natural keys: only emptying is possible there."""
        mask = self._mask(field)
        return mask if isinstance(mask, Empty) else None

    def _natural_encoder(self, field, values):
        emptied = self._emptied(field)
        if emptied is not None:
            return lambda value: self.style.value(emptied(value), 2)
        model = field.remote_field.model
        # A base manager of the site's own may hide rows, too.
        manager = rows_of(model, self.using) if self.all else model._base_manager
        known = self.keys.fetch(field, manager, field.target_field.attname, values)
        return lambda value: "null" if value is None else self.style.value(known[value], 2)

    def _lists(self, field, pks):
        """{key: text of the list} of one many-to-many field, for the chunk's keys."""
        emptied = self._emptied(field)
        if emptied is not None:
            return {}
        through = field.remote_field.through
        source = through._meta.get_field(field.m2m_field_name())
        target = through._meta.get_field(field.m2m_reverse_field_name())
        related = field.remote_field.model
        # Ordered as the model that it points to wants, by its key where it has no wish: always the same.
        pairs = list(
            through._base_manager.using(self.using)
            .filter(**{source.attname + "__in": pks})
            .order_by(target.name, target.attname)
            .values_list(source.attname, target.attname)
        )
        if self.is_natural(field):
            manager = rows_of(related, self.using) if self.all else related._default_manager
            known = self.keys.fetch(field, manager, "pk", [pair[1] for pair in pairs])
            member = known.__getitem__
        else:
            key = related._meta.pk
            mask = self._follow(field)

            def member(value):
                plain = value if isinstance(value, _PROTECTED) else key.value_to_string(Stub(key.attname, value))
                return mask(_plain(plain)) if mask else plain

        lists = {}
        for pk, value in pairs:
            lists.setdefault(pk, []).append(member(value))
        return {pk: self.style.value(members, 2) for pk, members in lists.items()}

    def _follow(self, field):
        """The mask of one member of a many-to-many field."""
        if self.masking is None or self._mask(field) is None:
            return None
        related = field.remote_field.model._meta.concrete_model._meta
        return self.masking.mask(related.label_lower, related.pk.name)

    # --- stock: objects -----------------------------------------------------------------------------------------------

    def _stock(self):
        objects = self.queryset.iterator(chunk_size=_CHUNK)
        serializer = PythonSerializer()
        while True:
            chunk = list(islice(objects, _CHUNK))
            if not chunk:
                return
            entries = serializer.serialize(
                chunk,
                use_natural_foreign_keys=self.natural_foreign,
                use_natural_primary_keys=self.natural_primary,
            )
            if self.numbers:
                for entry, plain in zip(entries, PythonSerializer().serialize(chunk)):
                    entry["fields"].update((name, plain["fields"][name]) for name in self.numbers)
            for item, entry in zip(chunk, entries):
                for field in filter(is_raster, self.model._meta.local_fields):
                    entry["fields"][field.name] = raster_of(getattr(item, field.attname))
                for name, values in self.special.items():
                    if name in entry["fields"] and item.pk in values:
                        entry["fields"][name] = values[item.pk]
                if self.masking:
                    entry = self.masking.entry(self._without_generated(_plain(entry)), self.natural_foreign)
                yield self.style.entry(entry)


_PROTECTED = (type(None), int, float, decimal.Decimal, datetime.datetime, datetime.date, datetime.time)


class Writer:
    """Joins texts of objects into the stream."""

    def __init__(self, style, output):
        self.style, self.output = style, output
        self._between = (style.after + style.between).encode("ascii")
        self._parts, self._size, self._first = [style.start.encode("ascii")], 0, True

    def add(self, texts):
        data = self._between.join(texts)
        self._parts += [self.style.first.encode("ascii") if self._first else self._between, data]
        self._first = False
        self._size += len(data)
        if self._size >= _WRITE:
            self.flush()

    def flush(self):
        self.output.data(b"".join(self._parts))
        self._parts, self._size = [], 0

    def end(self):
        self._parts.append(("" if self._first else self.style.after).encode("ascii") + self.style.end.encode("ascii"))
        self.flush()


def dump(options, source, output):
    """Write the chosen models to the output. `options`: labels, exclude, database, format, indent, natural_foreign,
    natural_primary, all, derived, include, exact, pks, sets (fixture sets, which hold no people), compared (whether the
    sets' masked fields are written as they are, for a comparison), and, to mask, policy and key (hexadecimal).

    Returns {"counts": {label: objects}, "stock": {label: why it went through Django's serializer}, "masked": bool,
    "private": as `privacy.actions` gives it, "masking": as `masking.Masking.facts`, and "dropped" rows by model (None
    where nothing is masked), "warnings": sentences about what the text does not hold as the database does}.
    """
    tables = None
    if not options["derived"]:
        with snapshot(options["database"]) as connection:
            tables = tables_of(connection)
    chosen = _chosen(options, tables)
    problems = raw_numbers(chosen, options["natural_foreign"], options["natural_primary"])
    if problems:
        raise SauvegardeError(
            "The dump would hold numbers of permissions or content types, which mean others elsewhere.",
            "\n".join(problems),
            "Dump with natural foreign keys, and leave auth.permission and contenttypes out: every site makes its own.",
        )
    if options["pks"] and len(chosen) != 1:
        raise SauvegardeError("Chosen keys need one chosen model.", f"{len(chosen)} models are chosen.", "Name one.")
    masking = _masking(options, [model._meta.label_lower for model in chosen])
    private = _private(options, [model._meta.label_lower for model in chosen], output)
    output.progress(many=_many(chosen))
    style = Style(options["format"], options["indent"], options["exact"])
    writer = Writer(style, output)
    counts, stock, warnings = {}, {}, []
    with snapshot(options["database"]) as connection:
        if options["exact"]:
            read_endless_dates(connection)
        if masking:
            learn_from_database(masking, options["database"])
            output.progress(originals=from_database(masking, options["database"]).plain())
        if private["masking"]:
            learn_from_database(private["masking"], options["database"])
            originals = from_database(private["masking"], options["database"]).plain()
            output.progress(originals=originals, policy=private["masking"].policy)
        keys = NaturalKeys(options["database"], masking or private["masking"])
        for model in chosen:
            label = model._meta.label_lower
            if masking and masking.drops(label):
                continue
            reader = Reader(model, options, style, private["models"].get(label, masking), keys)
            if reader.reason:
                stock[label] = reader.reason
            try:
                counts[label] = reader.write(writer.add)
            except _UNREAD as error:
                raise reader.unread(error) from error
            warnings += [warning(label, *each) for each in sorted(reader.endless.items())]
            output.progress(model=label, objects=counts[label])
        facts = _facts(masking, [model._meta.label_lower for model in chosen], options["database"])
    writer.end()
    return {
        "counts": counts,
        "stock": stock,
        "masked": masking is not None,
        "private": private["actions"],
        "masking": facts,
        "warnings": warnings,
    }


def convert(options, source, output):
    """The chosen models' objects of the fixtures on the source (as `worker_load.parts` has them), masked where there is
    a policy. Of a model that several of them hold, those of the first one count. `options` and result: as `dump`.
    """
    from .worker_load import entries, parts  # only here: what a dump does not need, it does not wait for

    using = options["database"]
    chosen = _chosen(options, None)
    labels = {model._meta.label_lower for model in chosen}
    known = {model._meta.label_lower for model in apps.get_models()}
    masking = _masking(options, sorted(labels))
    output.progress(many=_many(chosen))
    style = Style(options["format"], options["indent"], options["exact"])
    writer = Writer(style, output)
    counts, dropped, done = {}, {}, set()
    files = parts(source)
    if masking:
        names, masked, originals = masking.name_fields(), masking.masked_fields(), Originals(masking.key)
        for part in islice(files, options["files"]):  # they come twice
            for entry in entries(*part, using):
                learn_from_entry(masking, names, entry)
                from_entry(originals, masking, masked, entry)
        originals.add_people(masking.people)
        output.progress(originals=originals.plain())
    for part in files:
        here = set()
        for entry in entries(*part, using):
            label = entry["model"].lower()
            if label not in labels and not options["labels"] and label not in known:
                raise SauvegardeError(
                    f"The archive holds objects of {label}, which the site's code does not know.",
                    fix="Bring the code to that of the archive, or name the models to move.",
                )
            if label in labels and label not in done:
                here.add(label)
                changed = masking.entry(entry, options["natural_foreign"]) if masking else entry
                if changed is None:
                    dropped[label] = dropped.get(label, 0) + 1
                else:
                    writer.add([escaped(style.entry(changed))])
                    counts[label] = counts.get(label, 0) + 1
        done |= here
    writer.end()
    facts = masking and dict(masking.facts(sorted(labels)), dropped=dropped)
    return {"counts": counts, "stock": {}, "masked": masking is not None, "masking": facts, "warnings": []}


def _facts(masking, labels, using):
    """What was masked (as `masking.facts`), and the number of rows of each model that is dropped."""
    if masking is None:
        return None
    dropped = {model._meta.label_lower: model for model in apps.get_models() if model._meta.label_lower in labels}
    dropped = {label: rows_of(model, using).count() for label, model in dropped.items() if masking.drops(label)}
    return dict(masking.facts(labels), dropped=dropped)


def _chosen(options, tables):
    """The models to write, in stock's order. `tables`: as `left_out` wants them."""
    chosen = selected(options["labels"], options["exclude"], options["database"], options["natural_foreign"])
    without = {} if options["derived"] else left_out(chosen, options["labels"] + options["include"], tables)
    return [model for model in chosen if model._meta.label_lower not in without]


def _many(chosen):
    """{label: names of the many-to-many fields}: what a proof takes as sets."""
    return {model._meta.label_lower: [field.name for field in model._meta.local_many_to_many] for model in chosen}


def _private(options, labels, output):
    """What becomes of people's data in a dump of fixture sets.

    Returns {"actions": as `privacy.actions`, "models": {label: masking of its objects}, "masking": the one that needs
    the site's names and is searched for, None where only fields are emptied}.
    """
    if not options.get("sets"):
        return {"actions": {}, "models": {}, "masking": None}
    output.progress(logins=_logins(options["database"]))
    described = description(options["database"])
    found = actions(described, options["sets"], [label for label in labels if label in described])
    masked = {label: masked_names(rules) for label, rules in found.items()}
    masked = {label: some for label, some in masked.items() if some}
    applied = found
    if options.get("compared"):
        output.progress(unmasked=found)
        applied = {
            label: {name: action for name, action in rules.items() if name not in masked.get(label, ())}
            for label, rules in found.items()
        }
        masked = {}
    sets = SetMasking(applied, described, bytes.fromhex(options["key"]), options["sets"])
    return {
        "actions": found,
        "models": {label: sets for label, rules in applied.items() if rules},
        "masking": sets if masked else None,
    }


def _logins(using):
    """The login names of the site's users, where these have a table."""
    user = apps.get_model(settings.AUTH_USER_MODEL) if apps.is_installed("django.contrib.auth") else None
    if user is None or user._meta.db_table not in connections[using].introspection.table_names():
        return []
    return [str(name) for name in rows_of(user, using).values_list(user.USERNAME_FIELD, flat=True).iterator()]


def _masking(options, labels):
    if not options.get("policy"):
        return None
    return Masking(options["policy"], description(options["database"]), bytes.fromhex(options["key"]), labels)
