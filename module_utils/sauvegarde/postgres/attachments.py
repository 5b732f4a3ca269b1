"""Find what belongs to a database itself and not to its name: subscriptions, logical slots, pg_cron's scheduler.

They follow a rename, so after a swap they belong to the previous database. Dumps contain no slots, and subscriptions
that are restored from a dump are disabled.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass

from psycopg2 import sql

from . import postgres_server, sql_names
from .postgres_server import Connection, Server


@dataclass(frozen=True)
class Attachments:
    """The subscriptions and logical slots of a database, by name, and whether pg_cron schedules from it.

    enabled: those of the subscriptions that receive changes. active: those of the slots with a connected receiver.
    """

    subscriptions: list[str]
    enabled: list[str]
    slots: list[str]
    active: list[str]
    scheduler: bool


def read(connection: Connection, database: str) -> Attachments:
    """Return the Attachments of a database. Subscriptions exist from PostgreSQL 10 on; superusers see them."""
    slots = postgres_server.query(
        connection,
        "SELECT slot_name::text, active FROM pg_catalog.pg_replication_slots WHERE database = %s ORDER BY 1",
        (database,),
    )
    subscriptions = []
    readable = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_subscription', 'SELECT')"
    if connection.server_version >= 100000 and postgres_server.value(connection, readable):
        subscriptions = postgres_server.query(
            connection,
            "SELECT s.subname::text, s.subenabled FROM pg_catalog.pg_subscription s"
            " JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = %s ORDER BY 1",
            (database,),
        )
    scheduled = postgres_server.value(connection, "SELECT pg_catalog.current_setting('cron.database_name', true)")
    libraries = postgres_server.value(connection, "SELECT pg_catalog.current_setting('shared_preload_libraries')")
    return Attachments(
        [name for name, _ in subscriptions],
        [name for name, enabled in subscriptions if enabled],
        [name for name, _ in slots],
        [name for name, active in slots if active],
        "pg_cron" in libraries and database == scheduled,
    )


def warnings(attachments: Attachments, database: str) -> list[dict[str, str]]:
    """Return a plan's warnings, {what, why, fix}, about the effects of a swap on the live database's Attachments."""
    notes = []
    for name in attachments.slots:
        notes.append(
            {
                "what": f"The logical replication slot {name} stays with the previous database.",
                "why": f"A slot follows the rename of {database}: its receiver gets no changes of the restored"
                " database, and the server keeps WAL for the slot as long as it exists.",
                "fix": "After the swap, stop its receiver and run"
                f" SELECT pg_catalog.pg_drop_replication_slot({sql_names.literal(name)});"
                " then make a new slot, and copy the data to the receiver again.",
            }
        )
    for name in attachments.enabled:
        quoted = sql_names.quote(name)
        notes.append(
            {
                "what": f"The subscription {name} stays with the previous database.",
                "why": f"A subscription follows the rename of {database}: it still receives changes there,"
                " and the restored database receives none.",
                "fix": f"After the swap, run ALTER SUBSCRIPTION {quoted} DISABLE in the previous database; then enable"
                " the restored one, or make a new one, in the restored database.",
            }
        )
    if attachments.scheduler:
        notes.append(
            {
                "what": f"pg_cron runs no job of {database} after the swap until the server restarts.",
                "why": "The swap ends the scheduler's session in the renamed database, and only a restart of the server"
                " starts the scheduler again.",
                "fix": "After the swap, restart the server, and compare SELECT * FROM cron.job with the jobs of the"
                " previous database.",
            }
        )
    return notes


def notes(connection: Connection, database: str, previous: str | None) -> list[str]:
    """Return sentences on what to do about attachments after a swap; previous: the previous database's name."""
    lines = []
    if previous is not None:
        # pg_cron's setting names the live database, but its scheduler was connected to the previous one.
        scheduler = read(connection, database).scheduler
        attachments = dataclasses.replace(read(connection, previous), scheduler=scheduler)
        lines += ["{what} {fix}".format(**note) for note in warnings(attachments, database)]
    for name in read(connection, database).subscriptions:
        lines.append(
            f"The restored database has the subscription {name}; it is disabled. To receive changes, run ALTER"
            f" SUBSCRIPTION {sql_names.quote(name)} ENABLE and REFRESH PUBLICATION in the restored database."
        )
    return lines


def obstacles(attachments: Attachments, name: str) -> list[tuple[str, str]]:
    """Return (why, fix) pairs of what has to be decided before the database `name` can be dropped."""
    reasons = []
    for slot in attachments.active:
        reasons.append(
            (
                f"A receiver is connected to its logical replication slot {slot}.",
                f"Stop the receiver, run SELECT pg_catalog.pg_drop_replication_slot({sql_names.literal(slot)}),"
                " and remove the database again.",
            )
        )
    for subscription in attachments.subscriptions:
        quoted = sql_names.quote(subscription)
        reasons.append(
            (
                f"It has the subscription {subscription}, whose slot may still exist on the publisher.",
                f"In {name}, run DROP SUBSCRIPTION {quoted}, which drops the slot as well; where the publisher does not"
                f" answer, first ALTER SUBSCRIPTION {quoted} DISABLE and"
                f" ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE). Then remove the database again.",
            )
        )
    return reasons


def detach(connection: Connection, name: str) -> None:
    """Drop the subscriptions of a side database without contacting publishers: their slots serve the live database."""
    subscriptions = read(connection, name).subscriptions
    if not subscriptions:
        return
    with contextlib.closing(postgres_server.connect(Server.of_connection(connection), name)) as inside:
        postgres_server.execute(
            inside, "SET default_transaction_read_only TO off"
        )  # the database's own setting may be on
        for subscription in map(sql.Identifier, subscriptions):
            postgres_server.execute(inside, sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(subscription))
            postgres_server.execute(
                inside, sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(subscription)
            )
            postgres_server.execute(inside, sql.SQL("DROP SUBSCRIPTION {}").format(subscription))
