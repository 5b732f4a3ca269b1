"""Take the fingerprint of a dump in its snapshot, beside pg_dump, without ever waiting for a lock on a table.

TRUNCATE and rewriting ALTER TABLEs are not hidden by a snapshot, so each table must be held from pg_dump's first lock
until it is summed. Waiting for a lock that is behind somebody's ACCESS EXCLUSIVE would be a deadlock that the server
does not see: that one waits for pg_dump, and pg_dump's job for us. So:

- As soon as pg_dump holds a table, a session of ours locks it with NOWAIT; the session that holds a table sums it.
- Each lock is taken in a savepoint inside the one before, and returning to it after the sum releases the lock: the last
  one taken first, so large tables are locked first. Small tables are summed and released while pg_dump still runs,
  large ones when it has ended, since both would compete for the processors.
- Many small tables are locked one at a time, as there may be more tables than the server's lock table has room for.
- A table that could not be locked is tried again at the end, when nothing else is held. It counts if it is still the
  same file; otherwise the archive says that this table is unproven.
"""

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import psycopg2

from . import fingerprint, postgres

_FEW_PAGES = 128  # a table of at most 1 MB is always small
_SHARE = 200  # so is one with at most this fraction of all pages
_HELD_AHEAD = 500  # small tables that are locked before it is their turn
_PATIENCE = 10  # seconds, for all the tables that are tried again

_CHANGED = "It was truncated, rewritten or replaced before its rows could be summed."

# pg_dump's sessions: how many there are, whether rows are being copied, the tables that they have locked.
_PROGRESS = """
SELECT count(DISTINCT a.pid), coalesce(bool_or(a.query LIKE 'COPY %%'), false),
       array_agg(DISTINCT l.relation::int8) FILTER (WHERE l.relation IS NOT NULL)
FROM pg_stat_activity a
LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'relation' AND l.granted
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
WHERE a.application_name = %s
"""
_FILES = "SELECT o, pg_relation_filenode(o::oid)::int8 FROM unnest(%s::int8[]) AS o"


