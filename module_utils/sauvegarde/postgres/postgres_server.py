"""Connect to a PostgreSQL server and run statements on it.

The caller's environment (PG*, DATABASE_URL) never decides where a connection goes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Union

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from ..archive.manifest import ServerProperties
from ..errors import LoginRefused, SauvegardeError
from . import character_sets, connection_security, server_versions
from .server_errors import database_error

_logger = logging.getLogger("sauvegarde")

Connection = psycopg2.extensions.connection
Statement = Union[str, sql.Composable]
NO_PASSFILE = "/nonexistent/passfile"  # libpq finds no file there, and so does not read ~/.pgpass
LOCK_TIMEOUT = 60  # seconds that a session waits for a lock, unless it sets another limit
_versions: dict[tuple[str, int], int] = {}  # (host, port) to the version of the server last seen there
_unconvertible: set[tuple[str, int, str]] = set()  # (host, port, database) whose encoding has no conversion to UTF8


@dataclass(frozen=True)
class Server:
    """Where a server listens and who logs in.

    host: directory of the socket, or a host name. user: empty for the OS user's own name (peer).
    passfile: path of a 0600 password file, empty for none. sslmode: libpq's word, empty for its default. sslrootcert,
    sslcert, sslkey: files of certificates and of the client's key (connection_security.py).
    """

    host: str = "/var/run/postgresql"
    port: int = 5432
    user: str = ""
    passfile: str = ""
    sslmode: str = ""
    sslrootcert: str = ""
    sslcert: str = ""
    sslkey: str = ""

    @classmethod
    def from_values(cls, values: Mapping[str, Any] | None) -> Server:
        """Return the Server of a job's `connection`. Raises SauvegardeError for unknown settings and wrong types."""
        values = dict(values or {})
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise SauvegardeError(
                "The connection has unknown settings: {}.".format(", ".join(unknown)),
                fix="Use only {}.".format(", ".join(names)),
            )
        if "port" in values:
            values["port"] = int(values["port"])
        connection_security.check(values)
        return cls(**values)

    @classmethod
    def of_connection(cls, connection: Connection) -> Server:
        """Return the Server of a connection that `connect` opened."""
        parameters = connection.get_dsn_parameters()
        is_socket = parameters["host"].startswith("/")
        return cls(
            parameters["host"],
            int(parameters["port"]),
            parameters["user"],
            "" if parameters["passfile"] == NO_PASSFILE else parameters["passfile"],
            **{name: "" if is_socket else parameters.get(name) or "" for name in connection_security.KEYS},
        )

    @property
    def login(self) -> str:
        """The role that logs in."""
        return self.user or pwd.getpwuid(os.geteuid()).pw_name

    @property
    def address(self) -> str:
        """HOST:PORT, for messages."""
        return f"{self.host}:{self.port}"

    @property
    def security(self) -> dict[str, str]:
        """The parameters of libpq that protect the connection, {name: value}. Raises SauvegardeError for a file that
        this process cannot read."""
        return connection_security.parameters({name: getattr(self, name) for name in connection_security.KEYS})


def forget_environment() -> None:
    """Drop what libpq would read from the caller's environment (it fills every gap of a connection)."""
    for name in list(os.environ):
        if name.startswith("PG") or name == "DATABASE_URL":
            del os.environ[name]


def _parameters(server: Server, database: str, application: str) -> dict[str, Any]:
    parameters = {
        "host": server.host,
        "port": str(server.port),
        "user": server.login,
        "dbname": database,
        "passfile": server.passfile or NO_PASSFILE,
        "application_name": application,
        "connect_timeout": "10",
        "client_encoding": character_sets.RAW,
        # A firewall must not forget the connection of a session that waits while other processes work.
        "keepalives_idle": "60",
        "keepalives_interval": "15",
        "keepalives_count": "8",
    }
    return {**parameters, **server.security}


def connect(server: Server, database: str, application: str = "sauvegarde", autocommit: bool = True) -> Connection:
    """Return a psycopg2 connection to `database`, after a real login, with `session_settings`.

    Raises LoginRefused, or SauvegardeError if the server cannot be reached or refuses the settings.
    """
    forget_environment()
    try:
        connection: Connection = psycopg2.connect(**_parameters(server, database, application))
    except psycopg2.OperationalError as error:
        raise _connection_error(server, database, error) from error
    _versions[server.host, server.port] = connection.server_version
    try:
        server_encoding = encoding_of(connection)
        address = (server.host, server.port, database)
        (_unconvertible.add if server_encoding == "MULE_INTERNAL" else _unconvertible.discard)(address)
        encoding = character_sets.session_encoding(server_encoding)
        if encoding != character_sets.RAW:
            connection.set_client_encoding(encoding)
        connection.autocommit = True  # a SET inside a transaction would end with its ROLLBACK
        settings = session_settings(connection.server_version)
        execute(connection, "; ".join(f"SET {name} TO '{setting}'" for name, setting in settings.items()))
        connection.autocommit = autocommit
    except psycopg2.Error as error:
        connection.close()
        raise database_error(error, f"The session's settings were refused by {server.address}.") from error
    opened = (database, server.address, server.login, connection.server_version, connection.get_backend_pid())
    _logger.debug("session opened: database %r at %s as %r, server %d, backend %d", *opened)
    return connection


def encoding_of(connection: Connection) -> str:
    """Return the encoding of the connected database, by the server's name for it."""
    return str(connection.info.parameter_status("server_encoding"))


def known_version(server: Server) -> int:
    """Return the version_num of a server that this process has connected to; 0 for any other."""
    return _versions.get((server.host, server.port), 0)


