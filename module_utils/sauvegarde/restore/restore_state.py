"""Keep the state of restores on disk: one folder per run, a JSON file replaced by rename, a kernel lock per database.

Every process of a run holds the lock, so it is released with the last of them. A state that says `running` is that of a
killed run if the lock is free, or if the process that took it has ended: a worker of pg_restore can outlive its run by
hours.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Callable

from ..archive import ids
from ..errors import SauvegardeError
from ..report import job_state, journal, render
from ..system import lock, private_directory
from .run_state import BACK, FAILED, KILLED, OPENED, READY, RUNNING, SWAPPED, RunState

__all__ = ["BACK", "FAILED", "KILLED", "OPENED", "READY", "RUNNING", "SWAPPED", "RunState"]

NAME = "state.json"
DEBUG = "debug.log"  # beside it, if debug lines are shown
HEARTBEAT = 2.0  # seconds
_PATIENCE = 100  # tenths of a second: a child that lost its session soon ends
_logger = logging.getLogger(journal.LOGGER)


def _lock_path(directory: str | Path, database: str) -> Path:
    return Path(directory) / (hashlib.sha256(database.encode("utf-8")).hexdigest()[:16] + ".lock")


@contextlib.contextmanager
def hold(directory: str | Path, database: str) -> Iterator[None]:
    """Hold the lock of one database's restores during the block. Raises Locked if another run has it."""
    path = _lock_path(directory, database)
    with contextlib.ExitStack() as stack:
        for attempt in range(_PATIENCE):
            try:
                stack.enter_context(lock.hold(path, f"A restore of {database}"))
                break
            except SauvegardeError:
                # A process that asks whether a run lives holds it for a moment; an orphan for as long as its session.
                if attempt == _PATIENCE - 1 or (attempt > _PATIENCE // 10 and _holder_lives(path)):
                    raise
                time.sleep(0.1)
        yield


def _holder_lives(path: Path) -> bool:
    """Return whether the process that took the lock still runs, and not only a child of it."""
    pid = path.read_text("ascii", "replace").strip()
    return bool(pid) and Path("/proc", pid).exists()


def _lives(directory: str | Path, database: str) -> bool:
    """Return whether a run of this database goes on: its lock is held, and not by orphans."""
    path = _lock_path(directory, database)
    try:
        with lock.hold(path, ""):
            return False
    except SauvegardeError:
        return _holder_lives(path)


def folder(directory: str | Path) -> Path:
    """Return the private folder of the runs, which is created if it is missing."""
    path = Path(directory)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    private_directory.check_private(path)
    return path


def load(path: str | Path) -> RunState | None:
    """Return the state in a run's folder; None if there is none yet."""
    values = job_state.read(Path(path) / NAME)
    return RunState.from_values(values, Path(path) / NAME) if values else None


def runs(directory: str | Path, database: str | None = None) -> list[RunState]:
    """Return the states of all runs here, newest first. The lock distinguishes `killed` from `running`."""
    states = []
    for identifier in sorted(ids.list_ids(directory), reverse=True):
        state = load(Path(directory) / identifier)
        if state is None or (database is not None and state.database != database):
            continue
        if state.status == RUNNING and not _lives(directory, state.database):
            state = state.with_values(status=KILLED)
        states.append(state)
    return states


class State:
    """The state of one run, written at each change and by a heartbeat while the run lives.

    The value `line` describes it to people. watch: called by the heartbeat, if it is set; returns values to add (bytes,
    tables).
    """

    def __init__(self, directory: str | Path, identifier: str, **values: Any) -> None:
        self.path = Path(directory) / identifier
        self.values: dict[str, Any] = dict(
            values, id=identifier, status=RUNNING, step="start", steps=[], pid=os.getpid()
        )
        self.values.update(started=time.time(), heartbeat=time.time(), elapsed=0.0)
        self.watch: Callable[[], dict[str, Any]] | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> State:
        self.path.mkdir(mode=0o700)
        journal.copy_debug(self.path / DEBUG)
        self.update()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def update(self, **values: Any) -> None:
        """Change values and write the whole file. On a full disk this fails only if the status changes."""
        with self._lock:
            now = time.time()
            if values.get("step", self.values["step"]) != self.values["step"] or not self.values["steps"]:
                self.values["steps"].append({"name": values.get("step", self.values["step"]), "started": now})
                _logger.debug("run %s: step %s", self.values["id"], self.values["steps"][-1]["name"])
            self.values.update(values, heartbeat=now, elapsed=round(now - self.values["started"], 1))
            self.values["line"] = render.of_progress(self.values)
            try:
                job_state.write(self.path / NAME, self.values)
            except OSError:
                if "status" in values:
                    raise

    def note(self, **values: Any) -> None:
        """Change values, for the next heartbeat to write."""
        with self._lock:
            self.values.update(values)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            watch = self.watch
            self.update(**(watch() if watch else {}))


def change(directory: str | Path, identifier: str, **values: Any) -> None:
    """Change the state of a run that has ended."""
    path = Path(directory) / identifier / NAME
    job_state.write(path, dict(job_state.read(path), **values))


def swapped(directory: str | Path, database: str) -> RunState | None:
    """Return the run whose database is the live one now; None if none is, or if it was rolled back.

    One that was killed during its swap counts: its database may be the live one.
    """
    if not Path(directory).is_dir():
        return None
    states = [
        run for run in runs(directory, database) if run.status == SWAPPED or (run.status == READY and run.swapped_at)
    ]
    # Runs of an earlier version do not record the swap.
    return max(states, key=lambda run: run.swapped_at if "swapped_at" in run.values else run.id, default=None)
