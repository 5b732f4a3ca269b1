"""Bring an archive to the target: straight from a restic repository, with the source's host dead."""

import shutil
from pathlib import Path

from .. import archive, catalog, offsite
from ..errors import SauvegardeError
from . import choose, state

PLACE = "fetched"


def from_restic(repository, directory, database, point="latest", job="", host=""):
    """Restore the plain form of an archive from a restic repository below the run's directory; every file is checked.

    repository: as offsite's. Returns the catalog's entry with `path` where it lies now, and whether it had to be
    fetched. A fetch that was cut starts over; one that was whole is used again.
    """
    entry = choose.one(catalog.remote(repository), database, point, job, host)
    place = state.folder(directory) / PLACE
    place.mkdir(mode=0o700, exist_ok=True)
    target, partial = place / entry["id"], place / (".partial-" + entry["id"])
    if target.is_dir():
        try:
            archive.verify_plain(target)
            return dict(entry, path=str(target)), False
        except SauvegardeError:
            shutil.rmtree(str(target))
    shutil.rmtree(str(partial), ignore_errors=True)
    archive.require_space(place, entry["bytes"])
    try:
        offsite.restic(
            repository,
            ["restore", entry["path"], "--target", str(partial)],
            "The archive {} could not be fetched".format(entry["id"]),
        )
        archive.verify_plain(partial)
    except BaseException:
        shutil.rmtree(str(partial), ignore_errors=True)
        raise
    partial.rename(target)
    return dict(entry, path=str(target)), True


def forget(directory, keep=""):
    """Remove fetched archives but the one at the path `keep`."""
    for each in (Path(directory) / PLACE).glob("*"):
        if str(each) != keep:
            shutil.rmtree(str(each), ignore_errors=True)
