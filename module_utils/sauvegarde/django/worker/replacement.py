"""Remove the rows that a load in the mode `replace` replaces, and check first what would be lost with them.

If the site has listeners to deletions, Django deletes the rows that no file has, so that they are called for each. All
other rows are deleted with one statement per table, unless the database itself would change rows of other tables with
them (ON DELETE CASCADE, Django's DB_CASCADE): then the rows of the files stay, and are overwritten.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django.db.models.deletion import Collector

from .hidden_rows import hidden_keys
from .key_set import Keys
from .model_rows import is_constrained
from .model_selection import rows_of
from .row_spool import chunked

if TYPE_CHECKING:
    from .django_types import Field
    from .fast_write import FastWriter
    from .load_context import LoadContext
    from .many_to_many_rows import ManyToManyRows
    from .model_rows import ModelRows, Models
    from .reference_check import ReferenceCheck


# The tables with a foreign key to a table that acts at once when a row of it is deleted: it refuses the deletion, or
# changes rows of its own.
_ACTING = {
    "postgresql": (
        "SELECT DISTINCT r.relname FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid"
        " WHERE c.contype = 'f' AND c.confrelid = %s::regclass AND c.confdeltype <> 'a'"
    ),
    "sqlite": (
        "SELECT DISTINCT m.name FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f"
        " WHERE m.type = 'table' AND lower(f.\"table\") = lower(%s) AND f.on_delete <> 'NO ACTION'"
    ),
}


class Replacement:
    """What one load replaces."""

    def __init__(self, context: LoadContext, models: Models) -> None:
        self.context, self.models = context, models
        self.using, self.connection = context.using, context.connection
        self.quote = context.connection.ops.quote_name

    # --- checks -------------------------------------------------------------------------------------------------------

    def check(self, references: ReferenceCheck) -> None:
        """Record what the replacement would remove without intent: hidden rows, and rows that others refer to."""
        for rows in self.models.values():
            self._check_hidden(rows)
        written = {table for rows in self.models.values() for table in rows.tables}
        for rows in self.models.values():
            for field in _incoming(rows, written):
                self._check_incoming(rows, field, references)

    def _check_hidden(self, rows: ModelRows) -> None:
        """Record rows that a default manager hides: no export holds them, so that files lack them without intent."""
        keys = self._not_in_files(rows, hidden_keys(rows.model, self.using))
        if keys:
            detail = (
                f"its default manager hides {len(keys)} of its rows (the first one's key is {keys[0]}), so that no"
                " export holds them, and the replacement would remove them; the policy “hidden: drop” does so"
            )
            self.context.problems.add("hidden", rows.label, None, "", detail)

    def _check_incoming(self, rows: ModelRows, field: Field, references: ReferenceCheck) -> None:
        """Find rows outside the files that point to rows which the replacement would remove."""
        table, column = self.quote(field.model._meta.db_table), self.context.column(field)
        sql = "SELECT DISTINCT {0} FROM {1} WHERE {0} IS NOT NULL".format(self.quote(field.column), table)
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            values = Keys(column.plain(row[0]) for row in cursor)
        for value in sorted(references.missing(field, values), key=repr):
            self.context.problems.add(
                "foreign_key",
                field.model._meta.label_lower,
                None,
                field.name,
                f"rows outside the fixture point to {rows.label} {value!r}, which the replacement removes",
                "stop",
            )

    def deletion_signal(self, rows: ModelRows) -> str:
        """Return the deletion signal that is sent for the model's rows, or an empty text."""
        options = self.context.options
        return rows.deletion_signal if options.replaces and options.tell_deletions else ""

    # --- removal ------------------------------------------------------------------------------------------------------

    def remove(self, writer: FastWriter) -> None:
        """Delete the rows of all models of the load."""
        models = list(self.models.values())
        # First of all, since a listener may look at what points to its row.
        for rows in reversed(models):
            if self.deletion_signal(rows):
                self._remove_by_django(rows)
        # Models named last point to others and go first, for tables whose constraints are not deferrable.
        for rows in reversed(models):
            for many in reversed(list(rows.many.values())):
                if many.heard and self.context.options.tell_deletions:
                    self._remove_pairs(writer, rows, many)
                else:
                    writer.execute(f"DELETE FROM {self.quote(many.table)}")
            if self._acts_on_others(rows.table):
                self._remove_absent(rows)
            else:
                writer.execute(f"DELETE FROM {self.quote(rows.table)}")

    def _acts_on_others(self, table: str) -> bool:
        """Return whether the database would change rows of tables that are not replaced, if all of this one's went."""
        replaced = {each for rows in self.models.values() for each in rows.tables}
        replaced.update(many.table for rows in self.models.values() for many in rows.many.values())
        seen, waiting = {table}, [table]
        while waiting:
            with self.connection.cursor() as cursor:
                name = waiting.pop()
                is_sqlite = self.connection.vendor == "sqlite"
                cursor.execute(_ACTING[self.connection.vendor], [name if is_sqlite else self.quote(name)])
                found = {row[0] for row in cursor.fetchall()} - seen
            if found - replaced:
                return True
            seen |= found
            waiting += found
        return False

    def _remove_absent(self, rows: ModelRows) -> None:
        """Delete the rows that no file has. The others are overwritten."""
        keys = rows_of(rows.model, self.using).values_list("pk", flat=True).iterator()
        for chunk in chunked(sorted(self._not_in_files(rows, keys))):
            rows_of(rows.model, self.using).filter(pk__in=chunk)._raw_delete(self.using)

    def _remove_by_django(self, rows: ModelRows) -> None:
        """Delete the rows that no file has, each with its signals. Rows of the files are only written again.

        Nothing cascades out of the replaced models: rows that refer to the deleted ones go with their own model.
        """
        keys = rows_of(rows.model, self.using).values_list("pk", flat=True).iterator()
        for chunk in chunked(sorted(self._not_in_files(rows, keys))):
            collector = Collector(using=self.using)
            objects = list(rows_of(rows.model, self.using).filter(pk__in=chunk))
            collector.collect(objects, collect_related=False, keep_parents=True)
            for many in rows.many.values():
                # As Django does: after `pre_delete`, before the rows themselves.
                pairs = many.through._base_manager.using(self.using)
                collector.fast_deletes.append(pairs.filter(**{many.source.name + "__in": objects}))
            collector.delete()

    def _not_in_files(self, rows: ModelRows, keys: Iterable[Any]) -> list[Any]:
        """Return those of the keys, as Django has them, that no file holds."""
        kept: Any = rows.keys
        if any(column.kind == "DecimalField" for column in rows.key_columns):
            kept = {_comparable(rows, key) for key in kept.without(Keys())}
        return [pk for pk in keys if _comparable(rows, _stored_key(rows, pk)) not in kept]

    def _remove_pairs(self, writer: FastWriter, rows: ModelRows, many: ManyToManyRows) -> None:
        """Remove pairs of which an object goes. The others wait for `set()`, which tells listeners what changes."""
        entries = (entry for entry in rows.stock_entries() if many.field.name in entry["fields"])
        kept = Keys(rows.columns[0].stored_key(entry.get("pk")) for entry in entries)
        kept.update(many.sources.without(Keys()))
        names = [self.quote(field.column) for field in (many.through._meta.pk, many.source, many.target)]
        table = self.quote(many.table)
        for chunk in chunked(self._pairs_to_remove(many, names, kept)):
            writer.execute(f"DELETE FROM {table} WHERE {names[0]} IN ({', '.join(['%s'] * len(chunk))})", chunk)

    def _pairs_to_remove(self, many: ManyToManyRows, names: list[str], kept: Keys) -> Iterator[Any]:
        others = self.models.get(many.related._meta.concrete_model)
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT {} FROM {}".format(", ".join(names), self.quote(many.table)))
            for key, source, target in cursor:
                stays = others is None or many.column.plain(target) in others.keys
                if not stays or many.source_column.plain(source) not in kept:
                    yield key


def _incoming(rows: ModelRows, written: set[str]) -> Iterator[Field]:
    """Yield the constrained fields of other tables that point to the model."""
    for relation in rows.model._meta.get_fields(include_hidden=True):
        if not relation.auto_created or relation.concrete or relation.many_to_many:
            continue
        field: Field = relation.field
        meta = field.model._meta
        if meta.db_table not in written and is_constrained(field) and not meta.proxy and meta.managed:
            yield field


def _stored_key(rows: ModelRows, key: Any) -> Any:
    """Return an object's key, as Django has it, in the form of `ModelRows.keys`."""
    if len(rows.key_columns) > 1:
        return tuple(column.stored_key(part) for column, part in zip(rows.key_columns, key))
    return key if type(key) is int and rows.columns[0].is_whole else rows.columns[0].stored_key(key)


def _comparable(rows: ModelRows, key: Any) -> Any:
    """Return the stored key so that equal numbers are equal, however many zeros they have behind the point."""
    if not any(column.kind == "DecimalField" for column in rows.key_columns):
        return key
    parts = key if isinstance(key, tuple) else (key,)
    return tuple(
        decimal.Decimal(part) if column.kind == "DecimalField" and part is not None else part
        for column, part in zip(rows.key_columns, parts)
    )
