"""Read archives: check their files against the manifest, decompress them, expand them into another directory.

The manifest names each file PATH; a local archive stores it as PATH.zst, the plain form (expanded, or fetched from
offsite) as PATH.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Optional

from ..errors import Damaged, SauvegardeError
from ..system import disk_space, parallel_jobs, process
from ..system.private_directory import file_type
from . import ids, manifest
from .compression import SUFFIX, decompress_command
from .manifest import ArchiveFile, Manifest

# Called with a file; yields the function that takes each chunk of it, or None to only compare the file.
Sink = Callable[[ArchiveFile], AbstractContextManager[Optional[Callable[[bytes], object]]]]

_CHUNK = 256 * 1024  # bytes: small enough for a processor's own cache on the way from one pipe to the next
_BATCH = 200  # files for one zstd: few processes for many small files, and a command line of limited length


def damaged_error(path: str | Path, why: str) -> Damaged:
    """Return the error for an archive that does not match its manifest."""
    return Damaged(f"The archive is damaged: {path}", why, "Use another archive, or the offsite copy of this one.")


def read_manifest(path: str | Path) -> Manifest:
    """Return the manifest of a published archive after checking all but the data.

    Checked are the schema, the checksum, the id against the directory's name, and that the directory holds exactly the
    files of the manifest, as regular files of the recorded sizes. Raises Damaged.
    """
    path = Path(path)
    contents = manifest.load(path / manifest.NAME)
    if ids.is_id(path.name) and contents.id != path.name:
        raise damaged_error(path, f"Its manifest is that of {contents.id}.")
    check_files(path, contents.files)
    unknown = unknown_files(path, contents.files)
    if unknown:
        raise damaged_error(path, f"It holds files that its manifest does not list: {', '.join(unknown[:5])}")
    return contents


def unknown_files(path: Path, files: Sequence[ArchiveFile]) -> list[str]:
    """Return the paths of files in an archive's directory that are not among `files`."""
    expected = {file.path + SUFFIX for file in files} | {manifest.NAME}
    paths = {str(Path(folder, name).relative_to(path)) for folder, _, names in os.walk(path) for name in names}
    return sorted(paths - expected)


def check_files(path: Path, files: Sequence[ArchiveFile]) -> None:
    """Raise Damaged unless every file exists, as a regular file of the recorded stored size."""
    for file in files:
        name = file.path + SUFFIX
        try:
            status = os.lstat(path / name)
        except OSError as error:
            raise damaged_error(path, str(error)) from error
        if not stat.S_ISREG(status.st_mode):
            raise damaged_error(path, f"{name} is {file_type(status.st_mode)}.")
        if status.st_size != file.stored_bytes:
            raise damaged_error(path, f"{name} has {status.st_size} bytes, its manifest says {file.stored_bytes}.")


def stream(path: str | Path, files: Sequence[ArchiveFile], sink: Sink) -> dict[str, str]:
    """Decompress files one after the other into a sink and compare the size and SHA-256 of each. Returns the SHA-256 of
    each path. Raises Damaged, which names the file; a file without a known SHA-256 is only compared by its size.

    Memory use does not depend on the files' sizes; many files share one zstd.
    """
    path, digests = Path(path), {}
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        names = [file.path + SUFFIX for file in batch]
        with process.start([*decompress_command(), "--", *names], stdout=process.PIPE, cwd=str(path)) as zstd:
            process.widen_pipe(zstd.stdout)
            descriptor = zstd.stdout.fileno()
            for file in batch:
                digests[file.path] = _stream_one(path, file, descriptor, sink, zstd)
            if os.read(descriptor, 1):
                raise damaged_error(path, f"{names[-1]} holds more than its manifest says.")
            result = zstd.wait()
            if result.status:
                raise damaged_error(path, result.stderr)
    return digests


def _stream_one(path: Path, file: ArchiveFile, descriptor: int, sink: Sink, zstd: process.Process) -> str:
    digest, missing = hashlib.sha256(), file.bytes
    with sink(file) as write:
        while missing:
            chunk = os.read(descriptor, min(missing, _CHUNK))
            if not chunk:
                break
            digest.update(chunk)
            if write is not None:
                write(chunk)
            missing -= len(chunk)
    if missing or digest.hexdigest() != (file.sha256 or digest.hexdigest()):
        time.sleep(0.05)  # zstd may not have written its message yet
        why = f"{file.path}{SUFFIX}: " + (
            f"{missing} bytes are missing at its end" if missing else "its content does not have the recorded SHA-256"
        )
        raise damaged_error(path, "\n".join(filter(None, [why + ".", zstd.errors()])))
    return digest.hexdigest()


