"""Allow one run of a job at a time by a kernel lock that every process of the run holds until the last one ends.

After a kill there is nothing to remove, and a child that outlives its parent still blocks the next run.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import Locked, SauvegardeError
from . import process


@contextlib.contextmanager
def hold(path: str | Path, subject: str) -> Iterator[int]:
    """Hold the lock file `path` for the block, and in every child started meanwhile until that child ends.

    Raises Locked if another process has it. subject: what is locked, for the error.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise SauvegardeError(
            f"{subject} cannot take its lock: {path}",
            str(error),
            "Let the backup role make its folder; look at who owns it, and at the file system.",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise Locked(
                f"{subject} is running already.",
                f"Process {holder or 'unknown'}, or a child that it left, holds {path}.",
                "Wait for its end; if it hangs, end it (fuser -v FILE names the holders) or give the job a timeout.",
            ) from None
        with contextlib.suppress(OSError):  # a full disk; the holder's number is only for error messages
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        process.inherit(descriptor)
        try:
            yield descriptor
        finally:
            process.disinherit(descriptor)
    finally:
        # Closed, never unlocked: an unlock would take it from children that still run.
        os.close(descriptor)
