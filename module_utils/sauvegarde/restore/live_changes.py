"""Compare the live database with the archive that is to replace it: which tables a restore would change.

A plan says so before anything is lost. The comparison only reads, never waits for a lock, and ends after a few seconds:
first it counts rows, the smallest tables first, then it sums the rows of tables whose counts are equal. Tables that
there was no time for are named as that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Callable, TypeVar

import psycopg2

from ..postgres import fingerprint, postgres_server
from ..postgres.fingerprint import Table
from ..postgres.postgres_server import Connection

COUNTING, SUMMING = 4.0, 3.0  # seconds
_LOCK_TIMEOUT = "100ms"
_T = TypeVar("_T")


@dataclass(frozen=True)
class TableChange:
    """A table that is not the same in archive and live database.

    archive_rows, live_rows: None where it has no such table. Equal numbers: the contents of some rows differ.
    """

    table: str
    archive_rows: int | None
    live_rows: int | None


@dataclass(frozen=True)
class LiveChanges:
    """What `compare` found. compared: number of tables that were. omitted: names of tables that were not, or only
    counted."""

    tables: tuple[TableChange, ...] = ()
    compared: int = 0
    omitted: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON."""
        tables = [asdict(table) for table in self.tables]
        return {"tables": tables, "compared": self.compared, "omitted": list(self.omitted)}


def compare(
    connection: Connection, expected: Mapping[str, Any], counting: float = COUNTING, summing: float = SUMMING
) -> LiveChanges:
    """Return how the tables of the connection's database differ from a manifest's fingerprint.

    counting, summing: maximum seconds for each. Raises psycopg2.Error if the tables cannot be listed.
    """
    fingerprint.pin(connection)
    postgres_server.execute(connection, "SET lock_timeout TO %s", (_LOCK_TIMEOUT,))
    with postgres_server.transaction(connection):
        listed = [table for table in fingerprint.tables_to_sum(connection, expected) if table is not None]
    groups: dict[str, list[Table]] = {}
    for table in reversed(listed):  # the smallest first
        groups.setdefault(table.root_key, []).append(table)
    counts = _within(connection, groups, counting, _count)
    archived: Mapping[str, Mapping[str, Any]] = expected.get("tables", {})
    same = {
        key: tables for key, tables in groups.items() if key in archived and counts.get(key) == archived[key]["rows"]
    }
    hashes = _within(connection, same, summing, _hash)
    changes = []
    for key in sorted({*counts, *archived}):
        rows = archived[key]["rows"] if key in archived else None
        is_unknown = key in groups and key not in counts
        differs = rows != counts.get(key) or (key in hashes and hashes[key] != archived[key]["hash"])
        # An empty table that only one of them has is no loss.
        if differs and not is_unknown and (rows or counts.get(key)):
            changes.append(TableChange(_name(key), rows, counts.get(key)))
    omitted = sorted(_name(key) for key in groups if key not in counts or (key in same and key not in hashes))
    return LiveChanges(tuple(changes), len(groups) - len(omitted), tuple(omitted))


def _name(key: str) -> str:
    return fingerprint.object_of_key(key).partition(" ")[2]


def _within(
    connection: Connection,
    groups: Mapping[str, list[Table]],
    seconds: float,
    measure: Callable[[Connection, list[Table]], _T],
) -> dict[str, _T]:
    """Return what `measure` returns of each group until the time is up; without groups that the server refuses."""
    until = time.monotonic() + seconds
    results: dict[str, _T] = {}
    for key, tables in groups.items():
        milliseconds = int((until - time.monotonic()) * 1000)
        if milliseconds <= 0:
            break
        try:
            with postgres_server.transaction(connection):
                postgres_server.execute(connection, "SET LOCAL statement_timeout TO %s", (str(milliseconds),))
                results[key] = measure(connection, tables)
        except psycopg2.Error:
            if connection.closed:
                break
    return results


def _count(connection: Connection, tables: list[Table]) -> int:
    """Return the number of rows of a table, or of all parts of a partitioned one."""
    return sum(
        postgres_server.value(connection, f"SELECT pg_catalog.count(*) FROM ONLY {table.key} {table.condition or ''}")
        for table in tables
    )


def _hash(connection: Connection, tables: list[Table]) -> str:
    """Return the hash of a table, or of all parts of a partitioned one, as a fingerprint has it."""
    sums = fingerprint.Sums()
    for table in tables:
        sums.add(table, fingerprint.sum_table(connection, table, table.by or fingerprint.BY_ROW))
    (entry,) = sums.result()["tables"].values()
    return str(entry["hash"])
