"""Start work in a process that outlives the one that starts it: of its own session, with none of its files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import SauvegardeError

_DESCRIPTORS = 4096  # closed in the detached process, as far as the system allows so many


@dataclass(frozen=True)
class DetachedProcess:
    """A detached process: its id, and a stream of the error that ended its work, empty if there was none."""

    pid: int
    errors: BinaryIO


def start_detached(work: Callable[[], object]) -> DetachedProcess:
    """Call `work` in a detached process and return at once. The caller closes `errors`, whenever it likes."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        _detach(write, work)
    os.close(write)
    os.waitpid(child, 0)
    errors = os.fdopen(read, "rb")
    pid = errors.readline().decode("utf-8", "replace").strip()
    if not pid.isdigit():
        errors.close()
        raise SauvegardeError("The work could not be started in a process of its own.", pid, "Try again.")
    return DetachedProcess(int(pid), errors)


def _detach(channel: int, work: Callable[[], object]) -> None:
    """In the child: leave the caller's session and files, write the process id, then work. Never returns."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(channel, f"{os.getpid()}\n".encode("ascii"))
        _leave_files(channel)
        work()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller can read it, and nothing else runs here
        text = str(error) if isinstance(error, SauvegardeError) else repr(error)
        with contextlib.suppress(OSError):  # the caller is gone
            os.write(channel, text.encode("utf-8", "replace"))
    finally:
        os._exit(0)


def _leave_files(channel: int) -> None:
    """Keep no open file but the channel: a caller's connection ends when no process has it any more."""
    os.chdir("/")
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, channel)
    os.closerange(channel + 1, min(os.sysconf("SC_OPEN_MAX"), _DESCRIPTORS))