class Summing:
    """The sums of one dump, taken in a thread from the start of the block.

    with Summing(connect, snapshot, workers, application) as sums:
        pg_dump runs, under the application name `application`; where sums.stale() says so, it is to start anew
        sums.dumped()
        found = sums.result()

    impatient: go on although somebody wants a table to himself that pg_dump holds and we do not.
    Leaving the block early stops everything.
    """

    def __init__(self, connect, snapshot, workers, application, impatient=False):
        self._connect, self._snapshot = connect, snapshot
        self._workers, self._application, self._impatient = workers, application, impatient
        self._connections, self._sums = [], fingerprint.Sums()
        self._rest, self._missed = deque(), deque()
        self._ended, self._stop, self._compared = threading.Event(), threading.Event(), threading.Event()
        self._stale, self._unheld = [], set()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self):
        self._done = self._pool.submit(self._guarded, self._all)
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._ended.set()
        fingerprint.cancel(list(self._connections))
        self._pool.shutdown(wait=True)
        for connection in self._connections:
            connection.close()

    def stale(self):
        """Names of tables that somebody has truncated, rewritten, dropped or asked for to himself since the snapshot:
        the dump may lack rows of theirs that the snapshot has, or they could not be summed."""
        return list(self._stale)

    def dumped(self):
        """pg_dump has ended with success. From here on `stale` is final."""
        self._ended.set()
        self._compared.wait()

    def result(self):
        """Wait for the end; returns {tables, large_objects, matviews, unproven}, see fingerprint.Sums."""
        found = self._done.result()
        found.update(self._sums.result())
        return found

    # The thread

    def _guarded(self, work, *arguments):
        """Whatever fails stops all, here as in the holders' threads."""
        try:
            return work(*arguments)
        except BaseException:
            if not self._stop.is_set():
                self._stop.set()
                self._ended.set()
                fingerprint.cancel(list(self._connections))
            self._compared.set()
            raise

    def _all(self):
        first = self._session()
        tables = fingerprint.tables(first)
        found = {"matviews": fingerprint.matviews(first)}
        limit = max(_FEW_PAGES, sum(table.pages for table in tables) // _SHARE)
        large = [table for table in tables if table.pages > limit]
        small = [table for table in tables if table.pages <= limit]
        holders = [_Holder(first)] + [_Holder(self._session()) for _ in range(min(self._workers, len(large)))]
        self._rest.extend(small[_HELD_AHEAD:])
        self._hold(first, holders, large, small)
        self._compare_files(first, tables)
        with ThreadPoolExecutor(len(holders)) as pool:
            others = [pool.submit(self._guarded, self._work, holder, True) for holder in holders[1:]]
            self._work(holders[0], False)
            self._ended.wait()
            if not self._stop.is_set():
                fingerprint.enter(self._sums, first, None)
            for other in others:
                other.result()
        self._try_again(first)
        return found

    def _session(self):
        connection = self._connect()
        self._connections.append(connection)
        fingerprint.pin(connection)
        postgres.join_snapshot(connection, self._snapshot)
        return connection

    def _hold(self, watch, holders, large, small):
        """Lock tables as soon as pg_dump has, until it has all that it wants: large ones, and the first small ones."""
        load = dict.fromkeys(holders[1:], 0)
        waiting = deque()
        for table in large:  # largest first, each to the holder with the least to do
            holder = min(load, key=load.get)
            load[holder] += table.pages
            waiting.append((holder, table))
        waiting.extend((holders[0], table) for table in small[:_HELD_AHEAD])
        waiting.extend((None, table) for table in small[_HELD_AHEAD:])
        pause = 0.02
        while waiting and not self._stop.is_set():
            postgres.query(watch, "SELECT pg_stat_clear_snapshot()")
            sessions, copying, held = postgres.query(watch, _PROGRESS, (self._application,))[0]
            complete = sessions > 1 or copying or self._ended.is_set()
            held, left = set(held or ()), deque()
            for holder, table in waiting:
                if not complete and table.oid not in held:
                    left.append((holder, table))
                elif holder is not None and not holder.lock(table):
                    self._missed.append(table)
                    if holder.code == "55P03" and not self._impatient:  # lock_not_available: somebody wants it
                        self._stale.append(table.key)  # pg_dump's workers would fail on it, too
            waiting = left
            if waiting:
                self._stop.wait(pause)
                pause = min(0.1, pause * 1.05)

    def _compare_files(self, connection, tables):
        """Find the tables whose rows of the snapshot are no longer there. pg_dump holds all of them by now, or has
        ended already: then it is unknown whether it saw them before or after the change."""
        now = dict(postgres.query(connection, _FILES, ([table.oid for table in tables],)))
        ended = self._ended.is_set()
        for table in tables:
            if now[table.oid] != table.filenode:
                self._stale.append(table.key)
                if ended:
                    self._unheld.add(table)
                table.filenode = now[table.oid]
        self._compared.set()

    def _work(self, holder, large):
        """Sum what the holder holds, then what is left of the small tables."""
        while holder.held and not self._stop.is_set():
            if large:
                self._ended.wait()
            if holder.held[-1] in self._unheld:
                self._sums.miss(holder.release(), _CHANGED)
            else:
                holder.sum_last(self._sums)
        if large:
            self._ended.wait()
        while not self._stop.is_set():
            try:
                table = self._rest.popleft()
            except IndexError:
                return
            if not holder.lock(table):
                self._missed.append(table)
            elif self._ended.is_set() and not _is_same(holder.connection, table):
                self._missed.append(holder.release())
            else:
                holder.sum_last(self._sums)

    def _try_again(self, connection):
        """The tables that somebody else wanted for himself, now that nothing is held."""
        until = time.monotonic() + _PATIENCE
        holder = _Holder(connection)
        while self._missed and not self._stop.is_set():
            table = self._missed.popleft()
            left = max(0.1, until - time.monotonic())
            postgres.execute(connection, "SET LOCAL lock_timeout TO %s", (int(left * 1000),))
            if not holder.lock(table, wait=True):
                self._sums.miss(table, f"It could not be locked for reading. {holder.why}")
            elif _is_same(connection, table) and table not in self._unheld:
                holder.sum_last(self._sums)
            else:
                self._sums.miss(holder.release(), _CHANGED)


class _Holder:
    """A session in the snapshot, and the tables that it has locked, the last one last."""

    def __init__(self, connection):
        self.connection, self.held = connection, []
        self.code, self.why = None, ""  # of the last lock that could not be had: SQLSTATE, the server's words

    def lock(self, table, wait=False):
        """Lock a table; returns whether that was possible. Without `wait` the answer comes at once."""
        nowait = "" if wait else " NOWAIT"
        name = f"held_{len(self.held)}"
        try:
            postgres.execute(
                self.connection, f"SAVEPOINT {name}; LOCK TABLE ONLY {table.key} IN ACCESS SHARE MODE{nowait}"
            )
        except psycopg2.Error as error:
            if self.connection.closed or error.pgcode == "57014":  # query_canceled
                raise
            self.code, self.why = error.pgcode, str(error).strip()
            postgres.execute(self.connection, f"ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
            return False
        self.held.append(table)
        return True

    def sum_last(self, sums):
        """Sum the table that was locked last and release it."""
        fingerprint.enter(sums, self.connection, self.held[-1])
        self.release()

    def release(self):
        """Release the table that was locked last, and return it."""
        table = self.held.pop()
        name = f"held_{len(self.held)}"
        postgres.execute(self.connection, f"ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
        return table


def _is_same(connection, table):
    """Whether the name still means the table of the snapshot, in the file it had then. Both functions look at the
    catalogs as they are now."""
    statement = "SELECT to_regclass(%s)::oid::int8, pg_relation_filenode(%s::oid)::int8"
    return postgres.query(connection, statement, (table.key, table.oid)) == [(table.oid, table.filenode)]
