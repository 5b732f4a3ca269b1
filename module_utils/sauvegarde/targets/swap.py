"""Swap two databases of a server, and back: both renames in one transaction.

The lock of the first rename keeps new sessions out while a second connection ends those that are open. Nothing else is
changed, so whenever the swap is killed the name stands for a whole, open database.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from typing import Any

import psycopg2
from psycopg2 import sql

from ..errors import Locked, SauvegardeError
from ..postgres import attachments, database_names, postgres_server
from ..postgres.database_names import PREVIOUS, SIDE
from ..postgres.postgres_server import Server
from . import side_database, target
from .target import KeptDatabase, Session, SwapResult

# Maximum seconds for which connections are blocked during the swap. Ending sessions takes a tenth of a second; if one
# does not end, the live database stays where it is.
FENCE = 2.0
_PAUSE = 0.02  # seconds between two attempts to end the sessions
_TRIES = 3
_IN_USE, _CANCELED = "55006", "57014"  # object_in_use, query_canceled


def kept(connection: Any, database: str = "") -> list[KeptDatabase]:
    """Return what restores of `database` (of all databases, without a name) left beside it, newest first."""
    databases = []
    for (name,) in postgres_server.query(connection, "SELECT datname FROM pg_catalog.pg_database"):
        parts = database_names.parse(name)
        if parts and (not database or parts.base == database_names.base_name(database)):
            # Only for these, because the server reads all their files; NULL if a half-dropped one has no files left.
            statement = "SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = %s"
            size = postgres_server.value(connection, statement, (name,)) or 0
            databases.append(KeptDatabase(name, parts.kind, parts.identifier, size))
    return sorted(databases, key=lambda database: database.id, reverse=True)


def sessions(connection: Any, database: str) -> list[Session]:
    """Return the clients' sessions on a database, without the connection's own.

    Servers before 10 do not record the type of a session: there the list includes replication (walsender) and
    autovacuum. `_rename` ends every process that is connected to the databases, of any type.
    """
    return [
        Session(*row)
        for row in postgres_server.query(
            connection,
            "SELECT pid, usename, application_name, coalesce(client_addr::text, 'local'), coalesce(state, '')"
            " FROM pg_catalog.pg_stat_activity a WHERE datname = %s AND pid <> pg_catalog.pg_backend_pid()"
            # Servers before 10 do not have the column.
            " AND coalesce(pg_catalog.to_jsonb(a) ->> 'backend_type', 'client backend') = 'client backend'"
            " ORDER BY pid",
            (database,),
        )
    ]


def obstacles(connection: Any, database: str) -> list[str]:
    """Return sentences: what prevents a rename of `database` even if all sessions are ended."""
    count = postgres_server.value(
        connection, "SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = %s", (database,)
    )
    if not count:
        return []
    return [f"{count} prepared transaction(s) are open on {database}: end each with COMMIT or ROLLBACK PREPARED."]


def exchange(server: Server, database: str, incoming: str, outgoing: str, fence: float = FENCE) -> SwapResult:
    """Rename `database` to `outgoing` (if it exists) and `incoming` to `database`, or change nothing.

    If a session does not end in time, the swap is tried a few times. fence: maximum seconds that clients are blocked.
    """
    with (
        contextlib.closing(side_database.maintenance(server)) as first,
        contextlib.closing(side_database.maintenance(server)) as second,
    ):
        _refuse(second, database, incoming, outgoing)
        renames = [(database, outgoing)] if side_database.exists(second, database) else []
        renames.append((incoming, database))
        # The limits are the server's own, so that they hold even if this process is stopped.
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            postgres_server.execute(first, sql.SQL("SET {} TO %s").format(sql.SQL(limit)), (str(int(fence * 1000)),))
        ended: set[int] = set()
        tries = 1
        started = time.monotonic()
        error = _rename(first, second, renames, ended)
        while error is not None:
            if tries == _TRIES or error.pgcode not in (_IN_USE, _CANCELED):
                raise _not_swapped(second, database, error)
            postgres_server.execute(first, "ROLLBACK")
            time.sleep(fence)
            tries += 1
            started = time.monotonic()
            error = _rename(first, second, renames, ended)
        return SwapResult(round(time.monotonic() - started, 3), len(ended))


def _refuse(connection: Any, database: str, incoming: str, outgoing: str) -> None:
    """Raise if the renames cannot be done."""
    if not side_database.exists(connection, incoming):
        raise SauvegardeError(f"There is no database {incoming} to put in place.")
    if side_database.is_half_dropped(connection, incoming):
        raise SauvegardeError(
            f"{incoming} cannot be put in place: a DROP DATABASE of it was interrupted.",
            "The server accepts no connections to such a database; it can only be dropped.",
            f"Drop {incoming}, and restore again or go back to another database.",
        )
    if side_database.exists(connection, outgoing):
        raise SauvegardeError(f"There already is a database {outgoing}.")
    stops = obstacles(connection, database)
    if stops:
        raise SauvegardeError(f"{database} cannot be swapped.", "\n".join(stops), "Then run it again.")


def _rename(first: Any, second: Any, renames: list[tuple[str, str]], ended: set[int]) -> psycopg2.Error | None:
    """Do all renames in one transaction of `first`, while `second` ends all sessions in the databases.

    Returns the error that prevented it. ended: gets the process ids of the sessions.
    """
    failure: list[psycopg2.Error] = []

    def rename() -> None:
        try:
            postgres_server.execute(first, "BEGIN")
            for old, new in renames:
                postgres_server.execute(
                    first, sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
                )
            postgres_server.execute(first, "COMMIT")
        except psycopg2.Error as error:
            failure.append(error)

    thread = threading.Thread(target=rename, name="swap")
    thread.start()
    while thread.is_alive():
        for pid, terminated in postgres_server.query(
            second,
            "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
            " WHERE datname = ANY (%s)",
            ([old for old, _ in renames],),
        ):
            if terminated:
                ended.add(pid)
        thread.join(_PAUSE)
    return failure[0] if failure else None


def _not_swapped(connection: Any, database: str, error: psycopg2.Error) -> Locked:
    holders = [
        f"{session.pid} {session.user} {session.application} ({session.state})"
        for session in sessions(connection, database)
    ]
    return Locked(
        f"The swap of {database} did not happen; the live database is as it was.",
        "\n".join([str(error).strip(), *holders]),
        "Run it again; if it fails again, find out what holds these sessions.",
    )


def into_place(server: Server, database: str, incoming: str, identifier: str, fence: float = FENCE) -> SwapResult:
    """Swap the side database `incoming` in. identifier: of this swap, for the previous database's name."""
    with contextlib.closing(side_database.maintenance(server)) as connection:
        live = side_database.exists(connection, database)
    outgoing = database_names.previous_name(database, identifier)
    result = exchange(server, database, incoming, outgoing, fence)
    previous = outgoing if live else None
    return replace(result, kept=previous, notes=tuple(_notes(server, database, previous)))


