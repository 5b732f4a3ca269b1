"""Read a dump in pg_dump's directory format completely, with pg_restore itself and every checksum in one pass."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..archive import archive_reader
from ..archive.manifest import ArchiveFile
from ..errors import SauvegardeError
from ..postgres import character_sets, sql_names
from ..postgres.client_tools import Client
from ..system import process

FOLDER = "dump"  # the dump's folder in an archive
Sequences = dict[str, list[object]]  # by quoted name: the value, and whether it was given out
_UNREADABLE = "pg_restore cannot read the complete dump."
_ENCODING = re.compile(rb"^SET client_encoding = '([A-Za-z0-9_]+)';$", re.MULTILINE)
_SETVAL = re.compile(r"^SELECT pg_catalog\.setval\('((?:[^']|'')*)', (-?\d+), (true|false)\);$", re.MULTILINE)


@dataclass(frozen=True)
class DumpReading:
    """What reading a dump showed: the values that it gives to sequences, the SHA-256 of each path, and pg_restore's
    list of its entries."""

    sequences: Sequences
    digests: dict[str, str]
    listing: str


def read_dump(path: str | Path, files: Sequence[ArchiveFile], reader: Client) -> DumpReading:
    """Let pg_restore read the complete dump while every checksum is taken. Only the tables of contents are written to
    the disk uncompressed.

    files: the archive's files in the dump's folder. reader: a pg_restore as new as the dump.
    """
    by_name = {_name(file): file for file in files}
    # Beside the archive if possible, under a name that archive_writer.remove_partial removes after a kill.
    parent = Path(path).parent
    beside = str(parent) if os.access(parent, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix=".partial-read-", dir=beside))
    try:
        contents = [file for name, file in by_name.items() if name.endswith(".toc") or name == "toc.dat"]
        archive_reader.stream(path, contents, lambda file: _into(folder / _name(file)))
        listing = process.run([reader.path, "--list", str(folder)], what=_UNREADABLE).text
        order = ["toc.dat", *(name for name in _tar_order(folder, listing) if name in by_name)]
        digests = _read_as_tar(path, [by_name[name] for name in order], reader)
        rest = [file for name, file in by_name.items() if name not in order]
        digests.update(archive_reader.read_all(path, rest))
        return DumpReading(_sequences(folder, listing, reader), digests, listing)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read_as_tar(path: str | Path, files: Sequence[ArchiveFile], reader: Client) -> dict[str, str]:
    """Pass a dump to pg_restore on its standard input, in one pass with the checksums. Returns these.

    A directory is the same format as a tar, which every version reads from a pipe if its members come in the order of
    the table of contents. The newest minor releases refuse pipes in the place of a directory's files.
    """
    with process.start([reader.path, "--format=tar", "--file=/dev/null"], stdin=process.PIPE) as restorer:
        process.widen_pipe(restorer.stdin)

        def write(chunk: bytes) -> None:
            view = memoryview(chunk)
            try:
                while view:
                    view = view[os.write(restorer.stdin.fileno(), view) :]
            except BrokenPipeError:
                # With status 0 it has read all that its table of contents names: the rest is padding, or a list.
                restorer.finish(what=_UNREADABLE)

        @contextlib.contextmanager
        def member(file: ArchiveFile) -> Iterator[Callable[[bytes], object]]:
            head = tarfile.TarInfo(_name(file))
            head.size = file.bytes
            write(head.tobuf(tarfile.GNU_FORMAT))
            yield write
            write(bytes(-head.size % tarfile.BLOCKSIZE))

        digests = archive_reader.stream(path, files, member)
        restorer.stdin.close()
        restorer.finish(what=_UNREADABLE)
    return digests


def _name(file: ArchiveFile) -> str:
    return file.path.rpartition("/")[2]


@contextlib.contextmanager
def _into(path: Path) -> Iterator[Callable[[bytes], object]]:
    with path.open("xb") as target:
        yield target.write


def _tar_order(folder: Path, listing: str) -> Iterator[str]:
    """Yield the data files in the order of the table of contents; large objects before their list, as in a tar."""
    for line in listing.splitlines():
        match = re.match(r"(\d+); \d+ \d+ (TABLE DATA|BLOBS) ", line)
        if match is None:
            continue
        if match.group(2) == "TABLE DATA":
            yield f"{match.group(1)}.dat"
        else:
            index = folder / f"blobs_{match.group(1)}.toc"  # one list a group of objects, from 17 on
            index = index if index.exists() else folder / "blobs.toc"
            with index.open() as objects:
                for line_of_object in objects:
                    yield line_of_object.split()[1]
            yield index.name


def _sequences(folder: Path, listing: str, reader: Client) -> Sequences:
    """Return the sequences' values from the SEQUENCE SET entries of the dump."""
    entries = [line for line in listing.splitlines() if re.match(r"\d+; \d+ \d+ SEQUENCE SET ", line)]
    if not entries:
        return {}
    chosen = folder / "sequences.list"
    chosen.write_text("\n".join(entries) + "\n", encoding="utf-8")
    arguments = [reader.path, f"--use-list={chosen}", "--file=/dev/stdout", str(folder)]
    data = process.run(arguments, what="pg_restore cannot read the sequences.").stdout
    encoding = _ENCODING.search(data)
    text = character_sets.decode(data, encoding.group(1).decode("ascii") if encoding else "UTF8")
    # As the source has it; pg_dump writes its literals accordingly.
    doubled = "\nSET standard_conforming_strings = off;\n" in text
    sequences: Sequences = {}
    for name, value, called in _SETVAL.findall(text):
        name = name.replace("\\\\", "\\") if doubled else name
        parts = re.findall(r'"((?:[^"]|"")*)"|([^".]+)', name.replace("''", "'"))
        key = sql_names.quote(*(quoted.replace('""', '"') or bare for quoted, bare in parts))
        sequences[key] = [int(value), called == "true"]
    if len(sequences) != len(entries):
        raise SauvegardeError(
            "The dump's sequences could not be read.", f"{len(entries)} set, {len(sequences)} understood."
        )
    return sequences
