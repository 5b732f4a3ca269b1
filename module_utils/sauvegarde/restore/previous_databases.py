"""List and remove what restores left beside live databases, and name the losses that live ones were restored with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..targets.target import Target
from . import recovery, restore_state, restore_swap


def remove(target: Target, name: str) -> bool:
    """Remove a previous or a side database by its whole name. Returns whether it was there."""
    with restore_swap.hold(target):
        # A side database that is gone means that its swap happened, so interrupted swaps are settled before.
        recovery.settle_swaps(target)
        return target.remove(name)


def losses_of_live(directory: str | Path, database: str = "") -> list[dict[str, Any]]:
    """Return the accepted losses of live databases, [{database, id, objects}], of the swaps that hold.

    directory: of the runs. database: of this one alone.
    """
    directory = Path(directory)
    if not directory.is_dir():
        return []
    losses = []
    for name in sorted({run.database for run in restore_state.runs(directory)}):
        live = restore_state.swapped(directory, name)
        if live and live.losses and database in ("", name):
            objects = [loss["object"] for loss in live.losses]
            losses.append({"database": name, "id": live.id, "objects": objects})
    return losses
