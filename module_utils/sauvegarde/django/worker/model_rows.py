"""Inside the site: what the files hold of one model, converted and set aside until everything was looked at."""

import contextlib
import inspect
import itertools
import json

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import signals

from .field_values import (
    EXPECTED,
    Column,
    Dropped,
    Invalid,
    Keys,
    Spool,
    Stock,
)
from .site_models import heard_signals, hidden_attribute, natural_parts

_TOGETHER = 100  # objects looked at together
# What becomes of an object, in the order of the file.
FAST, STOCK, LEFT_OUT = range(3)


class Runs:
    """A sequence as [what, how often] pairs: long where it changes often, and it seldom does."""

    def __init__(self):
        self._runs = []

    def add(self, what, count=1):
        if self._runs and self._runs[-1][0] is what:
            self._runs[-1][1] += count
        elif count:
            self._runs.append([what, count])

    def __iter__(self):
        return iter(self._runs)

    def __len__(self):
        return len(self._runs)

    def parts(self):
        """A function that takes the next `count` items: [(what, how many)]."""
        runs, left = iter(self._runs), [None, 0]

        def take(count):
            while count:
                if not left[1]:
                    left[:] = next(runs)
                some = min(count, left[1])
                left[1] -= some
                count -= some
                yield left[0], some

        return take


class Many:
    """One many-to-many field's pairs."""

    def __init__(self, plan, field):
        self.plan, self.field = plan, field
        self.through = field.remote_field.through
        self.source = self.through._meta.get_field(field.m2m_field_name())
        self.target = self.through._meta.get_field(field.m2m_reverse_field_name())
        self.column, self.origin = Column(plan, self.target), Column(plan, self.source)
        self.column.name = field.name
        self.natural = False  # whether a member may be a natural key
        self.related = field.remote_field.model
        self.listened = plan.load.listeners and signals.m2m_changed.has_listeners(self.through)
        self.spool = Spool(plan.load.folder)
        self.values, self.sources = Keys(), Keys()
        self.last = _Last()

    def python(self, member):
        """A member's key as an object has it."""
        return self.column.target.to_python(member)

    def add(self, pk, members):
        if not self.listened:  # as `set()`, which tells listeners of a member that comes twice
            members = list(dict.fromkeys(members))
        self.values.update([member for member in members if type(member) is not tuple])
        self.last.add(pk, self.spool.count, pk in self.sources)
        self.sources.add(pk)
        self.spool.add((pk, members))

    def lists(self, without=(), every=False):
        """Chunks of (key, members), the last list of each key or all of them, members in `without` left out."""
        place = 0
        for chunk in self.spool.chunks():
            kept = []
            for pk, members in chunk:
                if every or self.last.is_last(pk, place):
                    kept.append((pk, [each for each in members if each not in without]) if without else (pk, members))
                place += 1
            yield kept


class _Last:
    """Which of several rows with one key is the last: it wins."""

    def __init__(self):
        self.repeated = {}

    def add(self, pk, place, again):
        if again:
            self.repeated[pk] = place

    def is_last(self, pk, place):
        return not self.repeated or self.repeated.get(pk, place) == place


