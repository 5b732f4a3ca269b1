"""Read in pg_restore's list of a dump which objects the dump holds, by the OIDs that the source has for them."""

from __future__ import annotations

import re
from dataclasses import dataclass

# `id; catalog oid KIND schema name owner`; entries that are no object of a catalog of their own have 0 there.
_LINE = re.compile(r"\d+; (\d+) (\d+) (.*)")
_ROWS = ("TABLE DATA ", "MATERIALIZED VIEW DATA ")


@dataclass(frozen=True)
class DumpEntries:
    """What a dump holds.

    objects: (OID of the catalog, OID) of each definition. rows: OIDs of the tables and materialized views that it has
    rows of. lines: the list's entries without their numbers: `TABLE ATTACH public part owner`.
    """

    objects: frozenset[tuple[int, int]]
    rows: frozenset[int]
    lines: tuple[str, ...]

    @classmethod
    def of_list(cls, listing: str) -> DumpEntries:
        """Return what pg_restore's list names."""
        matches = [match for match in map(_LINE.match, listing.splitlines()) if match]
        rows = frozenset(int(match.group(2)) for match in matches if match.group(3).startswith(_ROWS))
        objects = frozenset(
            (int(match.group(1)), int(match.group(2)))
            for match in matches
            if match.group(1) != "0" and not match.group(3).startswith(_ROWS)
        )
        return cls(objects, rows, tuple(match.group(3) for match in matches))

    def has_line(self, kind: str, schema: str, name: str) -> bool:
        """Return whether there is an entry of this kind for an object."""
        head = f"{kind} {schema} {name} "
        return any(line.startswith(head) for line in self.lines)
