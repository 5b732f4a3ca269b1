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

from ..errors import Locked, SauvegardeError
from ..system import atomic_file

RUN = Path("/run/sauvegarde")
_TEXTS = {"password": "password_file", "ssh_key": "ssh_key", "ssh_known_hosts": "ssh_known_hosts"}
_MARK = ".secrets-"  # no name of a job begins so


@contextlib.contextmanager
def _alone():
    """One after the other for whoever makes or removes places. Only root can, who alone can read this folder."""
    mask = os.umask(0)  # at no moment closed to the users of other jobs, who look for their own folders
    try:
        RUN.mkdir(mode=0o711, exist_ok=True)
    finally:
        os.umask(mask)
    descriptor = _locked(RUN, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def place(name="", owner=0):
    """A folder of the user `owner` (uid) alone, called `name`, below /run/sauvegarde. Only root can make it.

    One that another user has, since the job was that one's before, is replaced, unless a run still uses it.
    """
    path = RUN / name
    with _alone():
        if os.path.lexists(str(path)) and path.lstat().st_uid != owner:
            _remove(path)
        if not path.is_dir():
            path.mkdir(mode=0o700)
            os.chown(str(path), owner, -1)
    return str(path)


def remove(name):
    """Remove a place, if there is one that no run uses. Only root can."""
    with _alone():
        if os.path.lexists(str(RUN / name)):
            _remove(RUN / name)


def _remove(path):
    try:
        descriptor = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(path) from None
    try:
        clear(path)
        if any(each.name.startswith(_MARK) for each in path.iterdir()):
            raise _in_use(path)
        shutil.rmtree(str(path))
    finally:
        os.close(descriptor)


def _in_use(path):
    return Locked(
        f"What opens the repositories lies in {path} for a run that goes on.",
        fix="Wait for its end, then do this again.",
    )


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
                    atomic_file.replace(folder / name, text.strip() + "\n", sync=False)
                    found[key] = str(folder / name)
        except OSError as error:
            raise SauvegardeError(
                "What opens the repository {} cannot be given to restic.".format(repository["name"]), str(error)
            ) from error
        yield found
