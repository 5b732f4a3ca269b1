"""Name the databases that a restore creates and keeps: NAME__restore_ID for the side database, NAME__before_ID for the
previous one.

PostgreSQL truncates a name at 63 bytes without an error, so a long name is shortened here, with a hash of the whole.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from ..archive import ids

LONGEST = 63  # bytes
SIDE, PREVIOUS = "restore", "before"
_NAME = re.compile(rf"(?P<base>.*)__(?P<kind>{SIDE}|{PREVIOUS})_(?P<identifier>{ids.ID_PATTERN})", re.DOTALL)
_ROOM = LONGEST - len(f"__{SIDE}_20260101T000000Z")


@dataclass(frozen=True)
class DatabaseName:
    """The parts of a name from here: the base, its kind (SIDE or PREVIOUS) and the id of the restore or swap."""

    base: str
    kind: str
    identifier: str


def base_name(database: str) -> str:
    """Return the part of the names that stands for `database`: the name itself if it is short enough."""
    encoded = database.encode("utf-8")
    if len(encoded) <= _ROOM:
        return database
    mark = "~" + hashlib.sha256(encoded).hexdigest()[:8]
    return encoded[: _ROOM - len(mark)].decode("utf-8", "ignore") + mark


def side_name(database: str, identifier: str) -> str:
    """Return the name of the side database that the restore `identifier` of `database` fills."""
    return f"{base_name(database)}__{SIDE}_{identifier}"


def previous_name(database: str, identifier: str) -> str:
    """Return the name that `database` gets when the swap `identifier` puts another in its place."""
    return f"{base_name(database)}__{PREVIOUS}_{identifier}"


def parse(name: str) -> DatabaseName | None:
    """Return the parts of a name from here, None for any other name."""
    match = _NAME.fullmatch(name)
    return DatabaseName(**match.groupdict()) if match else None


def belongs(name: str, database: str, kind: str) -> bool:
    """Return whether `name` is one of that kind (SIDE or PREVIOUS) for `database`."""
    parts = parse(name)
    return parts is not None and (parts.base, parts.kind) == (base_name(database), kind)
