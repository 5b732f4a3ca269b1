"""Keep the secrets that open offsite repositories: as text in memory, and in files only while restic runs.

Root alone can read them from the host's settings, and does so before the process becomes the job's user. restic and ssh
need files: those exist in a private folder for one call of restic, on a file system in memory where root created it. A
kernel lock distinguishes a folder that is in use from one that a killed process left, which the next user of the place
removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import Locked, SauvegardeError
from ..system import atomic_file
from .repository import Repository

RUN = Path("/run/sauvegarde")
_MARK = ".secrets-"  # a job's name cannot start like this


@contextlib.contextmanager
def _exclusive() -> Iterator[None]:
    """Serialize creating and removing places. Only root can do either, and only root can read this folder."""
    mask = os.umask(0)  # at no moment closed to the users of other jobs, who open their own folders
    try:
        RUN.mkdir(mode=0o711, exist_ok=True)
    finally:
        os.umask(mask)
    descriptor = _lock(RUN, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def place(name: str = "", owner: int = 0) -> str:
    """Create /run/sauvegarde/NAME for the user `owner` (uid) alone, if necessary, and return its path. For root.

    One that belongs to another user, because the job had another user before, is replaced. Raises Locked if a run still
    uses that one.
    """
    path = RUN / name
    with _exclusive():
        if os.path.lexists(path) and path.lstat().st_uid != owner:
            _remove(path)
        if not path.is_dir():
            path.mkdir(mode=0o700)
            os.chown(path, owner, -1)
    return str(path)


def remove(name: str) -> None:
    """Remove a place, if it exists. For root. Raises Locked if a run uses it."""
    with _exclusive():
        if os.path.lexists(RUN / name):
            _remove(RUN / name)


def _remove(path: Path) -> None:
    try:
        descriptor = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use_error(path) from None
    try:
        clear(path)
        if any(entry.name.startswith(_MARK) for entry in path.iterdir()):
            raise _in_use_error(path)
        shutil.rmtree(path)
    finally:
        os.close(descriptor)


def _in_use_error(path: Path) -> Locked:
    return Locked(
        f"A run that has not ended keeps the secrets of its repositories in {path}.",
        fix="Wait until it has ended, then run this again.",
    )


def _lock(folder: str | Path, operation: int) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, operation)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def clear(folder: str | Path) -> None:
    """Remove the files of secrets that killed processes left in a place."""
    remains: list[Path] = []
    with contextlib.suppress(OSError):  # it does not exist; creating files there reports what is wrong
        remains = [entry for entry in Path(folder).iterdir() if entry.name.startswith(_MARK)]
    for entry in remains:
        with contextlib.suppress(OSError):  # in use, or removed just now
            descriptor = _lock(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                shutil.rmtree(entry)
            finally:
                os.close(descriptor)


@dataclass(frozen=True)
class SecretFiles:
    """Paths of the files that open a repository; empty for a secret that it does not have."""

    password: str
    ssh_key: str = ""
    ssh_known_hosts: str = ""


@contextlib.contextmanager
def secret_files(repository: Repository) -> Iterator[SecretFiles]:
    """Write the files that open a repository to a folder of their own in its secrets_folder, for the block."""
    with contextlib.ExitStack() as stack:
        try:
            lock = _lock(repository.secrets_folder, fcntl.LOCK_EX)  # no process removes a folder without its lock
            try:
                clear(repository.secrets_folder)
                folder = Path(tempfile.mkdtemp(prefix=_MARK, dir=repository.secrets_folder))
                stack.callback(os.close, _lock(folder, fcntl.LOCK_EX))
                stack.callback(shutil.rmtree, folder)
            finally:
                os.close(lock)
            paths = {}
            for name in ("password", "ssh_key", "ssh_known_hosts"):
                text = getattr(repository, name)
                if text or name == "password":
                    atomic_file.replace(folder / name, text.strip() + "\n", sync=False)
                    paths[name] = str(folder / name)
            files = SecretFiles(**paths)
        except OSError as error:
            raise SauvegardeError(
                f"The files that open the repository {repository.name} cannot be written.", str(error)
            ) from error
        yield files
