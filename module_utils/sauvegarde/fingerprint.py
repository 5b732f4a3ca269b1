"""The fingerprint of a database's data: rows and an order-independent content hash, the same on 9.6 and on 18.

Each row is put as text, with everything pinned that changes text between servers, sessions and versions; the two halves
of its md5 are summed over the table. Float columns go in by their bytes, exactly; floats inside arrays, composites and
PostgreSQL's own geometric types go in with 15 digits, which every version prints alike. PostGIS types print their EWKB.
Columns go by name, for a restore may order them differently.
"""

import hashlib
import json
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg2

from . import databases, postgres
from .errors import SauvegardeError

ALGORITHM = "md5-sum/1"
_LARGE_OBJECT_CHUNK = 1024 * 1024
_NEXT_OBJECTS = "SELECT oid FROM pg_largeobject_metadata WHERE oid > %s ORDER BY oid LIMIT 1000"

_PINNED = (
    "SET search_path TO pg_catalog",
    "SET TimeZone TO 'UTC'",
    "SET DateStyle TO 'ISO, YMD'",
    "SET IntervalStyle TO 'postgres'",
    "SET extra_float_digits TO 0",  # above 0, versions before 12 print other digits than later ones
    "SET bytea_output TO 'hex'",
    "SET lc_monetary TO 'C'",
    "SET row_security TO off",  # an error rather than fewer rows
    "SET statement_timeout TO 0",
    "SET idle_in_transaction_session_timeout TO 0",
)

# Base types whose text differs between versions, or loses digits: how to put them instead.
_EXACT = {
    "float8": "CASE WHEN {0} = 'NaN' THEN 'NaN' ELSE encode(float8send({0}), 'hex') END",
    "float4": "CASE WHEN {0} = 'NaN' THEN 'NaN' ELSE encode(float4send({0}), 'hex') END",
    "char": '({0}::"char")::int4',
}

_TABLES = """
SELECT n.nspname::text, c.relname::text, c.relpages,
       e.oid IS NOT NULL, e.extcondition[array_position(e.extconfig, c.oid)]
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
     AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = d.refobjid
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
    """One table to be summed: names, pages (for the order of work), and for a table of an extension the condition
    under which pg_dump takes its rows (None for a table of the site)."""

    def __init__(self, schema, name, pages=0, condition=None, columns=None):
        self.schema, self.name, self.pages = schema, name, pages
        self.condition, self.columns = condition, columns

    @property
    def key(self):
        return postgres.quoted(self.schema, self.name)


def pin(connection):
    """Fix what a row's text depends on, for the session. The row's text is then equal wherever the row is equal."""
    for statement in _PINNED:
        postgres.execute(connection, statement)
    if connection.server_version >= 170000:
        postgres.execute(connection, "SET transaction_timeout TO 0")


def tables(connection):
    """The tables whose rows pg_dump takes, largest first: leaves of partitions, each heir by itself, logged or not; of
    extensions only what they want dumped (spatial_ref_sys stands apart). On a pinned connection."""
    return [
        Table(schema, name, pages, (condition or "") if extension else None)
        for schema, name, pages, extension, condition in postgres.query(connection, _TABLES)
    ]


def take(connect, snapshot=None, workers=2, like=None, srids=None):
    """The fingerprint of a database, as the manifest holds it (but for `sequences`, see below).

    connect: makes a new connection to it, autocommit; called `workers` times.
    snapshot: name of the exported snapshot to look through, None for now.
    like: the manifest's fingerprint, when the database is a restored one: tables of extensions are then summed under
      the conditions and columns of the source, custom SRIDs by its list, and the sequences that it names are read.
    srids: without `like`: the srids whose spatial_ref_sys rows belong to the data.
    """
    like = like or {}
    result = {"algorithm": ALGORITHM, "tables": {}, "matviews": {}}
    with _Session(connect, snapshot) as first:
        work = _work(first, like)
        result["matviews"] = matviews(first)
        listed = like["srids"]["list"] if "srids" in like else srids
        if listed is not None:
            result["srids"] = _srids(databases.spatial_rows(first, srids=listed), listed)
        if "sequences" in like:
            result["sequences"] = sequences(first, like["sequences"])
        jobs = queue.Queue()
        jobs.put(None)  # the large objects, first: nobody knows how large
        for table in work:
            jobs.put(table)
        _run(first, connect, snapshot, max(1, min(workers, len(work) + 1)), jobs, result)
    return result


class _Session:
    """A pinned connection inside the snapshot, closed at the end of the block."""

    def __init__(self, connect, snapshot):
        self._connect, self._snapshot = connect, snapshot

    def __enter__(self):
        self._connection = self._connect()
        try:
            if self._snapshot is not None:
                postgres.join_snapshot(self._connection, self._snapshot)
            pin(self._connection)
        except psycopg2.Error as error:
            self._connection.close()
            raise postgres.database_error(error, "The snapshot of the dump could not be joined.") from error
        return self._connection

    def __exit__(self, *_):
        self._connection.close()


def _work(connection, like):
    """What to sum: the tables of the site that are there, and the extensions' tables as the source summed them."""
    found = tables(connection)
    if not like:
        return found
    wanted = like.get("tables", {})
    present = {table.key: table for table in found}
    work = [table for table in found if table.condition is None]
    for key, entry in wanted.items():
        table = present.get(key)
        if "condition" in entry and table is not None and table.condition is not None:
            work.append(Table(table.schema, table.name, table.pages, entry["condition"], entry["columns"]))
    return work


