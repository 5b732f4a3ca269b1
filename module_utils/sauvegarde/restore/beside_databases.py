"""Find and remove the databases that restores beside live ones created, by what the runs recorded of them.

Their names are the user's, so a name says nothing: a database is one of these only if a run created it and it still has
the OID that the run recorded. One that clients use is not removed, since it may have become somebody's live database.
"""

from __future__ import annotations

from ..errors import SauvegardeError
from ..postgres import attachments, postgres_server
from ..targets import side_database, swap
from ..targets.postgresql_target import PostgresqlTarget
from ..targets.target import KeptDatabase, Target
from . import restore_state

KIND = "beside"  # of KeptDatabase


def databases(target: Target) -> list[KeptDatabase]:
    """Return those on the target's server that exist, newest first."""
    if not isinstance(target, PostgresqlTarget) or not target.runs_directory.is_dir():
        return []
    found = []
    with target.maintenance() as connection:
        for run in restore_state.runs(target.runs_directory):
            name, oid = run.database, run.values.get("oid")
            if run.mode == KIND and oid and side_database.oid(connection, name) == oid:
                size = postgres_server.value(connection, "SELECT pg_catalog.pg_database_size(%s::oid)", (oid,))
                found.append(KeptDatabase(name, KIND, run.id, size or 0))
    return found


def remove(target: PostgresqlTarget, name: str) -> bool:
    """Drop one of `databases` by its name. Returns whether it was there. Raises SauvegardeError if it is in use."""
    with target.maintenance() as connection:
        users = sorted({session.user for session in swap.sessions(connection, name)})
        if users or name == target.database:
            raise SauvegardeError(
                f"{name} is in use and is not removed.",
                f"Sessions of {', '.join(users)} are connected to it."
                if users
                else "It was named as the live database.",
                "End these sessions, then run it again; a database that serves a site is dropped by hand."
                if users
                else "Name the live database first, then the one to remove.",
            )
        attachments_of = attachments.obstacles(attachments.read(connection, name), name)
        if attachments_of:
            why, fix = zip(*attachments_of)
            raise SauvegardeError(f"{name} cannot be removed yet.", "\n".join(why), "\n".join(fix))
        return side_database.drop(connection, name)
