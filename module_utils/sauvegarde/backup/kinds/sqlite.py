"""Back up a live SQLite database: copy it consistently, check the copy and fingerprint its tables (kind `sqlite`).

On request the copy is also published in a git repository with Git LFS, if its data changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ...archive import compression
from ...archive.archive_writer import Stage
from ...archive.manifest import Manifest
from ...django.fixture_file import replaced
from ...errors import SauvegardeError
from ...system import disk_space, git
from ...system.run_as import call_as
from ...targets.sqlite_file import check, connect
from ..kind import GitRepository, Notify, Part

PACKAGES = ("git", "git-lfs")
RESTORED_BY = "playbooks/migrate.yml"
ALGORITHM = "md5-sum-sqlite/1"
FILE = "database.sqlite3"


@dataclass(frozen=True)
class Options:
    """path: of the database file. repository: where the copy is published."""

    path: Path
    repository: GitRepository | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Options:
        return cls(Path(str(values["path"])), GitRepository.from_values(values.get("repository")))

    @property
    def published_file(self) -> str:
        """The name of the published file inside its repository."""
        return (self.repository.file if self.repository else "") or self.path.name


def preflight(options: Options, directory: Path, last: Manifest | None) -> None:
    """Check that the file is an SQLite database, that its copy has space, and that the repository can take it."""
    path, repository = options.path, options.repository
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            magic = stream.read(16)
    except OSError as error:
        raise SauvegardeError(f"The SQLite database cannot be read: {path}", str(error)) from error
    if magic != b"SQLite format 3\0":
        raise SauvegardeError(f"Not a SQLite database: {path}", "Its first bytes are not those of the format.")
    if repository:
        git.require_committable(repository.path, [options.published_file], repository.user)
        git.require_lfs(repository.path, options.published_file, repository.user)
    disk_space.require_space(directory, 2 * size)


def dump(options: Options, stage: Stage, facts: None, notify: Notify) -> Part:
    """Copy page by page under SQLite's own locks, check the copy's integrity, take its fingerprint."""
    path, copy_path = options.path, stage.path / FILE
    notify("copy", path=str(path))
    stage.create(FILE).close()
    try:
        with contextlib.closing(connect(path)) as source, contextlib.closing(connect(copy_path, "rw")) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # a copy in WAL mode would need its companions
            notify("check")
            check(copy, path)
            sums = fingerprint(copy)
            version = copy.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise SauvegardeError(f"The SQLite database could not be copied: {path}", str(error)) from error
    committed = _publish(options, copy_path, sums, notify)
    stage.compress([FILE])
    return Part(
        source={
            "path": str(path),
            "user_version": version,
            "database_bytes": path.stat().st_size,
            "commit": committed,
        },
        tools={"sqlite": sqlite3.sqlite_version, **compression.tool_versions()},
        fingerprint=sums,
        restore_by_hand={
            "local": ["# Stop the site first.", f"zstd -dq {FILE}.zst -o restored.sqlite3"],
            "plain": ["# Stop the site first.", f"cp {FILE} restored.sqlite3"],
        },
        warnings=[],
    )


def _publish(options: Options, copy_path: Path, sums: dict[str, Any], notify: Notify) -> str | None:
    """Commit the copy in the repository; return the new commit, or None where the data is the same."""
    repository = options.repository
    if repository is None:
        return None
    file = options.published_file
    with copy_path.open("rb") as source:
        # As the folder's owner, who could have put a link there to what only root may touch.
        call_as(repository.user, _replace, str(Path(repository.path) / file), source, sums)
    result = git.commit(
        repository.path,
        [file],
        repository.message or f"Update {file}",
        push=repository.push,
        user=repository.user,
        name=repository.name,
        email=repository.email,
    )
    notify("committed", commit=result.committed, pushed=result.pushed)
    return result.committed


def _replace(path: str, source: BinaryIO, sums: dict[str, Any]) -> None:
    # The same data in other pages: the file stays, so that LFS has no new object.
    if _published_sums(path) != sums:
        with replaced(path, 0o644) as copy:
            shutil.copyfileobj(source, copy)


def _published_sums(path: str) -> dict[str, Any] | None:
    """Return the fingerprint of a published file; None if there is no file, or an LFS pointer without its data."""
    try:
        with contextlib.closing(connect(path)) as connection:
            return fingerprint(connection)
    except sqlite3.Error:
        return None


def _json_value(value: object) -> object:
    return {"blob": value.hex()} if isinstance(value, bytes) else value


def _quote(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def fingerprint(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return per table the rows and an order-independent sum over the rows' values, exactly and with their types; the
    counters of AUTOINCREMENT as sequences. Columns are in order of their names. Virtual tables are only covered through
    their shadow tables."""
    tables: dict[str, dict[str, Any]] = {}
    counters: dict[str, list[Any]] = {}
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        " AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    ).fetchall()
    for (name,) in names:
        quoted = _quote(name)
        columns = sorted(row[1] for row in connection.execute(f"PRAGMA table_info({quoted})"))
        rows, total = 0, 0
        for row in connection.execute(f"SELECT {', '.join(map(_quote, columns))} FROM {quoted}"):
            text = json.dumps([_json_value(value) for value in row])
            total += int(hashlib.md5(text.encode("ascii")).hexdigest(), 16)
            rows += 1
        summed = json.dumps([columns, rows, total]).encode("ascii")
        tables[quoted] = {"rows": rows, "hash": hashlib.md5(summed).hexdigest()}
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
        counters = {name: [value, True] for name, value in connection.execute("SELECT name, seq FROM sqlite_sequence")}
    return {"algorithm": ALGORITHM, "tables": tables, "sequences": counters}
