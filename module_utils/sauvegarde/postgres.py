"""A PostgreSQL server as the engine meets it: described by plain values, reached by a real login.

The caller's environment (PG*, DATABASE_URL) never decides where a connection goes.
"""

import contextlib
import os
import pwd
import re
from pathlib import Path
from typing import NamedTuple

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from . import character_sets, process
from .errors import LOCKED, LOGIN, SauvegardeError

NO_PASSFILE = "/nonexistent/passfile"  # names a file that libpq finds absent: no ~/.pgpass by accident
_BINARIES = Path("/usr/lib/postgresql")  # Debian's real programs, not the wrappers that choose for themselves


class Server(NamedTuple):
    """Where a server listens and who logs in.

    host: directory of the socket, or a host name. user: empty for the OS user's own name (peer).
    passfile: path of a 0600 password file, empty for none. sslmode: libpq's word, empty for its default.
    """

    host: str = "/var/run/postgresql"
    port: int = 5432
    user: str = ""
    passfile: str = ""
    sslmode: str = ""

    @property
    def login(self):
        return self.user or pwd.getpwuid(os.geteuid()).pw_name

    @property
    def address(self):
        return f"{self.host}:{self.port}"


def server(values):
    """A Server from a job's plain dictionary; unknown keys and wrong types are refused."""
    values = dict(values or {})
    unknown = sorted(set(values) - set(Server._fields))
    if unknown:
        raise SauvegardeError(
            "The connection has unknown settings: {}.".format(", ".join(unknown)),
            fix="Use only {}.".format(", ".join(Server._fields)),
        )
    if "port" in values:
        values["port"] = int(values["port"])
    return Server(**values)


class Client(NamedTuple):
    """One of PostgreSQL's programs: its absolute path and the version it says it is, e.g. 150018."""

    path: str
    version_num: int
    version: str


def forget_environment():
    """Drop what libpq would read from the caller's environment (it fills every gap of a connection)."""
    for name in list(os.environ):
        if name.startswith("PG") or name == "DATABASE_URL":
            del os.environ[name]


def _parameters(target, database, application):
    parameters = {
        "host": target.host,
        "port": str(target.port),
        "user": target.login,
        "dbname": database,
        "passfile": target.passfile or NO_PASSFILE,
        "application_name": application,
        "connect_timeout": "10",
        "client_encoding": character_sets.RAW,
    }
    if target.sslmode:
        parameters["sslmode"] = target.sslmode
    return parameters


def connect(target, database, application="sauvegarde", autocommit=True):
    """A psycopg2 connection to `database`, by a real login. A refused login raises with exit code LOGIN."""
    forget_environment()
    try:
        connection = psycopg2.connect(**_parameters(target, database, application))
    except psycopg2.OperationalError as error:
        raise _connection_error(target, database, error) from error
    encoding = character_sets.of_session(encoding_of(connection))
    if encoding != character_sets.RAW:
        connection.set_client_encoding(encoding)
    connection.autocommit = autocommit
    return connection


def encoding_of(connection):
    """The encoding of the connected database, as the server calls it."""
    return connection.info.parameter_status("server_encoding")


def _connection_error(target, database, error):
    """Name the cause. The server's words may be translated (lc_messages), libpq's are not."""
    why = str(error).strip()
    where = f"{target.address} as {target.login} (database {database})"
    refused = ("password", "passwor", "mot de passe", "authenti", "pg_hba.conf", "peer", "ident ")
    lowered = why.lower()
    role = re.search(rf'"{re.escape(target.login)}"', why) and 'database "' not in lowered
    if any(word in lowered for word in refused) or (role and "fatal" in lowered):
        return SauvegardeError(
            f"The server refused the login: {where}.",
            why,
            "Check the role, its password in {} and pg_hba.conf.".format(target.passfile or "a passfile (none is set)"),
            LOGIN,
        )
    return SauvegardeError(
        f"No connection to the server: {where}.", why, "Check that it runs there and that the database exists."
    )


def environment(target, database, application="sauvegarde", **more):
    """The whole environment of a child tool that connects with libpq; no secret in it, only the passfile's path.

    The database travels here too: on a command line, a name with `=` would be read as a connection string.
    """
    env = dict(process.BASE_ENVIRONMENT)
    env.update(
        PGHOST=target.host,
        PGPORT=str(target.port),
        PGUSER=target.login,
        PGDATABASE=database,
        PGPASSFILE=target.passfile or NO_PASSFILE,
        PGAPPNAME=application,
        PGCONNECT_TIMEOUT="10",
        PGCLIENTENCODING="UTF8",
        PG_COLOR="never",
        HOME=pwd.getpwuid(os.geteuid()).pw_dir,
    )
    if target.sslmode:
        env["PGSSLMODE"] = target.sslmode
    env.update(more)
    return env


def conninfo(database):
    """`dbname='…'` for tools that need the database on the command line (pg_restore -d), quoted for libpq."""
    return "dbname='{}'".format(database.replace("\\", "\\\\").replace("'", "\\'"))