def _run(first, connect, snapshot, workers, jobs, result):
    """Sum everything in `jobs` with that many connections, the given one among them; the first error stops all."""
    failed, connections = threading.Event(), [first]

    def labour(connection):
        while not failed.is_set():
            try:
                table = jobs.get_nowait()
            except queue.Empty:
                return
            if table is None:
                result["large_objects"] = large_objects(connection)
            else:
                result["tables"][table.key] = sum_table(connection, table)

    def guarded(work, *arguments):
        try:
            work(*arguments)
        except BaseException:
            if failed.is_set():
                return  # cancelled because another one failed, and that one tells why
            failed.set()
            _cancel(connections)
            raise

    def another():
        with _Session(connect, snapshot) as own:
            connections.append(own)
            labour(own)

    with ThreadPoolExecutor(workers) as pool:
        others = [pool.submit(guarded, another) for _ in range(workers - 1)]
        guarded(labour, first)
        for other in others:
            other.result()


def _cancel(connections):
    """Cancel what runs on other connections, so that a failure does not wait for the largest table."""
    for connection in connections:
        if not connection.closed:
            try:
                connection.cancel()
            except psycopg2.Error:
                continue  # it has just ended


def sum_table(connection, table):
    """{rows, hash} of a table, with its columns and condition for an extension's one. Needs a pinned connection."""
    types = postgres.query(connection, _COLUMNS, (table.schema, table.name))
    if table.columns is not None:
        known = dict(types)
        types = [(name, known.get(name)) for name in table.columns]
    names = [name for name, _ in types]
    row = ", ".join(_EXACT.get(type_, "{0}").format(postgres.quoted(name)) for name, type_ in types)
    text = f"ROW({row})::text"
    if connection.info.parameter_status("server_encoding") not in ("UTF8", "SQL_ASCII"):
        text = f"convert_to({text}, 'UTF8')"
    statement = (
        "SELECT count(*), coalesce(sum(('x' || substr(h, 1, 16))::bit(64)::int8), 0)::text,"
        " coalesce(sum(('x' || substr(h, 17))::bit(64)::int8), 0)::text"
        f" FROM (SELECT md5({text}) AS h FROM ONLY {table.key} {table.condition or ''} OFFSET 0) AS each"
    )
    try:
        rows, high, low = postgres.query(connection, statement)[0]
    except psycopg2.Error as error:
        if error.pgcode == "42501":  # insufficient_privilege: row security, or no SELECT
            raise SauvegardeError(
                f"The dump role may not read the whole of {table.key}.",
                str(error),
                "Give it pg_read_all_data (14 and later) and, for row-level security, BYPASSRLS; or use the owner.",
            ) from error
        raise postgres.database_error(error, f"The fingerprint of {table.key} could not be taken.") from error
    entry = {"rows": rows, "hash": _digest(names, rows, high, low)}
    if table.condition is not None:
        entry.update(columns=names, condition=table.condition)
    return entry


