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

from ..errors import Locked, LoginRefused, SauvegardeError
from ..system import process
from . import character_sets

NO_PASSFILE = "/nonexistent/passfile"  # names a file that libpq finds absent: no ~/.pgpass by accident
LOCK_TIMEOUT = 60  # seconds that a session waits for a lock, unless it sets another limit
_BINARIES = Path("/usr/lib/postgresql")  # Debian's real programs, not the wrappers that choose for themselves
_versions = {}  # (host, port) to the version of the server that was last met there
_raw = set()  # (host, port, database) of those whose encoding has no conversion to UTF8


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


def server_of(connection):
    """The Server that a connection of ours leads to."""
    parameters = connection.get_dsn_parameters()
    return Server(
        parameters["host"],
        int(parameters["port"]),
        parameters["user"],
        "" if parameters["passfile"] == NO_PASSFILE else parameters["passfile"],
        parameters.get("sslmode", "") if not parameters["host"].startswith("/") else "",
    )


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
        # A firewall must not forget the connection of a session that waits while other processes work.
        "keepalives_idle": "60",
        "keepalives_interval": "15",
        "keepalives_count": "8",
    }
    if target.sslmode:
        parameters["sslmode"] = target.sslmode
    return parameters


def connect(target, database, application="sauvegarde", autocommit=True):
    """A psycopg2 connection to `database`, by a real login. A refused login raises LoginRefused."""
    forget_environment()
    try:
        connection = psycopg2.connect(**_parameters(target, database, application))
    except psycopg2.OperationalError as error:
        raise _connection_error(target, database, error) from error
    _versions[target.host, target.port] = connection.server_version
    try:
        own = encoding_of(connection)
        where = (target.host, target.port, database)
        (_raw.add if own == "MULE_INTERNAL" else _raw.discard)(where)
        encoding = character_sets.of_session(own)
        if encoding != character_sets.RAW:
            connection.set_client_encoding(encoding)
        connection.autocommit = True  # a SET inside a transaction would end with its ROLLBACK
        settings = session_settings(connection.server_version)
        execute(connection, "; ".join(f"SET {name} TO '{value}'" for name, value in settings.items()))
        connection.autocommit = autocommit
    except psycopg2.Error as error:
        connection.close()
        raise database_error(error, f"The session's settings were refused by {target.address}.") from error
    return connection


def encoding_of(connection):
    """The encoding of the connected database, as the server calls it."""
    return connection.info.parameter_status("server_encoding")


def session_settings(version_num, lock_timeout=LOCK_TIMEOUT):
    """The settings of every session of ours, as a dictionary of texts: a limit for each wait for a lock, names quoted
    only where they must be, and none of the limits that the site may have set for its own sessions (in
    postgresql.conf, for the database or the role).

    version_num: the server's, since an unknown setting is an error. lock_timeout: seconds, 0 for none.
    """
    settings = {"lock_timeout": f"{int(lock_timeout * 1000)}ms", "statement_timeout": "0"}
    settings["quote_all_identifiers"] = "off"  # what the catalogs say in text is compared with names
    if version_num >= 90600:
        settings["idle_in_transaction_session_timeout"] = "0"
    if version_num >= 140000:
        settings["idle_session_timeout"] = "0"
    if version_num >= 170000:
        settings["transaction_timeout"] = "0"
    return settings


def _connection_error(target, database, error):
    """Name the cause. The server's words may be translated (lc_messages), libpq's are not."""
    why = str(error).strip()
    where = f"{target.address} as {target.login} (database {database})"
    refused = ("password", "passwor", "mot de passe", "authenti", "pg_hba.conf", "peer", "ident ")
    lowered = why.lower()
    role = re.search(rf'"{re.escape(target.login)}"', why) and 'database "' not in lowered
    if any(word in lowered for word in refused) or (role and "fatal" in lowered):
        return LoginRefused(
            f"The server refused the login: {where}.",
            why,
            "Check the role, its password in {} and pg_hba.conf.".format(target.passfile or "a passfile (none is set)"),
        )
    return SauvegardeError(
        f"No connection to the server: {where}.", why, "Check that it runs there and that the database exists."
    )