def client_encoding(server: Server, database: str) -> str:
    """Return the encoding for programs that connect to a database: UTF8, unless this process has connected to the
    database and its encoding cannot be converted."""
    return character_sets.RAW if (server.host, server.port, database) in _unconvertible else "UTF8"


def session_settings(version_num: int, lock_timeout: float = LOCK_TIMEOUT) -> dict[str, str]:
    """Return the settings of every session: a limit for each wait for a lock, names quoted only where necessary, and
    none of the limits that the site may have set for its own sessions (in postgresql.conf, the database or the role).

    version_num: the server's, since an unknown setting is an error. lock_timeout: seconds, 0 for no limit.
    """
    settings = {"lock_timeout": f"{int(lock_timeout * 1000)}ms", "statement_timeout": "0"}
    settings["quote_all_identifiers"] = "off"  # text from the catalogs is compared with names
    settings.update(dict.fromkeys(server_versions.session_timeouts(version_num), "0"))
    return settings


def _connection_error(server: Server, database: str, error: Exception) -> SauvegardeError:
    """Return the error that names the cause. The server's message may be translated (lc_messages), libpq's is not."""
    why = str(error).strip()
    where = f"{server.address} as {server.login} (database {database})"
    if connection_security.is_untrusted(why):
        return SauvegardeError(f"The server's identity is not proven: {where}.", why, connection_security.FIX)
    refusals = (
        "password",
        "passwor",
        "mot de passe",
        "authenti",
        "pg_hba.conf",
        "peer",
        "ident ",
        "client certificate",
    )
    lowered = why.lower()
    names_role = re.search(rf'"{re.escape(server.login)}"', why) and 'database "' not in lowered
    if any(word in lowered for word in refusals) or (names_role and "fatal" in lowered):
        return LoginRefused(
            f"The server refused the login: {where}.",
            why,
            "Check the role, its password in {} and pg_hba.conf.".format(server.passfile or "a passfile (none is set)"),
        )
    return SauvegardeError(
        f"No connection to the server: {where}.", why, "Check that it runs there and that the database exists."
    )


def query(connection: Connection, statement: Statement, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Run a statement and return all its rows; `statement` is text or psycopg2.sql."""
    with connection.cursor() as cursor:
        _run(cursor, statement, parameters)
        return cursor.fetchall() if cursor.description else []


def value(connection: Connection, statement: Statement, parameters: Any = None) -> Any:
    """Return the single value of a statement, None if it has no row."""
    rows = query(connection, statement, parameters)
    return rows[0][0] if rows else None


def execute(connection: Connection, statement: Statement, parameters: Any = None) -> None:
    """Run a statement for its effect."""
    with connection.cursor() as cursor:
        _run(cursor, statement, parameters)


def _run(cursor: Any, statement: Statement, parameters: Any) -> None:
    try:
        cursor.execute(statement, parameters)
    except UnicodeEncodeError as error:  # the server would raise this if it could be sent
        raise psycopg2.DataError(f"The encoding of the database has no such character: {error}") from error


def server_properties(connection: Connection) -> ServerProperties:
    """Return the properties of the server behind a connection."""
    return ServerProperties(
        version=value(connection, "SHOW server_version"),
        version_num=connection.server_version,
        system_identifier=system_identifier(connection),
        standby=value(connection, "SELECT pg_catalog.pg_is_in_recovery()"),
        address=_remote_address(connection),
    )


def _remote_address(connection: Connection) -> str:
    """Return HOST:PORT of a server on another host, '' of one on this host."""
    parameters = connection.get_dsn_parameters()
    host = parameters["host"]
    is_local = host.startswith(("/", "127.")) or host.lower() in ("localhost", "::1")
    return "" if is_local else f"{host}:{parameters['port']}"


def system_identifier(connection: Connection) -> str:
    """Return the cluster's own number, as text; empty if the role may not call pg_control_system()."""
    allowed = value(connection, "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')")
    return str(value(connection, "SELECT system_identifier FROM pg_catalog.pg_control_system()")) if allowed else ""


@contextlib.contextmanager
def snapshot(connection: Connection) -> Iterator[str]:
    """A read-only transaction whose snapshot other sessions can share: yields its name for `pg_dump --snapshot`.

    The end of the block ends the transaction.
    """
    autocommit = connection.autocommit
    connection.autocommit = True
    execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield value(connection, "SELECT pg_catalog.pg_export_snapshot()")
    finally:
        if not connection.closed:
            with contextlib.suppress(psycopg2.Error):
                execute(connection, "ROLLBACK")
            connection.autocommit = autocommit


def join_snapshot(connection: Connection, name: str) -> None:
    """Put an autocommit connection into the exported snapshot, until its ROLLBACK."""
    execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    execute(connection, sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))


@contextlib.contextmanager
def transaction(connection: Connection, snapshot: str | None = None) -> Iterator[None]:
    """A read-only transaction on an autocommit connection, in the exported snapshot of that name if there is one.

    The end of the block rolls it back, which releases all its locks.
    """
    if snapshot is None:
        # With the server's defaults it could be serializable and deferrable, and would wait for other transactions.
        execute(connection, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
    else:
        join_snapshot(connection, snapshot)
    try:
        yield
    finally:
        if not connection.closed:
            execute(connection, "ROLLBACK")


@contextlib.contextmanager
def rolled_back(connection: Connection) -> Iterator[None]:
    """A savepoint inside a transaction, to which the end of the block returns: locks taken in the block are released,
    settings are as before, and an error leaves the transaction usable."""
    execute(connection, "SAVEPOINT sauvegarde")
    try:
        yield
    finally:
        if not connection.closed:
            execute(connection, "ROLLBACK TO SAVEPOINT sauvegarde; RELEASE SAVEPOINT sauvegarde")
