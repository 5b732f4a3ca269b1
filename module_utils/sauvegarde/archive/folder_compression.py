"""Compressing a folder while another program still writes into it.

`pg_dump -Fd` writes one file a table and cannot compress with zstd before version 16. A large file is read behind its
writer and compressed at once, its beginning given back to the file system on the way; small ones are compressed in
batches when they are closed. So the processors and the disk see the dump once, and its plain form hardly exists.
"""

import contextlib
import ctypes
import os
import select
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from .compression import SUFFIX

_CREATE, _CLOSE_WRITE, _OVERFLOW = 0x100, 0x8, 0x4000  # inotify(7)
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_EVENT = struct.Struct("iIII")
_PUNCH_KEEP_SIZE = 0x3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_LARGE = 8 * 1024 * 1024  # bytes: from here on a file is followed rather than awaited
_CHUNK = 256 * 1024
_GIVE_BACK = 16 * 1024 * 1024
_BATCH_FILES, _BATCH_BYTES = 100, 32 * 1024 * 1024
_TICK = 0.05  # seconds

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]


class _Watch:
    """inotify on one folder: names of files created, and of files closed by their writer, as they come."""

    def __init__(self, folder):
        self._descriptor = _libc.inotify_init1(_NONBLOCK_CLOEXEC)
        if self._descriptor < 0 or (
            _libc.inotify_add_watch(self._descriptor, os.fsencode(str(folder)), _CREATE | _CLOSE_WRITE) < 0
        ):
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, "the folder cannot be watched: " + os.strerror(number))

    def close(self):
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def events(self, seconds):
        """[(name, closed)] after at most that time; an overflow is left to the end of the run, which looks itself."""
        found = []
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
                    found.append((os.fsdecode(name), bool(mask & _CLOSE_WRITE)))
        return found


class Compressing:
    """Compress what a program writes into a folder of the stage.

    with Compressing(stage, "dump", workers) as work:
        program = start(...)
        while program runs: work.turn()
        work.finish()
    """

    def __init__(self, stage, folder, workers):
        self._stage, self._folder = stage, folder
        self._path = stage.path / folder
        self._open, self._closed, self._taken = set(), [], set()
        self._ends = {}
        self._give_up = threading.Event()
        self._pool = ThreadPoolExecutor(max(1, workers))
        self._waiting = []
        self._bytes = 0

    def __enter__(self):
        self._path.mkdir(mode=0o700)
        self._watch = _Watch(self._path)
        return self

    def __exit__(self, *_):
        self._give_up.set()
        for end in self._ends.values():
            end.set()
        self._pool.shutdown(wait=True)
        self._watch.close()

    def turn(self, seconds=_TICK):
        """Wait that long at most for something to do, and set it going. A failed compression raises here."""
        for name, closed in self._watch.events(seconds):
            if name.endswith(SUFFIX):
                continue  # our own work in the same folder
            if closed:
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

    def finish(self):
        """The program has ended: take what is left, and wait until all is compressed."""
        self.turn(0)
        for end in self._ends.values():
            end.set()
        for name in sorted(each.name for each in self._path.iterdir()):
            if not name.endswith(SUFFIX):
                self._settle(name)
        self._batch()
        for future in self._waiting:
            future.result()

    def _size(self, name):
        try:
            return os.lstat(str(self._path / name)).st_size
        except FileNotFoundError:
            return 0

    def _settle(self, name):
        if name in self._ends:
            self._ends[name].set()
        elif name not in self._taken:
            self._taken.add(name)
            size = self._size(name)
            if size >= _LARGE:
                self._taken.discard(name)
                self._follow(name)
                self._ends[name].set()
            else:
                self._closed.append(name)
                self._bytes += size

    def _batch(self):
        if self._closed:
            paths = [f"{self._folder}/{name}" for name in self._closed]
            self._closed, self._bytes = [], 0
            self._waiting.append(self._pool.submit(self._stage.compress, paths))

    def _follow(self, name):
        self._taken.add(name)
        self._ends[name] = threading.Event()
        self._waiting.append(self._pool.submit(self._behind, name, self._ends[name]))

    def _behind(self, name, end):
        """Read a growing file until its writer has closed it, into a Writer of the stage."""
        path = self._path / name
        given = done = 0
        with path.open("r+b", buffering=0) as plain, self._stage.writer(f"{self._folder}/{name}") as target:
            while not self._give_up.is_set():
                ended = end.is_set()  # asked before reading: what was written before the end is then read
                chunk = plain.read(_CHUNK)
                if chunk:
                    target.write(chunk)
                    done += len(chunk)
                elif ended:
                    break
                else:
                    time.sleep(_TICK / 5)
                if done - given >= _GIVE_BACK:
                    # Where the file system cannot, the space is given back at the end.
                    _libc.fallocate(plain.fileno(), _PUNCH_KEEP_SIZE, given, done - given)
                    given = done
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
