"""Take the fingerprint of a dump in its snapshot, beside pg_dump, without ever waiting for a lock on a table.

A snapshot does not hide TRUNCATE and rewriting ALTER TABLEs, so each table must be locked from pg_dump's first lock
until it is summed. Waiting behind another session's ACCESS EXCLUSIVE would be a deadlock that the server does not see:
that session waits for pg_dump, and pg_dump's job for this one. So:

- As soon as pg_dump has locked a table, a session of the job locks it with NOWAIT; the session that holds it sums it.
- Each lock is taken in a savepoint inside the one before, and returning to it after the sum releases the lock: the last
  one taken first, so large tables are locked first. Small tables are summed and released while pg_dump still runs,
  large ones when it has ended, since both would compete for the processors.
- When pg_dump has ended, no session may have to wait for the job: if another session waits to lock a table exclusively,
  the holder is cancelled and returns to the savepoint below (table_locks.py).
- Many small tables are locked one at a time: the server's lock table may be too small for all of them.
- A table that could not be locked or was released unsummed is tried again at the end, when nothing else is held. It
  counts if it is still the same file; otherwise the archive names it as unproven.
- If a session is lost or cannot be opened, all tables that are not summed yet are unproven: the dump itself is good.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from ..errors import SauvegardeError
from ..postgres import fingerprint, postgres_server
from ..postgres.dump_selection import SelectedTables
from ..postgres.fingerprint import Sums, Table
from .dump_entries import DumpEntries
from .table_locks import (
    NO_ROOM,
    PASSING,
    Holder,
    Watch,
)

_FEW_PAGES = 128  # a table of at most 1 MB is always small
_SHARE = 200  # so is one with at most this fraction of all pages
_HELD_AHEAD = 500  # small tables that are locked before it is their turn
_PATIENCE = 10  # seconds without success, for all the tables that are tried again
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
        pg_dump runs, under the application name `application`; if sums.stale() names tables, it has to start again
        sums.dumped()
        fingerprint = sums.result(tables)

    impatient: continue although another session waits for ACCESS EXCLUSIVE on a table that pg_dump has locked and this
    job has not.
    late: open no session before pg_dump has ended, for a server that has too few for both.
    selected: the tables that the dump will hold, None for all. with_large_objects: it holds these.
    Leaving the block early stops everything.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        snapshot: str,
        workers: int,
        application: str,
        impatient: bool = False,
        late: bool = False,
        selected: SelectedTables | None = None,
        with_large_objects: bool = True,
    ) -> None:
        self._connect, self._snapshot = connect, snapshot
        self._workers, self._application = workers, application
        self._impatient, self._late = impatient, late
        self._selected, self._with_large_objects = selected, with_large_objects
        self._connections: list[Connection] = []
        self._sums = Sums()
        self._rest: deque[Table | None] = deque()
        self._missed: deque[Table | None] = deque()
        self._ended, self._stop, self._compared = threading.Event(), threading.Event(), threading.Event()
        self._stale: list[str] = []
        self._unheld: set[Table | None] = set()
        self._cause: BaseException | None = None
        self._pool = ThreadPoolExecutor(1)
        self._watch = Watch(connect, self._ended, self._stop, self._connections)
        self._done: Future[None]

    def __enter__(self) -> Summing:
        self._watch.start()
        self._done = self._pool.submit(self._guarded, self._sum_all)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
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

    def stale(self) -> list[str]:
        """Return the names of tables that were truncated, rewritten or dropped since the snapshot, or that another
        session waits to lock exclusively: the dump may lack rows that the snapshot has, or they cannot be summed."""
        return list(self._stale)

    def dumped(self) -> None:
        """Note that pg_dump has succeeded. From now on `stale` is final."""
        self._ended.set()
        self._compared.wait()

    def result(self, tables: Sequence[Table], entries: DumpEntries | None = None) -> dict[str, Any]:
        """Wait for the end; return {tables, large_objects, unproven}, see fingerprint.Sums.

        tables: all of the database. What could not be summed because a session failed is unproven.
        entries: what a partial dump holds; only that is in the result, and what was not expected in it is unproven.
        """
        try:
            self._done.result()
        except (psycopg2.Error, SauvegardeError) as error:
            self._cause = self._cause or error
        expected = self._expected(tables)
        large_objects: list[Table | None] = [None] if self._with_large_objects else []
        for table in [*large_objects, *expected]:
            if not self._sums.has(table):
                why = "A session to sum it could not be opened, or was lost."
                self._sums.miss(table, f"{why} {_first_words(self._cause)}".strip())
        if entries is not None:
            _compare_with_dump(self._sums, expected, tables, entries)
        result: dict[str, Any] = self._sums.result()
        return result

    def _expected(self, tables: Sequence[Table]) -> Sequence[Table]:
        return tables if self._selected is None else self._selected.narrow(tables)

    # The thread

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do the work; any failure stops everything, here as in the holders' threads."""
        try:
            work(*arguments)
        except BaseException as error:
            if not self._stop.is_set():
                self._cause = self._cause or error
                self._stop.set()
                self._ended.set()
                fingerprint.cancel(list(self._connections))
            self._compared.set()
            raise

    def _sum_all(self) -> None:
        if self._late:
            self._ended.wait()
            if self._stop.is_set():
                return
        first = self._session()
        tables = self._expected(fingerprint.tables(first))
        for table in tables:
            if table.is_empty:
                self._sums.add(table, fingerprint.sum_table(first, table))
        tables = [table for table in tables if not table.is_empty]
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
            if self._with_large_objects:
                self._rest.append(None)
            self._work(holders[0])
            for other in others:
                other.result()
        self._try_again(holders[0])

    def _others(self, count: int) -> list[Holder]:
        """Return that many more holders, or as many as the server has sessions for."""
        holders: list[Holder] = []
        with contextlib.suppress(psycopg2.Error, SauvegardeError):
            while len(holders) < count and not self._stop.is_set():
                holders.append(Holder(self._session()))
        return holders

    def _session(self) -> Connection:
        connection = self._connect()
        self._connections.append(connection)
        fingerprint.pin(connection)
        postgres_server.join_snapshot(connection, self._snapshot)
        return connection

    def _hold(self, watch: Connection, holders: list[Holder], large: list[Table], small: list[Table]) -> None:
        """Lock tables as soon as pg_dump has locked them, until it has all: large ones, and the first small ones."""
        load = dict.fromkeys(holders[1:] or holders, 0)
        waiting: deque[tuple[Holder | None, Table]] = deque()
        for table in large:  # largest first, each to the holder with the least to do
            holder = min(load, key=load.__getitem__)
            load[holder] += table.pages
            waiting.append((holder, table))
        waiting.extend((holders[0], table) for table in small[:_HELD_AHEAD])
        waiting.extend((None, table) for table in small[_HELD_AHEAD:])
        pause = 0.02
        while waiting and not self._stop.is_set():
            sessions, copying, held = self._progress(watch)
            complete = sessions > 1 or copying or self._ended.is_set()
            remaining: deque[tuple[Holder | None, Table]] = deque()
            for owner, table in waiting:
                if not complete and table.oid not in held:
                    remaining.append((owner, table))
                elif owner is not None and not owner.lock(table):
                    self._missed.append(table)
                    if owner.code == "55P03" and not self._impatient:  # lock_not_available: another session has it
                        self._stale.append(table.key)  # pg_dump's workers would fail on it, too
            waiting = remaining
            if waiting:
                self._stop.wait(pause)
                pause = min(0.1, pause * 1.05)

    def _progress(self, watch: Connection) -> tuple[int, bool, set[int]]:
        """Return the number of pg_dump's sessions, whether rows are being copied, OIDs of the tables that it holds."""
        postgres_server.query(watch, "SELECT pg_stat_clear_snapshot()")
        sessions, copying, held = postgres_server.query(watch, _PROGRESS, (self._application,))[0]
        return sessions, copying, set(held or ())

    def _compare_files(self, connection: Connection, tables: Sequence[Table]) -> None:
        """Find the tables whose rows of the snapshot no longer exist. pg_dump holds all of them by now, or has
        ended: then it is unknown whether it read them before or after the change."""
        now = dict(postgres_server.query(connection, _FILES, ([table.oid for table in tables],)))
        held = self._progress(connection)[2]
        for table in tables:
            if now[table.oid] != table.filenode:
                self._stale.append(table.key)
                if table.oid not in held:
                    self._unheld.add(table)
                table.filenode = now[table.oid]
        self._compared.set()

    def _work_beside(self, holder: Holder) -> None:
        """Do the work of a holder of large tables. What a lost session held is tried again."""
        self._ended.wait()
        try:
            self._work(holder)
        except psycopg2.Error as error:
            if not holder.connection.closed:
                raise
            self._cause = self._cause or error
            self._missed.extend(holder.held)

    def _work(self, holder: Holder) -> None:
        """Sum what the holder holds, then the remaining small tables."""
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

    def _try_again(self, holder: Holder) -> None:
        """Sum the tables that were released for other sessions, one at a time, now that no other lock is held."""
        without_success = 0.0
        while not self._stop.is_set():
            self._missed.extend([] if self._missed else self._sums.take_uneven())
            if not self._missed:
                return
            table, started = self._missed.popleft(), time.monotonic()
            if self._sums.has(table) or self._try_once(holder, table):
                continue
            without_success += time.monotonic() - started + _PAUSE
            if holder.code in PASSING and without_success < _PATIENCE:
                self._missed.append(table)
                self._stop.wait(_PAUSE)
            elif holder.code == NO_ROOM:
                self._sums.miss(table, holder.why)
            else:
                self._sums.miss(table, f"It could not be locked for long enough to read it. {holder.why}")

    def _try_once(self, holder: Holder, table: Table | None) -> bool:
        """Return whether the table is summed, or known to be unproven, now."""
        if not holder.lock(table, wait=True):
            return False
        if table in self._unheld or not _is_same(holder.connection, table):
            self._sums.miss(holder.release(), _CHANGED)
            return True
        return not holder.sum_last(self._sums)


