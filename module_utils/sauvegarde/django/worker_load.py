"""Inside the site: load fixtures as stock `loaddata` would, in bulk, after everything that could fail was looked at.

Three steps. The stream is read once: every value is converted and checked, rows are set aside in files that have no
name. Then, in one transaction and under locks, references are checked against the files' rows and the database.
Only then something is written: COPY into PostgreSQL, many rows a statement into SQLite.

An object takes the stock way (Django's deserializer and `save(raw=True)`) where only that gives the stock result: its
model inherits from another table, has listeners, fields of its own making, or the object refers by natural keys.
"""

import datetime
import decimal
import ipaddress
import json
import marshal
import struct
import tempfile
import uuid

from django.apps import apps
from django.core import serializers
from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist, ValidationError
from django.core.management.color import no_style
from django.core.management.utils import parse_apps_and_model_labels
from django.core.serializers.python import Deserializer as PythonDeserializer
from django.db import DatabaseError, connections, models, router, transaction
from django.db.models import signals

from ..errors import FAILED, LOCKED, SauvegardeError
from . import fixture
from .worker_models import hidden_attribute, natural_fields

_CHUNK = 500
_HEAD = struct.Struct(">I")
_LISTED = 2000  # problems that are told one by one; the others are counted


class _Stock(Exception):
    """This object must take the stock way."""


class _Dropped(Exception):
    """This object is left out, as the policy says."""


class Problems:
    """What is wrong with the data, and what was done about it."""

    def __init__(self, policy):
        self.policy = policy  # {kind of problem: action}, complete: see `load.POLICIES`
        self.listed = []
        self.stopping = 0
        self.mended = 0

    def add(self, kind, model, pk, field, detail, action=None):
        """Note a problem; returns what the policy does about it. `action`: what is done in spite of the policy."""
        action = action or self.policy[kind]
        if action == "stop":
            self.stopping += 1
        else:
            self.mended += 1
        if len(self.listed) < _LISTED:
            self.listed.append(
                {"kind": kind, "model": model, "pk": pk, "field": field, "detail": detail, "action": action}
            )
        return action


class Spool:
    """Rows set aside, in order, in a file without a name."""

    def __init__(self, folder):
        self._file = tempfile.TemporaryFile(dir=folder or None)  # noqa: SIM115 - lives as long as the load
        self._rows = []
        self.count = 0

    def add(self, row):
        self._rows.append(row)
        self.count += 1
        if len(self._rows) >= _CHUNK:
            self._flush()

    def _flush(self):
        if self._rows:
            marshal.dump(self._rows, self._file)
            self._rows = []

    def chunks(self):
        """Lists of rows, in the order in which they came."""
        self._flush()
        self._file.flush()
        end = self._file.tell()
        self._file.seek(0)
        while self._file.tell() < end:
            yield marshal.load(self._file)
        self._file.seek(end)


