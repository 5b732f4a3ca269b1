"""The fingerprint of a database's data: rows and an order-independent content hash, the same on 9.6 and on 18.

Each row is put as text, with everything pinned that changes text between servers, sessions and versions; the two halves
of its md5 are summed over the table. Float columns go in by their bytes, exactly; floats inside arrays, composites and
PostgreSQL's own geometric types go in with 15 digits, which every version prints alike. PostGIS types print their EWKB.
Columns go by name, for a restore may order them differently.

A row's text may be larger than the server can make it (1 GB), or hold bytes that have no equivalent in UTF-8. The rows
of such a table go in as the md5 of each column, of the bytes as they are in the database's encoding; the manifest says
so, and the restored table is summed in the same way.
"""

import contextlib
import hashlib
import json
import queue
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import List, NamedTuple, Optional

import psycopg2

from ..errors import SauvegardeError
from . import database_properties, index_search_path, postgres_server, sql_names

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

# Base types whose text differs between versions, or loses digits: how to put them instead. Schemas are named, see
# site_path, and the base type, since a column of a domain could have functions and operators of its own.
_FLOAT = (
    "CASE WHEN {{0}}::pg_catalog.{0} OPERATOR(pg_catalog.=) 'NaN'::pg_catalog.{0} THEN 'NaN'"
    " ELSE pg_catalog.encode(pg_catalog.{0}send({{0}}::pg_catalog.{0}), 'hex') END"
)
_EXACT = {
    "float8": _FLOAT.format("float8"),
    "float4": _FLOAT.format("float4"),
    "char": '({0}::pg_catalog."char")::pg_catalog.int4',
}
# How a row is put: as one text, or each column by its own hash.
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


class Table:
    """One table to be summed.

    pages: for the order of work. condition: under which pg_dump takes the rows of an extension's table, None for a
    table of the site. columns: those to sum, None for all. root: (schema, name) of the partitioned table it is part of,
    or None. oid, filenode: which table, and which file of it, the catalogs of the snapshot name. by: how its rows are
    put (BY_ROW, BY_COLUMNS), None for the first of these that the server can do.
    """

    def __init__(self, schema, name, pages=0, condition=None, columns=None, root=None, oid=None, filenode=None):
        self.schema, self.name, self.pages = schema, name, pages
        self.condition, self.columns, self.root = condition, columns, root
        self.oid, self.filenode = oid, filenode
        self.by = None

    @property
    def key(self):
        return sql_names.quote(self.schema, self.name)


class Sums:
    """Sums of tables and what could not be summed, from several threads, as parts of the manifest's fingerprint.

    The tables of a partitioned table are summed as a whole: where rows go depends on the target (hash partitions on
    an enum, collations), and pg_dump may load them through the root.
    """

    def __init__(self):
        self._tables, self._groups, self._unproven = {}, {}, {}
        self._parts = {}
        self.large_objects = None

    def add(self, table, found):
        """Enter what `sum_table` returned."""
        if table.root is None:
            self._tables[table.key] = found
        else:
            self._groups.setdefault(table.root, {})[table.key] = found
            self._parts[table.key] = table

    def take_uneven(self):
        """Take back the sums of tables whose rows were put otherwise than those of other parts of the same partitioned
        table; returns these tables, which are to be summed by columns."""
        found = []
        for parts in list(self._groups.values()):
            if len({each.by for each in parts.values()}) > 1:
                uneven = [key for key, each in parts.items() if each.by != BY_COLUMNS]
                for key in uneven:
                    del parts[key]
                    self._parts[key].by = BY_COLUMNS
                    found.append(self._parts[key])
        return found

    def miss(self, table, why):
        """Enter a table (None: the large objects) that could not be summed."""
        if table is None:
            self._unproven[LARGE_OBJECTS] = why
        else:
            self._unproven[object_name(*(table.root or (table.schema, table.name)))] = why

    def has(self, table):
        """Whether something was entered for a table (None: for the large objects)."""
        if table is None:
            return self.large_objects is not None or LARGE_OBJECTS in self._unproven
        there = self._tables if table.root is None else self._groups.get(table.root, {})
        return table.key in there or object_name(*(table.root or (table.schema, table.name))) in self._unproven

    def result(self):
        """{tables, large_objects, unproven}; the last two only where there are such."""
        entries = {key: _entry(found) for key, found in self._tables.items()}
        for root, parts in self._groups.items():
            if len({each.by for each in parts.values()}) > 1:
                self.miss(self._parts[sorted(parts)[0]], "Its parts could not all be summed in the same way.")
            if object_name(*root) not in self._unproven:
                entries[sql_names.quote(*root)] = dict(_entry(_added(parts.values())), partitions=sorted(parts))
        found = {"tables": {key: entries[key] for key in sorted(entries)}}
        if self.large_objects is not None:
            found["large_objects"] = self.large_objects
        if self._unproven:
            found["unproven"] = [{"object": name, "why": self._unproven[name]} for name in sorted(self._unproven)]
        return found