class NoSums:
    """In the place of Summing if the dump's snapshot cannot be shared: every table is unproven."""

    def __init__(self, why: str, selected: SelectedTables | None = None, with_large_objects: bool = True) -> None:
        self._why, self._selected, self._with_large_objects = why, selected, with_large_objects

    def stale(self) -> list[str]:
        return []

    def dumped(self) -> None:
        pass

    def close(self) -> None:
        pass

    def result(self, tables: Sequence[Table], entries: DumpEntries | None = None) -> dict[str, Any]:
        sums = Sums()
        expected = tables if self._selected is None else self._selected.narrow(tables)
        large_objects: list[Table | None] = [None] if self._with_large_objects else []
        for table in [*large_objects, *expected]:
            sums.miss(table, self._why)
        if entries is not None:
            _compare_with_dump(sums, expected, tables, entries)
        result: dict[str, Any] = sums.result()
        return result


def _compare_with_dump(sums: Sums, expected: Sequence[Table], tables: Sequence[Table], entries: DumpEntries) -> None:
    """Let the finished dump decide what the fingerprint covers. tables: all of the database."""
    definitions = {oid for _, oid in entries.objects}
    known = {table.oid: table for table in expected}
    for table in expected:
        is_there = table.oid in (definitions if table.is_empty else entries.rows)
        if not is_there:
            sums.forget(table)
        elif table.is_empty and table.oid in entries.rows:
            sums.miss(table, "The dump holds its rows, which was not expected.")
    for table in tables:
        if table.oid not in known and table.oid in entries.rows:
            sums.miss(table, "The dump holds it, which was not expected.")


def _is_same(connection: Connection, table: Table | None) -> bool:
    """Return whether the name still means the table of the snapshot, in the file it had then. Both functions look at
    the catalogs as they are now. Large objects (None) are what the snapshot has."""
    if table is None:
        return True
    statement = "SELECT to_regclass(%s)::oid::int8, pg_relation_filenode(%s::oid)::int8"
    return postgres_server.query(connection, statement, (table.key, table.oid)) == [(table.oid, table.filenode)]


def _first_words(error: BaseException | None) -> str:
    """Return the server's first words: a lost session makes more errors than one."""
    while error is not None and isinstance(error.__context__, psycopg2.Error):
        error = error.__context__
    return str(getattr(error, "why", "") or error or "").strip()
