"""Room on the server's disks while a restore fills them: a server that finds none ends itself, and all it serves.

So a restore is stopped a little before. What is measured is what anybody may still write, not what the restore took.
"""

import contextlib
import os
import threading
from pathlib import Path

from ..errors import SauvegardeError
from ..system import disk_space

_TICK = 0.2  # seconds; what is kept free must last longer at any speed that disks have
_MOST = 512 * 1024 * 1024
_SHARE = 5


def kept_free(path):
    """Bytes that a restore leaves free on the file system of `path`: half a GiB, at most a fifth of a small one."""
    status = os.statvfs(str(path))
    return min(_MOST, status.f_blocks * status.f_frsize // _SHARE)


def places(data_directory):
    """Where the server at work writes: its data and its log of changes, which may lie on a disk of its own."""
    return [Path(data_directory), Path(data_directory) / "pg_wal"]


@contextlib.contextmanager
def guarded(paths, stop):
    """Call `stop()` whenever there is too little left at one of the paths during the block; an error of the block's is
    then told as what it comes from."""
    scarce, ended = [], threading.Event()

    def watch():
        while not ended.wait(_TICK):
            for path in paths:
                if disk_space.free_bytes(path) < kept_free(path):
                    scarce[:] = [path]
                    stop()

    watcher = threading.Thread(target=watch, name="room", daemon=True)
    watcher.start()
    try:
        yield
    except Exception as error:
        if scarce:
            raise SauvegardeError(
                f"The restore was stopped before the disk was full: {scarce[0]}",
                f"{kept_free(scarce[0]) // 2**20} MiB are for the server, which ends itself without any.\n{error}",
                "Free space there (kept databases are listed in the plan), or restore elsewhere.",
            ) from error
        raise
    finally:
        ended.set()
        watcher.join()
