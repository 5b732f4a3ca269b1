"""Create pg_cron and its jobs again right after a swap.

pg_cron can exist only in the database that cron.database_name names, so in no side database: the load leaves it out and
sets the rows of cron.job aside that the dump holds. When the restored database has that name, the extension is created
there and the rows are merged. If that fails, the report has the statements to run.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Container, Sequence
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from ..errors import SauvegardeError
from ..postgres import postgres_server
from .dump.contents import Contents, Spooled
from .extension_rows import merge

EXTENSION = "pg_cron"
_SCHEMA = "cron"
_EXISTS = "SELECT 1 FROM pg_catalog.pg_extension WHERE extname = %s"
_SEQUENCES = (("cron.jobid_seq", "cron.job", "jobid"), ("cron.runid_seq", "cron.job_run_details", "runid"))
# Names of the losses of the load that are restored after the swap.
NAMES = (
    "EXTENSION pg_cron",
    "TABLE DATA cron.job",
    "TABLE DATA cron.job_run_details",
    "SEQUENCE SET cron.jobid_seq",
    "SEQUENCE SET cron.runid_seq",
)


def is_postponed(
    connection: Connection, mode: str, database: str, extensions: Container[str], contents: Contents | None
) -> bool:
    """Return whether pg_cron, if it is among the dump's extensions, can be created in `database` after the swap.

    contents: the dump's, None if it was not read. Rows that came as INSERTs cannot be set aside.
    """
    if EXTENSION not in extensions or mode != "swap" or (contents is not None and contents.inserted):
        return False
    cron_database = postgres_server.value(connection, "SELECT pg_catalog.current_setting('cron.database_name', true)")
    available = "SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name = %s"
    return (
        cron_database == database
        and _is_preloaded(connection)
        and bool(postgres_server.query(connection, available, (EXTENSION,)))
    )


def _is_preloaded(connection: Connection) -> bool:
    libraries: str = postgres_server.value(connection, "SELECT pg_catalog.current_setting('shared_preload_libraries')")
    return EXTENSION in libraries


def warning(database: str) -> dict[str, str]:
    """Return what a plan says about it."""
    return {
        "what": "pg_cron and its jobs are created after the swap.",
        "why": f"pg_cron can exist only in the database of cron.database_name, which is {database}.",
        "fix": "Restart the server after the swap: its scheduler starts with it.",
    }


def keep(contents: Contents) -> list[dict[str, Any]]:
    """Return the dump's rows of pg_cron's tables, as plain values for the state of a run."""
    kept = []
    for spooled in contents.merged:
        if spooled.schema == _SCHEMA:
            spooled.rows.seek(0)
            # Bytes of any encoding, as text.
            kept.append(dict(vars(spooled), rows=spooled.rows.read().decode("latin-1")))
    return kept


def make(
    server: postgres_server.Server, database: str, kept: Sequence[dict[str, Any]] | None, source: str
) -> list[str]:
    """Create pg_cron and its jobs in the restored database.

    kept: what `keep` returned, None if nothing was postponed. source: the name that the database had when it was
    dumped, '' if unknown; its jobs run in the restored one. Returns sentences for the report; raises nothing, since the
    swap has happened.

    All of it is one transaction: if the extension exists, an earlier call of a run that was killed later has created
    its jobs, which may have been changed since.
    """
    if kept is None:
        return []
    try:
        with contextlib.closing(postgres_server.connect(server, database)) as connection:
            if postgres_server.query(connection, _EXISTS, (EXTENSION,)):
                return []
            connection.autocommit = False
            _create(connection, database, kept, source)
            connection.commit()
            connection.autocommit = True
            jobs = postgres_server.value(connection, "SELECT count(*) FROM cron.job")
            runs = postgres_server.value(
                connection, "SELECT 1 FROM pg_stat_activity WHERE application_name ~ '^pg_cron'"
            )
    except (psycopg2.Error, SauvegardeError, LookupError, ValueError) as error:
        why = " ".join(str(getattr(error, "why", "") or error).split())
        return [f"pg_cron and its jobs were not created: {why} Run this in {database}, with psql:\n{_script(kept)}"]
    sentence = f"pg_cron is in {database} again, with {jobs} job(s)"
    return [sentence + (", and its scheduler runs." if runs else "; they run after the server is restarted.")]


def _create(connection: Connection, database: str, kept: Sequence[dict[str, Any]], source: str) -> None:
    postgres_server.execute(connection, "CREATE EXTENSION IF NOT EXISTS pg_cron")
    for values in kept:
        merge(connection, Spooled(**dict(values, rows=io.BytesIO(values["rows"].encode("latin-1")))))
    if source and source != database:
        has_database = "SELECT pg_catalog.to_jsonb(j) ? 'database' FROM cron.job j LIMIT 1"
        if postgres_server.value(connection, has_database):
            postgres_server.execute(
                connection, "UPDATE cron.job SET database = %s WHERE database = %s", (database, source)
            )
    for sequence, table, column in _SEQUENCES:
        if postgres_server.value(connection, "SELECT pg_catalog.to_regclass(%s)", (sequence,)):
            last = f"SELECT max({column}) AS last FROM {table}"
            advance = f"SELECT pg_catalog.setval('{sequence}', last) FROM ({last}) AS latest WHERE last IS NOT NULL"
            postgres_server.execute(connection, advance)


def _script(kept: Sequence[dict[str, Any]]) -> str:
    """Return what `make` does as text for psql."""
    lines = ["CREATE EXTENSION pg_cron;"]
    for values in kept:
        rows = values["rows"].encode("latin-1").decode(values["encoding"], "replace")
        lines.append("{}\n{}\\.".format(values["statement"].strip(), rows))
    return "\n".join(lines)
