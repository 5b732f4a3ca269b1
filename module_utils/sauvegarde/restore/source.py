"""What is restored: one of our archives, or any file or directory that pg_dump wrote, compressed or not."""

import bz2
import contextlib
import gzip
import lzma
import re
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple, Optional

from .. import archive, manifest, postgres, process
from ..errors import DAMAGED, SauvegardeError
from . import contents
from .script import Entry

CHUNK = 1 << 20

_COMPRESSIONS = ((b"\x1f\x8b", "gz"), (b"\xfd7zXZ\x00", "xz"), (b"\x28\xb5\x2f\xfd", "zst"), (b"BZh", "bz2"))
_LARGE_OBJECT = re.compile(r"(BLOB|BLOB METADATA|BLOBS) - ([\d.]+|BLOBS) (.*)")
# Versions of pg_dump with a new format of its archives; a pg_restore reads all formats up to its own.
_FORMATS = (120000, 160000, 170000)
_OPEN = {"gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}


class Source(NamedTuple):
    """path: absolute. form: 'archive' (ours), 'custom', 'directory', 'tar', 'plain'. packed: gz, xz, zst, bz2.

    An archive of ours can be in its plain form too, as it lies offsite. manifest: of our own archive, else None.
    size: bytes on disk.
    """

    path: str
    form: str
    compression: str
    manifest: Optional[dict]
    size: int


class Reader(NamedTuple):
    """How an archive of pg_dump's is read: pg_restore's path, and whether it writes what the target knows."""

    path: str
    version_num: int
    native: bool


class Stream:
    """A binary stream whose reader hears of every error, at the latest at its end, as a SauvegardeError."""

    def __init__(self, file, what, child=None):
        self._file = file
        self._what = what
        self._child = child

    def read(self, size=CHUNK):
        try:
            data = self._file.read(size)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise damaged(self._what, str(error)) from error
        if not data and self._child is not None:
            child, self._child = self._child, None
            result = child.wait()
            if result.status:
                raise damaged(self._what, _said(result))
        return data

    def close(self):
        if self._child is not None:
            self._child.kill()
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# What keeps a good file from being read: (words, fix).
_NOT_ITS_FAULT = tuple(
    (re.compile(words), fix)
    for words, fix in (
        (r"was ended by signal", "Look in the kernel's log for what ended it (memory?), and run it again."),
        (r"Permission denied", "Let the OS user that the restore runs as read it, and every folder above it."),
        (r"Cannot allocate memory|out of memory", "Free memory on this host, and run it again."),
        (r"No space left on device|Disk quota exceeded", "Free space on this host, and run it again."),
        (
            r"Input/output error|Stale file handle|Transport endpoint",
            "The disk or the mount below it failed: look there.",
        ),
        (r"Too many open files", "Raise the limit of open files, and run it again."),
        (
            r"[Nn]ot support(?:ed)?\b.*compression|compression.*not support",
            "Install a pg_restore with that compression.",
        ),
    )
)
# An archive that is newer than the pg_restore, or was compressed as it cannot.
_NEWER = re.compile(r"unsupported version|does not support compression|compression (?:is )?not supported")


def _said(result):
    """What a program that failed said, and how it ended where it could not say anything."""
    if result.status >= 0:
        return result.stderr
    return f"{Path(result.argv[0]).name} was ended by signal {-result.status}.\n{result.stderr}"


def damaged(path, why):
    for words, fix in _NOT_ITS_FAULT:
        if words.search(why):
            return SauvegardeError(f"{path} cannot be read here.", why, fix)
    return SauvegardeError(
        f"{path} cannot be read to its end.",
        why,
        "It is damaged or cut short: take another archive.",
        DAMAGED,
    )


def _size(path):
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size


def detect(path):
    """The Source at `path`, by its content, never by its name. Checks nothing beyond its head."""
    path = Path(path).absolute()
    if not path.exists():
        raise SauvegardeError(f"There is nothing at {path}.", fix="Check the path; it is read on the target host.")
    if path.is_dir():
        if (path / "manifest.json").exists():
            # Expanded, or fetched from offsite.
            if (path / "dump" / "toc.dat").exists():
                return Source(str(path), "archive", "", manifest.load(path / manifest.NAME), _size(path))
            return Source(str(path), "archive", "zst", archive.read(str(path)), _size(path))
        if (path / "toc.dat").exists():
            return Source(str(path), "directory", "", None, _size(path))
        raise SauvegardeError(
            f"{path} holds no backup.",
            "There is neither a manifest.json nor a toc.dat in it.",
            "Name one archive's own directory, a directory written by pg_dump -Fd, or a file.",
        )
    with path.open("rb") as file:
        head = file.read(6)
    for mark, compression in _COMPRESSIONS:
        if head.startswith(mark):
            with decompressed(str(path), compression) as stream:
                form = _form(stream.read(512), path)
            return Source(str(path), form, compression, None, _size(path))
    with path.open("rb") as file:
        return Source(str(path), _form(file.read(512), path), "", None, _size(path))


def _form(head, path):
    if head.startswith(b"PGDMP"):
        return "custom"
    if head[257:262] == b"ustar":
        return "tar"
    if not head.strip():
        raise damaged(path, "It is empty.")
    if b"\0" in head:
        raise SauvegardeError(
            f"{path} is not a dump.",
            "It is neither SQL nor one of pg_dump's formats, nor one of them as gz, xz, zst or bz2.",
            "Name a file that pg_dump wrote.",
        )
    return "plain"


def decompressed(path, compression):
    """A Stream of the file's own bytes."""
    if not compression:
        return Stream(Path(path).open("rb"), path)
    if compression == "zst":
        child = process.start([process.find("zstd"), "-dcq", "--", path], stdout=process.PIPE)
        return Stream(child.stdout, path, child)
    return Stream(_OPEN[compression](path, "rb"), path)


def check(source):
    """Read an archive of ours whole and compare every checksum; raises with exit code DAMAGED."""
    if source.compression:
        archive.verify(source.path)
    else:
        archive.verify_plain(source.path)


def prepare(source, work):
    """The same Source in a form that pg_restore reads in place, unpacked into the directory `work` where it must be.

    Every file of our own archives is checked against its checksum on the way.
    """
    if source.form == "archive":
        plain = Path(work) / "archive" if source.compression else Path(source.path)
        if source.compression:
            archive.expand(source.path, str(plain))
        else:
            archive.verify_plain(plain)
        return source._replace(path=str(plain / "dump"), form="directory", compression="", size=_size(plain))
    if source.form == "plain" or not source.compression:
        return source
    unpacked = Path(work) / "dump"
    try:
        with decompressed(source.path, source.compression) as stream, unpacked.open("wb") as file:
            shutil.copyfileobj(stream, file, CHUNK)
    except OSError as error:
        raise SauvegardeError(f"{source.path} could not be unpacked.", str(error), "Free space for it.") from error
    return source._replace(path=str(unpacked), compression="", size=unpacked.stat().st_size)


def definitions(source, work):
    """An archive of ours as pg_restore lists it and writes its definitions: only its table of contents is unpacked."""
    if not source.compression:
        return source._replace(path=str(Path(source.path) / "dump"), form="directory")
    folder = Path(work) / "definitions"
    folder.mkdir()

    @contextlib.contextmanager
    def sink(entry):
        with (folder / Path(entry["path"]).name).open("xb") as file:
            yield file.write

    index = [each for each in source.manifest["files"] if each["path"].endswith("/toc.dat")]
    archive.stream(source.path, index, sink)
    return source._replace(path=str(folder), form="directory", compression="")


def readers(version_num, made=0):
    """This host's pg_restores for a target of `version_num`, oldest first: of its own version or newer ones.

    made: the version of a pg_dump, where only those are wanted that read what it made.
    """
    return [
        client
        for client in postgres.clients("pg_restore")
        if client.version_num // 100 >= version_num // 100
        or postgres.major(client.version_num) == postgres.major(version_num)
        if _format(client.version_num) >= _format(made)
    ]


def _format(version_num):
    return sum(first <= version_num for first in _FORMATS)


def unread(path, version_num, why):
    return SauvegardeError(
        f"No pg_restore on this host reads {path}.",
        why or f"There is none for PostgreSQL {postgres.major(version_num)} or newer.",
        "Install the postgresql-client package of the version that made the dump.",
    )


def reader(source, version_num):
    """The pg_restore for a target of `version_num`: of its own version if it can read the archive, else a newer one.

    Only the first is native: a newer one writes settings that the target may not know. None for plain SQL.
    """
    if source.form == "plain":
        return None
    why = ""
    for client in readers(version_num):
        result = process.run([client.path, "-l", source.path], checked=False)
        if result.status == 0:
            native = postgres.major(client.version_num) == postgres.major(version_num)
            return Reader(client.path, client.version_num, native)
        why = result.stderr
        if not _NEWER.search(why):
            raise damaged(source.path, _said(result))
    raise unread(source.path, version_num, why)


def script(source, tool, *options):
    """A Stream of the source as plain SQL; `options` are pg_restore's own (-s, -L FILE …)."""
    if source.form == "plain":
        return decompressed(source.path, source.compression)
    stdout = ["-f", "-"] if tool.version_num >= 120000 else []
    child = process.start([tool.path, *stdout, *list(options), source.path], stdout=process.PIPE)
    return Stream(child.stdout, source.path, child)


def listing(source, tool, encoding):
    """pg_restore's list of the archive: (line, what it names) of each entry, e.g. 'TABLE DATA public offer owner'.

    Lines are bytes, in the dump's own `encoding` (Contents.encoding), and names as in the entries of its Contents.
    """
    result = process.run([tool.path, "-l", source.path])
    lines = []
    for line in result.stdout.split(b"\n"):
        if line and not line.startswith(b";"):
            names = line.split(b"; ", 1)[1].split(b" ", 2)[2]
            lines.append((line, names.decode(encoding, "surrogateescape")))
    return lines


def drops_oids(source, tool):
    """Whether the archive has tables WITH OIDS, which this pg_restore only says beside its list."""
    return "WITH OIDS" in process.run([tool.path, "-l", source.path]).stderr


def write_list(path, lines):
    """Write lines of `listing` to a file for pg_restore -L."""
    Path(path).write_bytes(b"\n".join(lines) + b"\n")


def inspect(source, tool, told=None):
    """The Contents of a prepared source.

    A foreign one is read whole, which proves that it can be: a cut custom-format file passes `pg_restore -l`.
    """
    if source.manifest is None:
        options = () if source.form == "plain" else ("-C",)
        with script(source, tool, *options) as stream:
            return contents.scan(stream, told)
    with script(source, tool, "-C", "-s") as stream:
        found = contents.scan(stream, told)
    tables = {"TABLE DATA {} {} {}".format(*entry[1:]) for entry in found.entries if entry.kind in contents.DEFINING}
    listed = listing(source, tool, found.encoding)
    # The pass above leaves out large objects, whose owners count too.
    large = (_LARGE_OBJECT.match(names) for _, names in listed)
    found.entries.extend(Entry(each.group(1), "", each.group(2), each.group(3)) for each in large if each)
    lines = [line for line, names in listed if names.startswith("TABLE DATA ") and names not in tables]
    if not lines:
        return found
    with tempfile.NamedTemporaryFile() as chosen:
        write_list(chosen.name, lines)
        with script(source, tool, "-a", "-L", chosen.name) as stream:
            return found._replace(merged=contents.scan(stream).merged)
