"""Find databases of a server that no job of this host names: they are not backed up.

Root reads which databases the jobs name, since only root can read their settings; a run then asks its server which
databases exist. A job names a database by its name, by a pattern or by `all`, and also by its `exclude`: that one is
left out on purpose, and each run says so. Templates, previous databases that restores keep, the server's own empty
`postgres` and databases that take no connections (those of an interrupted DROP DATABASE, too) need no job.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import config
from ..config import Job
from ..errors import SauvegardeError
from ..postgres import database_names
from ..postgres.database_selection import DatabaseSelection
from ..report import job_state

_KINDS = ("pg_dump", "globals")  # those that log in to a server
_LOCAL = ("localhost", "127.0.0.1", "::1")
_OWN = "postgres"
_EMPTY = 1024 * 1024  # bytes by which a database that holds something is larger than template1
# Sizes only of databases whose size the role may read.
_DATABASES = (
    "SELECT datname::text, CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT')"
    " THEN pg_catalog.pg_database_size(oid) ELSE 0 END FROM pg_catalog.pg_database"
    " WHERE datallowconn AND datconnlimit <> -2 AND (NOT datistemplate OR datname = 'template1') ORDER BY 1"
)


def _connection(job: Job) -> dict[str, Any]:
    return dict(job.options.get("connection") or {})


def _address(job: Job) -> str:
    """Return where the job's server listens, with the defaults of postgres_server.Server. That module needs psycopg2,
    which the supervisor does without."""
    connection = _connection(job)
    return f"{connection.get('host') or '/var/run/postgresql'}:{connection.get('port') or 5432}"


def _server_key(job: Job) -> tuple[str, str]:
    """Return what two jobs of one server have in common: this host's server on a port is one, by whatever address."""
    host, _, port = _address(job).rpartition(":")
    return ("" if host.startswith("/") or host.lower() in _LOCAL else host.lower()), port


def databases_with_job(job: Job) -> list[DatabaseSelection]:
    """Return what jobs of this host select on the job's server; nothing for a job without a server.

    Root calls this: it reads the settings of all jobs.
    """
    if job.kind not in _KINDS:
        return []
    selections = set()
    for name in config.job_names(job.configuration):
        with contextlib.suppress(SauvegardeError):  # another job's settings: its own run reports what is wrong
            other = config.load_job(name, job.configuration)
            if other.kind == "pg_dump" and _server_key(other) == _server_key(job):
                one = DatabaseSelection.of_names([str(other.options.get("database", ""))])
                selections.add(other.selection or one)
    return sorted(selections, key=lambda selection: selection.patterns)


def _without_job(names: Iterable[str], selections: Iterable[DatabaseSelection]) -> list[str]:
    """Return the names that no selection decides about."""
    selections = list(selections)
    return [name for name in names if not any(selection.decides_about(name) for selection in selections)]


def find(job: Job, with_job: Iterable[DatabaseSelection]) -> list[str] | None:
    """Return the databases on the job's server that nothing in `with_job` names; None for a job without a server."""
    if job.kind not in _KINDS:
        return None
    from ..postgres import postgres_server

    server = postgres_server.Server.from_values(_connection(job))
    with contextlib.closing(postgres_server.connect(server, str(job.options.get("database", _OWN)))) as connection:
        rows = postgres_server.query(connection, _DATABASES)
    empty = dict(rows).get("template1", 0) + _EMPTY
    return [
        name
        for name in _without_job(dict(rows), with_job)
        if name != "template1" and not database_names.parse(name) and (name != _OWN or dict(rows)[name] > empty)
    ]


def listed(configuration: str | Path = config.CONFIGURATION) -> list[dict[str, str]]:
    """Return what the last runs of this host's jobs found, without what has a job since: [{server, database}]."""
    pairs, addresses = set(), dict[tuple[str, str], str]()
    for name in config.job_names(configuration):
        with contextlib.suppress(SauvegardeError):
            job = config.load_job(name, configuration)
            databases = job_state.read(job.state / "state.json").get("without_job") or []
            if isinstance(databases, list):
                address = addresses.setdefault(_server_key(job), _address(job))
                databases = _without_job(map(str, databases), databases_with_job(job))
                pairs |= {(address, database) for database in databases}
    return [{"server": server, "database": database} for server, database in sorted(pairs)]