def major(version_num):
    """'9.6' for 90624, '15' for 150018: the name of the binaries' folder."""
    if version_num < 100000:
        return f"{version_num // 10000}.{version_num // 100 % 100}"
    return str(version_num // 10000)


def _generation(version_num):
    """What must not go backwards between server and client: the version without its minor part."""
    return version_num // 100 if version_num < 100000 else version_num // 10000 * 100


def _version_of(path):
    """The version_num of a program from `--version`: 'pg_dump (PostgreSQL) 15.18 (Debian …)', '… 17beta1'."""
    text = process.run([path, "--version"], timeout=30).text.strip()
    found = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?(?:\.(\d+))?", text)
    if found is None:
        raise SauvegardeError(f"{path} does not say its version.", text)
    first, second, third = (int(part or 0) for part in found.groups())
    number = first * 10000 + (second * 100 + third if first < 10 else second)
    return Client(path, number, found.group(0).split(" ", 1)[1])


def clients(tool):
    """Every installed version of a tool, oldest first. Versions are asked, not read from the folder's name: a server
    package without client tools links a newer client's beside it."""
    found = {}
    for path in sorted(_BINARIES.glob("*/bin/" + tool)):
        if os.access(str(path), os.X_OK):
            program = _version_of(str(path))
            found.setdefault(program.version_num, program)
    return [found[number] for number in sorted(found)]


def client(tool, version_num):
    """The oldest installed `tool` that is at least as new as a server of `version_num`.

    The oldest, because a newer one writes settings and archive versions that the server's own generation can't read.
    """
    installed = clients(tool)
    for candidate in installed:
        if _generation(candidate.version_num) >= _generation(version_num):
            return candidate
    has = ", ".join(each.version for each in installed) or "none"
    raise SauvegardeError(
        f"No {tool} on this host is as new as the server, which is {major(version_num)}.",
        f"Found under {_BINARIES}: {has}. An older client refuses a newer server.",
        f"Install postgresql-client-{major(version_num)}.",
    )


def query(connection, statement, parameters=None):
    """All rows of a statement, as tuples; `statement` is text or psycopg2.sql."""
    with connection.cursor() as cursor:
        _run(cursor, statement, parameters)
        return cursor.fetchall() if cursor.description else []


def _run(cursor, statement, parameters):
    try:
        cursor.execute(statement, parameters)
    except UnicodeEncodeError as error:  # the server would say so, if it were sent
        raise psycopg2.DataError(f"The encoding of the database has no such character: {error}") from error


def value(connection, statement, parameters=None):
    """The single value of a statement, None when it has no row."""
    rows = query(connection, statement, parameters)
    return rows[0][0] if rows else None


def qualified(schema, name):
    """A quoted `schema.name` as psycopg2.sql, for any name there can be."""
    return sql.SQL(quoted(schema, name))  # sql.Identifier takes no name whose bytes are no UTF-8


def quoted(*names):
    """The same as text: each name quoted, joined by dots."""
    return ".".join('"{}"'.format(name.replace('"', '""')) for name in names)


def literal(text):
    """A standard_conforming_strings literal; E'' where there is a backslash, so that it is right under any setting."""
    if text is None:
        return "NULL"
    body = text.replace("'", "''")
    if "\\" in body:
        return "E'{}'".format(body.replace("\\", "\\\\"))
    return f"'{body}'"


def properties(connection):
    """The server behind a connection: version, version_num, system_identifier (text), whether it is a standby."""
    number = connection.server_version
    return {
        "version": value(connection, "SHOW server_version"),
        "version_num": number,
        "system_identifier": system_identifier(connection),
        "standby": value(connection, "SELECT pg_catalog.pg_is_in_recovery()"),
    }


def system_identifier(connection):
    """The cluster's own number, as text; empty where the role may not call pg_control_system()."""
    allowed = value(connection, "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')")
    return str(value(connection, "SELECT system_identifier FROM pg_catalog.pg_control_system()")) if allowed else ""


@contextlib.contextmanager
def snapshot(connection):
    """A read-only transaction whose view others can share: yields the name for `pg_dump --snapshot`.

    It lasts as long as the block; leaving it ends the transaction.
    """
    was = connection.autocommit
    connection.autocommit = True
    execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield value(connection, "SELECT pg_catalog.pg_export_snapshot()")
    finally:
        if not connection.closed:
            with contextlib.suppress(psycopg2.Error):
                execute(connection, "ROLLBACK")
            connection.autocommit = was


def join_snapshot(connection, name):
    """Put an autocommit connection into the exported snapshot, until its ROLLBACK."""
    execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    execute(connection, sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))


def execute(connection, statement, parameters=None):
    """Run a statement for its effect."""
    with connection.cursor() as cursor:
        _run(cursor, statement, parameters)


def database_error(error, what, fix=""):
    """A SauvegardeError from psycopg2's, its own words kept; waiting for a lock has its own exit code."""
    if getattr(error, "pgcode", None) == "55P03":  # lock_not_available
        return SauvegardeError(
            what,
            str(error),
            fix or "See who holds the lock in pg_stat_activity, and run again once it is gone.",
            LOCKED,
        )
    return SauvegardeError(what, str(error), fix)
