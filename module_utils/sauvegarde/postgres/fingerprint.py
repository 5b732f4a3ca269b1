"""Compute and compare data fingerprints: per table the row count and an order-independent hash, the same on 9.6 and 18.

Each row is converted to text, with everything pinned that changes text between servers, sessions and versions; the two
halves of its md5 are summed over the table. Float columns are hashed by their bytes, exactly; floats inside arrays,
composites and PostgreSQL's own geometric types by 15 digits, which every version prints alike. PostGIS types print
their EWKB. Columns are ordered by name, since a restore may order them differently.

A row's text may be larger than the server can build (1 GB), or hold bytes that have no equivalent in UTF-8. The rows of
such a table are hashed by the md5 of each column, of the bytes as they are in the database's encoding; the manifest
says so, and the restored table is summed in the same way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Optional

import psycopg2

from ..errors import SauvegardeError
from . import database_properties, index_search_path, postgres_server, sql_names
from .postgres_server import Connection

ALGORITHM = "md5-sum/1"
LARGE_OBJECTS = "LARGE OBJECTS"
_LARGE_OBJECT_CHUNK = 1024 * 1024
_NEXT_OBJECTS = "SELECT oid FROM pg_largeobject_metadata WHERE oid > %s ORDER BY oid LIMIT 1000"

# SQLSTATEs of a server that fails (connection, resources, intervention, system, corruption), whatever it reads.
_FAILURES = ("08", "53", "57", "58", "XX001", "XX002")

_PINNED = (
    "SET search_path TO pg_catalog",
    "SET TimeZone TO 'UTC'",
    "SET DateStyle TO 'ISO, YMD'",
    "SET IntervalStyle TO 'postgres'",
    "SET extra_float_digits TO 0",  # above 0, versions before 12 print other digits than later ones
    "SET bytea_output TO 'hex'",
    "SET lc_monetary TO 'C'",
    "SET quote_all_identifiers TO off",  # regclass and the like
    "SET row_security TO off",  # an error rather than fewer rows
    "SET constraint_exclusion TO off",  # so that no constraint is evaluated to plan a sum
)

# Base types whose text differs between versions, or loses digits, and what is hashed instead. Schemas are named (see
# index_search_path), and so is the base type, since a column of a domain could have functions and operators of its own.
_FLOAT = (
    "CASE WHEN {{0}}::pg_catalog.{0} OPERATOR(pg_catalog.=) 'NaN'::pg_catalog.{0} THEN 'NaN'"
    " ELSE pg_catalog.encode(pg_catalog.{0}send({{0}}::pg_catalog.{0}), 'hex') END"
)
_EXACT = {
    "float8": _FLOAT.format("float8"),
    "float4": _FLOAT.format("float4"),
    "char": '({0}::pg_catalog."char")::pg_catalog.int4',
}
# How a row is hashed: as one text, or by the hash of each column.
BY_ROW, BY_COLUMNS = "row", "columns"
# concat and num_nulls take every type and call its output function; so there is no cast of the site's.
_COLUMN_HASH = "CASE pg_catalog.num_nulls({0}) WHEN 0 THEN pg_catalog.md5(pg_catalog.concat({0})) ELSE '' END"
# A half of a row's hash as a number, and the sum of all.
_HALF = (
    "coalesce(pg_catalog.sum(('x' OPERATOR(pg_catalog.||) pg_catalog.substr(h, {}))::bit(64)::pg_catalog.int8), 0)"
    "::pg_catalog.text"
)

_TABLES = """
WITH RECURSIVE tree AS (
    SELECT c.oid, c.oid AS root FROM pg_class c
    WHERE c.relkind = 'p' AND coalesce(to_jsonb(c) ->> 'relispartition', 'false') = 'false'
  UNION ALL
    SELECT i.inhrelid, tree.root FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
)
SELECT n.nspname::text, c.relname::text, c.relpages, CASE WHEN e.oid IS NOT NULL
           THEN coalesce(e.extcondition[array_position(e.extconfig, c.oid)], '') END,
       rn.nspname::text, r.relname::text, c.oid::int8, c.relfilenode::int8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
     AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = d.refobjid
LEFT JOIN (tree JOIN pg_class r ON r.oid = tree.root JOIN pg_namespace rn ON rn.oid = r.relnamespace)
     ON tree.oid = c.oid
