"""Read a source completely: choose its database, unpack it, choose its pg_restore, and collect its contents."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .content_scan import scan
from .contents import Contents
from .database_choice import choose_database
from .dump_file import Source, detect
from .entries import TABLE_KINDS, Entry, one_line
from .pg_restore import Reader, as_sql, reader
from .sql_script import SeveralDumps
from .toc_list import read_list, write_list
from .unpacking import prepare

_LARGE_OBJECT = re.compile(r"(BLOB|BLOB METADATA|BLOBS) - ([\d.]+|BLOBS) (.*)")


@dataclass(frozen=True)
class ReadDump:
    """A source that was read.

    source: as it was found, with its database chosen. prepared: the same in a form that pg_restore reads in place.
    tool: the pg_restore, None for plain SQL.
    """

    source: Source
    prepared: Source
    tool: Reader | None
    contents: Contents


def read_dump(
    path: str, database: str, work: Path, version_num: int, progress: Callable[[int], object] | None = None
) -> ReadDump:
    """Read the source at `path` for a target of `version_num`.

    database: which one of a file with several dumps. work: the directory into which the dump is unpacked if necessary.
    progress: called with the number of bytes of SQL read so far.
    """
    dump = detect(path)
    several: SeveralDumps | None = None
    while True:
        source = choose_database(dump, database, several)
        prepared = prepare(source, work)
        tool = reader(prepared, version_num)
        try:
            contents = with_needs(source, read_contents(prepared, tool, progress))
            return ReadDump(source, prepared, tool, contents)
        except SeveralDumps as error:
            if source.section:
                raise
            several = error


def with_needs(source: Source, contents: Contents) -> Contents:
    """Return the contents with the extensions that our own partial archive needs and does not hold."""
    partial = source.manifest.partial if source.manifest is not None else None
    if source.manifest is None or partial is None:
        return contents
    needed = {
        extension["name"]: extension["schema"]
        for extension in source.manifest.source["extensions"]
        if extension["name"] in partial["extensions"]
    }
    owners = {one_line(schema["name"]): schema["owner"] for schema in partial["schemas"]}
    return replace(contents, extensions={**needed, **contents.extensions}, owners={**owners, **contents.owners})


def read_contents(source: Source, tool: Reader | None, progress: Callable[[int], object] | None = None) -> Contents:
    """Return the Contents of a prepared source.

    A foreign source is read completely, which proves that it can be: a custom-format file that is cut short passes
    `pg_restore -l`. Of our own archives, whose files were compared with their checksums, only definitions are read, and
    the rows of tables that the dump does not define.
    """
    if source.manifest is None or tool is None:
        options = ("-C",) if tool is not None else ()
        with as_sql(source, tool, *options) as stream:
            return scan(stream, progress)
    with as_sql(source, tool, "-C", "-s") as stream:
        contents = scan(stream, progress)
    tables = {entry.listed("TABLE DATA") for entry in contents.entries if entry.kind in TABLE_KINDS}
    entries = read_list(source, tool, contents.encoding)
    # The pass above leaves out large objects, whose owners count too.
    large = (_LARGE_OBJECT.match(entry.listed) for entry in entries)
    contents.entries.extend(Entry(match.group(1), "", match.group(2), match.group(3)) for match in large if match)
    lines = [entry.line for entry in entries if entry.listed.startswith("TABLE DATA ") and entry.listed not in tables]
    if not lines:
        return contents
    with tempfile.NamedTemporaryFile() as chosen:
        write_list(Path(chosen.name), lines)
        with as_sql(source, tool, "-a", "-L", chosen.name) as stream:
            return replace(contents, merged=scan(stream).merged)