class Plan:
    """What the files hold of one model."""

    def __init__(self, load, model):
        self.load, self.model = load, model
        self.label = model._meta.label_lower
        self.reason = why_by_django(model, load.connection.vendor)
        self.deletion_listener = self._deletion_listener()
        # The signals that its objects' makers listen to; where an object is made in a way of its own, too, each is made
        # (`worker_listeners`).
        self.signals = heard_signals(model) if load.listeners else frozenset()
        self.made = not self.reason and bool(self._made())
        generated = [field for field in model._meta.local_concrete_fields if getattr(field, "generated", False)]
        self.generated = {field.name for field in generated}  # the database computes them: never loaded
        fields = [model._meta.pk] + [
            field
            for field in model._meta.local_concrete_fields
            if not field.primary_key and not getattr(field, "generated", False)
        ]
        self.columns = [Column(self, field) for field in fields]
        parts = getattr(model._meta, "pk_fields", [model._meta.pk])
        self.key_columns = [Column(self, field) for field in parts] if len(parts) > 1 else self.columns[:1]
        self.by_name = {column.name: column for column in self.columns[1:]}
        many = [field for field in model._meta.local_many_to_many if field.remote_field.through._meta.auto_created]
        self.many = {field.name: Many(self, field) for field in many}
        self.known = set(self.by_name) | set(self.many)
        self.every = self.known | self.generated
        self.relations = [(place, column) for place, column in enumerate(self.columns) if constrained(column.field)]
        self.hidden = any(hidden_attribute(model, field) for field in fields)
        self.natural = {
            name for name in self.known if self._takes_natural_keys(model._meta.get_field(name).remote_field)
        }
        for name in self.natural & set(self.many):
            self.many[name].natural = True
        self.natural_columns = [(n, column) for n, column in enumerate(self.columns) if column.name in self.natural]
        # None for a part that another object has.
        self.natural_names = [
            name if own and label == self.label else None for label, name, own in natural_parts(model) or ()
        ]
        self.natural_keys = {}  # {text of the natural key: (the object's stored key, its place among all objects)}
        # The columns that others may point to, with all their values: the key, and what `to_field` names.
        pointed = {relation.field.target_field for relation in model._meta.related_objects if not relation.many_to_many}
        self.pointed = {
            column.field.attname: (place, Keys())
            for place, column in enumerate(self.columns)
            if place == 0 or column.field in pointed
        }
        self.keys = self.pointed[model._meta.pk.attname][1]
        self.references = {place: Keys() for place, _ in self.relations}
        self.spool = Spool(load.folder)
        self.stock = Spool(load.folder)
        # Beside each row, where objects are made of them: the file's values of the `odd` columns, whose Python values
        # are not the stored ones, the fields that the file does not have, its lists, and its generated fields.
        self.objects = Spool(load.folder) if self.made else None
        self.odd = [place for place, column in enumerate(self.columns) if not column.same]
        self.order = Runs()
        self.last = _Last()
        self.stock_keys = Keys()
        self.counts = {"fast": 0, "stock": 0}
        self.why = set()
        self._waiting, self._places = [], []

    def _takes_natural_keys(self, relation):
        return relation is not None and hasattr(relation.model._default_manager, "get_by_natural_key")

    def _made(self):
        """Why each object must be made, or an empty text."""
        if self.signals:
            return "has a listener to " + ", ".join(sorted(self.signals))
        if self.model.__init__ is not models.Model.__init__:
            return "makes its objects in its own way"
        for field in self.model._meta.local_concrete_fields:
            if hidden_attribute(self.model, field):
                return f"its field {field.name} stands behind a descriptor of its own"
        for many in self.model._meta.local_many_to_many:
            if self.load.listeners and signals.m2m_changed.has_listeners(many.remote_field.through):
                return f"its field {many.name} has a listener to m2m_changed"
        return ""

    def _deletion_listener(self):
        """The first of the deletion signals that somebody listens to, or an empty text."""
        names = [name for name in ("pre_delete", "post_delete") if getattr(signals, name).has_listeners(self.model)]
        return names[0] if names and not self.model._meta.auto_created else ""  # as Django, which sends none for these

    def add(self, entry, place):
        """Take an object; `place`: how many came before it, of all models."""
        self._waiting.append(entry)
        self._places.append(place)
        if len(self._waiting) >= _TOGETHER:
            self.flush()

    def flush(self):
        """Look at the objects that wait: all together, and one by one where that finds anything."""
        entries, self._waiting = self._waiting, []
        places, self._places = self._places, []
        if not entries or self._together(entries, places):
            return
        for entry, place in zip(entries, places):
            counts = dict(self.counts)
            self._alone(entry, place)
            fast, stock = (self.counts[way] > counts[way] for way in ("fast", "stock"))
            self.order.add(FAST if fast else STOCK if stock else LEFT_OUT)

    def _together(self, entries, places):
        """The fast way for objects of which nothing needs a word; says whether there was nothing."""
        rows = [entry["fields"] for entry in entries]
        keys = [entry.get("pk") for entry in entries]
        if self.reason or None in keys or any(row.keys() not in (self.known, self.every) for row in rows):
            return False
        mark = self.load.problems.mark()
        try:
            columns = [self.columns[0].several(keys, keys)]
            columns += [self._values(column, [row[column.name] for row in rows], keys) for column in self.columns[1:]]
            lists = [(many, self._members(many, rows, keys)) for many in self.many.values()]
            keys = set(columns[0])
        except (Stock, Dropped, Invalid, TypeError):
            keys = set()
        new = len(keys) == len(entries) and self.keys.isdisjoint(keys) and self.stock_keys.isdisjoint(keys)
        if not new or self.load.problems.mark() != mark:
            self.load.problems.back(mark)
            return False
        for place, values in self.references.items():
            values.update([value for value in columns[place] if type(value) is not tuple])
        for place, values in self.pointed.values():
            values.update(columns[place])
        for many, members in lists:
            for pk, some in zip(columns[0], members):
                many.add(pk, some)
        if self.natural_names:
            for entry, pk, place in zip(entries, columns[0], places):
                self._note_natural_key(entry, pk, place)
        self.spool.extend(list(zip(*columns)))
        if self.objects is not None:
            self.objects.extend([self._object(entry, ()) for entry in entries])
        self.counts["fast"] += len(entries)
        self.order.add(FAST, len(entries))
        return True

    def _values(self, column, values, keys):
        """A column's values; a natural key among them becomes a mark that is resolved when rows are written."""
        if column.name in self.natural and any(isinstance(value, (list, tuple)) for value in values):
            return [self._value(column, value, key) for value, key in zip(values, keys)]
        return column.several(values, keys)

    def _value(self, column, value, key):
        if column.name in self.natural and isinstance(value, (list, tuple)):
            target = column.field.remote_field
            return self.load.naturals.mark(target.model, target.field_name, value)
        return column.convert(value, key)

    def _member(self, many, value, key):
        if many.field.name in self.natural and isinstance(value, (list, tuple)):
            name = many.related._meta.pk.name
            return self.load.naturals.mark(many.related, name, value)
        return many.column.convert(value, key)

    def _object(self, entry, kept):
        """What is kept beside the object's row (see `objects`); of the columns at the places `kept` the stored value is
        the object's."""
        fields = entry["fields"]
        values = [entry["pk"] if place == 0 else fields.get(self.columns[place].name) for place in self.odd]
        absent = [place for place, column in enumerate(self.columns) if place and column.name not in fields]
        lists = [name for name in fields if name in self.many] if self.many else ()
        generated = {name: fields[name] for name in self.generated if name in fields}
        return (values, absent, lists, generated, kept)

    def _members(self, many, rows, keys):
        """The converted members of each row's list."""
        lists = [row[many.field.name] for row in rows]
        every = [member for members in lists for member in members]
        if many.field.name in self.natural and any(isinstance(member, (list, tuple)) for member in every):
            return [[self._member(many, each, key) for each in members] for members, key in zip(lists, keys)]
        if every:
            every = many.column.several(every, [key for key, members in zip(keys, lists) for _ in members])
        ends = list(itertools.accumulate(map(len, lists)))
        return [every[end - len(members) : end] for members, end in zip(lists, ends)]

    def _alone(self, entry, place):
        fields = entry["fields"]
        if not fields.keys() <= self.every and not self._unknown(entry):
            return
        for name in self.many:
            if not isinstance(fields.get(name, []), list):
                self.load.problems.add("invalid", self.label, entry.get("pk"), name, "is not a list")
                return
        reason = self.reason or self._detour(entry)
        try:
            if not reason:
                try:
                    self._note_natural_key(entry, self._fast(entry), place)
                    return
                except Stock as detour:
                    reason = str(detour)
            self._note_natural_key(entry, self._stock(entry, reason), place)
        except (Dropped, Invalid):
            return

    def _unknown(self, entry):
        """Fields that the model does not have: stop, or leave them out. Says whether to go on."""
        for name in sorted(set(entry["fields"]) - self.every):
            try:
                field = self.model._meta.get_field(name)
            except FieldDoesNotExist:
                detail = "the model has no such field"
                if self.load.problems.add("unknown", self.label, entry.get("pk"), name, detail) == "stop":
                    return False
                del entry["fields"][name]
            else:
                if not self.reason:
                    self.reason = f"the fixture has its field {field.name}"
        return True

    def _detour(self, entry):
        """Why this object must take the stock way, or an empty text."""
        if entry.get("pk") is None:
            return "it has no key"
        fields = entry["fields"]
        for column in self.columns[1:]:
            if column.name not in fields and _has_database_default(column.field):
                return f"the database has its own default for {column.name}"
        return ""

    def _key(self, key):
        """The stored form of an object's key, a tuple where it is of several columns."""
        if len(self.key_columns) > 1:
            try:
                parts = self.columns[0].target.to_python(key)
                if len(parts) != len(self.key_columns):
                    raise ValueError(f"is not a key of {len(self.key_columns)} parts")
                return tuple(column.convert(part, key) for column, part in zip(self.key_columns, parts))
            except EXPECTED as error:
                raise self.columns[0].invalid(key, error) from None
        pk = self.columns[0].convert(key, key)
        if pk != key:
            self.load.problems.renamed(self.label, key, pk)
        return pk

    def shown(self, pk):
        """A stored key as fixtures have it."""
        column = self.columns[0]
        return str(column.target.to_python(pk)) if column.kind == "UUIDField" else pk

    def _fast(self, entry):
        key, fields = entry["pk"], entry["fields"]
        pk = self._key(key)
        if pk in self.stock_keys and not self.load.ordered:
            raise Stock("it comes twice")
        row, mended = [pk], []
        for place, column in enumerate(self.columns[1:], start=1):
            mark = self.load.problems.mark()
            if column.name in fields:
                row.append(self._value(column, fields[column.name], key))
            else:
                row.append(column.stored(column.field.get_default(), key))
            if self.load.problems.mark() != mark:
                mended.append(place)
        lists = [
            (many, [self._member(many, member, key) for member in fields[name]])
            for name, many in self.many.items()
            if name in fields
        ]
        for place, values in self.references.items():
            if type(row[place]) is not tuple:
                values.add(row[place])
        self.last.add(pk, self.spool.count, pk in self.keys)
        for place, values in self.pointed.values():
            values.add(row[place])
        for many, members in lists:
            many.add(pk, members)
        self.spool.add(tuple(row))
        if self.objects is not None:
            self.objects.add(self._object(entry, mended))
        self.counts["fast"] += 1
        return pk

    def _stock(self, entry, reason):
        """Check the object's values, mend what the policy mends, and set it aside for Django."""
        key = entry.get("pk")
        fields = dict(entry["fields"])
        row, exact = {}, {}
        if key is not None:
            with contextlib.suppress(Stock):  # the reason to be here
                row[0] = self._key(key)
        for place, column in enumerate(self.columns[1:], start=1):
            if column.name not in fields:
                continue
            value = fields[column.name]
            if column.name in self.natural and isinstance(value, (list, tuple)):
                self._value(column, value, key)
                continue
            mark = self.load.problems.mark()
            try:
                converted = row[place] = column.convert(value, key)
            except Stock:
                continue  # the reason to be here
            if self.load.problems.mark() != mark and column.kind == "JSONField" and isinstance(converted, str):
                fields[column.name] = json.loads(converted)
                continue
            if isinstance(value, str) and isinstance(converted, str) and column.is_text:
                fields[column.name] = converted
            elif converted is None:
                fields[column.name] = None
            elif column.is_special(value) or (value is None and column.kind == "JSONField"):
                fields[column.name] = column.stand_in(value)
                if column.postgres or column.kind == "JSONField":  # else the stand-in is what is stored
                    exact[column.name] = converted
        for name, many in self.many.items():
            for member in fields.get(name) or ():
                converted = self._member(many, member, key)
                if type(converted) is not tuple:
                    many.values.add(converted)
        for place, values in self.references.items():
            values.add(row.get(place))
        for place, values in self.pointed.values():
            values.add(row.get(place))
        if 0 in row:
            self.stock_keys.add(row[0])
        self.why.add(reason)
        self.counts["stock"] += 1
        order = self.model._meta.order_with_respect_to
        if order is not None and fields.get("_order") is not None:
            exact["_order"] = fields["_order"]  # which Django counts anew for each new object
        self.stock.add(json.dumps(dict(entry, fields=fields, exact=exact) if exact else dict(entry, fields=fields)))
        return row.get(0)

    def _note_natural_key(self, entry, pk, place):
        names = self.natural_names
        if names and None not in names:
            key_name = self.model._meta.pk.name
            key = [entry.get("pk") if name == key_name else entry["fields"].get(name) for name in names]
            self.natural_keys.setdefault(json.dumps(key), (pk, place))

    def rows(self, bad=None, every=False):
        """Chunks of rows, the last of each key; `bad`: {place: values} set to NULL or, by the policy, left out.
        With `every` all of them, None in place of those that are left out."""
        place = 0
        drop = self.load.problems.policy["foreign_key"] == "drop"
        for chunk in self.spool.chunks():
            kept = []
            for row in chunk:
                if every or self.last.is_last(row[0], place):
                    wrong = [index for index, values in bad.items() if row[index] in values] if bad else ()
                    if not wrong:
                        kept.append(row)
                    elif not drop:
                        kept.append(tuple(None if index in wrong else value for index, value in enumerate(row)))
                    elif every:
                        kept.append(None)
                place += 1
            yield kept

    def stock_entries(self):
        """The objects that take the stock way, in their order."""
        for chunk in self.stock.chunks():
            for text in chunk:
                yield json.loads(text)

    def by_django(self, why):
        """Count an object that was to be written as a row, and Django writes."""
        self.why.add(why)
        self.counts["fast"] -= 1
        self.counts["stock"] += 1

    @property
    def heard(self):
        """The names of the signals that are sent for its objects."""
        changed = any(many.listened for many in self.many.values())
        return self.signals | ({"m2m_changed"} if changed else set())

    @property
    def total(self):
        """How many objects the files have, also those that are left out."""
        return sum(count for _, count in self.order)

    @property
    def table(self):
        return self.model._meta.db_table


