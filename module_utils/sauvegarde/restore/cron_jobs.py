"""Make pg_cron and its jobs again right after a swap.

pg_cron can exist only in the database that cron.database_name names, so in no side database: the load leaves it out and
keeps the rows of cron.job that the dump holds. Once the restored database has that name, the extension is created there
and the rows are merged. Where that fails, the report has the statements to run.
"""

import contextlib
import io
from typing import Any, Dict, List, Optional

import psycopg2

from .. import postgres
from ..errors import SauvegardeError
from .contents import Spooled
from .extension_rows import merge

EXTENSION = "pg_cron"
_SCHEMA = "cron"
_SEQUENCES = (("cron.jobid_seq", "cron.job", "jobid"), ("cron.runid_seq", "cron.job_run_details", "runid"))
# Names of the losses of the load that are made good after the swap.
NAMES = (
    "EXTENSION pg_cron",
    "TABLE DATA cron.job",
    "TABLE DATA cron.job_run_details",
    "SEQUENCE SET cron.jobid_seq",
    "SEQUENCE SET cron.runid_seq",
)


def is_postponed(connection, mode, database, extensions, contents) -> bool:
    """Whether pg_cron, if it is among the dump's extensions, can be made in `database` after the swap. contents: the
    dump's, None where it was not read; rows as INSERTs are not kept."""
    if EXTENSION not in extensions or mode != "swap" or (contents is not None and contents.inserted):
        return False
    where = postgres.value(connection, "SELECT pg_catalog.current_setting('cron.database_name', true)")
    available = "SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name = %s"
    return where == database and _preloaded(connection) and bool(postgres.query(connection, available, (EXTENSION,)))


def _preloaded(connection) -> bool:
    return EXTENSION in postgres.value(connection, "SELECT pg_catalog.current_setting('shared_preload_libraries')")


def warning(database) -> Dict[str, str]:
    """What a plan says of them."""
    return {
        "what": "pg_cron and its jobs are made after the swap.",
        "why": f"pg_cron can exist only in the database of cron.database_name, which is {database}.",
        "fix": "Restart the server after the swap: its scheduler starts with it.",
    }


def keep(contents) -> List[Dict[str, Any]]:
    """The dump's rows of pg_cron's tables, as plain values for the state of a run."""
    found = []
    for spooled in contents.merged:
        if spooled.schema == _SCHEMA:
            spooled.rows.seek(0)
            rows = spooled.rows.read().decode("latin-1")  # bytes of any encoding, as text
            found.append(dict(spooled._replace(rows=rows)._asdict()))
    return found


def make(server, database, kept: Optional[List[Dict[str, Any]]], source: str) -> List[str]:
    """Make pg_cron and its jobs in the restored database. kept: what `keep` returned, None where nothing was postponed.
    source: the name that the database had when it was dumped, '' unknown; its jobs run in the restored one.

    All of it is one transaction: where the extension is there, an earlier call of a run that was killed later has made
    its jobs, which may have been changed since. Returns sentences for the report; raises nothing, since the swap has
    happened.
    """
    if kept is None:
        return []
    try:
        with contextlib.closing(postgres.connect(server, database)) as connection:
            if postgres.query(connection, "SELECT 1 FROM pg_catalog.pg_extension WHERE extname = %s", (EXTENSION,)):
                return []
            connection.autocommit = False
            _make(connection, database, kept, source)
            connection.commit()
            connection.autocommit = True
            jobs = postgres.value(connection, "SELECT count(*) FROM cron.job")
            runs = postgres.value(connection, "SELECT 1 FROM pg_stat_activity WHERE application_name ~ '^pg_cron'")
    except (psycopg2.Error, SauvegardeError, LookupError, ValueError) as error:
        why = " ".join(str(getattr(error, "why", "") or error).split())
        return [f"pg_cron and its jobs were not made: {why} Run this in {database}, with psql:\n{_script(kept)}"]
    there = f"pg_cron is in {database} again, with {jobs} job(s)"
    return [there + (", and its scheduler runs." if runs else "; they run once the server was restarted.")]


def _make(connection, database, kept, source):
    postgres.execute(connection, "CREATE EXTENSION IF NOT EXISTS pg_cron")
    for each in kept:
        merge(connection, Spooled(**dict(each, rows=io.BytesIO(each["rows"].encode("latin-1")))))
    if source and source != database:
        has = "SELECT pg_catalog.to_jsonb(j) ? 'database' FROM cron.job j LIMIT 1"
        if postgres.value(connection, has):
            postgres.execute(connection, "UPDATE cron.job SET database = %s WHERE database = %s", (database, source))
    for sequence, table, column in _SEQUENCES:
        if postgres.value(connection, "SELECT pg_catalog.to_regclass(%s)", (sequence,)):
            last = f"SELECT max({column}) AS last FROM {table}"
            advance = f"SELECT pg_catalog.setval('{sequence}', last) FROM ({last}) AS each WHERE last IS NOT NULL"
            postgres.execute(connection, advance)


def _script(kept):
    """The same as text for psql."""
    lines = ["CREATE EXTENSION pg_cron;"]
    for each in kept:
        rows = each["rows"].encode("latin-1").decode(each["encoding"], "replace")
        lines.append("{}\n{}\\.".format(each["statement"].strip(), rows))
    return "\n".join(lines)
