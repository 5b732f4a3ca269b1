"""Replace files atomically: readers see the old content or the new, never a part of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace(path: str | Path, text: str, mode: int = 0o600, sync: bool = True) -> None:
    """Write a file under a temporary name beside it, flush it to the disk (unless `sync` is false), rename it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, mode), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask
            file.write(text)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def remove_temporary(path: str | Path) -> None:
    """Remove the temporary files that killed writers of a file left beside it. The caller holds the writers' lock."""
    path = Path(path)
    for temporary in path.parent.glob(f".{path.name}.*"):
        if temporary.name[len(path.name) + 2 :].isdigit():
            with contextlib.suppress(OSError):  # never fails a backup: writing the file reports what is wrong
                temporary.unlink()
