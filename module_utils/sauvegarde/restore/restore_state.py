"""A restore's state on disk: one folder a run, a JSON file replaced by rename, a kernel lock a database.

The lock is held by every process of a run and falls with the last of them. A state that says `running` is that of a run
that was killed where the lock is free, or where whoever took it is gone: a worker of pg_restore's can outlive its run
by hours.
"""

import contextlib
import hashlib
import os
import threading
import time
from pathlib import Path

from ..archive import ids
from ..errors import SauvegardeError
from ..report import job_state as files
from ..report import render
from ..system import lock, private_directory

NAME = "state.json"
HEARTBEAT = 2.0
_PATIENCE = 100  # tenths of a second: a child that lost its session is soon gone
RUNNING, READY, FAILED, KILLED, SWAPPED, BACK = "running", "ready", "failed", "killed", "swapped", "rolled back"


def _lock_path(directory, database):
    return Path(directory) / (hashlib.sha256(database.encode("utf-8")).hexdigest()[:16] + ".lock")


@contextlib.contextmanager
def hold(directory, database):
    """Hold the lock of one database's restores for the block; raises Locked where another run has it."""
    path = _lock_path(directory, database)
    with contextlib.ExitStack() as stack:
        for tried in range(_PATIENCE):
            try:
                stack.enter_context(lock.hold(path, f"A restore of {database}"))
                break
            except SauvegardeError:
                # Whoever only asks whether a run lives holds it for a moment; an orphan for as long as its session.
                if tried == _PATIENCE - 1 or (tried > _PATIENCE // 10 and _holder(path)):
                    raise
                time.sleep(0.1)
        yield


def _holder(path):
    """Whether the process that took the lock is still there, and not only a child that it left."""
    text = path.read_text("ascii", "replace").strip()
    return bool(text) and Path("/proc", text).exists()


def _lives(directory, database):
    """Whether a run of this database goes on: its lock is held, and not by orphans."""
    path = _lock_path(directory, database)
    try:
        with lock.hold(path, ""):
            return False
    except SauvegardeError:
        return _holder(path)


def folder(directory):
    """The private folder that holds the runs, made where it is missing."""
    path = Path(directory)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    private_directory.check_private(path)
    return path


def load(path):
    """The state in a run's folder; {} where it holds none yet."""
    return files.read(Path(path) / NAME)


def runs(directory, database=None):
    """States of all runs here, newest first, `killed` told from `running` by the lock."""
    found = []
    for identifier in sorted(ids.list_ids(directory), reverse=True):
        state = load(Path(directory) / identifier)
        if not state or (database is not None and state["database"] != database):
            continue
        if state["status"] == RUNNING and not _lives(directory, state["database"]):
            state["status"] = KILLED
        found.append(state)
    return found


class State:
    """The state of one run, written at each change and by a heartbeat while the run lives.

    `line` says it for people. `watch`, where set, is called by the heartbeat and returns values to add (bytes, tables).
    """

    def __init__(self, directory, identifier, **values):
        self.path = Path(directory) / identifier
        self.values = dict(values, id=identifier, status=RUNNING, step="start", steps=[], pid=os.getpid())
        self.values.update(started=time.time(), heartbeat=time.time(), elapsed=0.0)
        self.watch = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self):
        self.path.mkdir(mode=0o700)
        self.update()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def update(self, **values):
        """Change values and write the file whole. On a full disk only a change of status must be written, or fails."""
        with self._lock:
            now = time.time()
            if values.get("step", self.values["step"]) != self.values["step"] or not self.values["steps"]:
                self.values["steps"].append({"name": values.get("step", self.values["step"]), "started": now})
            self.values.update(values, heartbeat=now, elapsed=round(now - self.values["started"], 1))
            self.values["line"] = render.of_progress(self.values)
            try:
                files.write(self.path / NAME, self.values)
            except OSError:
                if "status" in values:
                    raise

    def note(self, **values):
        """Change values, for the next heartbeat to write."""
        with self._lock:
            self.values.update(values)

    def _beat(self):
        while not self._ended.wait(HEARTBEAT):
            watch = self.watch
            self.update(**(watch() if watch else {}))


def change(directory, identifier, **values):
    """Change the state of a run that has ended."""
    path = Path(directory) / identifier / NAME
    files.write(path, dict(files.read(path), **values))


def swapped(directory, database):
    """The run whose database is the live one now; {} where none is, or where somebody went back to the one before.

    One that was killed while it was swapped in counts: its database may be the live one.
    """
    if not Path(directory).is_dir():
        return {}
    found = [
        each
        for each in runs(directory, database)
        if each["status"] == SWAPPED or (each["status"] == READY and each.get("swapped_at"))
    ]
    # Runs of an earlier version do not say when.
    return max(found, key=lambda each: each.get("swapped_at", each["id"]), default={})
