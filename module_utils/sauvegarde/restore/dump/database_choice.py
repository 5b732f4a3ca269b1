"""Choose the one database to restore of a file with several dumps (pg_dumpall, or dumps that were put together)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import SauvegardeError
from . import cluster_dump
from .dump_file import Source, open_dump
from .sql_script import SeveralDumps


def choose_database(source: Source, name: str, several: SeveralDumps | None = None) -> Source:
    """Return the source itself, or the part of the database `name` of a file with several dumps.

    several: the error by which a plain dump turned out to be more than one; raised if the file holds SQL outside these
    dumps, which would be lost.
    """
    if source.form != "cluster" and several is None:
        return source
    with open_dump(source) as stream:
        names, complete, outside = cluster_dump.databases(stream)
    if several is not None and (len(names) < 2 or outside):
        raise several
    if not names:
        raise SauvegardeError(
            f"{source.path} holds roles only (pg_dumpall --globals-only), no database.",
            fix="Give it as restore_globals, beside a dump of the database.",
        )
    description = "several dumps in one file" if several else "a dump of a whole cluster (pg_dumpall)"
    description += ", numbered in its order" if any("#" in name for name in names) else ""
    chosen = _find(name, names)
    if not chosen:
        count = f"more than one dump of {name} (the first is {name} #1)" if name in names else f"no database {name}"
        raise SauvegardeError(
            f"{source.path} holds {count}.",
            f"It is {description}, with: " + ", ".join(names) + ".",
            "Name one of them: restore_file_database.",
        )
    note = f"It is {description}: of {', '.join(names)}, {chosen} is restored."
    if not complete and several is None:
        note += " The file's closing line is missing: it is cut short after the last of these."
    return replace(source, form="plain", section=chosen, notes=(*source.notes, note))


def _find(name: str, names: Sequence[str]) -> str:
    """Return the one of `cluster_dump.walk`'s names; '' if it is not there, or stands for several dumps."""
    if name in names and not any(other.startswith(name + " #") for other in names):
        return name
    first = name[: -len(" #1")] if name.endswith(" #1") else ""
    return first if first in names else ""