def _digest(names, rows, high, low):
    return hashlib.md5(json.dumps([names, rows, high, low]).encode("ascii")).hexdigest()


def sum_texts(texts):
    """The same sum over texts in memory: {rows, hash}."""
    rows, high, low = 0, 0, 0
    for text in texts:
        digest = hashlib.md5(text.encode("utf-8")).hexdigest()
        rows, high, low = rows + 1, high + int(digest[:16], 16), low + int(digest[16:], 16)
    return {"rows": rows, "hash": _digest([], rows, str(high), str(low))}


def _srids(rows, listed):
    """{rows, hash, list} of spatial_ref_sys rows."""
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
            left = [oid for (oid,) in postgres.query(connection, _NEXT_OBJECTS, (last,))]
            if not left:
                return
            last, offset = left[-1], 0
            count += len(left)
            while left:
                rows = postgres.query(connection, statement, (offset, _LARGE_OBJECT_CHUNK, left))
                # The empty end of an object says its length, so it is summed too.
                for oid, length, digest in rows:
                    yield f"{oid}:{offset}:{length}:{digest}"
                left = [oid for oid, length, _ in rows if length == _LARGE_OBJECT_CHUNK]
                offset += _LARGE_OBJECT_CHUNK

    try:
        entry = sum_texts(texts())
    except psycopg2.Error as error:
        raise postgres.database_error(
            error,
            "The large objects could not be read.",
            "Let the dump role read them: ALTER ROLE … SET lo_compat_privileges = on, by a superuser.",
        ) from error
    entry["rows"] = count
    return entry


def matviews(connection):
    """Materialized views of the site: quoted name to whether it is populated."""
    return {
        postgres.quoted(schema, name): populated
        for schema, name, populated in postgres.query(
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
        if postgres.value(connection, "SELECT to_regclass(%s) IS NOT NULL", (name,)):
            found[name] = list(postgres.query(connection, f"SELECT last_value, is_called FROM {name}")[0])
    return found


def compare(expected, actual):
    """The differences between a manifest's fingerprint and a restored database's, as dictionaries
    {object, problem, expected, actual}; an empty list is the proof."""
    if expected["algorithm"] != actual["algorithm"]:
        raise SauvegardeError(
            f"The archive's fingerprint is of another kind ({expected['algorithm']}) than this version takes "
            f"({actual['algorithm']}).",
            fix="Use the version of Sauvegarde that made the archive.",
        )
    found = []
    for part, noun in (("tables", "table"), ("matviews", "materialized view"), ("sequences", "sequence")):
        left, right = expected.get(part, {}), actual.get(part, {})
        if part not in expected:
            continue
        for name in sorted(set(left) | set(right)):
            if name not in right:
                found.append(_difference(f"{noun} {name}", "is missing", left[name], None))
            elif name not in left:
                found.append(_difference(f"{noun} {name}", "is not in the archive", None, right[name]))
            elif part == "tables":
                found += _table_difference(name, left[name], right[name])
            elif left[name] != right[name]:
                found.append(_difference(f"{noun} {name}", _LIVE[part], left[name], right[name]))
    for part, noun in (("large_objects", "large objects"), ("srids", "custom SRIDs")):
        if part in expected and _bare(expected[part]) != _bare(actual.get(part)):
            found.append(_difference(noun, "differ", _bare(expected[part]), _bare(actual.get(part))))
    return found


_LIVE = {"matviews": "is populated in one and not in the other", "sequences": "stands elsewhere"}


def _bare(entry):
    return entry and {"rows": entry["rows"], "hash": entry["hash"]}


def _table_difference(name, left, right):
    if left["rows"] != right["rows"]:
        problem = f"has {right['rows']} rows instead of {left['rows']}"
    elif left["hash"] != right["hash"]:
        problem = f"has other content in its {left['rows']} rows, or other columns"
    else:
        return []
    return [_difference(f"table {name}", problem, _bare(left), _bare(right))]


def _difference(name, problem, expected, actual):
    return {"object": name, "problem": problem, "expected": expected, "actual": actual}
