"""Take the fingerprint of a dump in its snapshot, beside pg_dump, without ever waiting for a lock on a table.

TRUNCATE and rewriting ALTER TABLEs are not hidden by a snapshot, so each table must be held from pg_dump's first lock
until it is summed. Waiting for a lock that is behind somebody's ACCESS EXCLUSIVE would be a deadlock that the server
does not see: that one waits for pg_dump, and pg_dump's job for us. So:

- As soon as pg_dump holds a table, a session of ours locks it with NOWAIT; the session that holds a table sums it.
- Each lock is taken in a savepoint inside the one before, and returning to it after the sum releases the lock: the last
  one taken first, so large tables are locked first. Small tables are summed and released while pg_dump still runs,
  large ones when it has ended, since both would compete for the processors.
- When pg_dump has ended, nobody is to wait for us: a session that holds what somebody wants to himself is cancelled,
  and returns to the savepoint below (holding.py).
- Many small tables are locked one at a time, as there may be more tables than the server's lock table has room for.
- A table that could not be locked or was given away is tried again at the end, when nothing else is held. It counts if
  it is still the same file; otherwise the archive says that this table is unproven.
- So it says of all that is left when a session is lost or cannot be had: the dump itself is good.
"""

import contextlib
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait

import psycopg2

from ..errors import SauvegardeError
from ..postgres import fingerprint, postgres_server
from .table_locks import (
    NO_ROOM,
    PASSING,
    Holder,
    Watch,
)

