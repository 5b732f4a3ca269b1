"""Find an archive on this host, or bring it here straight from a restic repository, the source's host being dead."""

import contextlib
import shutil
import socket
import tempfile
from pathlib import Path

from .. import archive, catalog, offsite
from .. import state as files
from ..errors import SauvegardeError
from . import choose, state

PLACE = "fetched"


def from_host(root, database, point="latest", job="", host=""):
    """{changed, archive, globals}: entries of the catalog of this host's own archives under `root`."""
    entries = catalog.local(root, host or socket.gethostname())
    entry = choose.one(entries, database, point, job, host)
    return {"changed": False, "archive": entry, "globals": choose.roles_for(entries, entry)}


@contextlib.contextmanager
def with_secrets(repository, directory):
    """The repository as offsite takes it, from one whose secrets are given as text: `password`, `ssh_key` and
    `ssh_known_hosts` lie in private files for the block: all that a new host needs is what was kept elsewhere."""
    found = {key: value for key, value in repository.items() if value}
    with tempfile.TemporaryDirectory(dir=str(state.folder(directory))) as folder:
        for name in ("password", "ssh_key", "ssh_known_hosts"):
            text = found.pop(name, "")
            if text:
                path = Path(folder) / name
                files.replace(path, text.rstrip("\n") + "\n", sync=False)
                found["password_file" if name == "password" else name] = str(path)
        yield found


def from_restic(repository, directory, database, point="latest", job="", host="", check=False):
    """The same from a restic repository; what was chosen lies below the run's directory then, every file checked.

    repository: as offsite's, or with its secrets as text (see with_secrets). A fetch that was cut starts over; one
    that was whole is used again.
    """
    with with_secrets(repository, directory) as opened:
        return _from_restic(opened, directory, database, point, job, host, check)


def _from_restic(repository, directory, database, point, job, host, check):
    entries = catalog.remote(repository)
    entry = choose.one(entries, database, point, job, host)
    found = {"changed": False, "archive": entry, "globals": choose.roles_for(entries, entry)}
    if not check:
        place = state.folder(directory) / PLACE
        place.mkdir(mode=0o700, exist_ok=True)
        for name in ("archive", "globals"):
            if found[name]:
                path, new = _bring(repository, place, found[name])
                found[name] = dict(found[name], path=str(path))
                found["changed"] = found["changed"] or new
    return found


def _bring(repository, place, entry):
    """Where the entry's plain form lies under `place`, and whether it had to be fetched."""
    name = "{job}-{id}".format(**entry)
    target, partial = place / name, place / (".partial-" + name)
    if target.is_dir():
        try:
            archive.verify_plain(target)
            return target, False
        except SauvegardeError:
            shutil.rmtree(str(target))
    shutil.rmtree(str(partial), ignore_errors=True)
    archive.require_space(place, entry["bytes"])
    try:
        arguments = ["restore", entry["path"], "--target", str(partial)]
        offsite.restic(repository, arguments, "The archive {} could not be fetched.".format(entry["id"]))
        archive.verify_plain(partial)
    except BaseException:
        shutil.rmtree(str(partial), ignore_errors=True)
        raise
    partial.rename(target)
    return target, True
