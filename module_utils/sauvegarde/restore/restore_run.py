"""Run one restore: into a side database that is proven, under a lock and with a state that survives the process.

A run ends at a safe point: the side database is proven, and the live database is unchanged. restore.restore_swap swaps
them. If a run is killed at any step, the next one reads its state and cleans up or continues (restore.recovery).
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import psycopg2

from ..archive import ids
from ..errors import SauvegardeError
from ..postgres import disk_guard, postgres_server
from . import recovery, restore_state
from .request import RestoreRequest
from .side_restore import SideRestore


def fill(request: RestoreRequest, identifier: str = "", is_locked: bool = False) -> dict[str, Any]:
    """Restore into a side database and prove it. Returns the run's final state, whose status is `ready`.

    Raises if anything fails: the side database is dropped then, and the state has the error. The live database is not
    touched. identifier: of the run, if the caller needs to know it before. is_locked: the caller holds the lock.
    """
    target = request.target
    directory = restore_state.folder(target.directory)
    with contextlib.ExitStack() as stack:
        if not is_locked:
            _end_orphans(request)
            stack.enter_context(restore_state.hold(directory, target.database))
        identifier = identifier or ids.new_id(directory)
        side = target.side_name(identifier)
        run = stack.enter_context(
            restore_state.State(
                directory,
                identifier,
                database=target.database,
                side=side,
                mode=request.mode,
                path=request.path,
                globals=request.globals,
                mark=request.mark() if Path(request.path).exists() else None,
            )
        )
        try:
            run.update(**_restore(request, run, side))
        except BaseException as error:
            _record_failure(request, run, side, error)
            raise
        shutil.rmtree(run.path / "work", ignore_errors=True)
        return run.values


def _restore(request: RestoreRequest, run: restore_state.State, side: str) -> dict[str, Any]:
    """Clean up and restore. Returns the last values of the run's state."""
    # After the state exists: the caller waits for it, and dropping a large database takes time.
    run.update(step="clean")
    notes = recovery.settle_swaps(request.target)
    run.update(cleaned=recovery.clean(request.target, own=run.values["id"]))
    with request.target.maintenance() as connection:
        directories = disk_guard.server_directories(postgres_server.value(connection, "SHOW data_directory"))
    with disk_guard.guard(directories, lambda: _end_sessions(request, side)):
        result = SideRestore(request, run, side).restore()
    return dict(result, notes=notes + result["notes"], status=restore_state.READY, step="ready")


def _record_failure(request: RestoreRequest, run: restore_state.State, side: str, error: BaseException) -> None:
    """Remove what the run created, and record its error."""
    run.watch = None
    values = error.as_dict() if isinstance(error, SauvegardeError) else {"what": str(error) or repr(error)}
    # Free the space first: on a full disk the state could not be written.
    with contextlib.suppress(SauvegardeError, psycopg2.Error):
        request.target.drop(side)
    shutil.rmtree(run.path / "work", ignore_errors=True)
    run.update(status=restore_state.FAILED, error=values)


def _end_sessions(request: RestoreRequest, name: str) -> None:
    """End all sessions in a side database, if the server answers."""
    with contextlib.suppress(SauvegardeError, psycopg2.Error):
        request.target.end_sessions(name)


def _end_orphans(request: RestoreRequest) -> None:
    """End the sessions of children of killed runs: those children wait for the server, and hold the lock."""
    for run in restore_state.runs(request.target.directory, request.database):
        if run.status == restore_state.KILLED:
            _end_sessions(request, run.side)


def waiting_run(request: RestoreRequest) -> restore_state.RunState | None:
    """Return the newest proven run of this database whose side database is there and waits for its swap, or None."""
    for run in restore_state.runs(request.target.directory, request.database):
        if run.status == restore_state.READY and request.target.is_whole(run.side):
            return run
    return None
