"""Compress a folder while another program still writes into it.

`pg_dump -Fd` writes one file per table and cannot compress with zstd before version 16. A large file is compressed
while it is written, and the part that was read is freed at once (a hole in the file); small files are compressed in
batches when they are closed. The plain form of the dump therefore needs little disk space.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .archive_writer import Stage
from .compression import SUFFIX

_CREATE, _CLOSE_WRITE, _OVERFLOW = 0x100, 0x8, 0x4000  # inotify(7)
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_EVENT = struct.Struct("iIII")
_PUNCH_KEEP_SIZE = 0x3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_LARGE = 8 * 1024 * 1024  # bytes: from this size on a file is read behind its writer
_CHUNK = 256 * 1024
_GIVE_BACK = 16 * 1024 * 1024
_BATCH_FILES, _BATCH_BYTES = 100, 32 * 1024 * 1024
_TICK = 0.05  # seconds

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]


class _Watch:
    """inotify on one folder: the names of files that are created, and of files that their writer closes."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = _libc.inotify_init1(_NONBLOCK_CLOEXEC)
        if self._descriptor < 0 or (
            _libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _CREATE | _CLOSE_WRITE) < 0
        ):
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, "the folder cannot be watched: " + os.strerror(number))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def events(self, seconds: float) -> list[tuple[str, bool]]:
        """Return (name, whether it was closed) of each event, after at most that time. An overflow loses events;
        `FolderCompression.finish` lists the folder itself and finds their files."""
        events = []
        poll = select.poll()  # select() takes no descriptor above 1023
        poll.register(self._descriptor, select.POLLIN)
        if poll.poll(seconds * 1000):
            data = os.read(self._descriptor, 65536)
            offset = 0
            while offset < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, offset)
                name = data[offset + _EVENT.size : offset + _EVENT.size + length].rstrip(b"\0")
                offset += _EVENT.size + length
                if not mask & _OVERFLOW:
                    events.append((os.fsdecode(name), bool(mask & _CLOSE_WRITE)))
        return events


class FolderCompression:
    """Compress what a program writes into a folder of the stage.

    with FolderCompression(stage, "dump", workers) as compression:
        program = start(...)
        while program runs: compression.turn()
        compression.finish()
    """

    def __init__(self, stage: Stage, folder: str, workers: int) -> None:
        self._stage, self._folder = stage, folder
        self._path = stage.path / folder
        self._open: set[str] = set()  # being written, and small so far
        self._closed: list[str] = []  # for the next batch
        self._started: set[str] = set()  # in a batch, or read behind their writer
        self._ends: dict[str, threading.Event] = {}  # of files read behind their writer: set when it has closed them
        self._give_up = threading.Event()
        self._pool = ThreadPoolExecutor(max(1, workers))
        self._waiting: list[Future[None]] = []
        self._bytes = 0

    def __enter__(self) -> FolderCompression:
        self._path.mkdir(mode=0o700)
        self._watch = _Watch(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up.set()
        for end in self._ends.values():
            end.set()
        self._pool.shutdown(wait=True)
        self._watch.close()

    def turn(self, seconds: float = _TICK) -> None:
        """Wait at most that long for files, and start what can be done. Raises the error of a failed compression."""
        for name, is_closed in self._watch.events(seconds):
            if name.endswith(SUFFIX):
                continue  # written by this class in the same folder
            if is_closed:
                self._open.discard(name)
                self._settle(name)
            else:
                self._open.add(name)
        for name in list(self._open):
            if self._size(name) >= _LARGE:
                self._open.discard(name)
                self._follow(name)
        if len(self._closed) >= _BATCH_FILES or self._bytes >= _BATCH_BYTES:
            self._batch()
        for future in self._waiting:
            if future.done():
                future.result()
        self._waiting = [future for future in self._waiting if not future.done()]

    def finish(self) -> None:
        """Compress what remains after the program has ended, and wait until everything is compressed."""
        self.turn(0)
        for end in self._ends.values():
            end.set()
        for name in sorted(path.name for path in self._path.iterdir()):
            if not name.endswith(SUFFIX):
                self._settle(name)
        self._batch()
        for future in self._waiting:
            future.result()

    def _size(self, name: str) -> int:
        try:
            return os.lstat(self._path / name).st_size
        except FileNotFoundError:
            return 0

    def _settle(self, name: str) -> None:
        """Take note that a file is closed."""
        if name in self._ends:
            self._ends[name].set()
        elif name not in self._started:
            self._started.add(name)
            size = self._size(name)
            if size >= _LARGE:
                self._started.discard(name)
                self._follow(name)
                self._ends[name].set()
            else:
                self._closed.append(name)
                self._bytes += size

    def _batch(self) -> None:
        if self._closed:
            paths = [f"{self._folder}/{name}" for name in self._closed]
            self._closed, self._bytes = [], 0
            self._waiting.append(self._pool.submit(self._stage.compress, paths))

    def _follow(self, name: str) -> None:
        self._started.add(name)
        self._ends[name] = threading.Event()
        self._waiting.append(self._pool.submit(self._read_behind, name, self._ends[name]))

    def _read_behind(self, name: str, end: threading.Event) -> None:
        """Read a growing file until its writer has closed it, into a file of the archive."""
        path = self._path / name
        given_back = done = 0
        with path.open("r+b", buffering=0) as plain, self._stage.writer(f"{self._folder}/{name}") as target:
            while not self._give_up.is_set():
                is_complete = end.is_set()  # asked before reading, so that everything written before the end is read
                chunk = plain.read(_CHUNK)
                if chunk:
                    target.write(chunk)
                    done += len(chunk)
                elif is_complete:
                    break
                else:
                    time.sleep(_TICK / 5)
                if done - given_back >= _GIVE_BACK:
                    # If the file system cannot do this, the space is freed at the end.
                    _libc.fallocate(plain.fileno(), _PUNCH_KEEP_SIZE, given_back, done - given_back)
                    given_back = done
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
