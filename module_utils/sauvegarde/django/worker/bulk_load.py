"""Inside the site: load fixtures as stock `loaddata` would, in bulk, after everything that could fail was looked at.

Three steps. The stream is read once: every value is converted and checked, rows are set aside in files that have no
name. Then, in one transaction and under locks, references are checked against the files' rows and the database.
Only then something is written: COPY into PostgreSQL, many rows a statement into SQLite. Before the end the database
itself looks every reference of the written tables up.

Where somebody listens to what is saved, the rows are written in the order of the files, and listeners hear of each
object as they hear from stock (`worker_listeners`). An object takes the stock way (Django's deserializer and
`save(raw=True)`) where only that gives the stock result: its model saves in a way of its own, the database converts a
field, or somebody changes the object on the way. Rows that a replacement removes are deleted by Django where somebody
listens to that.
"""

import collections
import contextlib
import datetime
import decimal
import io
import itertools
import json
import marshal
import struct

from django.apps import apps
from django.core import serializers
from django.core.management.color import no_style
from django.core.management.utils import parse_apps_and_model_labels
from django.core.serializers.python import Deserializer as PythonDeserializer
from django.db import DatabaseError, OperationalError, connections, router, transaction
from django.db.models.deletion import Collector
from django.db.models.expressions import RawSQL

from ...errors import Locked, SauvegardeError
from ..fixture_stream import not_utf8, wide_encoding
from .bulk_write import writer as writer_for
from .database_guard import timeouts
from .database_triggers import silent
from .field_values import (
    CHUNK,
    Column,
    Keys,
    Problems,
    converted,
)
from .model_rows import Plan, Runs, constrained
from .natural_keys import Naturals
from .signal_listeners import Replay, silenced
from .site_models import hidden_keys, rows_of

_HEAD = struct.Struct(">I")
_REMEMBERED = 500  # rows that pointed nowhere before; where there are more, each new row is looked at as it is written


