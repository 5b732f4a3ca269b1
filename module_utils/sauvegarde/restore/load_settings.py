"""Choose the settings of the sessions that load a dump."""

from __future__ import annotations

from psycopg2.extensions import connection as Connection

from ..postgres import postgres_server

# Nothing in these sessions has to survive a crash of the server: the last checkpoint syncs what must be on disk.
_SETTINGS = {
    "synchronous_commit": "off",
    "event_triggers": "on",
    "row_security": "off",
    "default_transaction_read_only": "off",
    "check_function_bodies": "off",
    "lc_messages": "C",  # messages are searched for missing privileges
}


def load_settings(connection: Connection) -> dict[str, str]:
    """Return the settings on this server. lz4, if it is built in, compresses values several times faster than pglz."""
    names = {name for (name,) in postgres_server.query(connection, "SELECT name FROM pg_catalog.pg_settings")}
    settings = postgres_server.session_settings(connection.server_version, lock_timeout=0)
    settings.update({name: value for name, value in _SETTINGS.items() if name in names})
    methods = postgres_server.value(
        connection, "SELECT enumvals FROM pg_catalog.pg_settings WHERE name = 'default_toast_compression'"
    )
    if methods and "lz4" in methods:
        settings["default_toast_compression"] = "lz4"
    return settings
