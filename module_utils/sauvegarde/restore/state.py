"""A restore's state on disk: one folder a run, a JSON file replaced by rename, a kernel lock a database.

The lock is held by every process of a run and falls with the last of them, so a state that says `running` under a free
lock is that of a run that was killed.
"""

import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from pathlib import Path

from .. import archive, process
from ..errors import LOCKED, SauvegardeError

NAME = "state.json"
HEARTBEAT = 2.0
_PATIENCE = 10
RUNNING, READY, FAILED, KILLED, SWAPPED = "running", "ready", "failed", "killed", "swapped"


class Lock:
    """The lock of one database's restores. Its descriptor is inherited by every child."""

    def __init__(self, directory, database):
        self.path = Path(directory) / (hashlib.sha256(database.encode("utf-8")).hexdigest()[:16] + ".lock")
        self._descriptor = None

    def acquire(self):
        """True if it is ours now, False if another run holds it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(str(self.path), flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        process.inherit(descriptor)
        return True

    def release(self):
        if self._descriptor is not None:
            process.disinherit(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self):
        # Whoever only asks whether a run lives (`runs`) holds the lock for a moment.
        for _ in range(_PATIENCE):
            if self.acquire():
                return self
            time.sleep(0.1)
        raise SauvegardeError(
            "A restore of this database is running on this host.",
            f"Its lock is {self.path}.",
            "Wait for it, or look at its progress.",
            LOCKED,
        )

    def __exit__(self, *_):
        self.release()


def folder(directory):
    """The private folder that holds the runs, made where it is missing."""
    path = Path(directory)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    archive.check_directory(path)
    return path


def load(path):
    """The state in a run's folder, None where it holds none yet."""
    try:
        return json.loads((Path(path) / NAME).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def runs(directory, database=None):
    """States of all runs here, newest first, `killed` told from `running` by the lock."""
    found = []
    for identifier in sorted(archive.identifiers(directory), reverse=True):
        state = load(Path(directory) / identifier)
        if state is None or (database is not None and state["database"] != database):
            continue
        if state["status"] == RUNNING:
            lock = Lock(directory, state["database"])
            if lock.acquire():
                lock.release()
                state["status"] = KILLED
        found.append(state)
    return found


class State:
    """The state of one run, written at each change and by a heartbeat while the run lives.

    `watch`, where set, is called by the heartbeat and returns values to add (bytes, tables).
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
        """Change values and write the file whole."""
        with self._lock:
            now = time.time()
            if values.get("step", self.values["step"]) != self.values["step"] or not self.values["steps"]:
                self.values["steps"].append({"name": values.get("step", self.values["step"]), "started": now})
            self.values.update(values, heartbeat=now, elapsed=round(now - self.values["started"], 1))
            new = self.path / (NAME + ".new")
            with new.open("w", encoding="utf-8") as file:
                json.dump(self.values, file)
                file.flush()
                os.fsync(file.fileno())
            new.rename(self.path / NAME)

    def _beat(self):
        while not self._ended.wait(HEARTBEAT):
            watch = self.watch
            self.update(**(watch() if watch else {}))


def forget(directory, identifier):
    """Remove a run's folder."""
    shutil.rmtree(str(Path(directory) / identifier), ignore_errors=True)


def change(directory, identifier, **values):
    """Change the state of a run that has ended."""
    path = Path(directory) / identifier
    state = load(path)
    state.update(values)
    new = path / (NAME + ".new")
    new.write_text(json.dumps(state), "utf-8")
    new.rename(path / NAME)
    return state
