"""Run pg_dump in an exported snapshot, compress its output, take the fingerprint, and repeat an attempt that failed.

If the site changes tables while pg_dump starts, the attempt is repeated with a new snapshot. A statement that requests
an exclusive lock on a table that pg_dump's leader holds makes parallel workers fail, so later attempts have none. If
the server has too few connections for pg_dump, later attempts open no session of their own beside it. A standby cancels
queries that conflict with its replay; such an attempt is repeated a few times, each after a pause.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from ..archive.archive_writer import Stage
from ..archive.folder_compression import FolderCompression
from ..archive.manifest import ServerProperties
from ..errors import Locked, SauvegardeError
from ..postgres import (
    client_tools,
    database_properties,
    fingerprint,
    partial_description,
    postgres_server,
    predefined_objects,
    server_errors,
    sql_names,
    standby,
)
from ..postgres.client_tools import Client
from ..postgres.dump_selection import SelectedTables, Selection
from ..postgres.extension_sequences import ExtensionSequence
from ..postgres.foreign_keys import ForeignKeyCheck
from ..postgres.postgres_server import Server
from ..system import process
from . import dump_reader, partial_source, snapshot_fingerprint
from .dump_entries import DumpEntries
from .dump_reader import FOLDER
from .kind import Notify

_ATTEMPTS = 10
_PARALLEL_ATTEMPTS = 3  # those in which pg_dump has several workers
_SHORT_WAIT = 5  # pg_dump's lock timeout in seconds, except in the last attempt
_PAUSE = 0.2  # seconds before the second attempt, longer before each later one
_CONFLICT_PAUSES = (1, 5, 15, 30)  # seconds after each attempt that a standby cancelled; after these it is an error
_BLOCKED = "could not obtain lock on relation"  # pg_dump's own words, which are not translated here
# Also pg_dump's message when it gets no session: the job's own sessions may exceed the server's limit.
_NO_SESSION = re.compile(r"connection to (?:server|database)\b.* failed")
_PRIVILEGES = (
    "Give the dump role pg_read_all_data (14 and later), BYPASSRLS where there is row-level security and, for large"
    " objects, ALTER ROLE … SET lo_compat_privileges = on by a superuser; or dump as the owner."
)
# Tables that another session has locked exclusively, or waits to lock so.
_TAKEN = """
SELECT DISTINCT n.nspname::text, c.relname::text, c.oid::int8
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""
# Versions of the rows of the catalogs that pg_dump reads names from; temporary tables come and go.
_CATALOGS = """
WITH lasting AS (SELECT oid, xmin FROM pg_class WHERE relpersistence <> 't')
SELECT md5(string_agg(version, ' ' ORDER BY version)) FROM (
    SELECT concat_ws(' ', 'class', oid, xmin) FROM lasting
    UNION ALL SELECT concat_ws(' ', 'column', attrelid, attnum, xmin) FROM pg_attribute
              WHERE attrelid IN (SELECT oid FROM lasting)
    UNION ALL SELECT concat_ws(' ', 'constraint', oid, xmin) FROM pg_constraint
    UNION ALL SELECT concat_ws(' ', 'function', oid, xmin) FROM pg_proc
    UNION ALL SELECT concat_ws(' ', 'trigger', oid, xmin) FROM pg_trigger
    UNION ALL SELECT concat_ws(' ', 'type', oid, xmin) FROM pg_type
              WHERE typrelid = 0 OR typrelid IN (SELECT oid FROM lasting)
) AS versions (version)
"""
_CHANGED = (
    "The table {} was changed or locked by others in every attempt, while the dump began: the archive may lack rows"
    " of it that the database had."
)
_NOT_SHARED = (
    "A standby before PostgreSQL 10 lets no other session look through the dump's snapshot: dump from the primary."
)


@dataclass(frozen=True)
class Facts:
    """What a preflight found about the database to dump. foreign_key_seconds: time limit for checking foreign keys.
    warnings: what the dump will not contain."""

    server: ServerProperties
    libraries: dict[str, str]
    encoding: str
    dumper: Client
    reader: Client
    warnings: list[str]
    extension_sequences: list[ExtensionSequence]
    foreign_key_seconds: float


