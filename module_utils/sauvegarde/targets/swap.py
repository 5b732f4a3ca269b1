"""Put one database in another's place, and back: both renames in one transaction.

The first rename's lock keeps new sessions out while a second connection ends those that are left. Nothing persistent is
changed on the way, so whenever it is killed the name stands for a whole, open database.
"""

import contextlib
import threading
import time

import psycopg2
from psycopg2 import sql

from ..errors import Locked, SauvegardeError
from ..postgres import attachments, database_names, postgres_server
from . import side_database

# How long clients may find nobody at the door, in seconds. Ending sessions takes a tenth of one; one that does not
# go keeps the live database where it is.
FENCE = 2.0
_ENDING = 0.02
_TRIES = 3
_IN_USE, _CANCELED = "55006", "57014"  # object_in_use, query_canceled


def kept(connection, database=""):
    """What restores of `database` (of all, without a name) left beside it, newest first: [{name, kind, id, bytes}].

    kind: 'before', what a swap put aside; 'restore', a side database that waits for its swap or is still being filled.
    """
    found = []
    for (name,) in postgres_server.query(connection, "SELECT datname FROM pg_catalog.pg_database"):
        base, kind, identifier = database_names.made(name) or ("", "", "")
        if kind and base in ("" if database else base, database_names.base(database)):
            # Of these alone, since all files are looked at; NULL where those of a half-dropped database are gone.
            size = "SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = %s"
            found.append(
                {
                    "name": name,
                    "kind": kind,
                    "id": identifier,
                    "bytes": postgres_server.value(connection, size, (name,)) or 0,
                }
            )
    return sorted(found, key=lambda each: each["id"], reverse=True)


def sessions(connection, database):
    """Sessions open on a database: [{pid, user, application, address, state}]."""
    return [
        dict(zip(("pid", "user", "application", "address", "state"), row))
        for row in postgres_server.query(
            connection,
            "SELECT pid, usename, application_name, coalesce(client_addr::text, 'local'), coalesce(state, '')"
            " FROM pg_catalog.pg_stat_activity a WHERE datname = %s AND pid <> pg_catalog.pg_backend_pid()"
            # Servers before 10 do not say what kind it is.
            " AND coalesce(pg_catalog.to_jsonb(a) ->> 'backend_type', 'client backend') = 'client backend'"
            " ORDER BY pid",
            (database,),
        )
    ]


def obstacles(connection, database):
    """What would stop a rename of `database` whoever is ended: sentences."""
    found = []
    count = postgres_server.value(
        connection, "SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = %s", (database,)
    )
    if count:
        found.append(
            f"{count} prepared transaction(s) are open on {database}: end each with COMMIT or ROLLBACK PREPARED."
        )
    return found


def exchange(server, database, incoming, outgoing, fence=FENCE):
    """Rename `database` to `outgoing` (if it exists) and `incoming` to `database`, or change nothing.

    A session that does not go in time is given a few more chances. Returns {"seconds": how long the name was fenced,
    "ended": sessions that were ended}.
    """
    with contextlib.closing(side_database.maintenance(server)) as first, contextlib.closing(
        side_database.maintenance(server)
    ) as second:
        live = side_database.exists(second, database)
        if not side_database.exists(second, incoming):
            raise SauvegardeError(f"There is no database {incoming} to put in place.")
        if side_database.is_half_dropped(second, incoming):
            raise SauvegardeError(
                f"{incoming} cannot be put in place: a DROP DATABASE of it was interrupted.",
                "The server lets nobody connect to such a database; all that is left to do is to drop it.",
                f"Drop {incoming}, and restore again or go back to another database.",
            )
        if side_database.exists(second, outgoing):
            raise SauvegardeError(f"There already is a database {outgoing}.")
        stops = obstacles(second, database)
        if stops:
            raise SauvegardeError(f"{database} cannot be swapped.", "\n".join(stops), "Then run it again.")
        renames = [(database, outgoing)] if live else []
        renames.append((incoming, database))
        # The limits are the server's own, so that they hold even if this process is stopped.
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            postgres_server.execute(first, sql.SQL("SET {} TO %s").format(sql.SQL(limit)), (str(int(fence * 1000)),))
        ended, tries = set(), 1
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
        return {"seconds": round(time.monotonic() - started, 3), "ended": len(ended)}


