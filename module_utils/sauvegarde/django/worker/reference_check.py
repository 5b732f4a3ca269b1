"""Check that every reference of a load leads to a row of the files or of the database, before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .key_set import Keys
from .row_spool import chunked

if TYPE_CHECKING:
    from .django_types import Field
    from .field_values import Column
    from .load_context import LoadContext
    from .many_to_many_rows import ManyToManyRows
    from .model_rows import ModelRows, Models
    from .natural_key_references import NaturalReferences


class Dangling:
    """References that lead nowhere.

    `columns`: {rows of a model: {index of a column: stored values}}; `members`: {rows of a many-to-many field: keys}.
    """

    def __init__(self) -> None:
        self.columns: dict[ModelRows, dict[int, set[Any]]] = {}
        self.members: dict[ManyToManyRows, set[Any]] = {}

    def add(self, rows: ModelRows, index: int, values: set[Any]) -> None:
        if values:
            self.columns.setdefault(rows, {}).setdefault(index, set()).update(values)


class ReferenceCheck:
    """The references of one load."""

    def __init__(self, context: LoadContext, models: Models, naturals: NaturalReferences) -> None:
        self.context, self.models, self.naturals = context, models, naturals
        self.problems = context.problems

    def check(self) -> Dangling:
        """Return the references that lead nowhere, after recording each as a problem."""
        dangling, naturals = Dangling(), self.naturals
        naturals.check()
        for rows in self.models.values():
            for index, column in rows.relations:
                dangling.add(rows, index, self.missing(column.field, rows.references[index]))
            for index, column in rows.natural_columns:
                dangling.add(rows, index, naturals.missing(column))
            for many in rows.many.values():
                missing = self.missing(many.target, many.values)
                if many.natural:
                    missing = missing | naturals.missing(many.column)
                if missing:
                    dangling.members[many] = missing
        self._report(dangling)
        return dangling

    def missing(self, field: Field, values: Keys) -> set[Any]:
        """Return those of the stored values that no row of the field's target has, in the files or the database."""
        target = field.target_field
        rows = self.models.get(target.model)
        targets = rows.targets.get(target.attname) if rows is not None else None
        missing = values.without(targets[1] if targets else Keys())
        if not missing or (rows is not None and self.context.options.replaces):
            return missing
        return missing - present(self.context.column(target), missing)

    # --- problems -----------------------------------------------------------------------------------------------------

    def _report(self, dangling: Dangling) -> None:
        for rows, columns in dangling.columns.items():
            for chunk in rows.spool.chunks():
                for row in chunk:
                    for index, values in columns.items():
                        if row[index] in values:
                            self._add(rows, rows.fixture_key(row[0]), rows.columns[index], row[index])
        for rows in self.models.values():
            for many in rows.many.values():
                self._report_members(rows, many, dangling.members.get(many, set()))
        for rows in self.models.values():
            columns = dangling.columns.get(rows, {})
            lists = {many: dangling.members[many] for many in rows.many.values() if many in dangling.members}
            if columns or lists:
                self._report_stock(rows, columns, lists)

    def _report_members(self, rows: ModelRows, many: ManyToManyRows, missing: set[Any]) -> None:
        for chunk in many.lists() if missing else ():
            for pk, members in chunk:
                for member in members:
                    if member in missing:
                        self._add(rows, rows.fixture_key(pk), many.column, member, is_member=True)

    def _report_stock(
        self, rows: ModelRows, columns: dict[int, set[Any]], lists: dict[ManyToManyRows, set[Any]]
    ) -> None:
        """Report the same for objects that take the stock way. The policy would have to rewrite them, so it stops."""
        for entry in rows.stock_entries():
            for index, values in columns.items():
                column = rows.columns[index]
                value = entry.get("pk") if index == 0 else entry["fields"].get(column.name)
                if _spooled_form(column, value) in values:
                    self._add(rows, entry.get("pk"), column, value, is_stock=True)
            for many, values in lists.items():
                for value in entry["fields"].get(many.field.name) or ():
                    if _spooled_form(many.column, value) in values:
                        self._add(rows, entry.get("pk"), many.column, value, is_stock=True)

    def _add(
        self, rows: ModelRows, pk: Any, column: Column, value: Any, is_member: bool = False, is_stock: bool = False
    ) -> None:
        target = column.field.target_field.model._meta.label_lower
        value = json.loads(value[0]) if type(value) is tuple else value
        detail = f"points to {target} {value!r}, which does not exist"
        # The policy's NULL is only for columns that may be NULL; a member is removed from its list.
        empty = self.problems.policy["foreign_key"] == "empty"
        stop = is_stock or (empty and not is_member and not column.field.null)
        self.problems.add("foreign_key", rows.label, pk, column.name, detail, "stop" if stop else None)

    # --- the policy's drop --------------------------------------------------------------------------------------------

    def drop(self, dangling: Dangling) -> None:
        """Drop rows as the policy says, then what points to these, until every reference leads somewhere."""
        if self.problems.policy["foreign_key"] != "drop":
            return
        columns = dict(dangling.columns)
        while columns:
            self._forget(columns)
            new = self._newly_dangling(dangling)
            self._report(new)
            for rows, by_index in new.columns.items():
                for index, values in by_index.items():
                    dangling.add(rows, index, values)
            columns = new.columns

    def _forget(self, columns: dict[ModelRows, dict[int, set[Any]]]) -> None:
        """Remove the rows with these dangling values from what others may point to, and their lists with them."""
        for rows, by_index in columns.items():
            key_name, dropped = rows.columns[0].field.attname, set()
            for chunk in rows.spool.chunks():
                for row in chunk:
                    if any(row[index] in values for index, values in by_index.items()):
                        for attname, (index, targets) in rows.targets.items():
                            targets.discard(row[index])
                            if attname == key_name:
                                dropped.add(row[index])
            for many in rows.many.values():
                many.dropped |= dropped

    def _newly_dangling(self, dangling: Dangling) -> Dangling:
        """Return the references that lead nowhere now and did not before. The members are added to `dangling`."""
        new = Dangling()
        for rows in self.models.values():
            for index, column in rows.relations:
                before = dangling.columns.get(rows, {}).get(index, set())
                new.add(rows, index, self.missing(column.field, rows.references[index]) - before)
            for many in rows.many.values():
                missing = self.missing(many.target, many.values)
                before = dangling.members.get(many, set())
                if missing - before:
                    new.members[many] = missing - before
                    dangling.members[many] = missing | before
        return new


def present(column: Column, values: Iterable[Any]) -> set[Any]:
    """Return those of the stored values that the column's table has."""
    quote = column.connection.ops.quote_name
    select = "SELECT {0} FROM {1} WHERE {0} IN ".format(
        quote(column.field.column), quote(column.field.model._meta.db_table)
    )
    existing: set[Any] = set()
    with column.connection.cursor() as cursor:
        for chunk in chunked(values):
            cursor.execute(select + "({})".format(", ".join(["%s"] * len(chunk))), chunk)
            # The driver's values, in the form of those in the files.
            existing.update(column.plain(row[0]) for row in cursor.fetchall())
    return existing


def _spooled_form(column: Column, value: Any) -> Any:
    """Return a reference's stored value, or the mark of a natural key."""
    if isinstance(value, dict):
        return None
    return (json.dumps(value),) if isinstance(value, (list, tuple)) else column.stored_key(value)