WHERE c.relkind = 'r' AND c.relpersistence IN ('p', 'u')
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND (e.oid IS NULL OR (c.oid = ANY(e.extconfig) AND NOT (e.extname = 'postgis' AND c.relname = 'spatial_ref_sys')))
ORDER BY c.relpages DESC, 1, 2
"""

_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT a.attname::text AS name, t.typname::text AS type, t.typtype, t.typbasetype, t.typnamespace
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = %s AND c.relname = %s)
      AND a.attnum > 0 AND NOT a.attisdropped AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''
  UNION ALL
    SELECT base.name, t.typname::text, t.typtype, t.typbasetype, t.typnamespace
    FROM base JOIN pg_type t ON t.oid = base.typbasetype WHERE base.typtype = 'd'
)
SELECT name, CASE WHEN typnamespace = 'pg_catalog'::regnamespace THEN type ELSE '' END
FROM base WHERE typtype <> 'd' ORDER BY name COLLATE "C"
"""


@dataclass(eq=False)
class Table:
    """A table to sum.

    pages: for the order of work. condition: under which pg_dump takes the rows of an extension's table, None for a
    table of the site. columns: those to sum, None for all. root: (schema, name) of the partitioned table it is part of,
    or None. oid, filenode: of the table and its file in the snapshot's catalogs. by: how its rows are hashed (BY_ROW,
    BY_COLUMNS), None for the first of these that the server can do. is_empty: the dump holds it without its rows, so it
    is summed as a table that has none.
    """

    schema: str
    name: str
    pages: int = 0
    condition: str | None = None
    columns: Sequence[str] | None = None
    root: tuple[str, str] | None = None
    oid: int | None = None
    filenode: int | None = None
    by: str | None = None
    is_empty: bool = False

    @property
    def key(self) -> str:
        """The quoted name, as fingerprints have it."""
        return sql_names.quote(self.schema, self.name)

    @property
    def root_key(self) -> str:
        """The quoted name under which its rows are summed: of the partitioned table that it is part of, or its own."""
        return sql_names.quote(*self.root) if self.root else self.key


@dataclass(frozen=True)
class Sum:
    """The sum of one table: the names of its columns, the number of rows, the sums of both halves of their hashes."""

    names: list[str]
    rows: int
    high: int
    low: int
    condition: str | None = None
    by: str = BY_ROW


class Sums:
    """Sums of tables, and tables that could not be summed, from several threads, as parts of a manifest's fingerprint.

    The parts of a partitioned table are summed as a whole: which part has a row depends on the target (hash partitions
    on an enum, collations), and pg_dump may load rows through the root.
    """

    def __init__(self) -> None:
        self._tables: dict[str, Sum] = {}
        self._groups: dict[tuple[str, str], dict[str, Sum]] = {}  # by root, then by part
        self._unproven: dict[str, str] = {}
        self._parts: dict[str, Table] = {}
        self.large_objects: dict[str, Any] | None = None

    def add(self, table: Table, table_sum: Sum) -> None:
        """Record the result of `sum_table`."""
        if table.root is None:
            self._tables[table.key] = table_sum
        else:
            self._groups.setdefault(table.root, {})[table.key] = table_sum
            self._parts[table.key] = table

    def take_uneven(self) -> list[Table]:
        """Remove the sums of tables whose rows were hashed otherwise than those of other parts of the same partitioned
        table, and return these tables; they must be summed by columns."""
        uneven = []
        for parts in list(self._groups.values()):
            if len({part.by for part in parts.values()}) > 1:
                for key in [key for key, part in parts.items() if part.by != BY_COLUMNS]:
                    if self._parts[key].is_empty:
                        parts[key] = replace(parts[key], by=BY_COLUMNS)
                        continue
                    del parts[key]
                    self._parts[key].by = BY_COLUMNS
                    uneven.append(self._parts[key])
        return uneven

    def miss(self, table: Table | None, why: str) -> None:
        """Record a table (None: the large objects) that could not be summed."""
        if table is None:
            self._unproven[LARGE_OBJECTS] = why
        else:
            self._unproven[object_name(*(table.root or (table.schema, table.name)))] = why

    def forget(self, table: Table) -> None:
        """Drop the sum of a table that the dump does not hold."""
        self._tables.pop(table.key, None)
        self._groups.get(table.root or ("", ""), {}).pop(table.key, None)
        self._unproven.pop(object_name(*(table.root or (table.schema, table.name))), None)

    def has(self, table: Table | None) -> bool:
        """Return whether anything was recorded for a table (None: for the large objects)."""
        if table is None:
            return self.large_objects is not None or LARGE_OBJECTS in self._unproven
        sums = self._tables if table.root is None else self._groups.get(table.root, {})
        return table.key in sums or object_name(*(table.root or (table.schema, table.name))) in self._unproven

    def result(self) -> dict[str, Any]:
        """Return {tables, large_objects, unproven}; the last two only if there are such."""
        entries = {key: _entry(table_sum) for key, table_sum in self._tables.items()}
        for root, parts in self._groups.items():
            if not parts:
                continue
            if len({part.by for part in parts.values()}) > 1:
                self.miss(self._parts[sorted(parts)[0]], "Its parts could not all be summed in the same way.")
            if object_name(*root) not in self._unproven:
                entries[sql_names.quote(*root)] = dict(_entry(_add(list(parts.values()))), partitions=sorted(parts))
        result: dict[str, Any] = {"tables": {key: entries[key] for key in sorted(entries)}}
        if self.large_objects is not None:
            result["large_objects"] = self.large_objects
        if self._unproven:
            result["unproven"] = [{"object": name, "why": self._unproven[name]} for name in sorted(self._unproven)]
        return result


