"""Start a restore that goes on by itself, and ask how it is going: whoever waits for it may go away."""

import time
from pathlib import Path

from ..archive import ids
from ..errors import Locked, SauvegardeError
from ..system.detach import start_detached
from . import restore_run, restore_state

_STARTING = 30.0  # seconds until a run must have written its first state


def start(spec):
    """Start a run and return its state at once; or the state of the one that is there already for the same source:
    proven and waiting for its swap, or still running. Keys as State's; `started_now` tells which."""
    spec = restore_run.settled(spec)
    directory = restore_state.folder(spec["directory"])
    waiting = restore_run.ready(spec)
    if waiting and waiting["mark"] == restore_run.mark(spec):
        return dict(waiting, started_now=False)
    newest = next(
        (each for each in restore_state.runs(directory, spec["database"]) if each["status"] == restore_state.RUNNING),
        None,
    )
    if newest:
        if newest["mark"] == restore_run.mark(spec):
            return dict(newest, started_now=False)
        raise Locked(
            "Another restore of {} is running on this host.".format(spec["database"]),
            "It restores {}.".format(newest["path"]),
            "Wait for its end.",
        )
    return launch(directory, ids.new_id(directory), restore_run.fill, spec)


def launch(directory, identifier, fill, spec):
    """Have `fill(spec, identifier)` go on by itself; its first state, with `started_now`, as soon as it wrote one."""
    with start_detached(lambda: fill(spec, identifier)).errors as errors:
        until = time.monotonic() + _STARTING
        while time.monotonic() < until:
            found = restore_state.load(directory / identifier)
            if found:
                return dict(found, started_now=True)
            time.sleep(0.1)
        raise SauvegardeError("The run did not start.", errors.read(65536).decode("utf-8", "replace"))


def ask(directory, identifier):
    """The state of a run; `killed` where it says that it runs and nobody does."""
    directory = Path(directory)
    for each in restore_state.runs(directory):
        if each["id"] == identifier:
            return each
    raise SauvegardeError(f"There is no run {identifier} in {directory}.")