_FEW_PAGES = 128  # a table of at most 1 MB is always small
_SHARE = 200  # so is one with at most this fraction of all pages
_HELD_AHEAD = 500  # small tables that are locked before it is their turn
_PATIENCE = 10  # seconds spent in vain, for all the tables that are tried again
_PAUSE = 0.1  # seconds after each of them

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
        found = sums.result(tables)

    impatient: go on although another session waits for ACCESS EXCLUSIVE on a table that pg_dump has locked and this job
    has not.
    late: open no session before pg_dump has ended, where the server has too few for both.
    Leaving the block early stops everything.
    """

    def __init__(self, connect, snapshot, workers, application, impatient=False, late=False):
        self._connect, self._snapshot = connect, snapshot
        self._workers, self._application = workers, application
        self._impatient, self._late = impatient, late
        self._connections, self._sums = [], fingerprint.Sums()
        self._rest, self._missed = deque(), deque()
        self._ended, self._stop, self._compared = threading.Event(), threading.Event(), threading.Event()
        self._stale, self._unheld, self._cause = [], set(), None
        self._pool = ThreadPoolExecutor(1)
        self._watch = Watch(connect, self._ended, self._stop, self._connections)

    def __enter__(self):
        self._watch.start()
        self._done = self._pool.submit(self._guarded, self._all)
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stop everything and release every lock. May be called again."""
        self._stop.set()
        self._ended.set()
        while True:
            fingerprint.cancel(list(self._connections))
            if wait([self._done], timeout=0.5).done:
                break
        self._pool.shutdown(wait=True)
        for connection in self._connections:
            connection.close()
        self._watch.end()

    def stale(self):
        """Names of tables that somebody has truncated, rewritten, dropped or asked for to himself since the snapshot:
        the dump may lack rows of theirs that the snapshot has, or they could not be summed."""
        return list(self._stale)

    def dumped(self):
        """pg_dump has ended with success. From here on `stale` is final."""
        self._ended.set()
        self._compared.wait()

    def result(self, tables):
        """Wait for the end; returns {tables, large_objects, unproven}, see fingerprint.Sums.

        tables: those that there are; what could not be summed because a session failed is unproven.
        """
        try:
            self._done.result()
        except (psycopg2.Error, SauvegardeError) as error:
            self._cause = self._cause or error
        for table in [None, *tables]:
            if not self._sums.has(table):
                why = "A session to sum it could not be opened, or was lost."
                self._sums.miss(table, f"{why} {_words(self._cause)}".strip())
        return self._sums.result()

    # The thread

    def _guarded(self, work, *arguments):
        """Whatever fails stops all, here as in the holders' threads."""
        try:
            return work(*arguments)
        except BaseException as error:
            if not self._stop.is_set():
                self._cause = self._cause or error
                self._stop.set()
                self._ended.set()
                fingerprint.cancel(list(self._connections))
            self._compared.set()
            raise

    def _all(self):
        if self._late:
            self._ended.wait()
            if self._stop.is_set():
                return
        first = self._session()
        tables = fingerprint.tables(first)
        limit = max(_FEW_PAGES, sum(table.pages for table in tables) // _SHARE)
        large = [table for table in tables if table.pages > limit]
        small = [table for table in tables if table.pages <= limit]
        holders = [Holder(first), *self._others(min(self._workers, len(large)))]
        self._rest.extend(small[_HELD_AHEAD:])
        self._hold(first, holders, large, small)
        self._compare_files(first, tables)
        self._watch.holders = holders
        with ThreadPoolExecutor(len(holders)) as pool:
            others = [pool.submit(self._guarded, self._work_beside, holder) for holder in holders[1:]]
            self._work(holders[0])
            self._ended.wait()
            self._rest.append(None)  # the large objects
            self._work(holders[0])
            for other in others:
                other.result()
        self._try_again(holders[0])

    def _others(self, count):
        """That many more holders, or as many as can be had."""
        found = []
        with contextlib.suppress(psycopg2.Error, SauvegardeError):
            while len(found) < count and not self._stop.is_set():
                found.append(Holder(self._session()))
        return found

    def _session(self):
        connection = self._connect()
        self._connections.append(connection)
        fingerprint.pin(connection)
        postgres_server.join_snapshot(connection, self._snapshot)
        return connection

    def _hold(self, watch, holders, large, small):
        """Lock tables as soon as pg_dump has, until it has all that it wants: large ones, and the first small ones."""
        load = dict.fromkeys(holders[1:] or holders, 0)
        waiting = deque()
        for table in large:  # largest first, each to the holder with the least to do
            holder = min(load, key=load.get)
            load[holder] += table.pages
            waiting.append((holder, table))
        waiting.extend((holders[0], table) for table in small[:_HELD_AHEAD])
        waiting.extend((None, table) for table in small[_HELD_AHEAD:])
        pause = 0.02
        while waiting and not self._stop.is_set():
            sessions, copying, held = self._progress(watch)
            complete = sessions > 1 or copying or self._ended.is_set()
            left = deque()
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

    def _progress(self, watch):
        """Number of pg_dump's sessions, whether rows are being copied, OIDs of the tables that it holds."""
        postgres_server.query(watch, "SELECT pg_stat_clear_snapshot()")
        sessions, copying, held = postgres_server.query(watch, _PROGRESS, (self._application,))[0]
        return sessions, copying, set(held or ())

    def _compare_files(self, connection, tables):
        """Find the tables whose rows of the snapshot are no longer there. pg_dump holds all of them by now, or has
        ended already: then it is unknown whether it saw them before or after the change."""
        now = dict(postgres_server.query(connection, _FILES, ([table.oid for table in tables],)))
        held = self._progress(connection)[2]
        for table in tables:
            if now[table.oid] != table.filenode:
                self._stale.append(table.key)
                if table.oid not in held:
                    self._unheld.add(table)
                table.filenode = now[table.oid]
        self._compared.set()

    def _work_beside(self, holder):
        """The work of a holder of large tables. What a lost session held is tried again."""
        self._ended.wait()
        try:
            self._work(holder)
        except psycopg2.Error as error:
            if not holder.connection.closed:
                raise
            self._cause = self._cause or error
            self._missed.extend(holder.held)

    def _work(self, holder):
        """Sum what the holder holds, then what is left of the small tables."""
        while not self._stop.is_set():
            self._missed.extend(holder.give_way())
            if not holder.held:
                try:
                    table = self._rest.popleft()
                except IndexError:
                    return
                if not holder.lock(table):
                    self._missed.append(table)
                    continue
                if not _is_same(holder.connection, table):
                    self._missed.append(holder.release())
                    continue
            if holder.held[-1] in self._unheld:
                self._sums.miss(holder.release(), _CHANGED)
            else:
                self._missed.extend(holder.sum_last(self._sums))

    def _try_again(self, holder):
        """The tables that somebody else wanted for himself, now that nothing is held, one at a time."""
        vain = 0
        while not self._stop.is_set():
            self._missed.extend([] if self._missed else self._sums.take_uneven())
            if not self._missed:
                return
            table, began = self._missed.popleft(), time.monotonic()
            if self._sums.has(table) or self._once_more(holder, table):
                continue
            vain += time.monotonic() - began + _PAUSE
            if holder.code in PASSING and vain < _PATIENCE:
                self._missed.append(table)
                self._stop.wait(_PAUSE)
            elif holder.code == NO_ROOM:
                self._sums.miss(table, holder.why)
            else:
                self._sums.miss(table, f"It could not be locked for long enough to read it. {holder.why}")

    def _once_more(self, holder, table):
        """Returns whether something is known about the table now."""
        if not holder.lock(table, wait=True):
            return False
        if table in self._unheld or not _is_same(holder.connection, table):
            self._sums.miss(holder.release(), _CHANGED)
            return True
        return not holder.sum_last(self._sums)


class NoSums:
    """In the place of Summing where the dump's snapshot cannot be shared: every table is unproven."""

    def __init__(self, why):
        self._why = why

    def stale(self):
        return []

    def dumped(self):
        pass

    def close(self):
        pass

    def result(self, tables):
        found = fingerprint.Sums()
        for table in [None, *tables]:
            found.miss(table, self._why)
        return found.result()


def _is_same(connection, table):
    """Whether the name still means the table of the snapshot, in the file it had then. Both functions look at the
    catalogs as they are now. Large objects (None) are what the snapshot says."""
    if table is None:
        return True
    statement = "SELECT to_regclass(%s)::oid::int8, pg_relation_filenode(%s::oid)::int8"
    return postgres_server.query(connection, statement, (table.key, table.oid)) == [(table.oid, table.filenode)]


def _words(error):
    """The server's first words about it: a lost session makes more errors than one."""
    while isinstance(getattr(error, "__context__", None), psycopg2.Error):
        error = error.__context__
    return str(getattr(error, "why", "") or error or "").strip()