def environment(target, database, application="sauvegarde", **more):
    """The whole environment of a child tool that connects with libpq; no secret in it, only the passfile's path.

    The database travels here too: on a command line, a name with `=` would be read as a connection string.
    The session gets `session_settings`, for the version of the server if this process has met it. PGOPTIONS in `more`
    come after them and so win.
    """
    env = dict(process.BASE_ENVIRONMENT)
    settings = session_settings(_versions.get((target.host, target.port), 0))
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    env.update(
        PGHOST=target.host,
        PGPORT=str(target.port),
        PGUSER=target.login,
        PGDATABASE=database,
        PGPASSFILE=target.passfile or NO_PASSFILE,
        PGAPPNAME=application,
        PGCONNECT_TIMEOUT="10",
        PGCLIENTENCODING=character_sets.RAW if (target.host, target.port, database) in _raw else "UTF8",
        PG_COLOR="never",
        HOME=pwd.getpwuid(os.geteuid()).pw_dir,
    )
    if target.sslmode:
        env["PGSSLMODE"] = target.sslmode
    env.update(more)
    env["PGOPTIONS"] = f"{options} {more.get('PGOPTIONS', '')}".rstrip()
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


def plain_name(*names):
    """The names joined by dots as people write them: quoted only where SQL needs it, keywords aside."""
    return ".".join(name if re.match(r"[a-z_][a-z0-9_$]*\Z", name) else quoted(name) for name in names)


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


@contextlib.contextmanager
def transaction(connection, snapshot=None):
    """A read-only transaction on an autocommit connection, in the exported snapshot of that name if there is one.

    It is rolled back at the end of the block, which releases all its locks.
    """
    if snapshot is None:
        # By default it could be serializable and deferrable, and would wait for others.
        execute(connection, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
    else:
        join_snapshot(connection, snapshot)
    try:
        yield
    finally:
        if not connection.closed:
            execute(connection, "ROLLBACK")


@contextlib.contextmanager
def rolled_back(connection):
    """A savepoint inside a transaction, to which the end of the block returns: locks taken in the block are released,
    settings are as before, and an error leaves the transaction usable."""
    execute(connection, "SAVEPOINT sauvegarde")
    try:
        yield
    finally:
        if not connection.closed:
            execute(connection, "ROLLBACK TO SAVEPOINT sauvegarde; RELEASE SAVEPOINT sauvegarde")


def execute(connection, statement, parameters=None):
    """Run a statement for its effect."""
    with connection.cursor() as cursor:
        _run(cursor, statement, parameters)


_SERVER_FIXES = tuple(
    (re.compile(words), fix)
    for words, fix in (
        (
            r"No space left on device|could not (?:extend|write to) file",
            "Free space on the server's disk, and run it again.",
        ),
        (r"max_locks_per_transaction", "Raise max_locks_per_transaction, restart the server, and run it again."),
        (r"out of memory|out of shared memory", "Free memory on the server's host, and run it again."),
        (r"too many clients|remaining connection slots", "End sessions or raise max_connections, and run it again."),
        (
            r"terminating connection due to administrator command|the database system is (?:shutting|starting)",
            "The server was stopped or restarted: run it again once it is up.",
        ),
        (
            r"server closed the connection|terminating connection|no connection to the server|connection .*closed",
            "The session was ended: look in the server's log for the reason (a crash, memory), and run it again.",
        ),
        (r"canceling statement due to user request", "Somebody cancelled it: run it again."),
        (r"canceling statement due to statement timeout", "Take statement_timeout off the role, and run it again."),
        (
            r"in a read-only transaction",
            "The server takes no changes: use its primary, or look at why it is read-only.",
        ),
        (r"permission denied|must be (?:owner|superuser)", "Run it as a superuser of the server."),
    )
)


def server_fix(words):
    """What to do about a failure that is the server's, by its words; '' where they do not say it."""
    return next((fix for pattern, fix in _SERVER_FIXES if pattern.search(words)), "")


def database_error(error, what, fix=""):
    """A SauvegardeError from psycopg2's, its own words kept; waiting for a lock has its own exit code.

    Without a fix of the caller's, what the server lacks has one (`server_fix`).
    """
    fix = fix or server_fix(str(error))
    if getattr(error, "pgcode", None) == "55P03":  # lock_not_available
        return Locked(
            what,
            str(error),
            fix or "See who holds the lock in pg_stat_activity, and run again once it is gone.",
        )
    return SauvegardeError(what, str(error), fix)
