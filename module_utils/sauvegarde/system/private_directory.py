"""Refuse directories in which another user could replace what this process writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import SauvegardeError
from . import user_groups


def check_private(directory: str | Path) -> None:
    """Raise SauvegardeError unless the directory is this user's, mode 0700, and only root or this user can write to its
    parent. Symbolic links are refused."""
    directory = Path(directory)
    _check(directory.parent, private=False)
    _check(directory, private=True)


def check_private_if_present(directory: str | Path) -> None:
    """Do what `check_private` does; the directory itself, but not its parent, may be missing."""
    directory = Path(directory)
    _check(directory.parent, private=False)
    if os.path.lexists(directory):
        _check(directory, private=True)


def file_type(mode: int) -> str:
    """Return what a message calls a file that is not of the expected type, by its st_mode."""
    return "a symbolic link" if stat.S_ISLNK(mode) else "something else"


def _check(path: Path, private: bool) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError as error:
        raise SauvegardeError(
            f"The folder does not exist: {path}", fix="Let the backup role make it, or create it with mode 0700."
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise SauvegardeError(
            f"Not a folder but {file_type(status.st_mode)}: {path}",
            fix="Find out who put it there; archives are only written into real folders.",
        )
    owners = (os.geteuid(),) if private else (os.geteuid(), 0)
    is_open = bool(status.st_mode & 0o077) if private else user_groups.others_may_write(path, status)
    if status.st_uid not in owners or is_open:
        raise SauvegardeError(
            f"The folder is not private: {path}",
            f"Its owner is uid {status.st_uid} and its mode {stat.S_IMODE(status.st_mode):04o}; this process runs as "
            f"uid {os.geteuid()}.",
            f"chown it to uid {os.geteuid()} and chmod {'700' if private else 'go-w'} it.",
        )