class Sum(NamedTuple):
    """What is known of one table's rows: names of its columns, number of rows, sums of both halves of their hashes."""

    names: List[str]
    rows: int
    high: int
    low: int
    condition: Optional[str] = None
    by: str = BY_ROW


def _added(sums):
    sums = list(sums)
    return sums[0]._replace(
        rows=sum(each.rows for each in sums), high=sum(each.high for each in sums), low=sum(each.low for each in sums)
    )


def _entry(found):
    entry = {"rows": found.rows, "hash": _digest(found.names, found.rows, str(found.high), str(found.low))}
    if found.condition is not None:
        entry.update(columns=found.names, condition=found.condition)
    if found.by != BY_ROW:
        entry["by"] = found.by
    return entry


def object_name(*names):
    """The table as people write it, e.g. `TABLE public.offers`; how `unproven` names it."""
    return "TABLE " + sql_names.plain_name(*names)


def pin(connection):
    """Fix what a row's text depends on, for the session. The row's text is then equal wherever the row is equal."""
    for statement in _PINNED:
        postgres_server.execute(connection, statement)


def tables(connection):
    """The tables whose rows pg_dump takes, largest first: leaves of partitions, each heir by itself, logged or not; of
    extensions only what they want dumped (spatial_ref_sys stands apart). On a pinned connection."""
    return [
        Table(schema, name, pages, condition, None, root and (parent, root), oid, filenode)
        for schema, name, pages, condition, parent, root, oid, filenode in postgres_server.query(connection, _TABLES)
    ]


def take(connect, snapshot=None, workers=2, like=None, srids=None):
    """The fingerprint of a database that nobody changes meanwhile, as the manifest holds it (but for `sequences`, see
    below). Each table is read in a transaction of its own, so that few locks are held at a time.

    connect: makes a new connection to it, autocommit; called `workers` times.
    snapshot: name of the exported snapshot to look through, None for now.
    like: the manifest's fingerprint, when the database is a restored one: what that one could not prove is left out,
      tables of extensions are summed under the conditions and columns of the source, custom SRIDs by its list, and
      the sequences that it names are read. A failure of the server raises then.
    srids: without `like`: the srids whose spatial_ref_sys rows belong to the data.
    """
    like = like or {}
    result, sums, jobs = {"algorithm": ALGORITHM}, Sums(), queue.Queue()
    with contextlib.closing(connect()) as first:
        pin(first)
        with postgres_server.transaction(first, snapshot):
            work = _work(first, like)
            result["matviews"] = matviews(first)
            listed = like["srids"]["list"] if "srids" in like else srids
            if listed is not None:
                result["srids"] = custom_srids(first, listed)
            if "sequences" in like:
                result["sequences"] = sequences(first, like["sequences"])
        for table in work:
            jobs.put(table)
        while not jobs.empty():
            _run(first, connect, snapshot, max(1, min(workers, jobs.qsize())), jobs, sums, strict=bool(like))
            for table in sums.take_uneven():
                jobs.put(table)
    result.update(sums.result())
    return result