class Load:
    """One load: the plans of its models, in the order in which the files name them."""

    def __init__(self, options, output):
        self.options, self.output = options, output
        self.using = options["database"]
        self.connection = connections[self.using]
        self.connection.queries_log.clear()
        self.folder = options["spool"]
        self.problems = Problems(options["policy"])
        self.listeners = options["listeners"]
        self.plans = {}
        self.order = Runs()  # of the plans, as their objects come
        self.skipped = {}
        self.naturals = Naturals(self)
        self.excluded = parse_apps_and_model_labels(options["exclude"])
        self._known = {}
        self._places = 0
        self.exact = []  # (model, key, {field: text}) of what is written when Django has saved its objects
        self.silent = []  # the database's triggers that are off while rows are written
        self._broken = None  # what pointed nowhere before, where that is looked at in the end only

    # --- reading ------------------------------------------------------------------------------------------------------

    def read_all(self, source):
        for label in self.options["models"]:
            self.plan(apps.get_model(label))
        for part in parts(source):
            self.read(entries(*part, self.using))
        for plan in list(self.plans.values()):
            plan.flush()

    def read(self, entries):
        for entry in entries:
            label = entry["model"]
            plan = self._known.get(label)
            if plan is None:
                plan = self._known[label] = self._plan(label)
            if plan is not _SKIPPED:
                self.order.add(plan)
                plan.add(entry, self._places)
                self._places += 1
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

    @property
    def ordered(self):
        """Whether rows must be written in the order of the files: somebody may look, or an object is made of each."""
        return any(plan.made and plan.spool.count for plan in self.plans.values())

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
                cursor.execute(timeouts(self.connection, self.options["lock_timeout"]))
                cursor.execute("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE".format(", ".join(names)))
            else:
                # A statement that changes no row takes SQLite's write lock.
                cursor.execute(f"DELETE FROM {names[0]} WHERE 0 = 1")

    @contextlib.contextmanager
    def transaction(self):
        """One transaction, the tables locked.

        SQLite looks a row's references up as it is written, an eighth of all the time, and can be told only before a
        transaction not to. Where the load brings more than there is, one look at the whole database, before and after,
        costs less and finds the same.
        """
        with contextlib.ExitStack() as stack:
            worth = self.connection.vendor == "sqlite" and self._brought() > self._size()
            if not (worth and self._look_at_the_end(stack)):
                self._begin(stack)
            yield

    def _begin(self, stack):
        stack.enter_context(transaction.atomic(using=self.using))
        self.lock()

    def _look_at_the_end(self, stack):
        """Begin so that references are looked up at the end only; says whether that is possible. If not, nothing has
        begun, and each row's are looked up as ever."""
        with contextlib.ExitStack() as tried:
            if not self.connection.disable_constraint_checking():
                return False
            tried.callback(self.connection.enable_constraint_checking)
            self._begin(tried)
            try:
                with contextlib.closing(self._violations()) as rows:
                    broken = collections.Counter(itertools.islice(rows, _REMEMBERED + 1))
            except OperationalError:  # a table of somebody's own points to a column that is not unique
                return False
            if sum(broken.values()) > _REMEMBERED:
                return False
            self._broken = broken
            stack.enter_context(tried.pop_all())
            return True

    def _brought(self):
        return sum(plan.spool.size for plan in self.plans.values())

    def _size(self):
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            return cursor.fetchone()[0]

    def _violations(self):
        """Every row of the SQLite database that points nowhere: (table, its number, parent, number of the key)."""
        with self.connection.cursor() as cursor:
            cursor.execute("PRAGMA foreign_key_check")
            yield from cursor

    def _check_references(self, tables):
        """By the database itself, as stock does; raises for these tables, and for what the load broke in others."""
        if self._broken is not None:
            left, wrong = self._broken.copy(), set()
            for row in self._violations():
                left[row] -= 1
                if row[0] in tables or left[row] < 0:
                    wrong.add(row[0])
            tables = wrong
        if tables:
            self.connection.check_constraints(table_names=sorted(tables))

    def tables(self, plan):
        return [plan.table] + [many.through._meta.db_table for many in plan.many.values()]

    def check(self):
        """Every reference leads to a row of the files or of the database. Returns what does not, for the policy to
        mend: {plan: {place: values}} and {many: (plan, members)}."""
        bad, bad_members = {}, {}
        self.naturals.check()
        for plan in self.plans.values():
            for place, column in plan.relations:
                missing = self._missing(column.field, plan.references[place])
                if missing:
                    bad.setdefault(plan, {})[place] = missing
            for place, column in plan.natural_columns:
                missing = self.naturals.missing(column)
                if missing:
                    bad.setdefault(plan, {}).setdefault(place, set()).update(missing)
            for many in plan.many.values():
                missing = self._missing(many.target, many.values)
                if many.natural:
                    missing = missing | self.naturals.missing(many.column)
                if missing:
                    bad_members[many] = (plan, missing)
        self._tell(bad, bad_members)
        if self.replacing:
            self._check_hidden()
            self._check_incoming()
        return bad, bad_members

    def _missing(self, field, values):
        """Those of the stored values that nothing of the field's target has."""
        target = field.target_field
        plan = self.plans.get(target.model)
        known = plan is not None and plan.pointed.get(target.attname)
        missing = values.without(known[1] if known else Keys())
        if not missing or (plan is not None and self.replacing):
            return missing
        return missing - self.present(target, missing)

    def present(self, field, values):
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
                            self._dangling(plan, plan.shown(row[0]), column, row[place])
        for many, (plan, members) in bad_members.items():
            for chunk in many.lists():
                for pk, values in chunk:
                    for value in values:
                        if value in members:
                            self._dangling(plan, plan.shown(pk), many.column, value, may_be_empty=True)
        self._tell_stock(bad, bad_members)

    def _tell_stock(self, bad, bad_members):
        """The same among the objects that take the stock way: a policy would have to rewrite them, so it stops."""
        for plan in self.plans.values():
            places = bad.get(plan, {})
            members = [(many, bad_members[many][1]) for many in plan.many.values() if many in bad_members]
            if not places and not members:
                continue
            for entry in plan.stock_entries():
                for place, values in places.items():
                    column = plan.columns[place]
                    value = entry.get("pk") if place == 0 else entry["fields"].get(column.name)
                    if _stands_for(column, value) in values:
                        self._dangling(plan, entry.get("pk"), column, value, stock=True)
                for many, values in members:
                    for value in entry["fields"].get(many.field.name) or ():
                        if _stands_for(many.column, value) in values:
                            self._dangling(plan, entry.get("pk"), many.column, value, stock=True)

    def _dangling(self, plan, pk, column, value, may_be_empty=False, stock=False):
        target = column.field.target_field.model._meta.label_lower
        value = json.loads(value[0]) if type(value) is tuple else value
        detail = f"points to {target} {value!r}, which does not exist"
        action = None
        if stock or (self.problems.policy["foreign_key"] == "empty" and not may_be_empty and not column.field.null):
            action = "stop"
        self.problems.add("foreign_key", plan.label, pk, column.name, detail, action)

    def _check_hidden(self):
        """Rows that an export through the default manager cannot hold are not missing from the files by intent."""
        for plan in self.plans.values():
            gone = self._gone(plan, hidden_keys(plan.model, self.using))
            if gone:
                detail = (
                    f"its default manager hides {len(gone)} of its rows (the first one's key is {gone[0]}), so that no"
                )
                detail += " export holds them, and the replacement would remove them; the policy “hidden: drop” does so"
                self.problems.add("hidden", plan.label, None, "", detail)

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
                if meta.db_table in written or not constrained(field) or meta.proxy or not meta.managed:
                    continue
                sql = "SELECT DISTINCT {0} FROM {1} WHERE {0} IS NOT NULL".format(
                    quote(field.column), quote(meta.db_table)
                )
                column = Column(plan, field)
                with self.connection.cursor() as cursor:
                    cursor.execute(sql)
                    values = Keys(column._plain(row[0]) for row in cursor)
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
            fresh, lost = {}, {}
            for plan in self.plans.values():
                for place, column in plan.relations:
                    known = bad.get(plan, {}).get(place, set())
                    missing = self._missing(column.field, plan.references[place]) - known
                    if missing:
                        fresh.setdefault(plan, {})[place] = missing
                for many in plan.many.values():
                    missing = self._missing(many.target, many.values)
                    new = missing - bad_members.get(many, (plan, set()))[1]
                    if new:
                        lost[many] = (plan, new)
                        bad_members[many] = (plan, missing)
            self._tell(fresh, lost)
            for plan, places in fresh.items():
                for place, values in places.items():
                    bad.setdefault(plan, {}).setdefault(place, set()).update(values)

    def write(self, bad, bad_members):
        writer = writer_for(self)
        if self.replacing:
            self._remove(writer)
        by_order = self.ordered or self.naturals.need_order()
        deferred = (self._write_in_order if by_order else self._write_by_model)(writer, bad, bad_members)
        self.output.progress(step="references")
        for item in deferred:
            item.save_deferred_fields(using=self.using)
        self._write_exact()
        self.naturals.finish(writer)
        tables = [name for plan in self.plans.values() for name in self.tables(plan)]
        tables += [parent._meta.db_table for plan in self.plans.values() for parent in plan.model._meta.parents]
        self._check_references(set(tables))
        loaded = [plan.model for plan in self.plans.values() if plan.spool.count or plan.counts["stock"]]
        self._reset_sequences(loaded)

    def _write_exact(self):
        """What Django does not save as the fixture has it (see `worker_exact`), in objects that it has saved."""
        for model, pk, values in self.exact:
            fields = {name: model._meta.get_field(name) for name in values}
            changes = {
                name: RawSQL(f"CAST(%s AS {fields[name].db_type(self.connection)})", [value])
                for name, value in values.items()
            }
            rows_of(model, self.using).filter(pk=pk).update(**changes)

    def _reset_sequences(self, loaded):
        """New rows get numbers behind those that are there. A sequence begins at 1: of a table whose greatest number
        lies below, it stays there."""
        quote, below = self.connection.ops.quote_name, []
        with self.connection.cursor() as cursor:
            for model in loaded if self.connection.vendor == "postgresql" else ():
                key = model._meta.auto_field
                if key is not None:
                    cursor.execute(f"SELECT max({quote(key.column)}) FROM {quote(model._meta.db_table)}")
                    greatest = cursor.fetchone()[0]
                    below += [model] if greatest is not None and greatest < 1 else []
            models = [model for model in loaded if model not in below]
            for statement in self.connection.ops.sequence_reset_sql(no_style(), models):
                cursor.execute(statement)

    def _write_in_order(self, writer, bad, bad_members):
        return Replay(self, writer, bad, bad_members).run()

    def _write_by_model(self, writer, bad, bad_members):
        """In the order in which the files first name the models; returns what Django has to save once more."""
        deferred = []
        for plan in self.plans.values():
            if plan.spool.count:
                writer.rows(plan, bad.get(plan))
            for many in plan.many.values():
                if many.spool.count:
                    writer.pairs(many, bad_members.get(many, (None, ()))[1])
            if plan.stock.count:
                deferred += self.save_stock(plan, plan.stock_entries())
            self.output.progress(model=plan.label, objects=plan.counts["fast"] + plan.counts["stock"])
        return deferred

    def _remove(self, writer):
        # Before anything else goes: a listener may look at what points to its row.
        for plan in reversed(list(self.plans.values())):
            if self._told_of_deletions(plan):
                self._remove_by_django(plan)
        quote = self.connection.ops.quote_name
        # Those that point to others last named go first, for tables whose constraints do not wait.
        for plan in reversed(list(self.plans.values())):
            for many in reversed(list(plan.many.values())):
                if many.listened and self.options["tell_deletions"]:
                    self._remove_pairs(writer, plan, many)
                else:
                    writer.execute(f"DELETE FROM {quote(many.through._meta.db_table)}")
            writer.execute(f"DELETE FROM {quote(plan.table)}")

    def _told_of_deletions(self, plan):
        """The deletion signal that somebody listens to, if listeners are to be told; else an empty text."""
        return plan.deletion_listener if self.replacing and self.options["tell_deletions"] else ""

    def _remove_by_django(self, plan):
        """Delete the rows that no file has, each with its signals. What points to them stays for its own plan: nothing
        cascades out of the replaced models. Rows that the files have are only written anew: nobody deletes them."""
        held = rows_of(plan.model, self.using).values_list("pk", flat=True)
        gone = self._gone(plan, held.iterator())
        for chunk in _chunks(sorted(gone)):
            collector = Collector(using=self.using)
            rows = list(rows_of(plan.model, self.using).filter(pk__in=chunk))
            collector.collect(rows, collect_related=False, keep_parents=True)
            for many in plan.many.values():
                # As Django: after `pre_delete`, before the rows themselves.
                pairs = many.through._base_manager.using(self.using)
                collector.fast_deletes.append(pairs.filter(**{many.source.name + "__in": rows}))
            collector.delete()

    def _gone(self, plan, keys):
        """Those of the keys, as Django has them, that the files do not have."""
        kept = plan.keys
        if any(column.kind == "DecimalField" for column in plan.key_columns):
            kept = {_comparable(plan, key) for key in kept.without(Keys())}
        return [pk for pk in keys if _comparable(plan, _stored_key(plan, pk)) not in kept]

    def _remove_pairs(self, writer, plan, many):
        """Remove pairs of which an end goes. The others wait for `set()`, which tells listeners how a list changes."""
        quote, source = self.connection.ops.quote_name, Column(plan, many.source)
        entries = (each for each in plan.stock_entries() if many.field.name in each["fields"])
        kept = Keys(converted(plan.columns[0], each.get("pk")) for each in entries)
        kept.update(many.sources.without(Keys()))
        others = self.plans.get(many.related._meta.concrete_model)
        gone = []
        names = [quote(field.column) for field in (many.through._meta.pk, many.source, many.target)]
        table = quote(many.through._meta.db_table)
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT {} FROM {}".format(", ".join(names), table))
            for key, one, other in cursor:
                left = others is None or many.column._plain(other) in others.keys
                if source._plain(one) not in kept or not left:
                    gone.append(key)
        for chunk in _chunks(gone):
            writer.execute(
                "DELETE FROM {} WHERE {} IN ({})".format(table, names[0], ", ".join(["%s"] * len(chunk))), chunk
            )

    def save_stock(self, plan, entries):
        """Django's own way; returns the objects with references to what is not there yet."""
        deferred, exact = [], collections.deque()

        def told():
            for entry in entries:
                exact.append(entry.pop("exact", None))
                yield entry

        for item in PythonDeserializer(told(), using=self.using, handle_forward_references=True):
            values = exact.popleft()
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
            if values:
                self.exact.append((plan.model, item.object.pk, values))
        return deferred

    def _why_stock(self, plan):
        """Sentences: why objects of the model took the stock way, or its rows were removed by it."""
        signal = self._told_of_deletions(plan)
        return sorted(plan.why) + ([f"has a listener to {signal}, so Django deletes what goes"] if signal else [])

    def result(self):
        return {
            "counts": {plan.label: plan.counts["fast"] + plan.counts["stock"] for plan in self.plans.values()},
            "stock": {
                plan.label: {"objects": plan.counts["stock"], "why": "; ".join(why)}
                for plan, why in ((plan, self._why_stock(plan)) for plan in self.plans.values())
                if why
            },
            "listeners": {
                plan.label: sorted(plan.heard)
                for plan in self.plans.values()
                if plan.heard and plan.counts["fast"] + plan.counts["stock"]
            },
            "skipped": self.skipped,
            "problems": self.problems.listed,
            "stopping": self.problems.stopping,
            "mended": self.problems.mended,
            "touched": self.problems.touched,
            "changed": self.problems.changed,
            "silent": self.silent,
        }