def _add(sums: Sequence[Sum]) -> Sum:
    return replace(
        sums[0],
        rows=sum(part.rows for part in sums),
        high=sum(part.high for part in sums),
        low=sum(part.low for part in sums),
    )


def _entry(table_sum: Sum) -> dict[str, Any]:
    """Return a table's entry in a fingerprint."""
    digest = _digest(table_sum.names, table_sum.rows, str(table_sum.high), str(table_sum.low))
    entry: dict[str, Any] = {"rows": table_sum.rows, "hash": digest}
    if table_sum.condition is not None:
        entry.update(columns=table_sum.names, condition=table_sum.condition)
    if table_sum.by != BY_ROW:
        entry["by"] = table_sum.by
    return entry


def object_name(*names: str) -> str:
    """Return a table as people write it, e.g. `TABLE public.offers`; `unproven` names tables like this."""
    return "TABLE " + sql_names.plain_name(*names)


def pin(connection: Connection) -> None:
    """Pin every setting of the session that a row's text depends on, so that equal rows have equal texts."""
    for statement in _PINNED:
        postgres_server.execute(connection, statement)


def tables(connection: Connection) -> list[Table]:
    """Return the tables whose rows pg_dump takes, largest first: leaf partitions, each inheriting table by itself,
    logged or not; of extensions only what they have dumped (but spatial_ref_sys, see `custom_srids`). The connection is
    pinned."""
    return [
        Table(schema, name, pages, condition, None, root and (parent, root), oid, filenode)
        for schema, name, pages, condition, parent, root, oid, filenode in postgres_server.query(connection, _TABLES)
    ]


def take(
    connect: Callable[[], Connection],
    snapshot: str | None = None,
    workers: int = 2,
    reference: Mapping[str, Any] | None = None,
    srids: Iterable[int] | None = None,
) -> dict[str, Any]:
    """Return the fingerprint of a database that does not change meanwhile, as the manifest has it, but without
    `sequences` (see below). Each table is read in its own transaction, so that few locks are held at a time.

    connect: returns a new connection to it, in autocommit; called `workers` times.
    snapshot: name of the exported snapshot to read in, None for now.
    reference: the manifest's fingerprint, if the database is a restored one: its unproven objects are left out, tables
      of extensions are summed under the conditions and columns of the source, custom SRIDs by its list, and the
      sequences that it names are read. A failure of the server raises then.
    srids: without `reference`: the srids whose spatial_ref_sys rows belong to the data.
    """
    reference = reference or {}
    result: dict[str, Any] = {"algorithm": ALGORITHM}
    sums, jobs = Sums(), queue.Queue[Optional[Table]]()
    with contextlib.closing(connect()) as first:
        pin(first)
        with postgres_server.transaction(first, snapshot):
            work = tables_to_sum(first, reference)
            result["matviews"] = matviews(first)
            listed = reference["srids"]["list"] if "srids" in reference else srids
            if listed is not None:
                result["srids"] = custom_srids(first, listed)
            if "sequences" in reference:
                result["sequences"] = sequences(first, reference["sequences"])
        for table in work:
            jobs.put(table)
        while not jobs.empty():
            _run(first, connect, snapshot, max(1, min(workers, jobs.qsize())), jobs, sums, strict=bool(reference))
            for table in sums.take_uneven():
                jobs.put(table)
    result.update(sums.result())
    return result