def _work(connection, like):
    """What to sum: None for the large objects, first, since their size is unknown; the tables of the site that are
    there, and the extensions' tables as the source summed them."""
    found, left_out = tables(connection), unproven(like)
    work = [] if LARGE_OBJECTS in left_out else [None]
    if not like:
        return work + found
    wanted = like.get("tables", {})
    for table in found:
        entry = wanted.get(table.key, {})
        whole = table.root and (
            object_name(*table.root) in left_out or "partitions" in wanted.get(sql_names.quote(*table.root), {})
        )
        table.root = table.root if whole else None  # older archives have each partition by itself
        if object_name(*(table.root or (table.schema, table.name))) in left_out:
            continue
        whole_entry = wanted.get(sql_names.quote(*table.root), {}) if table.root else entry
        table.by = whole_entry.get("by", BY_ROW) if whole_entry else None
        if table.condition is None:
            work.append(table)
        elif "condition" in entry:
            table.condition, table.columns = entry["condition"], entry["columns"]
            work.append(table)
    return work


def unproven(fingerprint):
    """The objects that a manifest's fingerprint does not cover, {object: why}."""
    return {each["object"]: each["why"] for each in (fingerprint or {}).get("unproven", [])}


def _run(first, connect, snapshot, workers, jobs, sums, strict):
    """Sum everything in `jobs` with that many connections, the given one among them; a lost connection stops all, and
    where it is `strict` so does every failure of the server."""
    failed, connections = threading.Event(), [first]

    def labour(connection):
        while not failed.is_set():
            try:
                table = jobs.get_nowait()
            except queue.Empty:
                return
            with postgres_server.transaction(connection, snapshot):
                enter(sums, connection, table, _FAILURES if strict else ())

    def guarded(work, *arguments):
        try:
            work(*arguments)
        except BaseException:
            if failed.is_set():
                return  # cancelled because another one failed, and that one tells why
            failed.set()
            cancel(connections)
            raise

    def another():
        with contextlib.closing(connect()) as own:
            pin(own)
            connections.append(own)
            labour(own)

    with ThreadPoolExecutor(workers) as pool:
        others = [pool.submit(guarded, another) for _ in range(workers - 1)]
        guarded(labour, first)
        for other in others:
            other.result()


def cancel(connections):
    """Cancel what runs on other connections, so that a failure does not wait for the largest table."""
    for connection in connections:
        if not connection.closed:
            try:
                connection.cancel()
            except psycopg2.Error:
                continue  # it has just ended


def enter(sums, connection, table, passing=()):
    """Sum a table (None: the large objects) into `sums`; what the server refuses is entered as missed.

    The connection is pinned and in a transaction, in which no lock is left behind. Raises if the connection was lost or
    its query was cancelled, or where the SQLSTATE begins with one of `passing`: that says nothing of the rows.
    """
    why = ""
    for by in [None] if table is None else [table.by] if table.by else [BY_ROW, BY_COLUMNS]:
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


def sum_table(connection, table, by=BY_ROW):
    """The Sum of a table, in a transaction on a pinned connection. by: how its rows are put."""
    types = postgres_server.query(connection, _COLUMNS, (table.schema, table.name))
    if table.columns is not None:
        known = dict(types)
        types = [(name, known.get(name)) for name in table.columns]
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


def _digest(names, rows, high, low):
    return hashlib.md5(json.dumps([names, rows, high, low]).encode("ascii")).hexdigest()


def sum_texts(texts):
    """The same sum over texts in memory: {rows, hash}."""
    rows, high, low = 0, 0, 0
    for text in texts:
        digest = hashlib.md5(text.encode("utf-8")).hexdigest()
        rows, high, low = rows + 1, high + int(digest[:16], 16), low + int(digest[16:], 16)
    return {"rows": rows, "hash": _digest([], rows, str(high), str(low))}


def custom_srids(connection, listed):
    """{rows, hash, list} of those rows of spatial_ref_sys."""
    rows = database_properties.spatial_rows(connection, srids=listed)
    entry = sum_texts(json.dumps([row[key] for key in sorted(row)]) for row in rows)
    entry["list"] = sorted(listed)
    return entry