_SKIPPED = object()


class _Probe:
    """In place of a plan, for a model that the files do not hold."""

    def __init__(self, load, model):
        self.load, self.label = load, model._meta.label_lower


def _stored_key(plan, key):
    """An object's key, as Django has it, in the form of the files' own (`Plan.keys`)."""
    if len(plan.key_columns) > 1:
        return tuple(map(converted, plan.key_columns, key))
    return key if type(key) is int and plan.columns[0].is_whole else converted(plan.columns[0], key)


def _comparable(plan, key):
    """The stored key, equal for equal numbers, however many zeros they have behind the point."""
    if not any(column.kind == "DecimalField" for column in plan.key_columns):
        return key
    parts = key if isinstance(key, tuple) else (key,)
    return tuple(
        decimal.Decimal(part) if column.kind == "DecimalField" and part is not None else part
        for column, part in zip(plan.key_columns, parts)
    )


def _stands_for(column, value):
    """A reference's stored value, or a natural key's mark."""
    if isinstance(value, dict):
        return None
    return (json.dumps(value),) if isinstance(value, (list, tuple)) else converted(column, value)


def _chunks(values):
    values = list(values)
    return [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]


def load(options, source, output):
    """Load fixtures. `options`: mode (merge or replace), policy, exclude, models (whose rows a replacement covers
    though no file names them), tell_deletions (whether listeners hear of rows that a replacement removes), triggers
    (whether the database's own fire), check_only, spool (folder for what waits), lock_timeout in seconds.

    The source holds, for each file, a line of JSON {"name", "format", "parsed"}, then pieces with their length before
    them: lists of objects as `marshal` writes them, where it is parsed, and the file's text where only Django can.
    Returns {"counts", "stock", "listeners", "skipped", "problems", "stopping", "mended", "touched": {model: keys of
    what was mended}, "changed": {model: [[key, fields]] of those stored but for these fields}, "silent": triggers that
    were off, "written"}; while anything is `stopping`, nothing is written.
    """
    loading = Load(options, output)
    written = False
    try:
        with contextlib.ExitStack() as stack:
            if options["check_only"]:
                stack.enter_context(_undone(loading.using))
            loading.read_all(source)
            if not loading.listeners:
                stack.enter_context(silenced())
            stack.enter_context(loading.transaction())
            bad, bad_members = loading.check()
            loading.mend(bad, bad_members)
            if not loading.problems.stopping and not options["check_only"]:
                with contextlib.ExitStack() as quiet:
                    if not options["triggers"]:
                        off = quiet.enter_context(silent(loading.connection))
                        loading.silent = [str(each) for each in off]
                    loading.write(bad, bad_members)
                written = True
            else:
                # Code of the site (a manager, a default) may have written.
                transaction.set_rollback(True, using=loading.using)
    except DatabaseError as error:
        locked = "lock timeout" in str(error) or "database is locked" in str(error)
        raise (Locked if locked else SauvegardeError)(
            "The fixture could not be loaded: the database refused it, and nothing was written.",
            str(error),
            "Wait until nobody holds the tables, or raise lock_timeout."
            if locked
            else "Mend what the database names; a unique value under another key needs the mode replace.",
        ) from error
    return dict(loading.result(), written=written)