def tables_to_sum(connection: Connection, reference: Mapping[str, Any]) -> list[Table | None]:
    """Return what to sum: None for the large objects, first, since their size is unknown; the tables of the site, and
    the extensions' tables as the source summed them."""
    excluded = unproven(reference)
    work: list[Table | None] = [] if LARGE_OBJECTS in excluded else [None]
    if not reference:
        return [*work, *tables(connection)]
    expected = reference.get("tables", {})
    for table in tables(connection):
        entry = expected.get(table.key, {})
        as_whole = table.root and (
            object_name(*table.root) in excluded or "partitions" in expected.get(sql_names.quote(*table.root), {})
        )
        table.root = table.root if as_whole else None  # older archives have each partition by itself
        if object_name(*(table.root or (table.schema, table.name))) in excluded:
            continue
        whole_entry = expected.get(sql_names.quote(*table.root), {}) if table.root else entry
        table.by = whole_entry.get("by", BY_ROW) if whole_entry else None
        if table.condition is None:
            work.append(table)
        elif "condition" in entry:
            table.condition, table.columns = entry["condition"], entry["columns"]
            work.append(table)
    return work


def unproven(fingerprint: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the objects that a manifest's fingerprint does not cover, {object: why}."""
    return {entry["object"]: entry["why"] for entry in (fingerprint or {}).get("unproven", [])}


def _run(
    first: Connection,
    connect: Callable[[], Connection],
    snapshot: str | None,
    workers: int,
    jobs: queue.Queue[Table | None],
    sums: Sums,
    strict: bool,
) -> None:
    """Sum everything in `jobs` with that many connections, `first` among them; a lost connection stops all of them, and
    with `strict` so does every failure of the server."""
    failed, connections = threading.Event(), [first]

    def work_on(connection: Connection) -> None:
        while not failed.is_set():
            try:
                table = jobs.get_nowait()
            except queue.Empty:
                return
            with postgres_server.transaction(connection, snapshot):
                enter(sums, connection, table, _FAILURES if strict else ())

    def guarded(work: Callable[..., None], *arguments: Connection) -> None:
        try:
            work(*arguments)
        except BaseException:
            if failed.is_set():
                return  # cancelled because another worker failed, whose error is raised
            failed.set()
            cancel(connections)
            raise

    def work_on_new_connection() -> None:
        with contextlib.closing(connect()) as connection:
            pin(connection)
            connections.append(connection)
            work_on(connection)

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(guarded, work_on_new_connection) for _ in range(workers - 1)]
        guarded(work_on, first)
        for future in futures:
            future.result()


def cancel(connections: Iterable[Connection]) -> None:
    """Cancel what runs on other connections, so that a failure does not wait for the largest table."""
    for connection in connections:
        if not connection.closed:
            try:
                connection.cancel()
            except psycopg2.Error:
                continue  # it has just ended


def enter(sums: Sums, connection: Connection, table: Table | None, passing: tuple[str, ...] = ()) -> None:
    """Sum a table (None: the large objects) into `sums`; record it as missed if the server refuses.

    The connection is pinned and in a transaction, in which no lock remains. Raises if the connection was lost or its
    query was cancelled, or if the SQLSTATE begins with one of `passing`: such errors say nothing about the rows.
    """
    why = ""
    attempts = [BY_ROW, BY_COLUMNS]
    if table is None or table.by:
        attempts = [table.by or BY_ROW] if table else [BY_ROW]
    for by in attempts:
        try:
            with postgres_server.rolled_back(connection):
                if table is None:
                    sums.large_objects = large_objects(connection)
                else:
                    sums.add(table, sum_table(connection, table, by))
            return
        except psycopg2.Error as error:
            if connection.closed or (error.pgcode or "").startswith(("57014", *passing)):  # query_canceled
                raise
            why = why or str(error).strip()
    sums.miss(table, why)


