"""Swap SQLite files: a side file takes the live file's place, and a previous one takes it back.

The live file gets a second name first (NAME__before_ID, a hard link), then the side file takes its name by a rename: at
every moment the name stands for a whole database. An exclusive lock keeps readers and writers out meanwhile. A process
that has the live file open still sees the previous database: SQLite refuses to write there (its file was moved), and
Django opens the file again for each request.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

from ..errors import Locked, SauvegardeError
from ..postgres import database_names
from ..postgres.database_names import PREVIOUS, SIDE
from ..postgres.postgres_server import Server
from ..system import file_sync, private_directory
from . import sqlite_file
from .target import (
    Finish,
    KeptDatabase,
    LiveDatabase,
    Reservation,
    Session,
    Survey,
    SwapResult,
    choose_previous,
)

FENCE = 10.0  # maximum seconds that a swap waits for readers and writers to finish
RUNS = ".sauvegarde"  # the runs' folder, beside the file: its owner can write there
_COMPANIONS = ("-journal", "-wal", "-shm")
# Tables that SQLite keeps behind a virtual one (full text, R*Tree) and creates with it.
_SHADOWS = (
    "_data", "_idx", "_content", "_docsize", "_config", "_segments", "_segdir", "_stat", "_node", "_rowid", "_parent"
)  # fmt: skip


@dataclass(frozen=True)
class SqliteTarget:
    """A target in an SQLite file (targets.target.Target). database: the file's absolute path."""

    database: str

    @property
    def path(self) -> Path:
        return Path(self.database)

    @property
    def label(self) -> str:
        return self.path.name

    @property
    def runs_directory(self) -> Path:
        return self.path.with_name(RUNS)

    def side_name(self, identifier: str) -> str:
        return str(self.path.with_name(database_names.side_name(self.label, identifier)))

    def previous_name(self, identifier: str) -> str:
        return str(self.path.with_name(database_names.previous_name(self.label, identifier)))

    def exists(self, name: str) -> bool:
        return Path(name).exists()

    def is_whole(self, name: str) -> bool:
        return self.exists(name)

    def live_facts(self) -> dict[str, Any]:
        """Return the file's device and inode: a swap gives another file its name."""
        if not self.path.exists():
            return {}
        status = self.path.stat()
        return {"device": status.st_dev, "inode": status.st_ino}

    def _files(self, kind: str) -> list[Path]:
        """Return the files of one kind beside the live one, without SQLite's companions."""
        if not self.path.parent.is_dir():
            return []
        files = self.path.parent.iterdir()
        return sorted(file for file in files if database_names.belongs(file.name, self.label, kind))

    def side_databases(self) -> list[str]:
        return [str(file) for file in self._files(SIDE)]

    def kept(self) -> list[KeptDatabase]:
        """Return the previous files, newest first; side files are not among them.

        A second name of the live file itself, left by a swap that was killed, is not a previous database.
        """
        previous = []
        for file in self._files(PREVIOUS):
            if not (self.path.exists() and file.samefile(self.path)):
                parts = database_names.parse(file.name)
                identifier = parts.identifier if parts else ""
                previous.append(KeptDatabase(str(file), PREVIOUS, identifier, file.stat().st_size))
        return sorted(previous, key=lambda database: database.id, reverse=True)

    def sessions(self) -> list[Session]:
        """Return the other processes that have the file open, as far as this user may look."""
        if not self.path.exists():
            return []
        status = self.path.stat()
        sessions = []
        for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                opened = descriptor.stat()
                pid = int(descriptor.parts[2])
                if (opened.st_dev, opened.st_ino) == (status.st_dev, status.st_ino) and pid != os.getpid():
                    command = Path("/proc", str(pid), "comm").read_text().strip()
                    sessions.append(Session(pid, "", command, "", "open"))
        return sessions

    @contextlib.contextmanager
    def _exclusive(self, fence: float) -> Iterator[str]:
        """Keep others from the live file during the block, with all data in that one file. Yields its journal mode."""
        try:
            with contextlib.closing(sqlite_file.connect(self.path, "rw")) as connection:
                connection.execute(f"PRAGMA busy_timeout = {int(fence * 1000)}")
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
                if mode == "wal":
                    # Leaving WAL mode requires the only connection, and merges the log into the file.
                    connection.execute("PRAGMA journal_mode = DELETE")
                connection.execute("BEGIN EXCLUSIVE")
                yield mode
                connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            holders = [f"{session.pid} {session.application}" for session in self.sessions()]
            raise Locked(
                f"The swap of {self.database} did not happen; the live file is as it was.",
                "\n".join([str(error), *holders]),
                "Stop what uses the file, and run it again.",
            ) from error

    def exchange(self, incoming: str, outgoing: str, fence: float) -> SwapResult:
        """Give the live file (if there is one) the second name `outgoing`, then `incoming` its name, or change nothing.

        `ended` of the result is 0: a file has no sessions to end.
        """
        if not Path(incoming).exists():
            raise SauvegardeError(f"There is no file {incoming} to put in place.")
        if Path(outgoing).exists() and not (self.path.exists() and Path(outgoing).samefile(self.path)):
            raise SauvegardeError(f"There already is a file {outgoing}.")
        started = time.monotonic()
        mode = ""
        with contextlib.ExitStack() as stack:
            if self.path.exists():
                mode = stack.enter_context(self._exclusive(fence))
                for file in self._files(PREVIOUS):
                    if file.samefile(self.path):
                        file.unlink()
                os.link(self.path, outgoing)
            Path(incoming).rename(self.path)
            file_sync.sync(self.path.parent)
        if mode == "wal":
            # The mode belongs to the file. A reader of the previous one may prevent the change; then it stays without.
            with (
                contextlib.suppress(sqlite3.Error),
                contextlib.closing(sqlite_file.connect(outgoing, "rw")) as connection,
            ):
                connection.execute("PRAGMA journal_mode = WAL")
        return SwapResult(round(time.monotonic() - started, 3), 0)

    def swap_in(self, side: str, identifier: str, fence: float | None = None) -> SwapResult:
        live = self.path.exists()
        outgoing = self.previous_name(identifier)
        result = self.exchange(side, outgoing, FENCE if fence is None else fence)
        return replace(result, kept=outgoing if live else None)

    def choose_previous(self, name: str = "") -> str:
        return choose_previous(self.database, [database.name for database in self.kept()], name)

    def roll_back(self, identifier: str, name: str = "") -> SwapResult:
        incoming = self.choose_previous(name)
        return replace(self.swap_in(incoming, identifier), restored=incoming)

    def remove(self, name: str) -> bool:
        if name not in [str(file) for file in self._files(PREVIOUS)] and Path(name).exists():
            raise SauvegardeError(
                f"{name} is not a file kept from a swap of {self.database}.",
                f"Kept files are named {self.database}__before_ID.",
                "Only those are removed here; remove others by hand.",
            )
        return self.drop(name)

    def drop(self, name: str) -> bool:
        existed = Path(name).exists()
        for path in (name, *(name + companion for companion in _COMPANIONS)):
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
        return existed

    def with_server(self, action: Callable[[Server], list[str]]) -> list[str]:
        return []

    def survey(self, tables: Sequence[str]) -> Survey:
        live = None
        if self.path.exists():
            others = tuple(self._other_objects(tables))
            live = LiveDatabase(self.path.stat().st_size, tuple(self.sessions()), others)
        return Survey(
            version="SQLite " + sqlite3.sqlite_version,
            system="",
            postgis="",
            standby=False,
            live=live,
            kept=tuple(self.kept()),
            obstacles=tuple(self._obstacles()),
        )

    def _obstacles(self) -> list[str]:
        if not self.path.parent.is_dir():
            return [f"The folder {self.path.parent} does not exist."]
        try:
            private_directory.check_private_if_present(self.runs_directory)
        except SauvegardeError as error:
            return [str(error)]
        return []

    def _other_objects(self, tables: Sequence[str]) -> list[str]:
        """Return the tables and views of the live file that are not among the site's."""
        with contextlib.closing(sqlite_file.connect(self.path)) as connection:
            objects = connection.execute(
                "SELECT name, type, sql LIKE 'CREATE VIRTUAL%' FROM sqlite_master"
                " WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
            ).fetchall()
        shadows = {name + suffix for name, _, is_virtual in objects if is_virtual for suffix in _SHADOWS}
        others = [(name, kind) for name, kind, _ in objects if name not in shadows and name not in tables]
        return sorted(name + (" (view)" if kind == "view" else "") for name, kind in others)

    def system_identifier(self) -> str:
        return ""

    def obstacles_to_open(self) -> list[str]:
        return []

    def backup_job(self) -> dict[str, Any]:
        return {"kind": "sqlite", "path": self.database}

    def create_side(self, name: str) -> None:
        """Create an empty file with the live one's permissions: the site's migrations make the database in it."""
        side = Path(name)
        side.touch(mode=0o640)
        if self.path.exists():
            shutil.copymode(self.path, side)

    def copy_live(self, reserve: Callable[[], Reservation], restore: Callable[[], Reservation]) -> Reservation:
        reservation = reserve()
        self.create_side(reservation.side)
        with (
            contextlib.closing(sqlite_file.connect(self.path)) as live,
            contextlib.closing(sqlite_file.connect(reservation.side, "rw")) as side,
        ):
            live.backup(side)
            side.execute("PRAGMA journal_mode = DELETE")
        return reservation

    def differences(self, name: str, tables: Iterable[str], rows: Mapping[str, int]) -> list[str]:
        live: set[str] = set()
        if self.path.exists():
            with contextlib.closing(sqlite_file.connect(self.path)) as connection:
                live = _table_names(connection)
        sentences = []
        with contextlib.closing(sqlite_file.connect(name)) as side:
            present = _table_names(side)
            for table in sorted({*tables, *rows}):
                if table.lower() not in present:
                    sentences += [f"The table {table} is missing."] if table in rows or table.lower() in live else []
                elif table in rows:
                    quoted = '"' + table.replace('"', '""') + '"'
                    count = side.execute("SELECT count(*) FROM " + quoted).fetchone()[0]
                    if count != rows[table]:
                        sentences.append(f"The table {table} holds {count} rows, not {rows[table]}.")
        return sentences

    def finish(self, name: str) -> Finish:
        """Check the side file, take its statistics, and give it the live file's journal mode."""
        with contextlib.closing(sqlite_file.connect(name, "rw")) as connection:
            sqlite_file.check(connection, name)
            connection.execute("ANALYZE")
            if self.path.exists():
                with contextlib.closing(sqlite_file.connect(self.path)) as live:
                    mode = live.execute("PRAGMA journal_mode").fetchone()[0]
                if mode == "wal":
                    connection.execute("PRAGMA journal_mode = WAL")
        return Finish((), Path(name).stat().st_size)


def _table_names(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the tables, in lower case."""
    return {name.lower() for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
