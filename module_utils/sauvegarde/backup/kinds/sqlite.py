"""The `sqlite` kind: a consistent copy of a live SQLite database, checked, with the fingerprint of its tables.

job: path (of the database file), and on request `repository`, the git repository that the copy is published in by Git
LFS, where its data changed: path, file (inside it), user, name, email, message, push.
"""

import contextlib
import hashlib
import json
import shutil
import sqlite3
from pathlib import Path

from ...archive import compression
from ...django.data_dump import replaced
from ...errors import SauvegardeError
from ...system import disk_space, git
from ...system.run_as import call_as
from ...targets.sqlite_file import check, connect

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
    repository = job.get("repository")
    if repository:
        git.require_committable(repository["path"], [_published(job)], repository.get("user", ""))
        git.require_lfs(repository["path"], _published(job), repository.get("user", ""))
    disk_space.require_space(directory, 2 * size)
    return {"bytes": size}


def _published(job):
    """The name of the published file inside its repository."""
    return job["repository"].get("file") or Path(str(job["path"])).name


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
    committed = _publish(job, plain, sums, notify)
    stage.compress([FILE])
    return {
        "source": {
            "path": str(path),
            "user_version": version,
            "database_bytes": path.stat().st_size,
            "commit": committed,
        },
        "tools": {"sqlite": sqlite3.sqlite_version, **compression.tool_versions()},
        "fingerprint": sums,
        "restore_by_hand": {
            "local": ["# Stop the site first.", f"zstd -dq {FILE}.zst -o restored.sqlite3"],
            "plain": ["# Stop the site first.", f"cp {FILE} restored.sqlite3"],
        },
        "warnings": [],
    }


def _publish(job, plain, sums, notify):
    """Put the copy into the repository and commit it; returns the new commit, or None where the data is the same."""
    values = dict(job.get("repository") or {})
    if not values:
        return None
    path, file = Path(values.pop("path")), _published(job)
    values.pop("file", None)
    with plain.open("rb") as source:
        # As the folder's owner, who could have put a link there to what only root may touch.
        call_as(values.get("user", ""), _replace, str(path / file), source, sums)
    result = git.commit(path, [file], values.pop("message", f"Update {file}"), **values)
    notify("committed", commit=result.committed, pushed=result.pushed)
    return result.committed


def _replace(path, source, sums):
    # The same data in other pages: the file that is there stays, so that LFS has no new object.
    if _data_of(path) != sums:
        with replaced(path, 0o644) as copy:
            shutil.copyfileobj(source, copy)


def _data_of(path):
    """The fingerprint of a published file; None for none, and for an LFS pointer whose data was never fetched."""
    try:
        with contextlib.closing(connect(path)) as connection:
            return fingerprint(connection)
    except sqlite3.Error:
        return None


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
