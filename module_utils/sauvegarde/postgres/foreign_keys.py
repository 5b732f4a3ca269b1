"""Find foreign keys that rows violate: a load with disabled triggers leaves such rows, and a restore refuses them.

The check is an anti-join, which reads both tables. So it runs beside pg_dump, smallest tables first, in a share of the
time that the job takes anyway; keys that were not checked are counted, without a warning. CHECK constraints can be
violated as well, but evaluating them would call the site's functions with the dump role's rights, which pg_dump never
does.
"""

from __future__ import annotations

import calendar
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import psycopg2

from ..archive.manifest import Manifest
from . import postgres_server, sql_names
from .postgres_server import Connection

_GRACE = 0.3  # seconds that the check of small tables may go on after pg_dump has ended
_QUERY_CANCELED = "57014"
_LEAST, _MOST, _SHARE = 1.0, 60.0, 0.03  # seconds, and the share of the last job's duration

_KEYS = """
SELECT c.oid::int8, p.oid::int8, k.oid::int8, pg_catalog.format('CONSTRAINT %I.%I %I', n.nspname, c.relname, k.conname),
       n.nspname::text, c.relname::text, c.relkind = 'p', pn.nspname::text, p.relname::text, p.relkind = 'p',
       k.confmatchtype = 'f'
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.convalidated AND c.relkind IN ('r', 'p') AND p.relkind IN ('r', 'p')
  AND coalesce(pg_catalog.to_jsonb(k) ->> 'conparentid', '0') = '0'
  AND coalesce(pg_catalog.to_jsonb(k) ->> 'conenforced', 'true') = 'true'
  AND NOT (pg_catalog.pg_is_in_recovery() AND 'u' IN (c.relpersistence, p.relpersistence))
ORDER BY c.relpages + p.relpages, 2
"""
_COLUMNS = """
SELECT a.attname::text, pa.attname::text, on_.nspname::text, o.oprname::text
FROM pg_catalog.pg_constraint k
CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey),
                              pg_catalog.unnest(k.conpfeqop)) AS u(own, other, operator)
JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own
JOIN pg_catalog.pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = u.other
JOIN pg_catalog.pg_operator o ON o.oid = u.operator JOIN pg_catalog.pg_namespace on_ ON on_.oid = o.oprnamespace
WHERE k.oid = %s
"""


@dataclass(frozen=True)
class _Key:
    """A foreign key: tables by schema and name, whether they are partitioned, and whether it is MATCH FULL."""

    oid: int
    label: str
    schema: str
    table: str
    is_partitioned: bool
    parent_schema: str
    parent: str
    parent_is_partitioned: bool
    matches_full: bool


class ForeignKeyCheck(threading.Thread):
    """Check the foreign keys of a database beside a dump. Start it, then call `result` when the dump has ended.

    connect: returns a new connection in autocommit. seconds: the time limit of the whole check. tables: OIDs of the
    tables that the dump has rows of, None for all. Only keys between two of these are checked.
    """

    def __init__(self, connect: Callable[[], Connection], seconds: float, tables: Set[int] | None = None) -> None:
        super().__init__(daemon=True)
        self._tables = tables
        self._connect, self._until = connect, time.monotonic() + seconds
        self._connection: Connection | None = None
        self._is_over = False
        self._keys, self._checked = 0, 0
        self._violated: list[str] = []

    def run(self) -> None:
        with contextlib.suppress(Exception):  # whatever it is, the keys count as not checked
            self._connection = self._connect()
            with contextlib.closing(self._connection):
                self._check_all(self._connection)

    def _check_all(self, connection: Connection) -> None:
        for setting in ("row_security TO off", "lock_timeout TO 100", "max_parallel_workers_per_gather TO 0"):
            postgres_server.execute(connection, f"SET {setting}")
        rows = postgres_server.query(connection, _KEYS)
        keys = [_Key(*row[2:]) for row in rows if self._tables is None or {row[0], row[1]} <= self._tables]
        self._keys = len(keys)
        for key in keys:
            seconds = self._until - time.monotonic()
            if self._is_over or seconds <= 0:
                return
            try:
                is_violated = _is_violated(connection, key, seconds)
            except psycopg2.Error as error:
                if error.pgcode == _QUERY_CANCELED:  # the time is over
                    return
                continue  # no privilege to read it, or another session holds it: not checked
            finally:
                with contextlib.suppress(psycopg2.Error):
                    postgres_server.execute(connection, "ROLLBACK")
            self._checked += 1
            if is_violated:
                self._violated.append(key.label)

    def result(self) -> dict[str, Any]:
        """Return the manifest's {of, looked_at, broken}: the numbers of foreign keys and of checked ones, and the names
        of violated ones. A check that still runs a moment after is cancelled."""
        if self.is_alive():
            self.join(_GRACE)
        self._is_over = True
        if self.is_alive() and self._connection is not None:
            with contextlib.suppress(psycopg2.Error):
                self._connection.cancel()
            self.join(_GRACE)
        return {"of": self._keys, "looked_at": self._checked, "broken": list(self._violated)}


def _is_violated(connection: Connection, key: _Key, seconds: float) -> bool:
    child = ("" if key.is_partitioned else "ONLY ") + sql_names.quote(key.schema, key.table)
    parent = ("" if key.parent_is_partitioned else "ONLY ") + sql_names.quote(key.parent_schema, key.parent)
    pairs = postgres_server.query(connection, _COLUMNS, (key.oid,))
    columns = ["c." + sql_names.quote(pair[0]) for pair in pairs]
    has_value = (" OR " if key.matches_full else " AND ").join(f"{column} IS NOT NULL" for column in columns)
    equal = " AND ".join(
        f"p.{sql_names.quote(theirs)} OPERATOR({sql_names.quote(schema)}.{operator}) c.{sql_names.quote(ours)}"
        for ours, theirs, schema, operator in pairs
    )
    postgres_server.execute(connection, "BEGIN READ ONLY")
    postgres_server.execute(connection, f"SET LOCAL statement_timeout TO {max(1, int(seconds * 1000))}")
    # At once or not at all: the check waits for no lock while it holds another.
    postgres_server.execute(connection, f"LOCK TABLE {child}, {parent} IN ACCESS SHARE MODE NOWAIT")
    orphan = f"({has_value}) AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {equal})"
    return postgres_server.value(connection, f"SELECT 1 FROM {child} c WHERE {orphan} LIMIT 1") is not None


def time_limit(last: Manifest | None) -> float:
    """Return the seconds for the check beside the next job. last: the job's last manifest."""
    seconds = 0
    if last is not None:
        started, ended = (
            calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) for text in (last.started, last.ended)
        )
        seconds = ended - started
    return min(_MOST, max(_LEAST, _SHARE * seconds))


def warnings(result: Mapping[str, Any]) -> list[str]:
    """Return sentences for the manifest about the result of a check."""
    if not result["broken"]:
        return []
    return [
        "Foreign keys are broken: rows refer to rows that do not exist, and a restore cannot make these constraints"
        " hold; repair the rows, or accept the loss by name at the restore: {}.".format(", ".join(result["broken"]))
    ]
