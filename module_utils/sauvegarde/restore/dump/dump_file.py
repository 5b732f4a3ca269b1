"""What is restored: one of our archives, or any file or directory that pg_dump wrote, in other things or not."""

import contextlib
import dataclasses
import errno
import re
import tempfile
from pathlib import Path
from typing import NamedTuple, Optional

from ...archive import archive_reader, manifest
from ...errors import SauvegardeError
from ...postgres import client_tools, disk_guard, server_versions
from ...system import disk_space, process
from . import (
    cluster_dump,
    content_scan,
    file_type,
    split_files,
    wrappers,
)
from .byte_stream import CHUNK
from .entries import TABLE_KINDS, Entry
from .file_type import damaged
from .sql_script import SeveralDumps

_LARGE_OBJECT = re.compile(r"(BLOB|BLOB METADATA|BLOBS) - ([\d.]+|BLOBS) (.*)")


class Source(NamedTuple):
    """What a path holds.

    path         absolute
    form         'archive' (ours), 'custom', 'directory', 'tar', 'plain', or 'cluster' (pg_dumpall)
    compression  of our own archive: 'zst' as it is stored, '' in its plain form, as it lies offsite; of other files the
                 kinds of their layers, '' without any
    manifest     of our own archive, else None
    size         bytes on disk
    parts        the files that make it up, one after the other, of files that are not ours
    layers       what is around the dump in them (wrapping.Layer), the outermost first
    notes        what a plan says about these
    section      the database that was chosen of a pg_dumpall file
    """

    path: str
    form: str
    compression: str
    manifest: Optional[manifest.Manifest]
    size: int
    parts: tuple = ()
    layers: tuple = ()
    notes: tuple = ()
    section: str = ""


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
        except wrappers.ERRORS as error:
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


# An archive that is newer than the pg_restore, or was compressed as it cannot.
_NEWER = re.compile(r"unsupported version|does not support compression|compression (?:is )?not supported")


def _said(result):
    """What a program that failed said, and how it ended where it could not say anything."""
    if result.status >= 0:
        return result.stderr
    return f"{Path(result.argv[0]).name} was ended by signal {-result.status}.\n{result.stderr}"


def _size(path):
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size


def detect(path):
    """The Source at `path`, by its content, never by its name. Checks nothing beyond its head."""
    path = Path(path).absolute()
    if path.is_dir():
        if (path / "manifest.json").exists():
            # Expanded, or fetched from offsite.
            if (path / "dump" / "toc.dat").exists():
                return Source(str(path), "archive", "", manifest.load(path / manifest.NAME), _size(path))
            return Source(str(path), "archive", "zst", archive_reader.read_manifest(str(path)), _size(path))
        if (path / "toc.dat").exists():
            return Source(str(path), "directory", "", None, _size(path))
        raise file_type.of_folder(path)
    parts, notes = split_files.parts(path)
    if not parts:
        raise SauvegardeError(f"There is nothing at {path}.", fix="Check the path; it is read on the target host.")
    layers, form, more = wrappers.look(parts)
    return Source(
        str(path),
        form,
        "+".join(each.kind for each in layers),
        None,
        sum(each.stat().st_size for each in parts),
        tuple(parts),
        layers,
        (*notes, *more),
    )


def opened(source):
    """A Stream of the dump inside the source's files."""
    parts = [Path(each) for each in source.parts or (source.path,)]
    try:
        stream = Stream(wrappers.opened(parts, source.layers), source.path)
    except wrappers.ERRORS as error:
        raise damaged(source.path, str(error)) from error
    return Stream(cluster_dump.Section(stream, source.section), source.path) if source.section else stream


def select(source, wanted, database, several=None):
    """The source itself, or of a pg_dumpall file the part of one database: `wanted`, else the one called `database`.

    several: the error that says that it is more than one dump, of which one is chosen in the same way. Raised where
    there is more in the file than these dumps, which would be lost.
    """
    if source.form != "cluster" and several is None:
        return source
    with opened(source) as stream:
        names, whole, outside = cluster_dump.databases(stream)
    if several is not None and (len(names) < 2 or outside):
        raise several
    if not names:
        raise SauvegardeError(
            f"{source.path} holds roles only (pg_dumpall --globals-only), no database.",
            fix="Give it as restore_globals, beside a dump of the database.",
        )
    what = "several dumps in one file" if several else "a dump of a whole cluster (pg_dumpall)"
    what += ", numbered in its order" if any("#" in name for name in names) else ""
    chosen = _one_of(names, wanted or database)
    if not chosen:
        raise SauvegardeError(
            f"{source.path} holds {_no_or_more(names, wanted or database)}.",
            f"It is {what}, with: " + ", ".join(names) + ".",
            "Name one of them: restore_file_database.",
        )
    note = f"It is {what}: of {', '.join(names)}, {chosen} is restored."
    if not whole and several is None:
        note += " The file's closing line is missing: it is cut short after the last of these."
    return source._replace(form="plain", section=chosen, notes=(*source.notes, note))


def _one_of(names, wanted):
    """The name among those of cluster.walk; '' where it is not there, or stands for several dumps."""
    if wanted in names and not any(name.startswith(wanted + " #") for name in names):
        return wanted
    first = wanted[: -len(" #1")] if wanted.endswith(" #1") else ""
    return first if first in names else ""


