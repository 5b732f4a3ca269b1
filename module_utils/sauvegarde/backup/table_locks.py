"""Hold tables in a snapshot, and release a table as soon as another session waits to lock it exclusively.

TRUNCATE, ALTER TABLE, DROP TABLE and the like wait for such a lock.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence, Set

import psycopg2
from psycopg2.extensions import connection as Connection

from ..errors import SauvegardeError
from ..postgres import fingerprint, postgres_server
from ..postgres.fingerprint import Sums, Table

PASSING = ("55P03", "40P01", "57014")  # lock_not_available, deadlock_detected, query_canceled: worth another try
NO_ROOM = "53200"  # out of (shared) memory: pg_dump's locks may fill the server's lock table until it has ended
_INTERVAL = 0.3  # seconds between two queries for waiting sessions
_BRIEFLY = "'100ms'"  # for the locks on indexes that planning takes; shorter than deadlock_timeout
_WAIT = "'1s'"  # for a table, where nothing is held

# Tables (OID) that a session waits to lock exclusively, and whether it waits only for an index of theirs.
_WAITING = """
SELECT DISTINCT coalesce(i.indrelid, l.relation)::int8, i.indexrelid IS NOT NULL
FROM pg_locks l LEFT JOIN pg_index i ON i.indexrelid = l.relation
WHERE l.locktype = 'relation' AND NOT l.granted AND l.mode = 'AccessExclusiveLock'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Holder:
    """A session in the snapshot, and the tables that it has locked, the last one last. None among them stands for the
    large objects, which need no lock.

    code, why: SQLSTATE and the server's words for the last lock or sum that was refused.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.held: list[Table | None] = []
        self.code: str | None = None
        self.why = ""
        self._mutex = threading.Lock()
        self._summing = False
        self._requested: Set[int] = set()
        postgres_server.execute(connection, f"SET LOCAL lock_timeout TO {_BRIEFLY}")

    def lock(self, table: Table | None, wait: bool = False) -> bool:
        """Lock a table; return whether that was possible. Without `wait` the answer comes at once."""
        number = len(self.held)
        statements = [f"SAVEPOINT held_{number}"]
        if table is not None:
            lock = f"LOCK TABLE ONLY {table.key} IN ACCESS SHARE MODE"
            limits = [f"SET LOCAL lock_timeout TO {limit}" for limit in (_WAIT, _BRIEFLY)]
            statements += [limits[0], lock, limits[1]] if wait else [lock + " NOWAIT"]
        try:
            postgres_server.execute(self.connection, "; ".join(statements))
        except psycopg2.Error as error:
            if self.connection.closed:
                raise
            self._note(error)
            self._back_to(number)
            return False
        self.held.append(table)
        return True

    def sum_last(self, sums: Sums) -> list[Table | None]:
        """Sum the table that was locked last and release it. Return the tables that had to be released unsummed,
        because another session waits for one of them, or the server has no memory for another lock."""
        try:
            with self._cancellable():
                fingerprint.enter(sums, self.connection, self.held[-1], (*PASSING, NO_ROOM))
        except psycopg2.Error as error:
            if self.connection.closed or error.pgcode not in (*PASSING, NO_ROOM):
                raise
            self._note(error)
            return self._release_requested()
        self.release()
        return []

    def release(self) -> Table | None:
        """Release the table that was locked last, and return it."""
        table = self.held.pop()
        self._back_to(len(self.held))
        return table

    def request(self, oids: Set[int]) -> None:
        """Called by other threads: other sessions wait for the tables with these OIDs. If this session holds one, its
        sum is cancelled."""
        with self._mutex:
            self._requested = oids & {table.oid for table in list(self.held) if table is not None}
            if self._requested and self._summing:
                fingerprint.cancel([self.connection])

    def give_way(self) -> list[Table | None]:
        """Between two sums: release the requested tables and what was locked after them; return these tables."""
        with self._mutex:
            requested = self._requested & {table.oid for table in self.held if table is not None}
        return self._release_requested() if requested else []

    def _release_requested(self) -> list[Table | None]:
        with self._mutex:
            requested, self._requested = self._requested, set()
        numbers = [n for n, table in enumerate(self.held) if table is not None and table.oid in requested]
        number = numbers[0] if numbers else len(self.held) - 1
        released = self.held[number:]
        del self.held[number:]
        self._back_to(number)
        return released

    def _back_to(self, number: int) -> None:
        postgres_server.execute(
            self.connection, f"ROLLBACK TO SAVEPOINT held_{number}; RELEASE SAVEPOINT held_{number}"
        )

    def _note(self, error: psycopg2.Error) -> None:
        self.code, self.why = error.pgcode, str(error).strip()

    @contextlib.contextmanager
    def _cancellable(self) -> Iterator[None]:
        """Allow the session to be cancelled in this block only: never while it sets or releases a savepoint."""
        with self._mutex:
            self._summing = True
        try:
            yield
        finally:
            with self._mutex:
                self._summing = False


class Watch(threading.Thread):
    """Ask `holders` for the tables that other sessions wait to lock.

    Until the event `ended`, pg_dump holds all tables itself, so that only tables with a requested index matter. After
    `stop`, cancel the statements on `connections`, repeatedly: a request between two statements is lost.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        ended: threading.Event,
        stop: threading.Event,
        connections: Sequence[Connection],
    ) -> None:
        super().__init__(daemon=True)
        self.holders: Sequence[Holder] = []
        self._connect, self._ended, self._stop_all, self._connections = connect, ended, stop, connections
        self._over = threading.Event()
        self._connection: Connection | None = None

    def run(self) -> None:
        while not self._over.wait(_INTERVAL):
            if self._stop_all.is_set():
                fingerprint.cancel(list(self._connections))
            elif self.holders:
                # Without a session now there may be one the next time: pg_dump's sessions have just ended.
                with contextlib.suppress(psycopg2.Error, SauvegardeError):
                    self._look()

    def _look(self) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
            fingerprint.pin(self._connection)
        ended = self._ended.is_set()
        requested = {oid for oid, index in postgres_server.query(self._connection, _WAITING) if index or ended}
        for holder in list(self.holders):
            holder.request(requested)

    def end(self) -> None:
        """Stop watching, and close the session."""
        self._over.set()
        self.join()
        if self._connection is not None:
            self._connection.close()
