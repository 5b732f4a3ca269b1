"""Unpack a source into a run's working directory, as far as pg_restore needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ...archive import archive_reader
from ...archive.manifest import ArchiveFile
from ...errors import SauvegardeError
from ...postgres import disk_guard
from ...system import disk_space
from .byte_stream import CHUNK
from .dump_file import Source, open_dump, size_of
from .file_type import damaged
from .layers import ERRORS
from .packed_members import extract_folder

_STEP = 16 * CHUNK  # bytes that are written between two looks at the free space


def prepare(source: Source, work: Path) -> Source:
    """Return the same source in a form that pg_restore reads in place, unpacked into the directory `work` if necessary.

    Every file of our own archives is compared with its checksum.
    """
    if source.form == "archive":
        plain = work / "archive" if source.compression else Path(source.path)
        if source.compression:
            archive_reader.expand(source.path, plain)
        else:
            archive_reader.verify_plain(plain)
        return replace(source, path=str(plain / "dump"), form="directory", compression="", size=size_of(plain))
    if source.form == "plain" or not (source.layers or len(source.parts) > 1):
        return source
    unpacked = work / "dump"
    try:
        if source.form == "directory":
            extract_folder(source.parts, source.layers, unpacked, space_guard(source, work))
        else:
            _unpack(source, unpacked, space_guard(source, work))
    except ERRORS as error:
        if not disk_space.is_disk_full(error):
            raise damaged(source.path, str(error)) from error
        raise SauvegardeError(f"{source.path} could not be unpacked.", str(error), "Free space for it.") from error
    return replace(source, path=str(unpacked), compression="", size=size_of(unpacked), parts=(unpacked,), layers=())


def _unpack(source: Source, target: Path, reserve: Callable[[int], None]) -> None:
    with open_dump(source) as stream, target.open("wb") as file:
        for data in iter(stream.read, b""):
            reserve(len(data))
            file.write(data)


def space_guard(source: Source, work: Path) -> Callable[[int], None]:
    """Return a function to call with each number of bytes before they are written to `work`.

    It raises if too little space would remain for the server.
    """
    written = checked = 0

    def reserve(count: int) -> None:
        nonlocal written, checked
        written += count
        if written < checked:
            return
        checked = written + _STEP
        if disk_space.free_bytes(work) < disk_guard.reserve(work) + _STEP:
            raise SauvegardeError(
                f"There is too little space to unpack {source.path}.",
                f"{written // CHUNK} MiB of it were unpacked in {work}; what is left there is the server's.",
                "Free space there, or restore with a directory elsewhere (restore_directory).",
            )

    return reserve


def definitions(source: Source, work: Path) -> Source:
    """Return one of our archives in a form whose definitions pg_restore can list and write.

    Only its table of contents is unpacked, into the directory `work`.
    """
    if not source.compression:
        return replace(source, path=str(Path(source.path) / "dump"), form="directory")
    folder = work / "definitions"
    folder.mkdir()

    @contextlib.contextmanager
    def sink(file: ArchiveFile) -> Iterator[Callable[[bytes], object]]:
        with (folder / Path(file.path).name).open("xb") as target:
            yield target.write

    files = source.manifest.files if source.manifest is not None else ()
    archive_reader.stream(source.path, [file for file in files if file.path.endswith("/toc.dat")], sink)
    return replace(source, path=str(folder), form="directory", compression="")
