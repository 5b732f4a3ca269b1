"""Choose the implementation of `Target` that a database's name stands for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..postgres.postgres_server import Server
from .postgresql_target import PostgresqlTarget
from .sqlite_target import SqliteTarget
from .target import Target


def choose_target(database: str, connection: Mapping[str, Any], directory: str) -> Target:
    """Return the target of a database: the absolute path of an SQLite file, or a database's name on a server.

    connection: of the server. directory: private folder of the server's runs.
    """
    if database.startswith("/"):
        return SqliteTarget(database)
    return PostgresqlTarget(database, Server.from_values(connection), Path(directory))


def label_of(database: str) -> str:
    """Return what a confirmation has to name (Target.label) of a database."""
    return Path(database).name if database.startswith("/") else database
