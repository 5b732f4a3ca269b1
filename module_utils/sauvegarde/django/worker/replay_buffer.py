"""Let rows wait in memory, and write them before a statement that is not the engine's reaches the database."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from .django_types import Connection, Row
    from .fast_write import FastWriter
    from .many_to_many_rows import ManyToManyRows
    from .model_rows import ModelRows

_WAITING = 500  # rows, of one or several models
_IDENTIFIER = re.compile(r'"([^"]+)"')
_CHANGES = ("INSERT", "UPDATE", "DELETE")


class ReplayBuffer:
    """The rows of one load that wait, and what others do to the tables meanwhile."""

    def __init__(self, writer: FastWriter, connection: Connection) -> None:
        self.writer, self.connection = writer, connection
        self._rows: dict[ModelRows, dict[Any, tuple[Row, bool]]] = {}
        self._lists: dict[ManyToManyRows, dict[Any, tuple[Sequence[Any], bool]]] = {}
        self._count = 0
        self._own = False
        # {table: number of statements of others that changed it}; "" for statements that may have changed any table.
        self._changes: dict[str, int] = {}

    def watch(self) -> contextlib.AbstractContextManager[None]:
        """Watch all statements during the block."""
        return self.connection.execute_wrapper(self._execute)

    def _execute(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Run a statement. Before one of others (a listener's, Django's) write what waits."""
        if not self._own:
            self.flush()
            text = str(sql).lstrip()
            if text[:6].upper() in _CHANGES:
                for table in _IDENTIFIER.findall(text) or [""]:
                    self._changes[table] = self._changes.get(table, 0) + 1
            elif text[:6].upper() != "SELECT" and "SAVEPOINT" not in text[:17].upper():
                self._changes[""] = self._changes.get("", 0) + 1
        return execute(sql, params, many, context)

    def changes(self, table: str) -> int:
        """Return a number that differs from an earlier one if others may have changed the table in between."""
        return self._changes.get(table, 0) + self._changes.get("", 0)

    @contextlib.contextmanager
    def own_statements(self) -> Iterator[None]:
        """Mark the block's statements as the engine's own."""
        before, self._own = self._own, True
        try:
            yield
        finally:
            self._own = before

    def flush(self) -> None:
        """Write the rows that wait."""
        if not self._rows and not self._lists:
            return
        rows, lists = self._rows, self._lists
        self._rows, self._lists, self._count = {}, {}, 0
        with self.own_statements():
            for model_rows, some in rows.items():
                self.writer.add_rows(
                    model_rows, [row for row, _ in some.values()], all(new for _, new in some.values())
                )
            for many, by_key in lists.items():
                existing = {pk for pk, (_, is_new) in by_key.items() if not is_new}
                self.writer.add_lists(many, {pk: members for pk, (members, _) in by_key.items()}, existing)

    def add_row(self, model_rows: ModelRows, row: Row, is_new: bool) -> None:
        """Let a row wait; `is_new`: whether the database has none with its key."""
        some = self._rows.setdefault(model_rows, {})
        if row[0] in some:
            is_new = some.pop(row[0])[1]
        some[row[0]] = (row, is_new)
        self._count += 1
        if self._count >= _WAITING:
            self.flush()

    def add_list(self, many: ManyToManyRows, pk: Any, members: Sequence[Any], is_new: bool) -> None:
        """Let a list wait; `is_new`: whether the database has no pairs of its key."""
        lists = self._lists.setdefault(many, {})
        members = list(dict.fromkeys(members))
        lists[pk] = (members, is_new and pk not in lists)
        self._count += len(members)