@contextlib.contextmanager
def _undone(using):
    with transaction.atomic(using=using):
        yield
        transaction.set_rollback(True, using=using)


def parts(source):
    """(name, format, whether it is parsed, an iterator of its pieces) of each file inside the source."""
    while True:
        line = source.readline()
        if not line:
            raise _cut_off()
        head = json.loads(line.decode("utf-8"))
        if head is None:
            return
        pieces = _pieces(source)
        yield head["name"], head["format"], head["parsed"], pieces
        for _ in pieces:
            pass


def _pieces(source):
    while True:
        head = source.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise _cut_off()
        (size,) = _HEAD.unpack(head)
        if not size:
            return
        piece = source.read(size)
        if len(piece) < size:
            raise _cut_off()
        yield piece


def _cut_off():
    return SauvegardeError("The fixtures were cut off on their way: nothing was written.")


def entries(name, form, parsed, pieces, using):
    """The objects of one of the `parts`, as a JSON fixture holds them."""
    if not parsed:
        data = b"".join(pieces)
        # XML says itself how it is encoded.
        yield from _by_django(name, form, io.BytesIO(data) if form == "xml" else _decoded(name, data), using)
    for piece in pieces:
        yield from marshal.loads(piece)


def _decoded(name, data):
    """The text of another fixture: UTF-8, or what its mark says."""
    try:
        return data.decode(wide_encoding(data) or "utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(name, error) from error


def _by_django(name, form, text, using):
    """The objects of another format (XML, YAML) through Django's deserializer, as a JSON fixture would hold them."""
    try:
        for item in serializers.deserialize(form, text, using=using, handle_forward_references=True):
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
    except ImportError as error:
        raise SauvegardeError(
            f"{name}: the site's Python cannot read {form}.",
            str(error),
            "Install PyYAML in the site's virtual environment, or convert the fixture to JSON.",
        ) from error
    except (serializers.base.DeserializationError, serializers.base.SerializerDoesNotExist, ValueError) as error:
        raise SauvegardeError(
            f"{name} is not a whole fixture.", str(error.__cause__ or error), "Write it again from its source."
        ) from error


def _json_value(field, instance):
    value = field.value_from_object(instance)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, decimal.Decimal) else field.value_to_string(instance)