@dataclass(frozen=True)
class Settings:
    """How to dump: workers are pg_dump's processes, lock_timeout the seconds to wait for a lock on a table, selection
    what of the database."""

    server: Server
    database: str
    workers: int
    lock_timeout: float
    selection: Selection = field(default_factory=Selection)


@dataclass(frozen=True)
class Dump:
    """A dump in the stage, read back: the manifest's source and fingerprint, and warnings of pg_dump."""

    source: dict[str, Any]
    fingerprint: dict[str, Any]
    warnings: list[str]


def dump(settings: Settings, stage: Stage, facts: Facts, notify: Notify) -> Dump:
    """Fill the stage with the dump and read it back."""
    blocked = crowded = False
    conflicts = 0
    for attempt in range(1, _ATTEMPTS + 1):
        with contextlib.ExitStack() as stack:
            alone = blocked or crowded or attempt > _PARALLEL_ATTEMPTS
            run = _Attempt(stack, settings, facts, alone, crowded)
            try:
                warnings = run.dump(stage, notify, careful=attempt < _ATTEMPTS)
            except (_Changed, SauvegardeError) as error:
                why = getattr(error, "why", "")
                no_session = _NO_SESSION.search(why) is not None
                blocked, crowded = blocked or _BLOCKED in why, crowded or no_session
                conflict = run.met_conflict(why)
                again = _BLOCKED in why or no_session or isinstance(error, (_Changed, Locked)) or run.is_outdated()
                if conflict and conflicts == len(_CONFLICT_PAUSES):
                    raise _conflict_error(error, conflicts + 1) from error
                if attempt == _ATTEMPTS or not (again or conflict):
                    raise
            else:
                last = attempt == _ATTEMPTS or conflicts == len(_CONFLICT_PAUSES)
                dumped = _finish(run, settings, stage, facts, notify, warnings, conflicts, last)
                if dumped is not None:
                    return dumped
                conflict = True
            _discard(stage)
            notify("again", attempt=attempt + 1, **({"reason": "conflict with recovery"} if conflict else {}))
            stack.close()  # nothing is held while others go first
            time.sleep(_CONFLICT_PAUSES[conflicts] if conflict else _PAUSE * attempt)
            conflicts += conflict
    raise AssertionError("the last attempt returns or raises")


def _finish(
    run: _Attempt,
    settings: Settings,
    stage: Stage,
    facts: Facts,
    notify: Notify,
    warnings: list[str],
    conflicts: int,
    last: bool,
) -> Dump | None:
    """Read the dump back, and complete the fingerprint. Returns None if a standby cancelled some of it, and this is not
    the last attempt. conflicts: attempts that it cancelled before."""
    notify("read_back")
    reading = run.leader_thread.submit(_read_back, stage, facts.reader)
    try:
        if settings.selection:
            source, sums = run.describe_part(reading.result().listing)
        else:
            source, sums = run.source, run.fingerprint()
    except (SauvegardeError, psycopg2.Error) as error:
        if last or not run.met_conflict(str(error)):
            raise
        return None
    sums["sequences"] = reading.result().sequences
    unproven = sums.get("unproven")
    if unproven and not last and run.met_conflict(str(unproven)):
        return None
    return Dump(source, sums, warnings + run.warnings_of_standby(conflicts))


def _conflict_error(error: Exception, count: int) -> SauvegardeError:
    return SauvegardeError(
        f"The standby cancelled the dump {count} times, because it conflicted with what the standby replays.",
        getattr(error, "why", "") or str(error),
        standby.FIX,
    )


class _Changed(Exception):
    """Tables changed between the snapshot and pg_dump's locks on them."""


@dataclass(frozen=True)
class _Description:
    """What the leader's session reads while pg_dump runs, without tables of the site."""

    source: dict[str, Any]
    tables: list[Any]
    fingerprint: dict[str, Any]  # parts of it


