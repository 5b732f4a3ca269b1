"""Tables WITH OIDS, which servers from 12 on do not know: take the clause and the column away from a plain dump."""

import re

WITH_OIDS = re.compile(rb"\s+WITH OIDS(?=\s+FROM stdin)", re.IGNORECASE)
_DECLARED = re.compile(rb"\)\s*\nWITH OIDS;")
_COLUMN = re.compile(rb"^[0-9]+\t?", re.MULTILINE)


def definition(text):
    """The SQL of a table's entry without its WITH OIDS."""
    return _DECLARED.sub(b")\n;", text)


def copy(statement, rows):
    """The COPY statement (bytes) and its rows, without the column of OIDs where they have one."""
    plain, count = WITH_OIDS.subn(b"", statement)
    return (plain, WithoutFirst(rows)) if count else (statement, rows)


def warnings(contents, version_num):
    """What a plan says about them on a server of this version: [(what, why)]."""
    if version_num < 120000:
        return []
    found = []
    if contents.oids:
        found.append(
            (
                "The OIDs of rows that the dump holds are not restored: " + _names(contents.oids) + ".",
                "From 12 on no table has them. Where the application refers to rows by their OIDs, restore on"
                " PostgreSQL 11 or older, copy them into a column of their own, and back that up.",
            )
        )
    others = contents.with_oids - contents.oids
    if others:
        found.append(
            (
                "Tables WITH OIDS are made without them: " + _names(others) + ".",
                "From 12 on no table has them, and the dump does not hold their values.",
            )
        )
    return found


def _names(tables):
    shown = [".".join(filter(None, each)) for each in sorted(tables)]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")


class WithoutFirst:
    """File-like: rows of a COPY without their first column, which holds numbers."""

    def __init__(self, rows):
        self._rows = rows
        self._row_begins = True

    def read(self, _size=-1):
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