def constrained(field):
    return field.remote_field is not None and getattr(field, "db_constraint", False)


def _has_database_default(field):
    return getattr(field, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED and not field.has_default()


def _converted_by_the_database(field, vendor):
    """Whether the database makes something else of the field's value than COPY would: an SQL function around it. What
    Django's own fields put there is a cast to the column's own type (as of rasters), or a geometry's function for what
    is no EWKB."""
    for name in ("get_placeholder", "get_placeholder_sql"):
        method = getattr(type(field), name, None)
        if method is None or method.__module__.startswith(("django.db.models.", "django.contrib.postgres.")):
            continue
        geometry = getattr(field, "geom_type", None) is not None and vendor == "postgresql"
        if not geometry or not method.__module__.startswith("django.contrib.gis."):
            return True
    return False


def why_by_django(model, vendor):
    """Why Django itself must write every object of the model, or an empty text."""
    meta = model._meta
    if meta.proxy:
        return "is a proxy of another model"
    if len(getattr(meta, "pk_fields", [meta.pk])) > 1:
        return "has a key of several columns"
    for name in ("_save_table", "_do_insert", "_do_update", "save_base"):
        if inspect.getattr_static(model, name) is not inspect.getattr_static(models.Model, name):
            return "saves its objects in its own way"
    for field in meta.local_concrete_fields:
        if _converted_by_the_database(field, vendor):
            return f"its field {field.name} is converted by the database"
    for field in meta.local_many_to_many:
        if field.remote_field.symmetrical:
            return f"its field {field.name} goes both ways"
    return ""