class _Attempt:
    """One snapshot of the database and the sessions that use it. The leader's session keeps it and locks no table."""

    def __init__(
        self, stack: contextlib.ExitStack, settings: Settings, facts: Facts, alone: bool, crowded: bool
    ) -> None:
        shared = facts.server.version_num >= 100000 or not facts.server.standby
        self._settings, self._facts, self._crowded = settings, facts, crowded
        self._workers = 1 if alone or not shared else settings.workers
        self._leader = stack.enter_context(contextlib.closing(self._connect()))
        fingerprint.pin(self._leader)
        self._selected = self._select(in_transaction=False)
        _wait_for_tables(self._leader, settings.lock_timeout, self._selected)
        self._replay: dict[str, Any] | None = None
        if facts.server.standby and standby.is_standby(self._leader):  # it may have been promoted since the preflight
            self._replay, self._conflicts = standby.replay(self._leader), standby.conflicts(self._leader)
        self._snapshot = ""
        self._application = f"sauvegarde pg_dump {os.getpid()}"
        if shared:
            self._snapshot = stack.enter_context(postgres_server.snapshot(self._leader))
            self._application += f" {self._snapshot}"
        else:
            stack.enter_context(postgres_server.transaction(self._leader))
        self._selected = self._select(in_transaction=True)  # as the snapshot has them
        self.leader_thread = stack.enter_context(ThreadPoolExecutor(1))
        with_large_objects = settings.selection.has_everything_else
        self._sums: snapshot_fingerprint.Summing | snapshot_fingerprint.NoSums
        if shared:
            summing = snapshot_fingerprint.Summing(
                self._connect,
                self._snapshot,
                settings.workers,
                self._application,
                impatient=alone,
                late=crowded,
                selected=self._selected,
                with_large_objects=with_large_objects,
            )
            self._sums = stack.enter_context(summing)
        else:
            self._sums = snapshot_fingerprint.NoSums(_NOT_SHARED, self._selected, with_large_objects)
        self._described: Future[_Description]
        self.source: dict[str, Any]

    def _connect(self) -> Connection:
        return postgres_server.connect(self._settings.server, self._settings.database)

    def _select(self, in_transaction: bool) -> SelectedTables | None:
        """Return the tables that a partial dump will hold, None for a whole one."""
        selection = self._settings.selection
        if not selection:
            return None
        with contextlib.nullcontext() if in_transaction else postgres_server.transaction(self._leader):
            return selection.resolve(self._leader)

    def dump(self, stage: Stage, notify: Notify, careful: bool) -> list[str]:
        """Run pg_dump; return warnings. careful: raise _Changed rather than publish a table of which the snapshot has
        more rows; otherwise that is a warning."""
        self._described = self.leader_thread.submit(_describe, self._leader, self._facts, self._replay)
        tables = None if self._selected is None else self._selected.oids - self._selected.without_rows
        foreign_keys = ForeignKeyCheck(self._connect, self._facts.foreign_key_seconds, tables)
        if not self._crowded:
            foreign_keys.start()

        def check() -> None:
            if careful and self._sums.stale():
                raise _Changed(", ".join(self._sums.stale()))

        try:
            stderr = self._run_pg_dump(stage, notify, careful, check)
            self._sums.dumped()
        except BaseException:
            self._sums.close()  # first, so that no other session waits for locks of a failed dump
            raise
        finally:
            violated = foreign_keys.result()
        self.source = dict(self._described.result().source, foreign_keys=violated)
        check()
        return process.warnings("pg_dump", stderr) + [_CHANGED.format(name) for name in self._sums.stale()]

    def _run_pg_dump(self, stage: Stage, notify: Notify, careful: bool, check: Callable[[], None]) -> str:
        environment = client_tools.environment(self._settings.server, self._settings.database, self._application)
        # pg_dump resets the limits of its sessions by itself, except idle_session_timeout, which does not count a
        # transaction and so cannot end them. Connection poolers refuse the parameter that these options go in.
        del environment["PGOPTIONS"]
        # The next attempt, which then holds nothing, waits for a lock that takes longer.
        wait = min(self._settings.lock_timeout, _SHORT_WAIT) if careful else self._settings.lock_timeout
        arguments = _arguments(self._facts, stage, self._workers, self._snapshot, wait)
        arguments += self._settings.selection.arguments(self._facts.encoding)
        return _run_pg_dump(arguments, environment, stage, max(self._workers, 2), notify, check)

    def met_conflict(self, why: str) -> bool:
        """Return whether the server is a standby that cancelled a session of this attempt. why: the server's words."""
        if self._replay is None:
            return False
        if standby.is_conflict(why):
            return True
        with contextlib.suppress(SauvegardeError, psycopg2.Error):
            self._described.exception()  # the leader's session is free after that
            with contextlib.closing(self._connect()) as connection:
                # A session that waits in its snapshot is ended. The server's words may be translated.
                return self._is_lost(self._leader) or standby.conflicts(connection) > self._conflicts
        return False

    @staticmethod
    def _is_lost(connection: Connection) -> bool:
        try:
            postgres_server.query(connection, "SELECT 1")
        except psycopg2.errors.InFailedSqlTransaction:
            return False
        except psycopg2.Error:
            return True
        return False

    def warnings_of_standby(self, conflicts: int) -> list[str]:
        """Return what happened to a standby during the run. conflicts: attempts that it cancelled before this one."""
        warnings = []
        if conflicts:
            warnings.append(
                f"The standby cancelled {conflicts} attempt(s) at the dump, because they conflicted with what it"
                f" replayed; this one succeeded. {standby.FIX}"
            )
        if self._replay is not None and not self._is_lost(self._leader) and not standby.is_standby(self._leader):
            warnings.append(
                "The standby was promoted while it was dumped: the archive has the data from before its promotion."
            )
        return warnings

    def is_outdated(self) -> bool:
        """Return whether the catalogs have changed since the snapshot, which may be why pg_dump failed."""
        with contextlib.suppress(SauvegardeError, psycopg2.Error):
            self._described.exception()  # the leader's session is free after that
            with contextlib.closing(self._connect()) as connection:
                fingerprint.pin(connection)
                return postgres_server.query(connection, _CATALOGS) != postgres_server.query(self._leader, _CATALOGS)
        return False

    def fingerprint(self, entries: DumpEntries | None = None) -> dict[str, Any]:
        """Return the manifest's fingerprint, without the sequences. entries: what a partial dump holds."""
        description = self._described.result()
        sums = self._sums.result(description.tables, entries)
        return dict(sums, algorithm=fingerprint.ALGORITHM, **description.fingerprint)

    def describe_part(self, listing: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the manifest's source and fingerprint of a partial dump, each with what the dump holds."""
        entries = DumpEntries.of_list(listing)
        try:
            with postgres_server.rolled_back(self._leader):
                partial = partial_description.describe(
                    self._leader, self._settings.selection, entries.objects, entries.rows, entries.has_line
                )
                matviews = fingerprint.matviews(self._leader, entries.objects, entries.rows)
        except psycopg2.Error as error:
            raise server_errors.database_error(error, "What the dump lacks could not be read.") from error
        source = partial_source.narrow(self.source, partial, entries)
        sums = self.fingerprint(entries)
        sums["matviews"] = matviews
        if not has_postgis(source):
            sums.pop("srids", None)
        return source, sums


def _discard(stage: Stage) -> None:
    """Remove what an attempt left in the stage."""
    for file in stage.files:
        stage.discard(file.path)
    shutil.rmtree(stage.path / FOLDER, ignore_errors=True)


def has_postgis(source: Mapping[str, Any]) -> bool:
    """Return whether the database has PostGIS. source: as database_properties.describe gives it."""
    return any(extension["name"] == "postgis" for extension in source["extensions"])


def _describe(leader: Connection, facts: Facts, replay: dict[str, Any] | None) -> _Description:
    try:
        with postgres_server.rolled_back(leader):
            source, tables = database_properties.describe(leader), fingerprint.tables(leader)
            public = predefined_objects.schema_public(leader, facts.dumper)
            listed = {"matviews": fingerprint.matviews(leader)}
            if has_postgis(source):
                changed = source["spatial_ref_sys"]
                srids = [row["srid"] for row in changed["custom"] + changed["changed"]]
                listed["srids"] = fingerprint.custom_srids(leader, srids)
    except psycopg2.Error as error:
        raise server_errors.database_error(error, "The database's properties could not be read.") from error
    source.update(server=facts.server.as_dict(), libraries=facts.libraries)
    if facts.server.standby and replay is not None:
        source["replay"] = replay
    source["extension_sequences"] = [sequence.as_dict() for sequence in facts.extension_sequences]
    if public:
        source["schema_public"] = public
    return _Description(source, tables, listed)


def _wait_for_tables(leader: Connection, seconds: float, selected: SelectedTables | None) -> None:
    """Wait for every table that a session has exclusively or is about to, each alone, before anything else is held.
    selected: the tables that the dump will hold, None for all.

    What happens between this and pg_dump's locks is left to pg_dump's own limit.
    """
    until = time.monotonic() + seconds
    for schema, name, oid in postgres_server.query(leader, _TAKEN):
        if selected is not None and oid not in selected.oids:
            continue
        table = sql_names.quote(schema, name)
        remaining = max(1, int((until - time.monotonic()) * 1000))
        try:
            with postgres_server.transaction(leader):
                postgres_server.execute(leader, "SET LOCAL lock_timeout TO %s", (remaining,))
                postgres_server.execute(leader, f"LOCK TABLE ONLY {table} IN ACCESS SHARE MODE")
        except psycopg2.Error as error:
            if error.pgcode == "55P03":  # lock_not_available
                what = f"The table {table} could not be locked for reading within {seconds:g} seconds."
                raise server_errors.database_error(error, what) from error
            if leader.closed:
                raise  # pg_dump reports anything else


def _arguments(facts: Facts, stage: Stage, workers: int, snapshot: str, wait: float) -> list[str]:
    arguments = [
        facts.dumper.path,
        "--format=directory",
        f"--jobs={workers}",
        "--compress=0",
        f"--encoding={facts.encoding}",  # the database's own: a restore gets exactly the same bytes
        *([f"--snapshot={snapshot}"] if snapshot else []),
        f"--lock-wait-timeout={int(wait * 1000)}",
        "--no-password",
        f"--file={stage.path / FOLDER}",
    ]
    if facts.dumper.version_num >= 100000:
        arguments.append("--no-sync")  # the files are compressed first and synced then
    return arguments


def _run_pg_dump(
    arguments: list[str],
    environment: Mapping[str, str],
    stage: Stage,
    compressors: int,
    notify: Notify,
    check: Callable[[], None],
) -> str:
    """Run pg_dump with zstd behind it; return its standard error. check: called repeatedly; what it raises ends it."""
    with (
        FolderCompression(stage, FOLDER, compressors) as compression,
        process.start(arguments, env=environment) as tool,
    ):
        reported = 0.0
        while tool.running():
            compression.turn()
            check()
            if time.monotonic() - reported > 1:
                reported = time.monotonic()
                notify("dumping", files=len(stage.files), bytes=sum(file.bytes for file in stage.files))
        try:
            stderr = tool.finish(what=f"The database {environment['PGDATABASE']} could not be dumped.").stderr
        except SauvegardeError as error:
            if "statement timeout" in error.why:  # how --lock-wait-timeout ends its statement
                fix = "See who holds the table in pg_stat_activity, and run again once it is free."
                raise Locked(error.what, error.why, fix) from error
            if any(words in error.why for words in ("permission denied", "row-level security")):
                error.fix = _PRIVILEGES
            raise
        compression.finish()
    notify("dumped", bytes=sum(file.bytes for file in stage.files))
    return stderr


def _read_back(stage: Stage, reader: Client) -> dump_reader.DumpReading:
    """Read the dump back from the disk with the server's own reader."""
    stage.settle()
    reading = dump_reader.read_dump(stage.path, stage.files, reader)
    stage.confirm(reading.digests)
    return reading