def _no_or_more(names, wanted):
    if wanted in names:
        return f"more than one dump of {wanted} (the first is {wanted} #1)"
    return f"no database {wanted}"


def check(source):
    """Read an archive of ours whole and compare every checksum; raises Damaged."""
    if source.compression:
        archive_reader.verify(source.path)
    else:
        archive_reader.verify_plain(source.path)


def prepare(source, work):
    """The same Source in a form that pg_restore reads in place, unpacked into the directory `work` where it must be.

    Every file of our own archives is checked against its checksum on the way.
    """
    if source.form == "archive":
        plain = Path(work) / "archive" if source.compression else Path(source.path)
        if source.compression:
            archive_reader.expand(source.path, str(plain))
        else:
            archive_reader.verify_plain(plain)
        return source._replace(path=str(plain / "dump"), form="directory", compression="", size=_size(plain))
    if source.form == "plain" or not (source.layers or len(source.parts) > 1):
        return source
    unpacked = Path(work) / "dump"
    parts = [Path(each) for each in source.parts]
    try:
        if source.form == "directory":
            wrappers.extract(parts, source.layers, unpacked, enough(source, work))
        else:
            checked = enough(source, work)
            with opened(source) as stream, unpacked.open("wb") as file:
                for data in iter(stream.read, b""):
                    checked(len(data))
                    file.write(data)
    except wrappers.ERRORS as error:
        if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
            raise damaged(source.path, str(error)) from error
        raise SauvegardeError(f"{source.path} could not be unpacked.", str(error), "Free space for it.") from error
    return source._replace(path=str(unpacked), compression="", size=_size(unpacked), parts=(str(unpacked),), layers=())


def enough(source, work):
    """A function that refuses to write a number of bytes more to `work` where too little would be left free."""
    written = [0, 0]

    def check_room(count):
        written[0] += count
        if written[0] >= written[1]:
            written[1] = written[0] + 16 * CHUNK
            if disk_space.free_bytes(work) < disk_guard.kept_free(work) + 16 * CHUNK:
                raise SauvegardeError(
                    f"There is too little space to unpack {source.path}.",
                    f"{written[0] // CHUNK} MiB of it were unpacked in {work}; what is left there is the server's.",
                    "Free space there, or restore with a directory elsewhere (restore_directory).",
                )

    return check_room


def definitions(source, work):
    """An archive of ours as pg_restore lists it and writes its definitions: only its table of contents is unpacked."""
    if not source.compression:
        return source._replace(path=str(Path(source.path) / "dump"), form="directory")
    folder = Path(work) / "definitions"
    folder.mkdir()

    @contextlib.contextmanager
    def sink(file):
        with (folder / Path(file.path).name).open("xb") as target:
            yield target.write

    index = [file for file in source.manifest.files if file.path.endswith("/toc.dat")]
    archive_reader.stream(source.path, index, sink)
    return source._replace(path=str(folder), form="directory", compression="")


def readers(version_num, made=0):
    """This host's pg_restores for a target of `version_num`, oldest first: of its own version or newer ones.

    made: the version of a pg_dump, where only those are wanted that read what it made.
    """
    return [
        client
        for client in client_tools.clients("pg_restore")
        if client.version_num // 100 >= version_num // 100
        or server_versions.major(client.version_num) == server_versions.major(version_num)
        if server_versions.dump_format(client.version_num) >= server_versions.dump_format(made)
    ]


def unread(path, version_num, why):
    return SauvegardeError(
        f"No pg_restore on this host reads {path}.",
        why or f"There is none for PostgreSQL {server_versions.major(version_num)} or newer.",
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
            native = server_versions.major(client.version_num) == server_versions.major(version_num)
            return Reader(client.path, client.version_num, native)
        why = result.stderr
        if not _NEWER.search(why):
            raise damaged(source.path, _said(result))
    raise unread(source.path, version_num, why)


def script(source, tool, *options):
    """A Stream of the source as plain SQL; `options` are pg_restore's own (-s, -L FILE …)."""
    if source.form == "plain":
        return opened(source)
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


def choose(spec, work, version_num, told=None):
    """(Source as it is, prepared, its Reader, its Contents) of what a restore's spec names.

    The dump is unpacked into the directory `work` where that must be, and read whole.
    """
    found, several = detect(spec["path"]), None
    while True:
        given = select(found, spec["file_database"], spec["database"], several)
        ready = prepare(given, work)
        tool = reader(ready, version_num)
        try:
            return given, ready, tool, inspect(ready, tool, told)
        except SeveralDumps as error:
            if given.section:
                raise
            several = error


def inspect(source, tool, told=None):
    """The Contents of a prepared source.

    A foreign one is read whole, which proves that it can be: a cut custom-format file passes `pg_restore -l`.
    """
    if source.manifest is None:
        options = () if source.form == "plain" else ("-C",)
        with script(source, tool, *options) as stream:
            return content_scan.scan(stream, told)
    with script(source, tool, "-C", "-s") as stream:
        found = content_scan.scan(stream, told)
    tables = {entry.listed("TABLE DATA") for entry in found.entries if entry.kind in TABLE_KINDS}
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
            return dataclasses.replace(found, merged=content_scan.scan(stream).merged)
