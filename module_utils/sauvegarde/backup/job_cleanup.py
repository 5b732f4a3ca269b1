"""Remove state and secrets of jobs that are no longer in the inventory. Their archives stay."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .. import config
from ..archive import ids
from ..errors import Locked, SauvegardeError
from ..offsite import credentials
from ..system import lock


@dataclass
class Cleanup:
    """What was (or would be) removed: names of jobs, then paths. `warnings` name jobs whose run did not end."""

    removed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def clean_up(
    job_folders: Iterable[str],
    repositories: Iterable[str],
    states: str | Path = config.STATES,
    manifests: str | Path = config.MANIFESTS,
    configuration: str | Path = config.CONFIGURATION,
    check: bool = False,
    patience: float = 60,
) -> Cleanup:
    """Remove what former jobs and repositories left, except archives. With `check` only return what would be removed.

    job_folders: names of the folders in `states` that stay. repositories: names of those whose manifests stay.
    patience: seconds to wait for a run of a former job.
    """
    jobs, folders = _leftovers(job_folders, repositories, states, manifests, configuration)
    result = Cleanup()
    try:
        for name in jobs:
            try:
                if not check:
                    _remove_job(name, states, patience)
                result.removed.append(name)
            except Locked as error:
                result.warnings.append(f"The state of the former job {name} stays until the next run. {error}")
        for folder in folders:
            if not check:
                shutil.rmtree(folder)
            result.removed.append(str(folder))
    except OSError as error:
        raise SauvegardeError(
            "State of former jobs cannot be removed.", str(error), "Make it removable for root, then run this again."
        ) from error
    return result


def _leftovers(
    job_folders: Iterable[str],
    repositories: Iterable[str],
    states: str | Path,
    manifests: str | Path,
    configuration: str | Path,
) -> tuple[list[str], list[Path]]:
    """Return the names of former jobs, and folders of former repositories."""
    secrets = {folder.name for folder in _folders(credentials.RUN)}
    former = secrets.union(folder.name for folder in _folders(states) if _is_state(folder)).difference(job_folders)
    copied_to = set(repositories)
    caches = [folder for folder in _folders(manifests) if folder.name not in copied_to]
    # Earlier versions kept the settings of repositories in a folder for each user.
    return sorted(former), sorted(caches + _folders(Path(configuration) / "offsite"))


def _folders(path: str | Path) -> list[Path]:
    try:
        return [entry for entry in Path(path).iterdir() if ids.is_job_name(entry.name) and entry.is_dir()]
    except FileNotFoundError:
        return []


def _is_state(folder: Path) -> bool:
    """Return whether a folder is a job's state: it has a lock, or nothing at all."""
    return os.path.lexists(folder / "lock") or not list(folder.iterdir())


def _remove_job(name: str, states: str | Path, patience: float) -> None:
    """Remove the state of a former job and its secrets. Raises Locked if its run does not end in `patience` seconds."""
    folder, until = Path(states) / name, time.monotonic() + patience
    while True:
        try:
            with contextlib.ExitStack() as stack:
                has_state = folder.is_dir() and _is_state(folder)
                if has_state:
                    stack.enter_context(lock.hold(folder / "lock", f"The job {name}"))
                credentials.remove(name)
                if has_state:
                    shutil.rmtree(folder)
                return
        except Locked:
            if time.monotonic() >= until:
                raise
        time.sleep(0.5)