@contextlib.contextmanager
def _compare_only(_file: ArchiveFile) -> Iterator[None]:
    yield None


def _split(files: Sequence[ArchiveFile], workers: int) -> list[list[ArchiveFile]]:
    """Divide files among workers by size, so that all end at about the same time; each share keeps the files' order."""
    sizes = [0] * max(1, min(workers, len(files)))
    shares: list[list[int]] = [[] for _ in sizes]
    for position in sorted(range(len(files)), key=lambda position: -files[position].bytes):
        smallest = sizes.index(min(sizes))
        sizes[smallest] += files[position].bytes + 4096
        shares[smallest].append(position)
    return [[files[position] for position in sorted(share)] for share in shares]


def _stream_in_parallel(path: Path, files: Sequence[ArchiveFile], sink: Sink, workers: int) -> dict[str, str]:
    workers, digests = workers or parallel_jobs.default_jobs(), {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        futures = [pool.submit(stream, path, share, sink) for share in _split(files, workers) if share]
        for future in futures:
            digests.update(future.result())
    return digests


def read_all(path: str | Path, files: Sequence[ArchiveFile], workers: int = 0) -> dict[str, str]:
    """Read files of an archive and compare each with its SHA-256. Returns and raises what `stream` does.

    workers: how many files at once; 0 stands for `parallel_jobs.default_jobs`.
    """
    return _stream_in_parallel(Path(path), files, _compare_only, workers)


def verify(path: str | Path, workers: int = 0) -> Manifest:
    """Read an archive completely, compare every checksum and return its manifest. Raises Damaged."""
    contents = read_manifest(path)
    read_all(path, contents.files, workers)
    return contents


def expand(path: str | Path, destination: str | Path, workers: int = 0) -> Manifest:
    """Write an archive's plain form to `destination`, a new or empty directory, and return the manifest.

    The plain form is what deduplicates offsite and what pg_restore reads. Every file is compared with its SHA-256. On
    an error a directory that this call created is removed.
    """
    path, destination = Path(path), Path(destination)
    contents = read_manifest(path)
    is_new = not destination.exists()
    try:
        if is_new:
            destination.mkdir(mode=0o700)
        elif destination.is_symlink() or any(destination.iterdir()):
            raise SauvegardeError(f"The folder to expand into is not empty: {destination}", fix="Name a new folder.")
        _expand_into(path, destination, contents.files, workers)
    except BaseException as error:
        if is_new:
            shutil.rmtree(destination, ignore_errors=True)
        if isinstance(error, OSError) and disk_space.is_disk_full(error):
            raise disk_space.disk_full_error(destination, error) from error
        raise
    return contents


def _expand_into(path: Path, destination: Path, files: Sequence[ArchiveFile], workers: int) -> None:
    for file in files:
        (destination / file.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def sink(file: ArchiveFile) -> Iterator[Callable[[bytes], object]]:
        with _create(destination / file.path) as target:
            yield target.write

    _stream_in_parallel(path, files, sink, workers)
    with _create(destination / manifest.NAME) as target:
        target.write((path / manifest.NAME).read_bytes())


def _create(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def verify_plain(path: str | Path) -> Manifest:
    """Do what `verify` does, for the plain form; return the manifest. Raises Damaged."""
    path = Path(path)
    contents = manifest.load(path / manifest.NAME)
    with ThreadPoolExecutor(parallel_jobs.default_jobs()) as pool:
        for _ in pool.map(lambda file: _verify_plain_file(path, file), contents.files):
            continue  # raises a file's error here
    return contents


def _verify_plain_file(path: Path, file: ArchiveFile) -> None:
    digest = hashlib.sha256()
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with os.fdopen(os.open(path / file.path, flags), "rb", buffering=0) as plain:
            for chunk in iter(lambda: plain.read(_CHUNK), b""):
                digest.update(chunk)
    except OSError as error:
        raise damaged_error(path, str(error)) from error
    if digest.hexdigest() != file.sha256:
        raise damaged_error(path, f"{file.path} does not have the recorded SHA-256.")