class Column:
    """How one field's values of a fixture become the database's, and what may be wrong with them."""

    def __init__(self, plan, field):
        self.plan, self.field = plan, field
        self.model, self.name = plan.label, field.name
        self.connection = plan.load.connection
        self.problems = plan.load.problems
        target = field
        while target.remote_field is not None and getattr(target, "target_field", None) is not None:
            target = target.target_field
        self.target = target  # what the values are of: the field at the end of the references
        self.kind = target.get_internal_type()
        self.postgres = self.connection.vendor == "postgresql"
        self.max_length = target.max_length if isinstance(target, (models.CharField, models.FileField)) else None
        self.range = self._range()
        self.convert = self._text if self._is_text() else self._general

    def _range(self):
        try:
            return self.connection.ops.integer_field_range(self.kind)
        except KeyError:
            return (None, None)

    def _is_text(self):
        cls = type(self.target)
        own = (models.Field, models.CharField, models.TextField, models.SlugField)
        return self.kind in ("CharField", "TextField", "SlugField") and all(
            getattr(cls, name) in [getattr(base, name) for base in own]
            for name in ("to_python", "get_prep_value", "get_db_prep_value", "get_db_prep_save")
        )

    def _note(self, kind, pk, detail):
        return self.problems.add(kind, self.model, pk, self.name, detail)

    def _text(self, value, pk):
        """The quick way for text, most of what there is."""
        if type(value) is not str:
            return self._general(value, pk)
        return self.checked(value, pk)

    def checked(self, value, pk):
        if "\0" in value and self.postgres:
            if self._note("nul", pk, "holds a NUL character") == "strip":
                value = value.replace("\0", "")
        if self.max_length is not None and len(value) > self.max_length:
            detail = f"{len(value)} characters, at most {self.max_length} fit"
            # A database that enforces the length cannot keep it.
            if self._note("too_long", pk, detail) == "cut":
                value = value[: self.max_length]
        return value

    def _general(self, value, pk):
        """Through the field's own conversions, as stock does."""
        try:
            value = self.target.to_python(value)
        except _EXPECTED as error:
            raise self._invalid(pk, error) from None
        return self.stored(value, pk)

    def stored(self, value, pk):
        """The database's value of a Python value."""
        if self.kind == "FileField" and value is None:
            value = ""
        if value is not None:
            value = self._in_range(value, pk)
        if isinstance(value, str):
            value = self.checked(value, pk)
        if value is None:
            return self._null(pk)
        if self.kind == "JSONField":
            return self._json(value, pk)
        if self.kind in ("GenericIPAddressField", "IPAddressField"):
            return str(value) if value else self._null(pk)
        try:
            prepared = self.field.get_db_prep_save(value, self.connection)
        except _EXPECTED as error:
            raise self._invalid(pk, error) from None
        if getattr(self.field, "geom_type", None):
            return self._geometry(prepared)
        if prepared is None:
            return self._null(pk)
        return self._plain(prepared)

    def _null(self, pk):
        if not self.field.null and not self.field.primary_key:
            if self._note("null", pk, "is NULL, which the field does not allow") == "drop":
                raise _Dropped()
        return

    def _in_range(self, value, pk):
        detail = None
        low, high = self.range
        if isinstance(value, int) and not isinstance(value, bool):
            if (low is not None and value < low) or (high is not None and value > high):
                detail = f"{value} is not between {low} and {high}"
        elif isinstance(value, decimal.Decimal) and self.kind == "DecimalField" and value.is_finite():
            room = self.target.max_digits - self.target.decimal_places
            if abs(value) >= decimal.Decimal(10) ** room:
                detail = f"{value} has more than {room} digits before the point"
        if detail is not None:
            action = self._note("out_of_range", pk, detail)
            if action == "drop":
                raise _Dropped()
            if action == "empty":
                return None
        return value

    def _invalid(self, pk, error):
        if self._note("invalid", pk, "; ".join(getattr(error, "messages", None) or [str(error)])) == "drop":
            return _Dropped()
        return _Invalid()

    def _json(self, value, pk):
        text = json.dumps(value, cls=getattr(self.field, "encoder", None))
        if self.postgres and "\\u0000" in text:
            plain = json.loads(text)
            if _has_nul(plain) and self._note("nul", pk, "holds a NUL character") == "strip":
                text = json.dumps(_without_nul(plain))
        return text

    def _geometry(self, prepared):
        if prepared is None:
            return None
        data = getattr(prepared, "ewkb", None)
        if (
            data is None
            or getattr(prepared, "srid", None) != self.field.srid
            or getattr(prepared, "is_geometry", 1) is False
        ):
            raise _Stock("a geometry that the database must convert")
        return bytes(data).hex()

    def _plain(self, value):
        """A value that waits in a file and goes into COPY or a statement as it is."""
        kind = type(value)
        if kind in _MARSHALLED:
            return value
        if isinstance(value, bool):
            return bool(value)
        if isinstance(value, str):
            return str(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
            return value.isoformat()
        if isinstance(value, datetime.timedelta):
            return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"
        if isinstance(value, (decimal.Decimal, uuid.UUID, ipaddress._BaseAddress)):
            return str(value)
        binary = getattr(value, "adapted", getattr(value, "obj", value))
        if isinstance(binary, (bytes, bytearray, memoryview)):
            return bytes(binary)
        raise _Stock(f"its field {self.name} has values of its own kind")


class _Invalid(Exception):
    """A value that is none; noted already, and nothing will be written."""


_EXPECTED = (ValidationError, ValueError, TypeError, ArithmeticError, AttributeError)
_MARSHALLED = {str, int, float, bool, bytes, type(None)}


def _has_nul(value):
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def _without_nul(value):
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value


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
        self.spool = Spool(plan.load.folder)
        self.values = set()
        self.last = _Last()

    def add(self, pk, members):
        # As `set()`: each member once.
        members = list(dict.fromkeys(members))
        self.values.update(members)
        self.last.add(pk, self.spool.count)
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
        self.seen = set()
        self.repeated = {}

    def add(self, pk, place):
        if pk in self.seen:
            self.repeated[pk] = place
        else:
            self.seen.add(pk)

    def is_last(self, pk, place):
        return not self.repeated or self.repeated.get(pk, place) == place


class Plan:
    """What the files hold of one model."""

    def __init__(self, load, model):
        self.load, self.model = load, model
        self.label = model._meta.label_lower
        self.reason = self._reason()
        fields = [model._meta.pk] + [
            field
            for field in model._meta.local_concrete_fields
            if not field.primary_key and not getattr(field, "generated", False)
        ]
        self.columns = [Column(self, field) for field in fields]
        self.by_name = {column.name: column for column in self.columns[1:]}
        many = [field for field in model._meta.local_many_to_many if field.remote_field.through._meta.auto_created]
        self.many = {field.name: Many(self, field) for field in many}
        self.known = set(self.by_name) | set(self.many)
        self.relations = [(place, column) for place, column in enumerate(self.columns) if _constrained(column.field)]
        self.natural = {
            name for name in self.known if self._takes_natural_keys(model._meta.get_field(name).remote_field)
        }
        self.natural_names = natural_fields(model)
        self.natural_keys = set()
        # The columns that others may point to, with all their values: the key, and what `to_field` names.
        pointed = {relation.field.target_field for relation in model._meta.related_objects if not relation.many_to_many}
        self.pointed = {
            column.field.attname: (place, set())
            for place, column in enumerate(self.columns)
            if place == 0 or column.field in pointed
        }
        self.references = {place: set() for place, _ in self.relations}
        self.spool = Spool(load.folder)
        self.stock = Spool(load.folder)
        self.last = _Last()
        self.stock_keys = set()
        self.counts = {"fast": 0, "stock": 0}
        self.why = set()

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

    def add(self, entry):
        fields = entry["fields"]
        if not fields.keys() <= self.known and not self._unknown(entry):
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
                except _Stock as detour:
                    reason = str(detour)
            self._stock(entry, reason)
        except (_Dropped, _Invalid):
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
            value = fields.get(name)
            if isinstance(value, (list, tuple)) and (
                name not in self.many or any(isinstance(member, (list, tuple)) for member in value)
            ):
                return "it refers by natural keys"
        for column in self.columns[1:]:
            if column.name not in fields and _has_database_default(column.field):
                return f"the database has its own default for {column.name}"
        return ""

    def _fast(self, key, fields):
        pk = self.columns[0].convert(key, key)
        if pk in self.stock_keys:
            raise _Stock("it comes twice")
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
            if row[place] is not None:
                values.add(row[place])
        for place, values in self.pointed.values():
            values.add(row[place])
        for many, members in lists:
            many.add(pk, members)
        self.last.add(pk, self.spool.count)
        self.spool.add(tuple(row))
        self.counts["fast"] += 1

    def _stock(self, entry, reason):
        """Check the object's values, mend what the policy mends, and set it aside for Django."""
        key = entry.get("pk")
        fields = dict(entry["fields"])
        row = {}
        if key is not None:
            row[0] = self.columns[0].convert(key, key)
        for place, column in enumerate(self.columns[1:], start=1):
            if column.name not in fields:
                continue
            value = fields[column.name]
            if column.name in self.natural and isinstance(value, (list, tuple)):
                self.load.natural_reference(column.field.remote_field.model, value)
                continue
            try:
                converted = row[place] = column.convert(value, key)
            except _Stock:
                continue  # the reason to be here
            if isinstance(value, str) and isinstance(converted, str) and column.convert == column._text:
                fields[column.name] = converted
            elif converted is None:
                fields[column.name] = None
        for name, many in self.many.items():
            for member in fields.get(name) or ():
                if name in self.natural and isinstance(member, (list, tuple)):
                    self.load.natural_reference(many.related, member)
                else:
                    many.values.add(many.column.convert(member, key))
        for place, values in self.references.items():
            if row.get(place) is not None:
                values.add(row[place])
        for place, values in self.pointed.values():
            if row.get(place) is not None:
                values.add(row[place])
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


def _constrained(field):
    return field.remote_field is not None and getattr(field, "db_constraint", False)


def _has_database_default(field):
    return getattr(field, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED and not field.has_default()


class Load:
    """One load: the plans of its models, in the order in which the files name them."""

    def __init__(self, options, output):
        self.options, self.output = options, output
        self.using = options["database"]
        self.connection = connections[self.using]
        self.connection.queries_log.clear()
        self.folder = options["spool"]
        self.problems = Problems(options["policy"])
        self.plans = {}
        self.skipped = {}
        self.naturals = {}
        self.excluded = parse_apps_and_model_labels(options["exclude"])
        self._known = {}

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, entries):
        for entry in entries:
            label = entry["model"]
            plan = self._known.get(label)
            if plan is None:
                plan = self._known[label] = self._plan(label)
            if plan is not _SKIPPED:
                plan.add(entry)
            else:
                self.skipped[label] = self.skipped.get(label, 0) + 1

    def _plan(self, label):
        try:
            model = apps.get_model(label)
        except (LookupError, ValueError):
            self.problems.add("unknown", label, None, "", "the site has no such model")
            return _SKIPPED
        excluded_models, excluded_apps = self.excluded
        if model in excluded_models or model._meta.app_config in excluded_apps:
            return _SKIPPED
        if not router.allow_migrate_model(self.using, model):
            return _SKIPPED
        return self.plan(model)

    def plan(self, model):
        if model not in self.plans:
            self.plans[model] = Plan(self, model)
        return self.plans[model]

    def natural_reference(self, model, key):
        self.naturals.setdefault(model, set()).add(tuple(key))

    # --- checking -----------------------------------------------------------------------------------------------------

    @property
    def replacing(self):
        return self.options["mode"] == "replace"

    def lock(self):
        """Nobody writes into the tables between the check and the end."""
        tables = [name for plan in self.plans.values() for name in self.tables(plan)]
        if not tables:
            return
        names = [self.connection.ops.quote_name(name) for name in dict.fromkeys(tables)]
        with self.connection.cursor() as cursor:
            if self.connection.vendor == "postgresql":
                cursor.execute("SET LOCAL lock_timeout = %s", [int(self.options["lock_timeout"] * 1000)])
                cursor.execute("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE".format(", ".join(names)))
                cursor.execute("SET LOCAL lock_timeout = 0")
            else:
                # A statement that changes no row takes SQLite's write lock.
                cursor.execute(f"DELETE FROM {names[0]} WHERE 0 = 1")

    def tables(self, plan):
        return [plan.table] + [many.through._meta.db_table for many in plan.many.values()]

    def check(self):
        """Every reference leads to a row of the files or of the database. Returns what does not, {plan: {place: values}}
        and {many: members}, for the policy to mend."""
        bad, bad_members = {}, {}
        for plan in self.plans.values():
            for place, column in plan.relations:
                missing = self._missing(column.field, plan.references[place])
                if missing:
                    bad.setdefault(plan, {})[place] = missing
            for many in plan.many.values():
                missing = self._missing(many.target, many.values)
                if missing:
                    bad_members[many] = (plan, missing)
        self._tell(bad, bad_members)
        self._check_naturals()
        if self.replacing:
            self._check_incoming()
        return bad, bad_members

    def _missing(self, field, values):
        """Those of the stored values that nothing of the field's target has."""
        target = field.target_field
        plan = self.plans.get(target.model)
        missing = values
        if plan is not None and target.attname in plan.pointed:
            missing = values - plan.pointed[target.attname][1]
        if not missing or (plan is not None and self.replacing):
            return missing
        return missing - self._present(target, missing)

    def _present(self, field, values):
        """Those of the stored values that the table has in the field."""
        quote = self.connection.ops.quote_name
        wanted = "SELECT {0} FROM {1} WHERE {0} IN ".format(quote(field.column), quote(field.model._meta.db_table))
        column = Column(self.plan_or_probe(field.model), field)
        found = set()
        with self.connection.cursor() as cursor:
            for chunk in _chunks(values):
                cursor.execute(wanted + "({})".format(", ".join(["%s"] * len(chunk))), chunk)
                # As the driver gives them: made to look like what waits in the files.
                found.update(column._plain(row[0]) for row in cursor.fetchall())
        return found

    def plan_or_probe(self, model):
        return self.plans.get(model) or _Probe(self, model)

    def _tell(self, bad, bad_members):
        """List the references that lead nowhere; the policy's NULL is only for fields that may be NULL."""
        for plan, places in bad.items():
            for chunk in plan.spool.chunks():
                for row in chunk:
                    for place, values in places.items():
                        if row[place] in values:
                            column = plan.columns[place]
                            self._dangling(plan, row[0], column, row[place])
        for many, (plan, members) in bad_members.items():
            for chunk in many.lists():
                for pk, values in chunk:
                    for value in values:
                        if value in members:
                            self._dangling(plan, pk, many.column, value, may_be_empty=True)
        self._tell_stock(bad, bad_members)

    def _tell_stock(self, bad, bad_members):
        """The same among the objects that take the stock way: there a policy would have to rewrite them, so it stops."""
        for plan in self.plans.values():
            places = bad.get(plan, {})
            members = [(many, bad_members[many][1]) for many in plan.many.values() if many in bad_members]
            if not places and not members:
                continue
            for entry in plan.stock_entries():
                for place, values in places.items():
                    column = plan.columns[place]
                    value = entry.get("pk") if place == 0 else entry["fields"].get(column.name)
                    if not isinstance(value, (list, dict)) and _converted(column, value) in values:
                        self._dangling(plan, entry.get("pk"), column, value, stock=True)
                for many, values in members:
                    for value in entry["fields"].get(many.field.name) or ():
                        if not isinstance(value, list) and _converted(many.column, value) in values:
                            self._dangling(plan, entry.get("pk"), many.column, value, stock=True)

    def _dangling(self, plan, pk, column, value, may_be_empty=False, stock=False):
        target = column.field.target_field.model._meta.label_lower
        detail = f"points to {target} {value!r}, which does not exist"
        action = None
        if stock or (self.problems.policy["foreign_key"] == "empty" and not may_be_empty and not column.field.null):
            action = "stop"
        self.problems.add("foreign_key", plan.label, pk, column.name, detail, action)

    def _check_naturals(self):
        for model, keys in self.naturals.items():
            plan = self.plans.get(model)
            if plan is not None and (not plan.natural_names or None in plan.natural_names):
                continue  # whether the files bring it can only be seen when they are in
            left = keys - plan.natural_keys if plan is not None else keys
            manager = model._default_manager.db_manager(self.using)
            for key in sorted(left, key=repr):
                try:
                    manager.get_by_natural_key(*key)
                except (ObjectDoesNotExist, TypeError):
                    self.problems.add(
                        "foreign_key",
                        model._meta.label_lower,
                        list(key),
                        "",
                        "is referred to by its natural key, and does not exist",
                        "stop",
                    )

    def _check_incoming(self):
        """Rows of other models that point to rows which the replacement would remove."""
        written = {plan.table for plan in self.plans.values()}
        written.update(many.through._meta.db_table for plan in self.plans.values() for many in plan.many.values())
        quote = self.connection.ops.quote_name
        for plan in self.plans.values():
            for relation in plan.model._meta.get_fields(include_hidden=True):
                if not relation.auto_created or relation.concrete or relation.many_to_many:
                    continue
                field = relation.field
                meta = field.model._meta
                if meta.db_table in written or not _constrained(field) or meta.proxy or not meta.managed:
                    continue
                sql = "SELECT DISTINCT {0} FROM {1} WHERE {0} IS NOT NULL".format(
                    quote(field.column), quote(meta.db_table)
                )
                column = Column(plan, field)
                with self.connection.cursor() as cursor:
                    cursor.execute(sql)
                    values = {column._plain(row[0]) for row in cursor.fetchall()}
                for value in sorted(self._missing(field, values), key=repr):
                    self.problems.add(
                        "foreign_key",
                        meta.label_lower,
                        None,
                        field.name,
                        f"rows outside the fixture point to {plan.label} {value!r}, which the replacement removes",
                        "stop",
                    )

    # --- writing ------------------------------------------------------------------------------------------------------

    def mend(self, bad, bad_members):
        """Leave out what the policy drops, and what then points to it, until nothing is left that leads nowhere."""
        if self.problems.policy["foreign_key"] != "drop":
            return
        fresh = dict(bad)
        while fresh:
            gone = {}
            for plan, places in fresh.items():
                for chunk in plan.spool.chunks():
                    for row in chunk:
                        if any(row[place] in values for place, values in places.items()):
                            for attname, (place, values) in plan.pointed.items():
                                values.discard(row[place])
                                gone.setdefault((plan, attname), set()).add(row[place])
                for many in plan.many.values():
                    many.gone = getattr(many, "gone", set()) | gone.get((plan, plan.columns[0].field.attname), set())
            fresh = {}
            for plan in self.plans.values():
                for place, column in plan.relations:
                    known = bad.get(plan, {}).get(place, set())
                    missing = self._missing(column.field, plan.references[place]) - known
                    if missing:
                        fresh.setdefault(plan, {})[place] = missing
                for many in plan.many.values():
                    missing = self._missing(many.target, many.values)
                    if missing:
                        bad_members[many] = (plan, missing)
            self._tell(fresh, {})
            for plan, places in fresh.items():
                for place, values in places.items():
                    bad.setdefault(plan, {}).setdefault(place, set()).update(values)

    def write(self, bad, bad_members):
        writer = (PostgresWriter if self.connection.vendor == "postgresql" else Writer)(self)
        if self.replacing:
            self._remove(writer)
        # In the order of the files: what a listener does may depend on it.
        deferred = []
        for plan in self.plans.values():
            if plan.spool.count:
                writer.rows(plan, bad.get(plan))
            for many in plan.many.values():
                if many.spool.count:
                    writer.pairs(many, bad_members.get(many, (None, ()))[1])
            if plan.stock.count:
                deferred += self._save_stock(plan)
            self.output.progress(model=plan.label, objects=plan.counts["fast"] + plan.counts["stock"])
        for item in deferred:
            item.save_deferred_fields(using=self.using)
        tables = [name for plan in self.plans.values() for name in self.tables(plan)]
        tables += [parent._meta.db_table for plan in self.plans.values() for parent in plan.model._meta.parents]
        self.connection.check_constraints(table_names=list(dict.fromkeys(tables)))
        loaded = [plan.model for plan in self.plans.values() if plan.spool.count or plan.counts["stock"]]
        with self.connection.cursor() as cursor:
            for statement in self.connection.ops.sequence_reset_sql(no_style(), loaded):
                cursor.execute(statement)

    def _remove(self, writer):
        quote = self.connection.ops.quote_name
        # Those that point to others last named go first, for tables whose constraints do not wait.
        for plan in reversed(list(self.plans.values())):
            for table in reversed(self.tables(plan)):
                writer.execute(f"DELETE FROM {quote(table)}")

    def _save_stock(self, plan):
        """Django's own way; returns the objects with references to what is not there yet."""
        deferred = []
        for item in PythonDeserializer(plan.stock_entries(), using=self.using, handle_forward_references=True):
            try:
                item.save(using=self.using)
            except (DatabaseError, ValueError) as error:
                raise SauvegardeError(
                    f"{plan.label} {item.object.pk!r} could not be saved.",
                    str(error),
                    "Mend the object in the fixture; nothing was written.",
                ) from error
            if item.deferred_fields:
                deferred.append(item)
        return deferred

    def result(self):
        return {
            "counts": {plan.label: plan.counts["fast"] + plan.counts["stock"] for plan in self.plans.values()},
            "stock": {
                plan.label: {"objects": plan.counts["stock"], "why": "; ".join(sorted(plan.why))}
                for plan in self.plans.values()
                if plan.counts["stock"]
            },
            "skipped": self.skipped,
            "problems": self.problems.listed,
            "stopping": self.problems.stopping,
            "mended": self.problems.mended,
        }


_SKIPPED = object()


class _Probe:
    """In place of a plan, for a model that the files do not hold."""

    def __init__(self, load, model):
        self.load, self.label = load, model._meta.label_lower


def _converted(column, value):
    try:
        return column._plain(column.field.get_db_prep_save(column.target.to_python(value), column.connection))
    except (_Stock, _Invalid, *_EXPECTED):
        return None


def _chunks(values):
    values = list(values)
    return [values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK)]


