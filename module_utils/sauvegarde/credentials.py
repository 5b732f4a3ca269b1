"""What opens an offsite repository: as text in memory, and in files only while restic runs.

Root alone can read it from the host's settings, and does so before it becomes the job's user. restic and ssh want
files: those stand in a private folder for one call of restic, on a file system in memory where root has made it. A
kernel lock tells a folder that is in use from one that a kill has left, which the next user of the place clears.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from . import state
from .errors import SauvegardeError

RUN = Path("/run/sauvegarde")
_TEXTS = {"password": "password_file", "ssh_key": "ssh_key", "ssh_known_hosts": "ssh_known_hosts"}
_MARK = ".secrets-"  # no name of a job begins so


def place(name="", owner=0):
    """A folder of the user `owner` (uid) alone, called `name`, below /run/sauvegarde. Only root can make it."""
    path = RUN / name
    mask = os.umask(0)  # at no moment closed to the users of other jobs, who look for their own folders
    try:
        RUN.mkdir(mode=0o711, exist_ok=True)
    finally:
        os.umask(mask)
    if os.path.lexists(str(path)) and path.lstat().st_uid != owner:  # the job was another user's before
        shutil.rmtree(str(path))
    path.mkdir(mode=0o700, exist_ok=True)
    os.chown(str(path), owner, -1)
    return str(path)


def _locked(folder, how):
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def clear(where):
    """Remove what killed users of the place have left in it."""
    left = []
    with contextlib.suppress(OSError):  # not there; whoever puts something there tells what is wrong
        left = [each for each in Path(where).iterdir() if each.name.startswith(_MARK)]
    for each in left:
        with contextlib.suppress(OSError):  # in use, or just gone
            descriptor = _locked(each, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                shutil.rmtree(str(each))
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def revealed(repository):
    """The repository with paths of private files in the place of its texts (`password_file` for the password), for the
    block. They lie in a folder of their own in its `private`.
    """
    found = dict(repository)
    with contextlib.ExitStack() as stack:
        try:
            where = _locked(repository["private"], fcntl.LOCK_EX)  # nobody clears what is not locked yet
            try:
                clear(repository["private"])
                folder = Path(tempfile.mkdtemp(prefix=_MARK, dir=repository["private"]))
                stack.callback(os.close, _locked(folder, fcntl.LOCK_EX))
                stack.callback(shutil.rmtree, str(folder))
            finally:
                os.close(where)
            for name, key in _TEXTS.items():
                text = found.pop(name, "")
                if text or name == "password":
                    state.replace(folder / name, text.strip() + "\n", sync=False)
                    found[key] = str(folder / name)
        except OSError as error:
            raise SauvegardeError(
                "What opens the repository {} cannot be given to restic.".format(repository["name"]), str(error)
            ) from error
        yield found