def sum_table(connection: Connection, table: Table, by: str = BY_ROW) -> Sum:
    """Return the Sum of a table, in a transaction on a pinned connection. by: how its rows are hashed. A table that is
    to be summed as an empty one is not read."""
    types = postgres_server.query(connection, _COLUMNS, (table.schema, table.name))
    if table.columns is not None:
        type_of = dict(types)
        types = [(name, type_of.get(name)) for name in table.columns]
    if table.is_empty:
        return Sum([name for name, _ in types], 0, 0, 0, table.condition, by)
    columns = [_EXACT.get(type_, "{0}").format(sql_names.quote(name)) for name, type_ in types]
    if by == BY_COLUMNS:
        columns = [_COLUMN_HASH.format(column) for column in columns]
    text = "ROW({})::pg_catalog.text".format(", ".join(columns))
    if by == BY_ROW and connection.info.parameter_status("server_encoding") not in ("UTF8", "SQL_ASCII"):
        text = f"pg_catalog.convert_to({text}, 'UTF8')"
    statement = (
        "SELECT pg_catalog.count(*), {}, {}".format(_HALF.format("1, 16"), _HALF.format("17"))
        + f" FROM (SELECT pg_catalog.md5({text}) AS h FROM ONLY {table.key} {table.condition or ''} OFFSET 0) AS each"
    )
    rows, high, low = index_search_path.query(connection, statement, table.schema)[0]
    return Sum([name for name, _ in types], rows, int(high), int(low), table.condition, by)


def _digest(names: Sequence[str], rows: int, high: str, low: str) -> str:
    return hashlib.md5(json.dumps([names, rows, high, low]).encode("ascii")).hexdigest()


def sum_texts(texts: Iterable[str]) -> dict[str, Any]:
    """Return {rows, hash} of texts in memory, by the same sum."""
    rows, high, low = 0, 0, 0
    for text in texts:
        digest = hashlib.md5(text.encode("utf-8")).hexdigest()
        rows, high, low = rows + 1, high + int(digest[:16], 16), low + int(digest[16:], 16)
    return {"rows": rows, "hash": _digest([], rows, str(high), str(low))}


def custom_srids(connection: Connection, srids: Iterable[int]) -> dict[str, Any]:
    """Return {rows, hash, list} of these rows of spatial_ref_sys."""
    srids = sorted(srids)
    rows = database_properties.spatial_rows(connection, srids=srids)
    entry = sum_texts(json.dumps([row[key] for key in sorted(row)]) for row in rows)
    entry["list"] = srids
    return entry


def large_objects(connection: Connection) -> dict[str, Any]:
    """Return {rows, hash} of the large objects, read in chunks with the role's own privileges."""
    statement = (
        "SELECT o, length(d), md5(d)"
        " FROM (SELECT o, lo_get(o, %s, %s) AS d FROM unnest(%s::oid[]) AS o OFFSET 0) AS each"
    )
    count = 0

    def texts() -> Iterator[str]:
        nonlocal count
        last = 0
        while True:
            oids = [oid for (oid,) in postgres_server.query(connection, _NEXT_OBJECTS, (last,))]
            if not oids:
                return
            last, offset = oids[-1], 0
            count += len(oids)
            while oids:
                rows = postgres_server.query(connection, statement, (offset, _LARGE_OBJECT_CHUNK, oids))
                # The empty chunk at the end of an object states its length, so it is summed, too.
                for oid, length, digest in rows:
                    yield f"{oid}:{offset}:{length}:{digest}"
                oids = [oid for oid, length, _ in rows if length == _LARGE_OBJECT_CHUNK]
                offset += _LARGE_OBJECT_CHUNK

    entry = sum_texts(texts())
    entry["rows"] = count
    return entry