def _notes(server: Server, database: str, previous: str | None) -> list[str]:
    """Return attachments.notes, or a note that they could not be read.

    Clients may take every connection slot after a swap, and the swap is complete whether or not this connection
    succeeds.
    """
    try:
        with contextlib.closing(side_database.maintenance(server)) as connection:
            notes: list[str] = attachments.notes(connection, database, previous)
            return notes
    except (SauvegardeError, psycopg2.Error) as error:
        reason = " ".join((error.why if isinstance(error, SauvegardeError) else str(error)).split())
        return [
            f"The swap is done, but its subscriptions and replication slots could not be read ({reason}). Look at"
            " pg_subscription and pg_replication_slots: those of the previous database still belong to it."
        ]


def choose_previous(server: Server, database: str, name: str = "") -> str:
    """Return the previous database `name`, or the newest one; raises if there is none."""
    with contextlib.closing(side_database.maintenance(server)) as connection:
        names = [previous.name for previous in kept(connection, database) if previous.kind == PREVIOUS]
    return target.choose_previous(database, names, name)


def remove(server: Server, database: str, name: str) -> bool:
    """Drop one of the databases that `kept` lists, by its whole name. Returns whether it was there."""
    if not any(database_names.belongs(name, database, kind) for kind in (PREVIOUS, SIDE)):
        base = database_names.base_name(database)
        raise SauvegardeError(
            f"{name} is not a database that a restore of {database} left.",
            f"Those are named {base}__before_ID or {base}__restore_ID.",
            "Only those are removed here; drop others by hand.",
        )
    with contextlib.closing(side_database.maintenance(server)) as connection:
        reasons = attachments.obstacles(attachments.read(connection, name), name)
        if reasons and database_names.belongs(name, database, PREVIOUS):
            why, fix = zip(*reasons)
            raise SauvegardeError(f"{name} cannot be removed yet.", "\n".join(why), "\n".join(fix))
        return side_database.drop(connection, name)
