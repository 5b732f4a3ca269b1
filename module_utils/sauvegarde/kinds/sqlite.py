"""The `sqlite` kind: a consistent copy of a live SQLite database, checked, with the fingerprint of its tables.

job: path (of the database file).
"""

import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path
from urllib.parse import quote

from .. import archive
from ..errors import SauvegardeError

ALGORITHM = "md5-sum-sqlite/1"
FILE = "database.sqlite3"


def preflight(job, directory, _last):
    """The file is there, is a SQLite database, and its copy has room."""
    path = Path(str(job["path"]))
    if not hasattr(sqlite3.Connection, "backup"):
        raise SauvegardeError(
            "This host's Python cannot copy a live SQLite database.",
            "Connection.backup came with Python 3.7.",
            "Use it.",
        )
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            magic = stream.read(16)
    except OSError as error:
        raise SauvegardeError(f"The SQLite database cannot be read: {path}", str(error)) from error
    if magic != b"SQLite format 3\0":
        raise SauvegardeError(f"Not a SQLite database: {path}", "Its first bytes are not those of the format.")
    archive.require_space(directory, 2 * size)
    return {"bytes": size}


def connect(path, mode="ro"):
    """An autocommit connection to a database file; `mode` as in SQLite's URIs. Undecodable text is kept as it is."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=60, isolation_level=None)
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return connection


def dump(job, stage, _facts, notify):
    """Copy page by page under SQLite's own locks, check the copy's integrity, take its fingerprint."""
    path = Path(str(job["path"]))
    plain = stage.path / FILE
    notify("copy", path=str(path))
    stage.create(FILE).close()
    try:
        with contextlib.closing(connect(path)) as source, contextlib.closing(connect(plain, "rw")) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # a copy in WAL mode would need its companions
            notify("check")
            check(copy, path)
            sums = fingerprint(copy)
            version = copy.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise SauvegardeError(f"The SQLite database could not be copied: {path}", str(error)) from error
    stage.compress([FILE])
    return {
        "source": {"path": str(path), "user_version": version, "database_bytes": path.stat().st_size},
        "tools": {"sqlite": sqlite3.sqlite_version, **archive.tools()},
        "fingerprint": sums,
        "restore_by_hand": {
            "local": ["# Stop the site first.", f"zstd -dq {FILE}.zst -o restored.sqlite3"],
            "plain": ["# Stop the site first.", f"cp {FILE} restored.sqlite3"],
        },
        "warnings": [],
    }


def check(connection, path):
    """SQLite's own integrity check."""
    answer = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
    if answer != ["ok"]:
        raise SauvegardeError(f"The SQLite database is corrupt: {path}", "\n".join(answer), "Restore an older archive.")


def _plain(value):
    return {"blob": value.hex()} if isinstance(value, bytes) else value


def fingerprint(connection):
    """Per table the rows and an order-independent sum over the rows' values, exactly and with their types; the counters
    of AUTOINCREMENT as sequences. Columns go by name. Virtual tables are only there through their shadow tables."""
    found, counters = {}, {}
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        " AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    ).fetchall()
    for (name,) in names:
        quoted = '"{}"'.format(name.replace('"', '""'))
        columns = sorted(row[1] for row in connection.execute(f"PRAGMA table_info({quoted})"))
        wanted = ", ".join('"{}"'.format(column.replace('"', '""')) for column in columns)
        rows, total = 0, 0
        for row in connection.execute(f"SELECT {wanted} FROM {quoted}"):
            text = json.dumps([_plain(value) for value in row])
            total += int(hashlib.md5(text.encode("ascii")).hexdigest(), 16)
            rows += 1
        summed = json.dumps([columns, rows, total]).encode("ascii")
        found[quoted] = {"rows": rows, "hash": hashlib.md5(summed).hexdigest()}
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
        counters = {name: [value, True] for name, value in connection.execute("SELECT name, seq FROM sqlite_sequence")}
    return {"algorithm": ALGORITHM, "tables": found, "sequences": counters}
