"""Measure free disk space, and describe its lack."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import SauvegardeError

_FIX = "Free some space there, or keep fewer archives (retention)."


def free_bytes(path: str | Path) -> int:
    """Return the bytes that this user can still write on the file system of `path`."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def require_space(directory: str | Path, needed: int) -> None:
    """Raise SauvegardeError if this user can write fewer than `needed` bytes on the directory's file system."""
    free = free_bytes(directory)
    if free < needed:
        raise SauvegardeError(
            f"Not enough space for the archive: {directory}",
            f"It may need {needed // 1024 // 1024} MB, {free // 1024 // 1024} MB are free.",
            _FIX,
        )


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means that a disk is full or a quota is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full_error(path: str | Path, error: OSError) -> SauvegardeError:
    """Return the error for a disk that became full, with the operating system's message."""
    return SauvegardeError(f"The disk is full: {path}", str(error), _FIX)
