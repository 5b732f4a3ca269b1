"""Find the entries that the lines of pg_restore's list of an archive name."""

from __future__ import annotations

import re

from .contents import Contents
from .entries import Entry

_KIND = re.compile(r"(?:[A-Z]+ )*[A-Z]+(?= )")


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
