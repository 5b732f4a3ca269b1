"""Write files and directories through to the disk."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: str | Path) -> None:
    """fsync a directory or a file, which must not be a symbolic link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
