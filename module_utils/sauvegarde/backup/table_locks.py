"""Sessions that hold tables in a snapshot, and give back at once what somebody wants to himself."""

import contextlib
import threading

import psycopg2

from ..errors import SauvegardeError
from ..postgres import fingerprint, postgres_server

PASSING = ("55P03", "40P01", "57014")  # lock_not_available, deadlock_detected, query_canceled: it may do a moment later
NO_ROOM = "53200"  # out of (shared) memory: pg_dump's locks may fill the server's lock table until it has ended
_EACH = 0.3  # seconds between two looks at who waits
_BRIEFLY = "'100ms'"  # for the locks on indexes that planning takes; shorter than deadlock_timeout
_WAIT = "'1s'"  # for a table, where nothing is held

# Tables that somebody waits to have to himself, or an index of theirs, and whether it is only that.
_WANTED = """
SELECT DISTINCT coalesce(i.indrelid, l.relation)::int8, i.indexrelid IS NOT NULL
FROM pg_locks l LEFT JOIN pg_index i ON i.indexrelid = l.relation
WHERE l.locktype = 'relation' AND NOT l.granted AND l.mode = 'AccessExclusiveLock'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Holder:
    """A session in the snapshot, and the tables that it has locked, the last one last. None among them stands for the
    large objects, which need no lock."""

    def __init__(self, connection):
        self.connection, self.held = connection, []
        self.code, self.why = None, ""  # of what could not be had last: SQLSTATE, the server's words
        self._mutex, self._summing, self._wanted = threading.Lock(), False, set()
        postgres_server.execute(connection, f"SET LOCAL lock_timeout TO {_BRIEFLY}")

    def lock(self, table, wait=False):
        """Lock a table; returns whether that was possible. Without `wait` the answer comes at once."""
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

    def sum_last(self, sums):
        """Sum the table that was locked last and release it. Returns the tables that had to be released without that,
        since somebody wants one of them, or the server has no room for another lock."""
        try:
            with self._may_be_cancelled():
                fingerprint.enter(sums, self.connection, self.held[-1], (*PASSING, NO_ROOM))
        except psycopg2.Error as error:
            if self.connection.closed or error.pgcode not in (*PASSING, NO_ROOM):
                raise
            self._note(error)
            return self._give_back()
        self.release()
        return []

    def release(self):
        """Release the table that was locked last, and return it."""
        table = self.held.pop()
        self._back_to(len(self.held))
        return table

    def want(self, oids):
        """Called by other threads: somebody wants the tables with these OIDs. Where this session has one, what it sums
        is cancelled."""
        with self._mutex:
            self._wanted = oids & {table.oid for table in list(self.held) if table is not None}
            if self._wanted and self._summing:
                fingerprint.cancel([self.connection])

    def give_way(self):
        """Between two sums: release what is wanted, and what was locked after it; returns those tables."""
        with self._mutex:
            wanted = self._wanted & {table.oid for table in self.held if table is not None}
        return self._give_back() if wanted else []

    def _give_back(self):
        with self._mutex:
            wanted, self._wanted = self._wanted, set()
        numbers = [n for n, table in enumerate(self.held) if table is not None and table.oid in wanted]
        number = numbers[0] if numbers else len(self.held) - 1
        released = self.held[number:]
        del self.held[number:]
        self._back_to(number)
        return released

    def _back_to(self, number):
        postgres_server.execute(
            self.connection, f"ROLLBACK TO SAVEPOINT held_{number}; RELEASE SAVEPOINT held_{number}"
        )

    def _note(self, error):
        self.code, self.why = error.pgcode, str(error).strip()

    @contextlib.contextmanager
    def _may_be_cancelled(self):
        """Only in this block, so that no cancelling hits a statement that sets or releases a savepoint."""
        with self._mutex:
            self._summing = True
        try:
            yield
        finally:
            with self._mutex:
                self._summing = False


class Watch(threading.Thread):
    """Tell `holders` which of their tables are wanted: those of whose indexes one is, and from the event `ended` on all
    others too, which pg_dump holds until then. From `stop` on, cancel whatever runs on `connections`, again and again,
    since a cancelling between two statements is lost."""

    def __init__(self, connect, ended, stop, connections):
        super().__init__(daemon=True)
        self.holders = []
        self._connect, self._ended, self._stop_all, self._connections = connect, ended, stop, connections
        self._over, self._connection = threading.Event(), None

    def run(self):
        while not self._over.wait(_EACH):
            if self._stop_all.is_set():
                fingerprint.cancel(list(self._connections))
            elif self.holders:
                # Without a session now there may be one the next time: pg_dump's sessions have just ended.
                with contextlib.suppress(psycopg2.Error, SauvegardeError):
                    self._look()

    def _look(self):
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
            fingerprint.pin(self._connection)
        ended = self._ended.is_set()
        wanted = {oid for oid, index in postgres_server.query(self._connection, _WANTED) if index or ended}
        for holder in list(self.holders):
            holder.want(wanted)

    def end(self):
        self._over.set()
        self.join()
        if self._connection is not None:
            self._connection.close()
