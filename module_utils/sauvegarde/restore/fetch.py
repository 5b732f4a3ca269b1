"""Find an archive on this host, or bring it here straight from a restic repository, the source's host being dead."""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
from typing import Any

from .. import catalog
from ..archive import archive_reader
from ..catalog import CatalogEntry
from ..errors import SauvegardeError
from ..offsite import restic
from ..system import disk_space
from . import archive_choice, restore_state

PLACE = "fetched"


def _values(entries: list[CatalogEntry]) -> list[dict[str, Any]]:
    """Return the entries as they are in results."""
    return [entry.as_dict() for entry in entries]


def _chosen(entries, database, point, job, host, kinds):
    """{changed, archive, globals, names, passed}: the chosen entries of the catalog, what their copies are called, and
    the damaged archives that would have been chosen before it."""
    entry = archive_choice.one(entries, database, point, job, host, kinds)
    passed = [
        each
        for each in entries
        if each["verified"] is False
        and (each["host"], each["job"]) == (entry["host"], entry["job"])
        and each["id"] > entry["id"]
        and (point == "latest" or each["id"] <= archive_choice.label(point))
    ]
    roles = archive_choice.roles_for(entries, entry) if entry["kind"] == "pg_dump" else None
    # The host's name is a part of it: cron starts the same job on many hosts in the same second.
    names = [re.sub(r"[^\w.-]", "_", "{host}-{job}-{id}".format(**each)) for each in (entry, roles) if each]
    return {"changed": False, "archive": entry, "globals": roles, "names": names, "passed": passed}


def from_host(root, database, point="latest", job="", host="", kinds=("pg_dump",)):
    """_chosen()'s answer from this host's own archives under `root`; the rest as `choose.one` takes it. With `readers`:
    the OS user that reads each of those that `names` calls."""
    found = _chosen(_values(catalog.local(root, host or socket.gethostname())), database, point, job, host, kinds)
    chosen = filter(None, (found["archive"], found["globals"]))
    return dict(found, readers=[catalog.reader(root, each["job"]) for each in chosen])


def from_restic(repository, directory, database, point="latest", job="", host="", kinds=("pg_dump",), check=False):
    """The same from a restic repository; what was chosen lies below the run's directory then, every file checked.

    All that a new host needs is what was kept elsewhere of the repository. A fetch that was cut starts over;
    one that was whole is used again.
    """
    repository = dataclasses.replace(repository, secrets_folder=str(restore_state.folder(directory)))
    found = _chosen(_values(catalog.remote(repository)), database, point, job, host, kinds)
    if not check:
        place = restore_state.folder(directory) / PLACE
        place.mkdir(mode=0o700, exist_ok=True)
        for key, name in zip(("archive", "globals"), found["names"]):
            path, new = _bring(repository, place, found[key], name)
            found[key] = dict(found[key], path=str(path))
            found["changed"] = found["changed"] or new
    return found


def _bring(repository, place, entry, name):
    """Where the entry's plain form lies, as `name` under `place`, and whether it had to be fetched."""
    target, partial = place / name, place / (".partial-" + name)
    if target.is_dir():
        try:
            archive_reader.verify_plain(target)
            return target, False
        except SauvegardeError:
            shutil.rmtree(str(target))
    shutil.rmtree(str(partial), ignore_errors=True)
    disk_space.require_space(place, entry["bytes"])
    try:
        restic.restore(repository, entry["path"], partial, "The archive {} could not be fetched.".format(entry["id"]))
        archive_reader.verify_plain(partial)
    except BaseException:
        shutil.rmtree(str(partial), ignore_errors=True)
        raise
    partial.rename(target)
    return target, True
