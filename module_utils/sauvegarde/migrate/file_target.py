"""The target in an SQLite file, as its keeper sees it: everything here runs as the site's own user.

`spec`: database (the file's absolute path), path and mark (of the archive). Same functions as `server`.
"""

import contextlib
import shutil
import sqlite3
from pathlib import Path

from ..archive import ids
from ..backup import kinds
from ..backup.kinds import sqlite
from ..errors import SauvegardeError
from ..restore import restore_run, restore_state
from ..system import disk_space, private_directory
from ..targets import sqlite_target

_SAFETY = "safety"


def _folder(spec):
    return restore_state.folder(sqlite_target.directory(spec["database"]))


# Tables that SQLite keeps behind a virtual one (full text, R*Tree) and makes with it.
_SHADOWS = ("_data", "_idx", "_content", "_docsize", "_config", "_segments", "_segdir", "_stat", "_node", "_rowid")
_SHADOWS += ("_parent",)


def look(spec, tables):
    """{"version", "live" (None, or {"bytes", "sessions", "others"}), "kept", "obstacles", "free", "system": ""}."""
    path = Path(spec["database"])
    live = None
    if path.exists():
        live = {
            "bytes": path.stat().st_size,
            "sessions": sqlite_target.sessions(str(path)),
            "others": _others(path, tables),
        }
    return {
        "version": "SQLite " + sqlite3.sqlite_version,
        "system": "",
        "live": live,
        "kept": sqlite_target.kept(str(path)),
        "obstacles": _obstacles(path),
        "free": disk_space.free_bytes(path.parent) if path.parent.is_dir() else 0,
    }


def _obstacles(path):
    if not path.parent.is_dir():
        return [f"The folder {path.parent} does not exist."]
    try:
        private_directory.check_private_if_present(sqlite_target.directory(str(path)))
    except SauvegardeError as error:
        return [str(error)]
    return []


def _others(path, tables):
    with contextlib.closing(sqlite.connect(path)) as connection:
        found = connection.execute(
            "SELECT name, type, sql LIKE 'CREATE VIRTUAL%' FROM sqlite_master"
            " WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        ).fetchall()
    shadows = {name + suffix for name, _, is_virtual in found if is_virtual for suffix in _SHADOWS}
    found = [(name, kind) for name, kind, _ in found if name not in shadows]
    return sorted(name + (" (view)" if kind == "view" else "") for name, kind in found if name not in tables)


def system(spec):
    """A file is on no server."""
    return ""


def check(spec, name, tables, rows):
    """Sentences as `server.check`."""
    with contextlib.closing(sqlite.connect(name)) as side:
        here = _tables(side)
        live = set()
        if Path(spec["database"]).exists():
            with contextlib.closing(sqlite.connect(spec["database"])) as connection:
                live = _tables(connection)
        wrong = []
        for table in sorted({*tables, *rows}):
            if table.lower() not in here:
                wrong += [f"The table {table} is missing."] if table in rows or table.lower() in live else []
            elif table in rows:
                quoted = '"' + table.replace('"', '""') + '"'
                count = side.execute("SELECT count(*) FROM " + quoted).fetchone()[0]
                wrong += [f"The table {table} holds {count} rows, not {rows[table]}."] if count != rows[table] else []
    return wrong


def _tables(connection):
    return {name.lower() for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def lock_in(spec):
    directory = _folder(spec)
    with restore_state.hold(directory, spec["database"]):
        return str(directory)


def reserve(spec):
    directory = _folder(spec)
    restore_run.give_up(directory, spec)
    for each in restore_state.runs(directory, spec["database"]):
        if each["status"] == restore_state.RUNNING:
            # The lock is the caller's, so what says that it runs was killed.
            restore_state.change(directory, each["id"], status=restore_state.KILLED)
    for path in sqlite_target.leftovers(spec["database"]):
        sqlite_target.drop(path)
    identifier = ids.new_id(directory)
    name = sqlite_target.side(spec["database"], identifier)
    with restore_state.State(
        directory, identifier, database=spec["database"], side=name, mode="swap", path=spec["path"], mark=spec["mark"]
    ):
        return {"id": identifier, "side": name}


def end(spec, identifier, status, masked=False):
    restore_state.change(_folder(spec), identifier, status=status, step=status, migration=True, masked=masked)


def is_masked(spec):
    return bool(restore_state.swapped(sqlite_target.directory(spec["database"]), spec["database"]).get("masked"))


def safety(spec):
    if not Path(spec["database"]).exists():
        return ""
    root = _folder(spec) / _SAFETY
    (root / "live").mkdir(mode=0o700, parents=True, exist_ok=True)
    job = {"name": "live", "kind": "sqlite", "path": spec["database"]}
    return str(root / "live" / kinds.back_up(job, root)["id"])


def create(spec, name):
    """The site's migrations make the file; it only gets the live one's rights."""
    live, new = Path(spec["database"]), Path(name)
    new.touch(mode=0o640)
    if live.exists():
        shutil.copymode(str(live), str(new))


def copy(spec, _archive):
    """A side file that holds what the live one does. Returns as `reserve`."""
    reserved = reserve(spec)
    create(spec, reserved["side"])
    with contextlib.closing(sqlite.connect(spec["database"])) as live, contextlib.closing(
        sqlite.connect(reserved["side"], "rw")
    ) as side:
        live.backup(side)
        side.execute("PRAGMA journal_mode = DELETE")
    return reserved


def finish(spec, name):
    """Integrity, statistics, and the live file's journal mode."""
    with contextlib.closing(sqlite.connect(name, "rw")) as connection:
        sqlite.check(connection, name)
        connection.execute("ANALYZE")
        if Path(spec["database"]).exists():
            with contextlib.closing(sqlite.connect(spec["database"])) as live:
                mode = live.execute("PRAGMA journal_mode").fetchone()[0]
            if mode == "wal":
                connection.execute("PRAGMA journal_mode = WAL")
    return {"skipped": [], "bytes": Path(name).stat().st_size}


def drop(spec, name):
    sqlite_target.drop(name)
