"""Write a file completely or not at all, compressed as its name says."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..archive.compression import FIXTURE_LEVEL, compress_command
from ..system import file_sync, process

COMPRESSIONS = ("gz", "xz", "zst")


def _create(path: str, flags: int) -> int:
    """Open a new file: never an existing one, never through a link."""
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600)


@contextlib.contextmanager
def replaced(path: str | Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Yield a new binary file that replaces `path` if the block succeeds, and is removed if it does not.

    An existing file keeps its mode; `mode` is that of a new one.
    """
    path = Path(path)
    with contextlib.suppress(FileNotFoundError):
        current = path.lstat().st_mode
        mode = current & 0o777 if stat.S_ISREG(current) else mode  # a link's target does not count
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with open(temporary, "w+b", opener=_create) as target:
            yield target
            target.flush()
            os.fchmod(target.fileno(), mode)
            os.fsync(target.fileno())
        temporary.rename(path)
        file_sync.sync(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def compressed(target: IO[bytes], compression: str | None) -> Iterator[Any]:
    """Yield a binary file whose writes arrive in `target` compressed. `compression`: one of COMPRESSIONS, or None."""
    if compression is None:
        yield target
    elif compression == "gz":
        # Without a time stamp: equal data give an equal file.
        with gzip.GzipFile(fileobj=target, mode="wb", filename="", compresslevel=6, mtime=0) as sink:
            yield sink
    elif compression == "xz":
        with lzma.LZMAFile(target, "wb") as sink:
            yield sink
    else:
        zstd = process.start([*compress_command(FIXTURE_LEVEL), "-c"], stdin=process.PIPE, stdout=target.fileno())
        with zstd:
            yield zstd.stdin
            zstd.stdin.close()
            zstd.finish(what="The dump could not be compressed.")
