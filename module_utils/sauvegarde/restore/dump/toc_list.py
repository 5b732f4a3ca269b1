"""Read and write pg_restore's list of an archive, and find the entries that its lines name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...system import process
from .contents import Contents
from .dump_file import Source
from .entries import Entry
from .pg_restore import Reader

_KIND = re.compile(r"(?:[A-Z]+ )*[A-Z]+(?= )")


@dataclass(frozen=True)
class ListedEntry:
    """A line of the list, in the dump's own encoding, and what it names: 'TABLE DATA public offer owner'."""

    line: bytes
    listed: str

    @property
    def number(self) -> str:
        """The id of the entry, by which pg_restore's messages name it."""
        return entry_number(self.line)


def entry_number(line: bytes) -> str:
    """Return the id of the entry in a line of the list."""
    return line.split(b";")[0].decode("ascii")


def read_list(source: Source, tool: Reader, encoding: str) -> list[ListedEntry]:
    """Return pg_restore's list of the archive. encoding: of the dump (`Contents.encoding`)."""
    result = process.run([tool.path, "-l", source.path])
    entries = []
    for line in result.stdout.split(b"\n"):
        if line and not line.startswith(b";"):
            listed = line.split(b"; ", 1)[1].split(b" ", 2)[2]
            entries.append(ListedEntry(line, listed.decode(encoding, "surrogateescape")))
    return entries


def write_list(path: Path, lines: Iterable[bytes]) -> None:
    """Write lines of the list to a file for pg_restore -L."""
    path.write_bytes(b"\n".join(lines) + b"\n")


def drops_oids(source: Source, tool: Reader) -> bool:
    """Return whether the archive has tables WITH OIDS, which this pg_restore only mentions beside its list."""
    return "WITH OIDS" in process.run([tool.path, "-l", source.path]).stderr


def entries_by_listing(contents: Contents) -> dict[str, Entry]:
    """Return {how pg_restore's list names it: the entry} of all entries and of their rows."""
    entries: dict[str, Entry] = {}
    for entry in contents.entries:
        for related in (entry, *entry.data_entries()):
            entries.setdefault(related.listed(), related)
    return entries


def entry_of_listing(listed: str) -> Entry:
    """Return an entry from its name in the list alone, which does not always tell its parts apart."""
    match = _KIND.match(listed)
    kind = match.group() if match else listed.split(" ")[0]
    schema, _, rest = listed[len(kind) + 1 :].partition(" ")
    name, _, owner = rest.rpartition(" ")
    return Entry(kind, "" if schema == "-" else schema, name, owner)