def matviews(
    connection: Connection, objects: Set[tuple[int, int]] | None = None, filled: Set[int] = frozenset()
) -> dict[str, bool]:
    """Return the site's materialized views: quoted name to whether it is populated.

    objects: of a partial dump, (OID of the catalog, OID); only the views among them are returned, populated if they are
    in `filled`.
    """
    return {
        sql_names.quote(schema, name): populated and (objects is None or oid in filled)
        for catalog, oid, schema, name, populated in postgres_server.query(
            connection,
            "SELECT c.tableoid::int8, c.oid::int8, n.nspname::text, c.relname::text, c.relispopulated FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND n.nspname !~ '^pg_'"
            " AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid"
            " AND d.deptype = 'e') ORDER BY 3, 4",
        )
        if objects is None or (catalog, oid) in objects
    }


def sequences(connection: Connection, names: Iterable[str]) -> dict[str, list[Any]]:
    """Return the values of the sequences that exist: quoted name to [last value, whether it was given out]."""
    values = {}
    for name in names:
        if postgres_server.value(connection, "SELECT to_regclass(%s) IS NOT NULL", (name,)):
            values[name] = list(postgres_server.query(connection, f"SELECT last_value, is_called FROM {name}")[0])
    return values


_LIVE = {"matviews": "is populated in one and not in the other", "sequences": "stands elsewhere"}
_NOUNS = {"tables": "table", "matviews": "materialized view", "sequences": "sequence"}


def compare(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the differences between a manifest's fingerprint and a restored database's: {object, problem, expected,
    actual} each; an empty list is the proof. Unproven objects of `expected` are not compared."""
    if expected["algorithm"] != actual["algorithm"]:
        raise SauvegardeError(
            f"The archive's fingerprint is of another kind ({expected['algorithm']}) than this version takes "
            f"({actual['algorithm']}).",
            fix="Use the version of Sauvegarde that made the archive.",
        )
    excluded, unreadable = unproven(expected), unproven(actual)
    differences = [
        _difference(name, f"could not be read: {unreadable[name]}", None, None)
        for name in sorted(set(unreadable) - set(excluded))
    ]
    for part in _NOUNS:
        if part in expected:
            differences += _part_differences(part, expected[part], actual.get(part, {}), {**excluded, **unreadable})
    for part, noun in (("large_objects", "large objects"), ("srids", "custom SRIDs")):
        if part not in expected or (part == "large_objects" and LARGE_OBJECTS in unreadable):
            continue
        expected_sum, right = _rows_and_hash(expected[part]), _rows_and_hash(actual.get(part))
        if expected_sum != right:
            differences.append(_difference(noun, "differ", expected_sum, right))
    return differences


def _part_differences(
    part: str, expected: Mapping[str, Any], actual: Mapping[str, Any], excluded: Mapping[str, str]
) -> list[dict[str, Any]]:
    differences = []
    for name in sorted(set(expected) | set(actual)):
        label = f"{_NOUNS[part]} {name}"
        if part == "tables" and object_of_key(name) in excluded:
            continue
        if name not in actual:
            differences.append(_difference(label, "is missing", expected[name], None))
        elif name not in expected:
            differences.append(_difference(label, "is not in the archive", None, actual[name]))
        elif part == "tables":
            differences += _table_difference(name, expected[name], actual[name])
        elif expected[name] != actual[name]:
            differences.append(_difference(label, _LIVE[part], expected[name], actual[name]))
    return differences


def object_of_key(key: str) -> str:
    """Return `TABLE public.t` for the key `"public"."t"`."""
    return object_name(*(name.replace('""', '"') for name in re.findall(r'"((?:[^"]|"")*)"', key)))


def _rows_and_hash(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {"rows": entry["rows"], "hash": entry["hash"]} if entry else None


def _table_difference(name: str, expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[dict[str, Any]]:
    if expected["rows"] != actual["rows"]:
        problem = f"has {actual['rows']} rows instead of {expected['rows']}"
    elif expected.get("partitions", []) != actual.get("partitions", []):
        problem = "has other partitions"
    elif expected["hash"] != actual["hash"]:
        problem = f"has other content in its {expected['rows']} rows, or other columns"
    else:
        return []
    return [_difference(f"table {name}", problem, _rows_and_hash(expected), _rows_and_hash(actual))]


def _difference(name: str, problem: str, expected: Any, actual: Any) -> dict[str, Any]:
    return {"object": name, "problem": problem, "expected": expected, "actual": actual}
