"""Put one database in another's place, and back: both renames in one transaction.

The first rename's lock keeps new sessions out while a second connection ends those that are left. Nothing persistent is
changed on the way, so whenever it is killed the name stands for a whole, open database.
"""

import threading
import time

import psycopg2
from psycopg2 import sql

from .. import postgres
from ..errors import LOCKED, SauvegardeError
from . import names, side

# How long clients may find nobody at the door, in seconds. Ending sessions takes a tenth of one; one that does not
# go keeps the live database where it is.
FENCE = 2.0
_ENDING = 0.02


def kept(connection, database):
    """Databases kept from swaps of `database`, newest first: [{name, id, bytes}]."""
    found = []
    for name, size in postgres.query(
        connection,
        "SELECT datname, pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE NOT datistemplate",
    ):
        if names.belongs(name, database, "before"):
            found.append({"name": name, "id": names.made(name)[2], "bytes": size})
    return sorted(found, key=lambda each: each["id"], reverse=True)


def sessions(connection, database):
    """Sessions open on a database: [{pid, user, application, address, state}]."""
    return [
        dict(zip(("pid", "user", "application", "address", "state"), row))
        for row in postgres.query(
            connection,
            "SELECT pid, usename, application_name, coalesce(client_addr::text, 'local'), coalesce(state, '')"
            " FROM pg_catalog.pg_stat_activity WHERE datname = %s AND pid <> pg_catalog.pg_backend_pid()"
            " AND backend_type = 'client backend' ORDER BY pid",
            (database,),
        )
    ]


def obstacles(connection, database):
    """What would stop a rename of `database` whoever is ended: sentences."""
    found = []
    count = postgres.value(
        connection, "SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = %s", (database,)
    )
    if count:
        found.append(
            f"{count} prepared transaction(s) are open on {database}: end each with COMMIT or ROLLBACK PREPARED."
        )
    return found


def exchange(server, database, incoming, outgoing, fence=FENCE):
    """Rename `database` to `outgoing` (if it exists) and `incoming` to `database`, or change nothing.

    Returns {"seconds": how long the name was fenced, "ended": sessions that were ended}.
    """
    first = side.maintenance(server)
    second = side.maintenance(server)
    try:
        live = side.exists(second, database)
        if not side.exists(second, incoming):
            raise SauvegardeError(f"There is no database {incoming} to put in place.")
        if side.exists(second, outgoing):
            raise SauvegardeError(f"There already is a database {outgoing}.")
        stops = obstacles(second, database)
        if stops:
            raise SauvegardeError(f"{database} cannot be swapped.", "\n".join(stops), "Then run it again.")
        renames = [(database, outgoing)] if live else []
        renames.append((incoming, database))
        failure = []
        started = time.monotonic()

        def rename():
            try:
                # The limit is the server's own, so that it holds even if this process is stopped.
                milliseconds = str(int(fence * 1000))
                postgres.execute(first, "SET statement_timeout TO %s", (milliseconds,))
                postgres.execute(first, "SET idle_in_transaction_session_timeout TO %s", (milliseconds,))
                postgres.execute(first, "BEGIN")
                for old, new in renames:
                    postgres.execute(
                        first,
                        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)),
                    )
                postgres.execute(first, "COMMIT")
            except psycopg2.Error as error:
                failure.append(error)

        thread = threading.Thread(target=rename, name="swap")
        thread.start()
        ended = set()
        while thread.is_alive():
            for pid, there in postgres.query(
                second,
                "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                " WHERE datname IN (%s, %s)",
                (database, incoming),
            ):
                if there:
                    ended.add(pid)
            thread.join(_ENDING)
        seconds = time.monotonic() - started
        if failure:
            raise _not_swapped(second, database, failure[0])
        return {"seconds": round(seconds, 3), "ended": len(ended)}
    finally:
        first.close()
        second.close()


def _not_swapped(connection, database, error):
    there = ["{pid} {user} {application} ({state})".format(**each) for each in sessions(connection, database)]
    return SauvegardeError(
        f"The swap of {database} did not happen; the live database is as it was.",
        "\n".join([str(error).strip(), *there]),
        "Run it again; if it fails again, find out what holds these sessions.",
        LOCKED,
    )


def into_place(server, database, incoming, identifier, fence=FENCE):
    """Swap the side database in. Returns exchange()'s result and `kept`: the old one's name, None if there was none."""
    connection = side.maintenance(server)
    try:
        there = side.exists(connection, database)
    finally:
        connection.close()
    outgoing = names.before(database, identifier)
    result = exchange(server, database, incoming, outgoing, fence)
    result["kept"] = outgoing if there else None
    return result


def chosen(server, database, wanted=""):
    """The kept database to go back to: the newest, or the one named `wanted`; refuses where there is none."""
    connection = side.maintenance(server)
    try:
        found = [each["name"] for each in kept(connection, database)]
    finally:
        connection.close()
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
    """Drop one kept database, by its whole name. True if it was there."""
    if not names.belongs(wanted, database, "before"):
        raise SauvegardeError(
            f"{wanted} is not a database kept from a swap of {database}.",
            f"Kept databases are named {names.base(database)}__before_ID.",
            "Only those are removed here; drop others by hand.",
        )
    connection = side.maintenance(server)
    try:
        return side.drop(connection, wanted)
    finally:
        connection.close()
