"""Remove WITH OIDS, which servers from 12 on do not know, and the column of OIDs from a plain dump."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...report.name_list import name_list
from .byte_stream import Readable
from .contents import Contents

WITH_OIDS = re.compile(rb"\s+WITH OIDS(?=\s+FROM stdin)", re.IGNORECASE)
_DECLARED = re.compile(rb"\)\s*\nWITH OIDS;")
_COLUMN = re.compile(rb"^[0-9]+\t?", re.MULTILINE)
_SHOWN = 10  # tables in one warning


def definition(text: bytes) -> bytes:
    """Return the SQL of a table's entry without its WITH OIDS."""
    return _DECLARED.sub(b")\n;", text)


def copy(statement: bytes, rows: Readable) -> tuple[bytes, Readable]:
    """Return the COPY statement and its rows without the column of OIDs, if they have one."""
    plain, count = WITH_OIDS.subn(b"", statement)
    return (plain, WithoutFirst(rows)) if count else (statement, rows)


def warnings(contents: Contents, version_num: int) -> list[tuple[str, str]]:
    """Return what a plan says about OIDs on a server of this version: [(what, why)]."""
    if version_num < 120000:
        return []
    result = []
    if contents.oids:
        result.append(
            (
                "The OIDs of rows that the dump holds are not restored: " + _names(contents.oids) + ".",
                "From 12 on no table has them. If the application refers to rows by their OIDs, restore on PostgreSQL"
                " 11 or older, copy them into a column of their own, and back that up.",
            )
        )
    others = contents.with_oids - contents.oids
    if others:
        result.append(
            (
                "Tables WITH OIDS are created without them: " + _names(others) + ".",
                "From 12 on no table has them, and the dump does not hold their values.",
            )
        )
    return result


def _names(tables: Iterable[tuple[str, str]]) -> str:
    names = [".".join(filter(None, table)) for table in sorted(tables)]
    return name_list(names, _SHOWN)


class WithoutFirst:
    """The rows of a COPY without their first column, which holds numbers, as a stream."""

    def __init__(self, rows: Readable) -> None:
        self._rows = rows
        self._row_begins = True

    def read(self, _size: int = -1, /) -> bytes:
        while True:
            data = self._rows.read()
            if not data:
                return b""
            while self._row_begins and not re.search(rb"[^0-9]", data):
                more = self._rows.read()
                if not more:
                    break
                data += more
            head, rest = b"", data
            if not self._row_begins:
                end = data.find(b"\n") + 1
                head, rest = (data[:end], data[end:]) if end else (data, b"")
            self._row_begins = data.endswith(b"\n")
            shorter = head + _COLUMN.sub(b"", rest)
            if shorter:
                return shorter
