"""Inside the site: what the files hold of one model, converted and set aside until everything was looked at."""

import contextlib
import itertools
import json

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import signals

from .worker_models import hidden_attribute, natural_parts
from .worker_values import EXPECTED, Column, Dropped, Invalid, Keys, Spool, Stock

_TOGETHER = 100  # objects looked at together


class Many:
    """One many-to-many field's pairs."""

    def __init__(self, plan, field):
        self.field = field
        self.through = field.remote_field.through
        self.source = self.through._meta.get_field(field.m2m_field_name())
        self.target = self.through._meta.get_field(field.m2m_reverse_field_name())
        self.column = Column(plan, self.target)
        self.column.name = field.name
        self.related = field.remote_field.model
        self.listened = signals.m2m_changed.has_listeners(self.through)
        self.spool = Spool(plan.load.folder)
        self.values, self.sources = Keys(), Keys()
        self.last = _Last()

    def add(self, pk, members):
        # As `set()`: each member once.
        members = list(dict.fromkeys(members))
        self.values.update(members)
        self.last.add(pk, self.spool.count, pk in self.sources)
        self.sources.add(pk)
        self.spool.add((pk, members))

    def lists(self, without=()):
        """Chunks of (key, members), the last list of each key, members in `without` left out."""
        place = 0
        for chunk in self.spool.chunks():
            kept = []
            for pk, members in chunk:
                if self.last.is_last(pk, place):
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
        self.reason = self._reason()
        self.deletion_listener = self._deletion_listener()
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
        self.relations = [(place, column) for place, column in enumerate(self.columns) if constrained(column.field)]
        self.natural = {
            name for name in self.known if self._takes_natural_keys(model._meta.get_field(name).remote_field)
        }
        # None for a part that another object has.
        self.natural_names = [name if own else None for _, name, own in natural_parts(model) or ()]
        self.natural_keys = set()
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
        self.last = _Last()
        self.stock_keys = Keys()
        self.counts = {"fast": 0, "stock": 0}
        self.why = set()
        self._waiting = []

    def _refers(self, name, value):
        """Whether the value of the field, which may be one, is a natural key or has some."""
        if not isinstance(value, (list, tuple)):
            return False
        return name not in self.many or any(isinstance(member, (list, tuple)) for member in value)

    def _takes_natural_keys(self, relation):
        return relation is not None and hasattr(relation.model._default_manager, "get_by_natural_key")

    def _reason(self):
        """Why every object of the model must take the stock way, or an empty text."""
        model, meta = self.model, self.model._meta
        if meta.proxy:
            return "is a proxy of another model"
        if meta.parents:
            return "inherits from another model's table"
        if len(getattr(meta, "pk_fields", [meta.pk])) > 1:
            return "has a key of several columns"
        if model.__init__ is not models.Model.__init__:
            return "makes its objects in its own way"
        for name in ("pre_init", "post_init", "pre_save", "post_save"):
            if getattr(signals, name).has_listeners(model):
                return f"has a listener to {name}"
        for field in meta.local_concrete_fields:
            if hidden_attribute(model, field):
                return f"its field {field.name} stands behind a descriptor of its own"
            on_the_way = hasattr(field, "get_placeholder") or hasattr(field, "get_placeholder_sql")
            simple = field.get_internal_type() in ("BinaryField", "JSONField")
            geometry = getattr(field, "geom_type", None) and self.load.connection.vendor == "postgresql"
            if on_the_way and not simple and not geometry:
                return f"its field {field.name} is converted by the database"
        for field in meta.local_many_to_many:
            if signals.m2m_changed.has_listeners(field.remote_field.through):
                return f"its field {field.name} has a listener to m2m_changed"
            if field.remote_field.symmetrical:
                return f"its field {field.name} goes both ways"
        return ""

    def _deletion_listener(self):
        """The first of the deletion signals that somebody listens to, or an empty text."""
        names = [name for name in ("pre_delete", "post_delete") if getattr(signals, name).has_listeners(self.model)]
        return names[0] if names and not self.model._meta.auto_created else ""  # as Django, which sends none for these

    def add(self, entry):
        self._waiting.append(entry)
        if len(self._waiting) >= _TOGETHER:
            self.flush()

    def flush(self):
        """Look at the objects that wait: all together, and one by one where that finds anything."""
        entries, self._waiting = self._waiting, []
        if not entries or self._together(entries):
            return
        for entry in entries:
            self._alone(entry)

    def _together(self, entries):
        """The fast way for objects of which nothing needs a word; says whether there was nothing."""
        rows = [entry["fields"] for entry in entries]
        keys = [entry.get("pk") for entry in entries]
        if self.reason or None in keys or any(row.keys() != self.known for row in rows):
            return False
        if any(self._refers(name, row[name]) for name in self.natural for row in rows):
            return False
        mark = self.load.problems.mark()
        try:
            columns = [self.columns[0].several(keys, keys)]
            columns += [column.several([row[column.name] for row in rows], keys) for column in self.columns[1:]]
            lists = [(many, self._members(many, rows, keys)) for many in self.many.values()]
            keys = set(columns[0])
        except (Stock, Dropped, Invalid, TypeError):
            keys = set()
        new = len(keys) == len(entries) and self.keys.isdisjoint(keys) and self.stock_keys.isdisjoint(keys)
        if not new or self.load.problems.mark() != mark:
            self.load.problems.back(mark)
            return False
        for place, values in self.references.items():
            values.update(columns[place])
        for place, values in self.pointed.values():
            values.update(columns[place])
        for many, members in lists:
            for pk, some in zip(columns[0], members):
                many.add(pk, some)
        if self.natural_names:
            self.natural_keys.update(filter(None, map(self._natural_key, entries)))
        self.spool.extend(list(zip(*columns)))
        self.counts["fast"] += len(entries)
        return True

    def _members(self, many, rows, keys):
        """The converted members of each row's list."""
        lists = [row[many.field.name] for row in rows]
        every = [member for members in lists for member in members]
        if every:
            every = many.column.several(every, [key for key, members in zip(keys, lists) for _ in members])
        ends = list(itertools.accumulate(map(len, lists)))
        return [every[end - len(members) : end] for members, end in zip(lists, ends)]

    def _alone(self, entry):
        fields = entry["fields"]
        if not fields.keys() <= self.known and not self._unknown(entry):
            return
        for name in self.many:
            if not isinstance(fields.get(name, []), list):
                self.load.problems.add("invalid", self.label, entry.get("pk"), name, "is not a list")
                return
        key = self._natural_key(entry)
        if key is not None:
            self.natural_keys.add(key)
        reason = self.reason or self._detour(entry)
        try:
            if not reason:
                try:
                    self._fast(entry["pk"], fields)
                    return
                except Stock as detour:
                    reason = str(detour)
            self._stock(entry, reason)
        except (Dropped, Invalid):
            return

    def _unknown(self, entry):
        """Fields that the model does not have: stop, or leave them out. Says whether to go on."""
        for name in sorted(set(entry["fields"]) - self.known):
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
        for name in self.natural:
            if self._refers(name, fields.get(name)):
                return "it refers by natural keys"
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

    def _fast(self, key, fields):
        pk = self._key(key)
        if pk in self.stock_keys:
            raise Stock("it comes twice")
        row = [pk]
        for column in self.columns[1:]:
            if column.name in fields:
                row.append(column.convert(fields[column.name], key))
            else:
                row.append(column.stored(column.field.get_default(), key))
        lists = [
            (many, [many.column.convert(member, key) for member in fields[name]])
            for name, many in self.many.items()
            if name in fields
        ]
        for place, values in self.references.items():
            values.add(row[place])
        self.last.add(pk, self.spool.count, pk in self.keys)
        for place, values in self.pointed.values():
            values.add(row[place])
        for many, members in lists:
            many.add(pk, members)
        self.spool.add(tuple(row))
        self.counts["fast"] += 1

    def _stock(self, entry, reason):
        """Check the object's values, mend what the policy mends, and set it aside for Django."""
        key = entry.get("pk")
        fields = dict(entry["fields"])
        row = {}
        if key is not None:
            with contextlib.suppress(Stock):  # the reason to be here
                row[0] = self._key(key)
        for place, column in enumerate(self.columns[1:], start=1):
            if column.name not in fields:
                continue
            value = fields[column.name]
            if column.name in self.natural and isinstance(value, (list, tuple)):
                self.load.natural_reference(column.field.remote_field.model, value, self.label, key, column.name)
                continue
            try:
                converted = row[place] = column.convert(value, key)
            except Stock:
                continue  # the reason to be here
            if isinstance(value, str) and isinstance(converted, str) and column.is_text:
                fields[column.name] = converted
            elif converted is None:
                fields[column.name] = None
        for name, many in self.many.items():
            for member in fields.get(name) or ():
                if name in self.natural and isinstance(member, (list, tuple)):
                    self.load.natural_reference(many.related, member, self.label, key, name)
                else:
                    many.values.add(many.column.convert(member, key))
        for place, values in self.references.items():
            values.add(row.get(place))
        for place, values in self.pointed.values():
            values.add(row.get(place))
        if 0 in row:
            self.stock_keys.add(row[0])
        self.why.add(reason)
        self.counts["stock"] += 1
        self.stock.add(json.dumps(dict(entry, fields=fields)))

    def _natural_key(self, entry):
        names = self.natural_names
        if not names or None in names:
            return None
        key_name = self.model._meta.pk.name
        return tuple(entry.get("pk") if name == key_name else entry["fields"].get(name) for name in names)

    def rows(self, bad=None):
        """Chunks of rows, the last of each key; `bad`: {place: values} set to NULL or, by the policy, left out."""
        place = 0
        drop = self.load.problems.policy["foreign_key"] == "drop"
        for chunk in self.spool.chunks():
            kept = []
            for row in chunk:
                if self.last.is_last(row[0], place):
                    wrong = [index for index, values in bad.items() if row[index] in values] if bad else ()
                    if not wrong:
                        kept.append(row)
                    elif not drop:
                        kept.append(tuple(None if index in wrong else value for index, value in enumerate(row)))
                place += 1
            yield kept

    def stock_entries(self):
        """The objects that take the stock way, in their order."""
        for chunk in self.stock.chunks():
            for text in chunk:
                yield json.loads(text)

    @property
    def table(self):
        return self.model._meta.db_table


def constrained(field):
    return field.remote_field is not None and getattr(field, "db_constraint", False)


def _has_database_default(field):
    return getattr(field, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED and not field.has_default()
