"""Choose an archive on this host, or fetch one from a restic repository if its host is dead."""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from .. import catalog
from ..archive import archive_reader
from ..catalog import CatalogEntry
from ..errors import Damaged, SauvegardeError
from ..offsite import restic
from ..offsite.repository import Repository
from ..system import disk_space
from . import archive_choice, restore_state

PLACE = "fetched"
_LEAST_FREE = 1024 * 1024  # bytes; with less, a file that is cut short says nothing about the archive


def _choose(
    entries: Iterable[CatalogEntry], database: str, point: str, job: str, host: str, kinds: Collection[str]
) -> dict[str, Any]:
    """Return {changed, archive, globals, names, passed}, with the values of catalog entries.

    names: of the copies of archive and globals. passed: the damaged archives that would have been chosen before it.
    """
    values = [entry.as_dict() for entry in entries]
    archive = archive_choice.choose(values, database, point, job, host, kinds)
    passed = [
        entry
        for entry in values
        if entry["verified"] is False
        and (entry["host"], entry["job"]) == (archive["host"], archive["job"])
        and entry["id"] > archive["id"]
        and (point == "latest" or entry["id"] <= archive_choice.id_at(point))
    ]
    roles = archive_choice.roles_for(values, archive) if archive["kind"] == "pg_dump" else None
    # The host's name is a part of it: cron starts the same job on many hosts in the same second.
    names = [re.sub(r"[^\w.-]", "_", "{host}-{job}-{id}".format(**entry)) for entry in (archive, roles) if entry]
    return {"changed": False, "archive": archive, "globals": roles, "names": names, "passed": passed}


def from_host(
    root: str | Path,
    database: str,
    point: str = "latest",
    job: str = "",
    host: str = "",
    kinds: Collection[str] = ("pg_dump",),
) -> dict[str, Any]:
    """Choose among this host's own archives under `root`. The other arguments are those of archive_choice.choose.

    Returns {changed, archive, globals, names, passed, readers}: readers are the OS users that can read each of `names`.
    """
    result = _choose(catalog.local(root, host or socket.gethostname()), database, point, job, host, kinds)
    chosen = filter(None, (result["archive"], result["globals"]))
    return dict(result, readers=[catalog.reader(root, entry["job"]) for entry in chosen])


def from_restic(
    repository: Repository,
    directory: str | Path,
    database: str,
    point: str = "latest",
    job: str = "",
    host: str = "",
    kinds: Collection[str] = ("pg_dump",),
    check: bool = False,
) -> dict[str, Any]:
    """Choose among the archives of a restic repository, and bring the chosen one below `directory`, every file checked.

    A new host needs nothing but the repository's settings. A fetch that was interrupted starts over; a complete one is
    used again. check: only choose. Returns as `from_host`, without readers.
    """
    repository = dataclasses.replace(repository, secrets_folder=str(restore_state.folder(directory)))
    result = _choose(catalog.remote(repository), database, point, job, host, kinds)
    if not check:
        place = restore_state.folder(directory) / PLACE
        place.mkdir(mode=0o700, exist_ok=True)
        for key, name in zip(("archive", "globals"), result["names"]):
            path, is_new = _bring(repository, place, result[key], name)
            result[key] = dict(result[key], path=str(path))
            result["changed"] = result["changed"] or is_new
    return result


def _bring(repository: Repository, place: Path, entry: archive_choice.Entry, name: str) -> tuple[Path, bool]:
    """Return the path of the entry's plain form, called `name` in `place`, and whether it had to be fetched."""
    target, partial = place / name, place / (".partial-" + name)
    if target.is_dir():
        try:
            archive_reader.verify_plain(target)
            return target, False
        except SauvegardeError:
            shutil.rmtree(target)
    shutil.rmtree(partial, ignore_errors=True)
    disk_space.require_space(place, entry["bytes"])
    try:
        restic.restore(repository, entry["path"], partial, f"The archive {entry['id']} could not be fetched.")
        archive_reader.verify_plain(partial)
    except BaseException as error:
        is_full = isinstance(error, Damaged) and disk_space.free_bytes(place) < _LEAST_FREE
        shutil.rmtree(partial, ignore_errors=True)
        if is_full:
            # Old versions of restic end well on a full disk, with files that are cut short: the archive may be good.
            what = f"There is no space left on the disk for the archive {entry['id']}: {place}"
            raise SauvegardeError(what, str(error), "Free some space there.") from error
        raise
    partial.rename(target)
    return target, True
