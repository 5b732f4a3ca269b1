"""Stop a restore before it fills the server's disks: a server without disk space ends itself.

The guard measures what can still be written, not what the restore has written.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import SauvegardeError
from ..system import disk_space

_TICK = 0.2  # seconds; the reserve must last longer at any speed of a disk
_MOST = 512 * 1024 * 1024  # bytes
_SHARE = 5


def reserve(path: str | Path) -> int:
    """Return the bytes that a restore leaves free on the file system of `path`: half a GiB, at most a fifth of it."""
    status = os.statvfs(path)
    return min(_MOST, status.f_blocks * status.f_frsize // _SHARE)


def server_directories(data_directory: str | Path) -> list[Path]:
    """Return where the server writes: its data, and its WAL, which may be on a disk of its own. Its folder was called
    pg_xlog before PostgreSQL 10."""
    wal = [Path(data_directory) / name for name in ("pg_wal", "pg_xlog")]
    return [Path(data_directory), *(path for path in wal if os.access(path, os.F_OK))]


@contextlib.contextmanager
def guard(paths: Sequence[Path], stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop()` whenever one of the file systems has less than its reserve during the block. An error that the
    block then raises becomes a SauvegardeError that names the disk."""
    full: list[Path] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_TICK):
            for path in paths:
                if disk_space.free_bytes(path) < reserve(path):
                    full[:] = [path]
                    stop()

    watcher = threading.Thread(target=watch, name="disk guard", daemon=True)
    watcher.start()
    try:
        yield
    except Exception as error:
        if full:
            raise SauvegardeError(
                f"The restore was stopped before the disk was full: {full[0]}",
                f"{reserve(full[0]) // 2**20} MiB are for the server, which ends itself without any.\n{error}",
                "Free space there (kept databases are listed in the plan), or restore elsewhere.",
            ) from error
        raise
    finally:
        ended.set()
        watcher.join()
