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
from ..archive import archive_reader, damage_record
from ..archive.damage_record import DamageRecord
from ..catalog import CatalogEntry
from ..errors import Damaged, SauvegardeError
from ..offsite import restic
from ..offsite.repository import Repository
from ..system import disk_space
from . import archive_choice, restore_state

PLACE = "fetched"
_LEAST_FREE = 1024 * 1024  # bytes; with less, a file that is cut short says nothing about the archive


def _choose(
    entries: Iterable[CatalogEntry],
    database: str,
    point: str,
    job: str,
    host: str,
    kinds: Collection[str],
    records: Iterable[DamageRecord] = (),
) -> dict[str, Any]:
    """Return {changed, archive, globals, names, passed}, with the values of catalog entries.

    records: of damage that reads found; an archive that is named by its id is read again all the same. names: of the
    copies of archive and globals. passed: the damaged archives, globals too, that would have been chosen before it.
    """
    values = [entry.as_dict() for entry in entries]
    values = damage_record.mark(values, [record for record in records if record.id != point])
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
    if archive["kind"] == "pg_dump":
        passed += archive_choice.damaged_roles(values, archive, roles)
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

    Returns {changed, archive, globals, names, passed, readers, files}: readers are the OS users that can read each of
    `names`; files has the same as {path, name, reader} for each.
    """
    result = _choose(catalog.local(root, host or socket.gethostname()), database, point, job, host, kinds)
    chosen = [entry for entry in (result["archive"], result["globals"]) if entry]
    readers = [catalog.reader(root, entry["job"]) for entry in chosen]
    files = [
        {"path": entry["path"], "name": name, "reader": reader}
        for entry, name, reader in zip(chosen, result["names"], readers)
    ]
    return dict(result, readers=readers, files=files)


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
    entries, records = catalog.remote(repository), damage_record.read(directory)
    result = _choose(entries, database, point, job, host, kinds, records)
    if not check:
        place = restore_state.folder(directory) / PLACE
        place.mkdir(mode=0o700, exist_ok=True)
        for key, name in zip(("archive", "globals"), result["names"]):
            try:
                path, is_new = _bring(repository, place, result[key], name)
            except Damaged as error:
                damage_record.add(directory, result[key], str(error))
                raise _with_next_choice(error, entries, directory, (database, point, job, host, kinds)) from error
            damage_record.remove(directory, result[key])
            result[key] = dict(result[key], path=str(path))
            result["changed"] = result["changed"] or is_new
    return result


def _with_next_choice(
    error: Damaged, entries: Iterable[CatalogEntry], directory: str | Path, choice: tuple[Any, ...]
) -> Damaged:
    """Return the error of a damaged archive with the newest good one in its fix, if there is one."""
    database, _point, job, host, kinds = choice
    try:
        other = _choose(entries, database, "latest", job, host, kinds, damage_record.read(directory))["archive"]
    except SauvegardeError:
        return Damaged(error.what, error.why, error.fix + " No other archive of it in this repository is good.")
    point = other["id"]
    fix = f"Restore the newest archive that is not known to be damaged: restore_point={point}. {error.fix}"
    return Damaged(error.what, error.why, fix)


def listed(repository: Repository, directory: str | Path) -> list[dict[str, Any]]:
    """Return the values of the catalog's entries of all archives in a restic repository."""
    repository = dataclasses.replace(repository, secrets_folder=str(restore_state.folder(directory)))
    return [entry.as_dict() for entry in catalog.remote(repository)]


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