class Writer:
    """Writes rows with many of them a statement (SQLite)."""

    def __init__(self, load):
        self.load, self.connection = load, load.connection
        self.quote = load.connection.ops.quote_name

    def execute(self, sql, params=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)

    def value(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()

    def rows(self, plan, bad):
        sql = self._insert(plan.table, plan.columns) + " VALUES ({})".format(", ".join(["%s"] * len(plan.columns)))
        self._many(sql + self._conflict(plan), plan.rows(bad))

    def _insert(self, table, columns):
        return "INSERT INTO {} ({})".format(
            self.quote(table), ", ".join(self.quote(column.field.column) for column in columns)
        )

    def _conflict(self, plan):
        """As `save`: a row with the same key is overwritten."""
        key, *others = [self.quote(column.field.column) for column in plan.columns]
        if not others:
            return f" ON CONFLICT ({key}) DO NOTHING"
        return " ON CONFLICT ({}) DO UPDATE SET {}".format(
            key, ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
        )

    def _many(self, sql, chunks):
        with self.connection.cursor() as cursor:
            for chunk in chunks:
                if chunk:
                    cursor.executemany(sql, chunk)

    def pairs(self, many, without):
        """As `set()`: pairs that are there stay, new ones come, those that the files do not have go."""
        table = many.through._meta.db_table
        source, target = many.source.column, many.target.column
        chunks = self._pair_chunks(many, without)
        if self.value(f"SELECT 1 FROM {self.quote(table)} LIMIT 1") is None:
            self._store(table, [source, target], chunks)
            return
        names = {
            "table": self.quote(table),
            "source": self.quote(source),
            "target": self.quote(target),
        }
        # Copies of the table's columns, so that types and collations are the same.
        self.execute(
            "CREATE TEMPORARY TABLE sauvegarde_pairs AS SELECT {source}, {target} FROM {table} WHERE 1 = 0".format(
                **names
            )
        )
        self.execute(
            "CREATE TEMPORARY TABLE sauvegarde_sources AS SELECT {source} FROM {table} WHERE 1 = 0".format(**names)
        )
        self._store("sauvegarde_pairs", [source, target], chunks)
        self._store("sauvegarde_sources", [source], ([(pk,) for pk, _ in chunk] for chunk in self._lists(many)))
        self.execute("CREATE INDEX sauvegarde_pairs_index ON sauvegarde_pairs ({source}, {target})".format(**names))
        same = "{table}.{source} = p.{source} AND {table}.{target} = p.{target}".format(**names)
        self.execute(
            "DELETE FROM {table} WHERE {source} IN (SELECT {source} FROM sauvegarde_sources)"
            " AND NOT EXISTS (SELECT 1 FROM sauvegarde_pairs p WHERE {same})".format(same=same, **names)
        )
        self.execute(
            "INSERT INTO {table} ({source}, {target}) SELECT p.{source}, p.{target} FROM sauvegarde_pairs p"
            " WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {same})".format(same=same, **names)
        )
        self.execute("DROP TABLE sauvegarde_pairs")
        self.execute("DROP TABLE sauvegarde_sources")

    def _lists(self, many):
        gone = getattr(many, "gone", ())
        for chunk in many.lists():
            yield [pair for pair in chunk if pair[0] not in gone] if gone else chunk

    def _pair_chunks(self, many, without):
        gone = getattr(many, "gone", ())
        for chunk in many.lists(without):
            yield [(pk, member) for pk, members in chunk if pk not in gone for member in members]

    def _store(self, table, names, chunks):
        sql = "INSERT INTO {} ({}) VALUES ({})".format(
            self.quote(table), ", ".join(self.quote(name) for name in names), ", ".join(["%s"] * len(names))
        )
        self._many(sql, chunks)


_ESCAPED = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _copy_text(value):
    """One value in COPY's text form."""
    kind = type(value)
    if kind is str:
        return value.translate(_ESCAPED) if _needs_escape(value) else value
    if value is None:
        return "\\N"
    if kind is bool:
        return "t" if value else "f"
    if kind is bytes:
        return "\\\\x" + value.hex()
    return repr(value)


def _needs_escape(text):
    return "\\" in text or "\n" in text or "\r" in text or "\t" in text


class PostgresWriter(Writer):
    """Writes rows with COPY."""

    def rows(self, plan, bad):
        names = [column.field.column for column in plan.columns]
        if self.value(f"SELECT 1 FROM {self.quote(plan.table)} LIMIT 1") is None:
            self._store(plan.table, names, plan.rows(bad))
            return
        columns = ", ".join(self.quote(name) for name in names)
        self.execute(
            f"CREATE TEMPORARY TABLE sauvegarde_rows AS SELECT {columns} FROM {self.quote(plan.table)} WITH NO DATA"
        )
        self._store("sauvegarde_rows", names, plan.rows(bad))
        self.execute(
            self._insert(plan.table, plan.columns) + f" SELECT {columns} FROM sauvegarde_rows" + self._conflict(plan)
        )
        self.execute("DROP TABLE sauvegarde_rows")

    def _store(self, table, names, chunks):
        sql = "COPY {} ({}) FROM STDIN".format(self.quote(table), ", ".join(self.quote(name) for name in names))
        pieces = (
            "".join(["\t".join([_copy_text(value) for value in row]) + "\n" for row in chunk]).encode("utf-8")
            for chunk in chunks
        )
        with self.connection.cursor() as cursor, self.connection.wrap_database_errors:
            if hasattr(cursor.cursor, "copy_expert"):  # psycopg2
                cursor.cursor.copy_expert(sql, _Pieces(pieces), 1 << 18)
            else:
                with cursor.cursor.copy(sql) as copy:
                    for piece in pieces:
                        copy.write(piece)


class _Pieces:
    """A file that is read from an iterator of bytes."""

    def __init__(self, pieces):
        self._pieces = pieces
        self._left = b""

    def read(self, size=-1):
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        data, self._left = self._left[:size], self._left[size:]
        return data


def load(options, source, output):
    """Load fixtures. `options`: mode (merge or replace), policy, exclude, models (whose rows a replacement covers though
    no file names them), check_only, spool (folder for what waits), lock_timeout in seconds.

    The source holds, for each file, a line of JSON {"name", "format"}, then pieces with their length before them.
    Returns {"counts", "stock", "skipped", "problems", "stopping", "mended", "written"}; writes nothing while `stopping`.
    """
    loading = Load(options, output)
    for label in options["models"]:
        loading.plan(apps.get_model(label))
    for part in _parts(source):
        loading.read(_entries(part, loading.using))
    written = False
    try:
        with transaction.atomic(using=loading.using):
            loading.lock()
            bad, bad_members = loading.check()
            loading.mend(bad, bad_members)
            if not loading.problems.stopping and not options["check_only"]:
                loading.write(bad, bad_members)
                written = True
    except DatabaseError as error:
        locked = "lock timeout" in str(error) or "database is locked" in str(error)
        raise SauvegardeError(
            "The fixture could not be loaded: the database refused it, and nothing was written.",
            str(error),
            "Wait until nobody holds the tables, or raise lock_timeout."
            if locked
            else "Mend what the database names; a unique value under another key needs mode replace, or another fixture.",
            LOCKED if locked else FAILED,
        ) from error
    return dict(loading.result(), written=written)


class _Part:
    """One file inside the source."""

    def __init__(self, source, head):
        self.name, self.format = head["name"], head["format"]
        self._source = source
        self._left = 0
        self._ended = False

    def read(self, size=-1):
        data = b""
        while not self._ended and (size < 0 or not data):
            if not self._left:
                head = self._source.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    raise ValueError("it was cut off on its way")
                (self._left,) = _HEAD.unpack(head)
                if not self._left:
                    self._ended = True
                    break
            piece = self._source.read(self._left if size < 0 else min(size, self._left))
            if not piece:
                raise ValueError("it was cut off on its way")
            self._left -= len(piece)
            data += piece
        return data


def _parts(source):
    while True:
        line = source.readline()
        if not line:
            raise SauvegardeError("The fixtures were cut off on their way: nothing was written.")
        head = json.loads(line.decode("utf-8"))
        if head is None:
            return
        part = _Part(source, head)
        yield part
        while part.read(1 << 20):
            pass


def _entries(part, using):
    if part.format in ("json", "jsonl"):
        return fixture.objects(part, part.format, part.name)
    return _by_django(part, using)


def _by_django(part, using):
    """The objects of another format (XML, YAML) through Django's deserializer, as a JSON fixture would hold them."""
    text = part.read().decode("utf-8")
    try:
        for item in serializers.deserialize(part.format, text, using=using, handle_forward_references=True):
            meta = item.object._meta
            deferred = item.deferred_fields or {}
            fields = {
                field.name: _json_value(field, item.object)
                for field in meta.local_concrete_fields
                if not field.primary_key and field not in deferred
            }
            fields.update({name: [str(value) for value in values] for name, values in (item.m2m_data or {}).items()})
            fields.update({field.name: value for field, value in deferred.items()})
            entry = {"model": meta.label_lower, "fields": fields}
            if item.object.pk is not None:
                entry["pk"] = _json_value(meta.pk, item.object)
            yield entry
    except (serializers.base.DeserializationError, serializers.base.SerializerDoesNotExist, ValueError) as error:
        raise SauvegardeError(
            f"{part.name} is not a whole fixture.", str(error.__cause__ or error), "Write it again from its source."
        ) from error


def _json_value(field, instance):
    value = field.value_from_object(instance)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, decimal.Decimal) else field.value_to_string(instance)
