"""Names of the databases that a restore makes and keeps: NAME__restore_ID while it works, NAME__before_ID afterwards.

PostgreSQL cuts a name at 63 bytes without a word, so a long name is shortened here, with a hash of the whole one.
"""

import hashlib
import re

from ..archive import ids

LONGEST = 63
_MADE = re.compile(r"^(?P<base>.*)__(?P<kind>restore|before)_(?P<id>" + ids.ID_PATTERN + r")$", re.DOTALL)
_ROOM = LONGEST - len("__restore_20260101T000000Z")


def base(database):
    """The part of the made names that stands for `database`: the name itself where it fits."""
    encoded = database.encode("utf-8")
    if len(encoded) <= _ROOM:
        return database
    mark = "~" + hashlib.sha256(encoded).hexdigest()[:8]
    return encoded[: _ROOM - len(mark)].decode("utf-8", "ignore") + mark


def side(database, identifier):
    """Where the restore `identifier` of `database` goes before the swap."""
    return f"{base(database)}__restore_{identifier}"


def before(database, identifier):
    """What `database` is called once the swap `identifier` has put another in its place."""
    return f"{base(database)}__before_{identifier}"


def made(name):
    """(base, kind, id) of a name made here, None for any other."""
    found = _MADE.match(name)
    return (found.group("base"), found.group("kind"), found.group("id")) if found else None


def belongs(name, database, kind):
    """Whether `name` was made from `database`, as `kind` (restore or before)."""
    found = made(name)
    return bool(found) and found[:2] == (base(database), kind)
