"""Find an archive on this host, or bring it here straight from a restic repository, the source's host being dead."""

import contextlib
import re
import shutil
import socket
import tempfile
from pathlib import Path

from .. import archive, catalog, offsite
from .. import state as files
from ..errors import SauvegardeError
from . import choose, state

PLACE = "fetched"


def _chosen(entries, database, point, job, host, kinds):
    """{changed, archive, globals, names, passed}: the chosen entries of the catalog, what their copies are called, and
    the damaged archives that would have been chosen before it."""
    entry = choose.one(entries, database, point, job, host, kinds)
    passed = [
        each
        for each in entries
        if each["verified"] is False
        and (each["host"], each["job"]) == (entry["host"], entry["job"])
        and each["id"] > entry["id"]
        and (point == "latest" or each["id"] <= choose.label(point))
    ]
    roles = choose.roles_for(entries, entry) if entry["kind"] == "pg_dump" else None
    # The host's name is a part of it: cron starts the same job on many hosts in the same second.
    names = [re.sub(r"[^\w.-]", "_", "{host}-{job}-{id}".format(**each)) for each in (entry, roles) if each]
    return {"changed": False, "archive": entry, "globals": roles, "names": names, "passed": passed}


def from_host(root, database, point="latest", job="", host="", kinds=("pg_dump",)):
    """_chosen()'s answer from this host's own archives under `root`; the rest as `choose.one` takes it."""
    return _chosen(catalog.local(root, host or socket.gethostname()), database, point, job, host, kinds)


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


def from_restic(repository, directory, database, point="latest", job="", host="", kinds=("pg_dump",), check=False):
    """The same from a restic repository; what was chosen lies below the run's directory then, every file checked.

    repository: as offsite's, or with its secrets as text (see with_secrets). A fetch that was cut starts over; one
    that was whole is used again.
    """
    with with_secrets(repository, directory) as opened:
        return _from_restic(opened, directory, check, database, point, job, host, kinds)


def _from_restic(repository, directory, check, *choice):
    found = _chosen(catalog.remote(repository), *choice)
    if not check:
        place = state.folder(directory) / PLACE
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
