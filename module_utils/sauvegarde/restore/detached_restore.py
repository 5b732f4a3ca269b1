"""Start a detached restore and return its state: the restore continues if the process that waits for it ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable

from ..archive import ids
from ..errors import Locked, SauvegardeError
from ..system.detach import start_detached
from . import restore_run, restore_state
from .request import RestoreRequest

_STARTING = 30.0  # seconds until a run must have written its first state


def start(request: RestoreRequest) -> dict[str, Any]:
    """Start a run and return its state at once, with `started_now`.

    If a run of the same source is proven and waits for its swap, or still runs, its state is returned instead. Raises
    Locked if a run of another source is running.
    """
    directory = restore_state.folder(request.target.directory)
    waiting = restore_run.waiting_run(request)
    if waiting and waiting.mark == request.mark():
        return dict(waiting.values, started_now=False)
    for run in restore_state.runs(directory, request.database):
        if run.status != restore_state.RUNNING:
            continue
        if run.mark == request.mark():
            return dict(run.values, started_now=False)
        raise Locked(
            f"Another restore of {request.database} is running on this host.",
            f"It restores {run.path}.",
            "Wait for its end.",
        )
    identifier = ids.new_id(directory)
    return launch(directory, identifier, lambda: restore_run.fill(request, identifier))


def launch(directory: Path, identifier: str, fill: Callable[[], object]) -> dict[str, Any]:
    """Start `fill` detached. Returns the run's first state, with `started_now`, as soon as it is written."""
    with start_detached(fill).errors as errors:
        until = time.monotonic() + _STARTING
        while time.monotonic() < until:
            state = restore_state.load(directory / identifier)
            if state:
                return dict(state.values, started_now=True)
            time.sleep(0.1)
        raise SauvegardeError("The run did not start.", errors.read(65536).decode("utf-8", "replace"))


def state_of(directory: str | Path, identifier: str) -> dict[str, Any]:
    """Return the state of a run; `killed` if it says `running` and its process has ended."""
    for run in restore_state.runs(directory):
        if run.id == identifier:
            return dict(run.values)
    raise SauvegardeError(f"There is no run {identifier} in {directory}.")
