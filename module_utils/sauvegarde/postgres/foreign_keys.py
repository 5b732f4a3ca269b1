"""Foreign keys that rows break: a load with disabled triggers leaves such rows, and no restore takes them back.

To look is an anti-join, which reads both tables. So it is done beside pg_dump, smallest tables first, in a share of the
time that the job takes anyway; what was not looked at is counted and not warned of. CHECK constraints can be broken as
well, but evaluating them would call the site's functions with the dump role's rights, which pg_dump never does.
"""

import calendar
import contextlib
import threading
import time

import psycopg2

from . import postgres_server, sql_names

_GRACE = 0.3  # seconds that the look at small tables may go on after pg_dump has ended
_LEAST, _MOST, _SHARE = 1.0, 60.0, 0.03  # seconds, and the share of the last job's duration

_KEYS = """
SELECT k.oid::int8, pg_catalog.format('CONSTRAINT %I.%I %I', n.nspname, c.relname, k.conname),
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


class Look(threading.Thread):
    """Looks at the foreign keys of a database beside a dump. Start it, then call `result` when the dump has ended.

    connect: makes a connection, autocommit. seconds: what the whole look may take.
    """

    def __init__(self, connect, seconds):
        super().__init__(daemon=True)
        self._connect, self._until = connect, time.monotonic() + seconds
        self._connection, self._over = None, False
        self._keys, self._looked_at, self._broken = 0, 0, []

    def run(self):
        with contextlib.suppress(Exception):  # whatever it is, it is counted as not looked at
            self._connection = self._connect()
            with contextlib.closing(self._connection):
                self._look()

    def _look(self):
        for setting in ("row_security TO off", "lock_timeout TO 100", "max_parallel_workers_per_gather TO 0"):
            postgres_server.execute(self._connection, f"SET {setting}")
        keys = postgres_server.query(self._connection, _KEYS)
        self._keys = len(keys)
        for key in keys:
            left = self._until - time.monotonic()
            if self._over or left <= 0:
                return
            try:
                broken = self._is_broken(key, left)
            except psycopg2.Error as error:
                if error.pgcode == "57014":  # no time is left
                    return
                continue  # no right to read it, or somebody holds it: not looked at
            finally:
                with contextlib.suppress(psycopg2.Error):
                    postgres_server.execute(self._connection, "ROLLBACK")
            self._looked_at += 1
            if broken:
                self._broken.append(key[1])

    def _is_broken(self, key, left):
        oid, _, schema, name, parted, parent_schema, parent, parent_parted, full = key
        child = ("" if parted else "ONLY ") + sql_names.quote(schema, name)
        other = ("" if parent_parted else "ONLY ") + sql_names.quote(parent_schema, parent)
        pairs = postgres_server.query(self._connection, _COLUMNS, (oid,))
        own = ["c." + sql_names.quote(pair[0]) for pair in pairs]
        there = (" OR " if full else " AND ").join(f"{column} IS NOT NULL" for column in own)
        equal = " AND ".join(
            f"p.{sql_names.quote(theirs)} OPERATOR({sql_names.quote(of)}.{operator}) c.{sql_names.quote(ours)}"
            for ours, theirs, of, operator in pairs
        )
        postgres_server.execute(self._connection, "BEGIN READ ONLY")
        postgres_server.execute(self._connection, f"SET LOCAL statement_timeout TO {max(1, int(left * 1000))}")
        # At once or not at all: it waits for nobody while it holds one of them.
        postgres_server.execute(self._connection, f"LOCK TABLE {child}, {other} IN ACCESS SHARE MODE NOWAIT")
        orphan = f"({there}) AND NOT EXISTS (SELECT 1 FROM {other} p WHERE {equal})"
        return postgres_server.value(self._connection, f"SELECT 1 FROM {child} c WHERE {orphan} LIMIT 1") is not None

    def result(self):
        """{of, looked_at, broken}: how many foreign keys there are and were looked at, and names of broken ones. What
        still runs a moment after is cancelled."""
        if self.is_alive():
            self.join(_GRACE)
        self._over = True
        if self.is_alive() and self._connection is not None:
            with contextlib.suppress(psycopg2.Error):
                self._connection.cancel()
            self.join(_GRACE)
        return {"of": self._keys, "looked_at": self._looked_at, "broken": list(self._broken)}


def budget(last):
    """Seconds for a look beside the next job. last: the manifest of the last one, or None."""
    took = 0
    if last is not None:
        ended, started = (
            calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) for text in (last.ended, last.started)
        )
        took = ended - started
    return min(_MOST, max(_LEAST, _SHARE * took))


def warnings(found):
    """What `Look.result` found, as sentences for the manifest."""
    if not found["broken"]:
        return []
    return [
        "Foreign keys are broken: rows refer to rows that do not exist, and a restore cannot make these constraints"
        " hold; mend the rows, or accept the loss by name at the restore: {}.".format(", ".join(found["broken"]))
    ]
