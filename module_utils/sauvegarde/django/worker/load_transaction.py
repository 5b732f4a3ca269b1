"""Open a load's transaction, lock its tables, and let the database check every reference at the end."""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from django.db import OperationalError, transaction

from .database_guard import timeouts

if TYPE_CHECKING:
    from .django_types import Connection, Row

# Violations of foreign keys from before the load that are kept in memory. If there are more, each row is checked as it
# is written.
_REMEMBERED = 500


class LoadTransaction:
    """The transaction of one load into the tables."""

    def __init__(self, connection: Connection, tables: Sequence[str], lock_timeout: float) -> None:
        self.connection, self.tables, self.lock_timeout = connection, list(dict.fromkeys(tables)), lock_timeout
        self._broken: collections.Counter[Row] | None = None  # violations from before, if references are checked late

    @contextlib.contextmanager
    def open(self, size: int) -> Iterator[None]:
        """Run the block in the transaction, with the tables locked. `size`: bytes that the load will write.

        SQLite checks a row's references as it is written, which takes an eighth of the time, and that can be turned off
        only outside a transaction. If the load brings more than the database holds, checking the whole database before
        and after costs less and finds the same.
        """
        with contextlib.ExitStack() as stack:
            late = self.connection.vendor == "sqlite" and size > self._database_size()
            if not (late and self._begin_unchecked(stack)):
                self._begin(stack)
            yield

    def _begin(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(transaction.atomic(using=self.connection.alias))
        self._lock()

    def _begin_unchecked(self, stack: contextlib.ExitStack) -> bool:
        """Begin so that references are checked at the end only. Returns False, and begins nothing, if that is not
        possible: each row is then checked as it is written."""
        with contextlib.ExitStack() as attempt:
            if not self.connection.disable_constraint_checking():
                return False
            attempt.callback(self.connection.enable_constraint_checking)
            self._begin(attempt)
            try:
                with contextlib.closing(self._violations()) as rows:
                    broken = collections.Counter(itertools.islice(rows, _REMEMBERED + 1))
            except OperationalError:  # a foreign key of a table that is not the site's leads to a column not unique
                return False
            if sum(broken.values()) > _REMEMBERED:
                return False
            self._broken = broken
            stack.enter_context(attempt.pop_all())
            return True

    def _lock(self) -> None:
        """Keep others from writing into the tables between the checks and the end."""
        if not self.tables:
            return
        names = [self.connection.ops.quote_name(name) for name in self.tables]
        with self.connection.cursor() as cursor:
            if self.connection.vendor == "postgresql":
                cursor.execute(timeouts(self.connection, self.lock_timeout))
                cursor.execute("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE".format(", ".join(names)))
            else:
                # A statement that changes no row takes SQLite's write lock.
                cursor.execute(f"DELETE FROM {names[0]} WHERE 0 = 1")

    def _database_size(self) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            return int(cursor.fetchone()[0])

    def _violations(self) -> Generator[Row, None, None]:
        """Yield every row of the SQLite database that points nowhere: (table, row number, parent, key number)."""
        with self.connection.cursor() as cursor:
            cursor.execute("PRAGMA foreign_key_check")
            yield from cursor

    def check_references(self, tables: set[str]) -> None:
        """Let the database check the references in these tables, and what the load broke in others; raises as Django
        does."""
        if self._broken is not None:
            before, wrong = self._broken.copy(), set()
            for row in self._violations():
                before[row] -= 1
                if row[0] in tables or before[row] < 0:
                    wrong.add(row[0])
            tables = wrong
        if tables:
            self.connection.check_constraints(table_names=sorted(tables))
