"""Databases of a server that no job of this host names: what nobody thought of is not backed up.

Root reads which databases the jobs name, since their settings are root's alone; a run then asks its server which there
are. Templates, what restores keep, the server's own empty `postgres` and databases that take no connections (half
dropped ones too) need no job.
"""

import contextlib
from pathlib import Path

from .. import config
from ..errors import SauvegardeError
from ..postgres import database_names
from ..report import job_state

_KINDS = ("pg_dump", "globals")  # that log in to a server
_HERE = ("localhost", "127.0.0.1", "::1")
_OWN = "postgres"
_EMPTY = 1024 * 1024  # bytes by which a database that holds something is larger than template1
# Sizes as far as the role may ask for them.
_DATABASES = (
    "SELECT datname::text, CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT')"
    " THEN pg_catalog.pg_database_size(oid) ELSE 0 END FROM pg_catalog.pg_database"
    " WHERE datallowconn AND datconnlimit <> -2 AND (NOT datistemplate OR datname = 'template1') ORDER BY 1"
)


def _address(job):
    """Where the job's server listens, by the defaults of Server: the process that calls this stays small."""
    connection = job.get("connection") or {}
    return "{}:{}".format(connection.get("host") or "/var/run/postgresql", connection.get("port") or 5432)


def _server(job):
    """The job's server for comparisons: this host's on one port is one, whether by a socket or by its own address."""
    host, _, port = _address(job).rpartition(":")
    return ("" if host.startswith("/") or host.lower() in _HERE else host.lower()), port


def named(job):
    """Names of the databases that jobs of this host name on the job's own server; [] for a job without one. Reads the
    settings of all jobs, as root."""
    if job["kind"] not in _KINDS:
        return []
    found = set()
    for name in config.names(job["configuration"]):
        with contextlib.suppress(SauvegardeError):  # another job's settings; its own run tells what is wrong with them
            other = config.load(name, job["configuration"])
            if other["kind"] == "pg_dump" and _server(other) == _server(job):
                found.add(other["database"])
    return sorted(found)


def find(job, with_job):
    """Names of the databases on the job's server beyond `with_job`; None for a job without a server."""
    if job["kind"] not in _KINDS:
        return None
    from ..postgres import postgres_server

    connection = postgres_server.connect(
        postgres_server.Server.from_values(job.get("connection")), job.get("database", _OWN)
    )
    with contextlib.closing(connection):
        there = postgres_server.query(connection, _DATABASES)
    empty = dict(there).get("template1", 0) + _EMPTY
    return [
        name
        for name, size in there
        if name not in {*with_job, "template1"} and not database_names.made(name) and (name != _OWN or size > empty)
    ]


def listed(configuration=config.CONFIGURATION):
    """What the last runs of this host's jobs found, without what has got a job since: [{server, database}]."""
    found, addresses = set(), {}
    for name in config.names(configuration):
        with contextlib.suppress(SauvegardeError):
            job = config.load(name, configuration)
            seen = job_state.read(Path(job["state"]) / "state.json").get("without_job") or []
            if isinstance(seen, list):
                address = addresses.setdefault(_server(job), _address(job))
                found |= {(address, str(database)) for database in set(seen) - set(named(job))}
    return [{"server": server, "database": database} for server, database in sorted(found)]
