"""Open an SQLite file, and check its integrity."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from ..errors import SauvegardeError


def connect(path: str | Path, mode: str = "ro") -> sqlite3.Connection:
    """Return an autocommit connection to a file. mode: as in SQLite's URIs. Undecodable text stays as it is."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=60, isolation_level=None)
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return connection


def check(connection: sqlite3.Connection, path: str | Path) -> None:
    """Raise if SQLite's own integrity check finds a fault. path: for the message."""
    answer = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
    if answer != ["ok"]:
        raise SauvegardeError(f"The SQLite database is corrupt: {path}", "\n".join(answer), "Restore an older archive.")