def large_objects(connection):
    """{rows, hash} of the large objects, read in chunks by what the role may read (no catalog access needed)."""
    statement = (
        "SELECT o, length(d), md5(d)"
        " FROM (SELECT o, lo_get(o, %s, %s) AS d FROM unnest(%s::oid[]) AS o OFFSET 0) AS each"
    )
    count = 0

    def texts():
        nonlocal count
        last = 0
        while True:
            left = [oid for (oid,) in postgres_server.query(connection, _NEXT_OBJECTS, (last,))]
            if not left:
                return
            last, offset = left[-1], 0
            count += len(left)
            while left:
                rows = postgres_server.query(connection, statement, (offset, _LARGE_OBJECT_CHUNK, left))
                # The empty end of an object says its length, so it is summed too.
                for oid, length, digest in rows:
                    yield f"{oid}:{offset}:{length}:{digest}"
                left = [oid for oid, length, _ in rows if length == _LARGE_OBJECT_CHUNK]
                offset += _LARGE_OBJECT_CHUNK

    entry = sum_texts(texts())
    entry["rows"] = count
    return entry


def matviews(connection):
    """Materialized views of the site: quoted name to whether it is populated."""
    return {
        sql_names.quote(schema, name): populated
        for schema, name, populated in postgres_server.query(
            connection,
            "SELECT n.nspname::text, c.relname::text, c.relispopulated FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND n.nspname !~ '^pg_'"
            " AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid"
            " AND d.deptype = 'e') ORDER BY 1, 2",
        )
    }


def sequences(connection, names):
    """Those sequences as they stand now: quoted name to [last value, whether given out]; absent ones left out."""
    found = {}
    for name in names:
        if postgres_server.value(connection, "SELECT to_regclass(%s) IS NOT NULL", (name,)):
            found[name] = list(postgres_server.query(connection, f"SELECT last_value, is_called FROM {name}")[0])
    return found


def compare(expected, actual):
    """The differences between a manifest's fingerprint and a restored database's, as dictionaries
    {object, problem, expected, actual}; an empty list is the proof. What `expected` calls unproven is not compared."""
    if expected["algorithm"] != actual["algorithm"]:
        raise SauvegardeError(
            f"The archive's fingerprint is of another kind ({expected['algorithm']}) than this version takes "
            f"({actual['algorithm']}).",
            fix="Use the version of Sauvegarde that made the archive.",
        )
    left_out, failed, found = unproven(expected), unproven(actual), []
    for name in sorted(set(failed) - set(left_out)):
        found.append(_difference(name, f"could not be read: {failed[name]}", None, None))
    for part, noun in (("tables", "table"), ("matviews", "materialized view"), ("sequences", "sequence")):
        left, right = expected.get(part, {}), actual.get(part, {})
        if part not in expected:
            continue
        for name in sorted(set(left) | set(right)):
            if part == "tables" and _object(name) in {**left_out, **failed}:
                continue
            if name not in right:
                found.append(_difference(f"{noun} {name}", "is missing", left[name], None))
            elif name not in left:
                found.append(_difference(f"{noun} {name}", "is not in the archive", None, right[name]))
            elif part == "tables":
                found += _table_difference(name, left[name], right[name])
            elif left[name] != right[name]:
                found.append(_difference(f"{noun} {name}", _LIVE[part], left[name], right[name]))
    for part, noun in (("large_objects", "large objects"), ("srids", "custom SRIDs")):
        if part not in expected or (part == "large_objects" and LARGE_OBJECTS in failed):
            continue
        if _bare(expected[part]) != _bare(actual.get(part)):
            found.append(_difference(noun, "differ", _bare(expected[part]), _bare(actual.get(part))))
    return found


def _object(key):
    """`TABLE public.t` for the key `"public"."t"`."""
    return object_name(*(name.replace('""', '"') for name in re.findall(r'"((?:[^"]|"")*)"', key)))


_LIVE = {"matviews": "is populated in one and not in the other", "sequences": "stands elsewhere"}


def _bare(entry):
    return entry and {"rows": entry["rows"], "hash": entry["hash"]}


def _table_difference(name, left, right):
    if left["rows"] != right["rows"]:
        problem = f"has {right['rows']} rows instead of {left['rows']}"
    elif left.get("partitions", []) != right.get("partitions", []):
        problem = "has other partitions"
    elif left["hash"] != right["hash"]:
        problem = f"has other content in its {left['rows']} rows, or other columns"
    else:
        return []
    return [_difference(f"table {name}", problem, _bare(left), _bare(right))]


def _difference(name, problem, expected, actual):
    return {"object": name, "problem": problem, "expected": expected, "actual": actual}
