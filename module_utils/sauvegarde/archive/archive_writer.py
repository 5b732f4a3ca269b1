"""Write archives: into a temporary directory, read back completely, synced to the disk, and only then renamed.

An archive holds `manifest.json` and, for each file of the manifest, PATH.zst. archive_reader computes each file's
SHA-256 while it reads the file back. The caller holds the job's lock for everything here.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from .. import VERSION
from ..errors import SauvegardeError
from ..system import process
from ..system.file_sync import sync
from ..system.private_directory import check_private
from . import archive_reader, ids, manifest
from .compression import LEVEL, SUFFIX, compress_command
from .manifest import ArchiveFile, Manifest
from .manifest_schema import FORMAT

_BATCH = 200  # files for one zstd: few processes for many small files, and a command line of limited length


def timestamp(seconds: float | None = None) -> str:
    """Return a time in seconds since the epoch (default: now) in ISO 8601, in UTC with milliseconds."""
    seconds = time.time() if seconds is None else seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"


def remove_partial(directory: Path) -> list[str]:
    """Remove the partial archives of killed runs from a job's directory; return their names. A symbolic link is
    unlinked, never followed."""
    removed = []
    for entry in list(os.scandir(directory)):
        if entry.name.startswith(ids.PARTIAL):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()
            removed.append(entry.name)
    return removed


def quarantine(path: Path) -> Path:
    """Rename a damaged archive so that nothing takes it for an archive; return its new path."""
    target = path.with_name(ids.DAMAGED + path.name)
    path.rename(target)
    sync(path.parent)
    return target


class FileWriter:
    """Write one file of an archive: bytes in, zstd on disk, with zstd's own checksum of the bytes.

    A context manager: it closes the file at the end of the block, and abandons it if the block raises.
    """

    def __init__(self, stage: Stage, path: str) -> None:
        self._stage, self._path = stage, path
        self._bytes = 0
        self._target = stage.create(path + SUFFIX)
        try:
            self._zstd = process.start(
                [*compress_command(stage.level), "-c"], stdin=process.PIPE, stdout=self._target.fileno()
            )
        except BaseException:
            self._target.close()
            raise
        process.widen_pipe(self._zstd.stdin)

    def write(self, data: bytes) -> None:
        """Write all bytes; raise SauvegardeError with zstd's own message if it ended early."""
        self._bytes += len(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._zstd.stdin.fileno(), view) :]
        except BrokenPipeError:
            self._finish()  # raises with zstd's own message
            raise

    def _finish(self) -> None:
        self._zstd.stdin.close()
        self._zstd.finish(what=f"{self._path} could not be compressed.")

    def close(self) -> None:
        """Wait for zstd and record the file in the stage."""
        try:
            self._finish()
            stored = os.fstat(self._target.fileno()).st_size
        finally:
            self.abort()
        self._stage.record(self._path, self._bytes, stored)

    def abort(self) -> None:
        """Stop zstd and close the file without recording it."""
        self._zstd.kill(grace=0)
        self._target.close()

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class Stage:
    """An archive that is being written. Leaving the block without `publish` removes every trace of it.

    with Stage(root, job, kind) as stage:
        with stage.writer("globals.sql") as target:
            target.write(b"...")
        stage.publish(part)
    """

    id: str
    path: Path

    def __init__(
        self, root: str | Path, job: str, kind: str, level: int | str = LEVEL, now: float | None = None
    ) -> None:
        self.job, self.kind, self.level = job, kind, int(level)
        self.directory = ids.job_directory(root, job)
        self.started = time.time() if now is None else now
        self._now = now
        self._files: dict[str, ArchiveFile] = {}
        self._lock = threading.Lock()
        self._published = False

    def __enter__(self) -> Stage:
        check_private(self.directory)
        self.id = ids.new_id(self.directory, self._now)
        self.path = self.directory / (ids.PARTIAL + self.id)
        self.path.mkdir(mode=0o700)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._published:
            shutil.rmtree(self.path, ignore_errors=True)

    def create(self, path: str) -> BinaryIO:
        """Open a new file of the stage for writing: never an existing file, never through a symbolic link."""
        target = self.path / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(target, flags, 0o600), "r+b")

    def writer(self, path: str) -> FileWriter:
        """Return the writer of a new file of the archive."""
        return FileWriter(self, path)

    def compress(self, paths: Sequence[str]) -> None:
        """Turn complete plain files of the stage into files of the archive, many with one zstd. The plain files are
        removed, each as soon as it is compressed (--rm), so that a batch needs little space."""
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            sizes = [os.lstat(self.path / path).st_size for path in batch]
            arguments = [*compress_command(self.level), "--rm", "--", *batch]
            process.run(arguments, cwd=str(self.path), stdout=process.DEVNULL, what="Files could not be compressed.")
            for path, size in zip(batch, sizes):
                self.record(path, size, os.lstat(self.path / (path + SUFFIX)).st_size)

    def record(self, path: str, size: int, stored: int) -> None:
        """Record a complete file: its size uncompressed and as stored. Its SHA-256 is that of the bytes read back,
        which zstd's own checksum compares with the bytes written."""
        with self._lock:
            self._files[path] = ArchiveFile(path, size, stored)

    def discard(self, path: str) -> None:
        """Remove a recorded file, so that it can be written again."""
        with self._lock:
            del self._files[path]
        (self.path / (path + SUFFIX)).unlink()

    @property
    def files(self) -> list[ArchiveFile]:
        """The recorded files, by path."""
        with self._lock:
            return [self._files[path] for path in sorted(self._files)]

    def settle(self) -> None:
        """Write every file through to the disk and drop it from memory, so that reading it back reads the disk."""
        for file in self.files:
            descriptor = os.open(self.path / (file.path + SUFFIX), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

    def confirm(self, digests: Mapping[str, str]) -> None:
        """Record the SHA-256 of files that were read back from the disk: what archive_reader returned, by path."""
        with self._lock:
            for path, digest in digests.items():
                self._files[path] = dataclasses.replace(self._files[path], sha256=digest)

    def read_back(self) -> None:
        """Read every file from the disk that was not read back yet."""
        unread = [file for file in self.files if not file.sha256]
        if unread:
            self.settle()
            self.confirm(archive_reader.read_all(self.path, unread))

    def publish(self, part: Mapping[str, Any]) -> Manifest:
        """Read back, write the manifest last, sync everything, rename. Returns the manifest.

        part: the kind's share of the manifest: source, tools, fingerprint, restore_by_hand, warnings.
        """
        self.read_back()
        files = self.files
        text = manifest.dumps({**self._values(files), **part})
        with self.create(manifest.NAME) as target:
            target.write(text.encode("utf-8"))
            target.flush()
            os.fsync(target.fileno())
        unknown = archive_reader.unknown_files(self.path, files)
        if unknown:
            raise SauvegardeError(f"The stage holds files that were not recorded: {', '.join(unknown[:5])}")
        for folder, _, _ in os.walk(self.path):
            sync(folder)
        self.path.rename(self.directory / self.id)
        self._published = True
        sync(self.directory)
        return manifest.loads(text, self.id)

    def _values(self, files: Sequence[ArchiveFile]) -> dict[str, Any]:
        """The stage's share of the manifest."""
        return {
            "format": FORMAT,
            "id": self.id,
            "job": self.job,
            "kind": self.kind,
            "tool": {"name": "sauvegarde", "version": VERSION},
            "host": os.uname().nodename,
            "started": timestamp(self.started),
            "ended": timestamp(),
            "files": [file.as_dict() for file in files],
            "bytes": sum(file.bytes for file in files),
            "stored_bytes": sum(file.stored_bytes for file in files),
        }
