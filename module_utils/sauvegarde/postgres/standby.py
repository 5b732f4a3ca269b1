"""Say how far a standby has replayed its primary, and whether a failure was a conflict with that replay.

A standby replays changes that take rows or tables away from running queries. It then waits, for at most
max_standby_streaming_delay, and cancels the query (SQLSTATE 40001) or ends the session. A new snapshot may do better.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from . import postgres_server

FIX = (
    "Raise max_standby_streaming_delay on the standby, or set hot_standby_feedback = on there; or run the job when the"
    " primary changes less, or on the primary."
)
_WORDS = re.compile(r"conflict with recovery", re.IGNORECASE)
# Counted since the statistics were reset; languages of messages make no difference here.
_CONFLICTS = (
    "SELECT confl_tablespace + confl_lock + confl_snapshot + confl_bufferpin + confl_deadlock"
    " FROM pg_catalog.pg_stat_database_conflicts WHERE datname = pg_catalog.current_database()"
)
_TIME = (
    "pg_catalog.to_char(pg_catalog.pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC',"
    ' \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')'
)


def is_standby(connection: Connection) -> bool:
    """Return whether the server is a standby now."""
    return bool(postgres_server.value(connection, "SELECT pg_catalog.pg_is_in_recovery()"))


def replay(connection: Connection) -> dict[str, Any]:
    """Return {lsn, time, timeline, primary} of a standby (manifest_schema), None for what the role may not see.

    The connection is in autocommit; call this just before the snapshot: what it says is then in the snapshot.
    """
    number = connection.server_version
    function = "pg_last_wal_replay_lsn" if number >= 100000 else "pg_last_xlog_replay_location"
    return {
        "lsn": _optional(connection, f"SELECT pg_catalog.{function}()::text"),
        "time": _optional(connection, f"SELECT {_TIME}"),
        "timeline": _optional(connection, "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()"),
        "primary": _primary(connection),
    }


def _primary(connection: Connection) -> str | None:
    """Return HOST:PORT of the server that the standby streams from. The rest of its settings may hold a secret."""
    if connection.server_version >= 110000:
        sender = "SELECT sender_host || ':' || sender_port FROM pg_catalog.pg_stat_wal_receiver"
        address = _optional(connection, sender)
        if address:
            return str(address)
    conninfo = _optional(connection, "SELECT pg_catalog.current_setting('primary_conninfo', true)")
    try:
        parameters = psycopg2.extensions.parse_dsn(conninfo or "")
    except psycopg2.Error:
        return None
    return f"{parameters['host']}:{parameters.get('port', '5432')}" if parameters.get("host") else None


def _optional(connection: Connection, statement: str) -> Any:
    """Return a value, None if the role may not read it."""
    with contextlib.suppress(psycopg2.Error):
        return postgres_server.value(connection, statement)
    return None


def conflicts(connection: Connection) -> int:
    """Return how many sessions in this database were cancelled by conflicts with the replay."""
    return int(_optional(connection, _CONFLICTS) or 0)


def is_conflict(message: str) -> bool:
    """Return whether an English message of the server names a conflict with the replay."""
    return _WORDS.search(message) is not None