def _rename(first, second, renames, ended):
    """All renames in one transaction of `first`, while `second` ends whoever is inside; the error that stopped it."""
    failure = []

    def rename():
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
        for pid, there in postgres_server.query(
            second,
            "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
            " WHERE datname = ANY (%s)",
            ([old for old, _ in renames],),
        ):
            if there:
                ended.add(pid)
        thread.join(_ENDING)
    return failure[0] if failure else None


def _not_swapped(connection, database, error):
    there = ["{pid} {user} {application} ({state})".format(**each) for each in sessions(connection, database)]
    return Locked(
        f"The swap of {database} did not happen; the live database is as it was.",
        "\n".join([str(error).strip(), *there]),
        "Run it again; if it fails again, find out what holds these sessions.",
    )


def into_place(server, database, incoming, identifier, fence=FENCE):
    """Swap the side database in. Returns exchange()'s result, `kept` (the previous database's name, None if there was
    none) and `notes`: what to do about what is tied to either.
    """
    with contextlib.closing(side_database.maintenance(server)) as connection:
        there = side_database.exists(connection, database)
    outgoing = database_names.before(database, identifier)
    result = exchange(server, database, incoming, outgoing, fence)
    result["kept"] = outgoing if there else None
    result["notes"] = _notes(server, database, result["kept"])
    return result


def _notes(server, database, kept):
    """attachments.notes, or a note that they could not be read: clients may take every connection slot after a swap,
    and the swap has happened whether or not this connection can be made."""
    try:
        with contextlib.closing(side_database.maintenance(server)) as connection:
            return attachments.notes(connection, database, kept)
    except (SauvegardeError, psycopg2.Error) as error:
        reason = " ".join((error.why if isinstance(error, SauvegardeError) else str(error)).split())
        return [
            f"The swap is done, but its subscriptions and replication slots could not be read ({reason}). Look at"
            " pg_subscription and pg_replication_slots: those of the previous database still belong to it."
        ]


def chosen(server, database, wanted=""):
    """The kept database to go back to: the newest, or the one named `wanted`; refuses where there is none."""
    with contextlib.closing(side_database.maintenance(server)) as connection:
        found = [each["name"] for each in kept(connection, database) if each["kind"] == "before"]
    return choose(database, found, wanted)


def choose(database, found, wanted=""):
    """One of the kept names, newest first: the newest, or the one named `wanted`; refuses where there is none."""
    if wanted and wanted not in found:
        raise SauvegardeError(
            f"There is no kept database {wanted} of {database}.",
            "Kept: " + (", ".join(found) or "none"),
            "Name one of those that are kept.",
        )
    if not found:
        raise SauvegardeError(
            f"There is nothing to go back to: no database was kept from a swap of {database}.",
            fix="Restore an archive instead.",
        )
    return wanted or found[0]


def back(server, database, identifier, wanted="", fence=FENCE):
    """Put a kept database back in place (see `chosen`). What was live is kept in its turn."""
    incoming = chosen(server, database, wanted)
    result = into_place(server, database, incoming, identifier, fence)
    result["restored"] = incoming
    return result


def remove(server, database, wanted):
    """Drop one of the databases that `kept` lists, by its whole name. True if it was there."""
    if not any(database_names.belongs(wanted, database, kind) for kind in ("before", "restore")):
        raise SauvegardeError(
            f"{wanted} is not a database that a restore of {database} left.",
            "Those are named {0}__before_ID or {0}__restore_ID.".format(database_names.base(database)),
            "Only those are removed here; drop others by hand.",
        )
    with contextlib.closing(side_database.maintenance(server)) as connection:
        found = attachments.obstacles(attachments.read(connection, wanted), wanted)
        if found and database_names.made(wanted)[1] == "before":
            why, fix = zip(*found)
            raise SauvegardeError(f"{wanted} cannot be removed yet.", "\n".join(why), "\n".join(fix))
        return side_database.drop(connection, wanted)
