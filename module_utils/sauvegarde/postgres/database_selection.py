"""Choose the databases of a job that backs up several: names, shell-style patterns, `all`, and what is excluded.

In a pattern `*` stands for any text, `?` for one character, `[abc]` for one of these. A name that has such a character
is written with it in brackets: `a[*]b` is the database `a*b`, `[[]x]` is `[x]`. The one word `all` stands for every
database; `[a]ll` is the database `all`.

Patterns and `all` never choose templates, databases that accept no connections, and the side and previous databases of
restores. A database that is named without a pattern is chosen whatever it is, and has to exist.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import SauvegardeError
from . import database_names

ALL = "all"
# A database with the limit -2 is what an interrupted DROP DATABASE left.
QUERY = (
    "SELECT datname::text, datallowconn, datistemplate, datconnlimit = -2 FROM pg_catalog.pg_database ORDER BY datname"
)
_WHY_KEPT = {
    database_names.SIDE: "the side database of a restore",
    database_names.PREVIOUS: "the previous database of a swap",
}


@dataclass(frozen=True)
class ServerDatabase:
    """A database of a server, as QUERY has it."""

    name: str
    accepts_connections: bool = True
    is_template: bool = False
    half_dropped: bool = False

    def why_special(self) -> str:
        """Return why patterns do not choose it; '' for an ordinary database."""
        if self.half_dropped:
            return "an interrupted DROP DATABASE left it"
        if self.is_template:
            return "a template"
        if not self.accepts_connections:
            return "it accepts no connections"
        parts = database_names.parse(self.name)
        return _WHY_KEPT[parts.kind] if parts else ""


@dataclass(frozen=True)
class Choice:
    """The databases that a job backs up. missing: names that no database has. left_out: why, by name, a database that a
    pattern matches is not chosen."""

    names: tuple[str, ...]
    missing: tuple[str, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class DatabaseSelection:
    """A job's `databases` and `exclude`."""

    patterns: tuple[str, ...]
    exclude: tuple[str, ...] = ()

    @classmethod
    def of_names(cls, names: Iterable[str]) -> DatabaseSelection:
        """Return the selection of exactly these databases."""
        return cls(tuple(escape(name) for name in names))

    def literal_names(self) -> set[str]:
        """Return the databases that are named without a pattern."""
        return {name for pattern in self.patterns if (name := literal_name(pattern)) is not None}

    def excluding_pattern(self, name: str) -> str:
        """Return the pattern of `exclude` that matches the name; '' if none does."""
        return next((pattern for pattern in self.exclude if _matches(name, pattern)), "")

    def names_by_pattern(self, name: str) -> bool:
        """Return whether a pattern or `all` matches the name, excluded or not."""
        return any(literal_name(pattern) is None and _matches(name, pattern) for pattern in self.patterns)

    def decides_about(self, name: str) -> bool:
        """Return whether an ordinary database of this name is backed up, or left out by `exclude`."""
        return name in self.literal_names() or self.names_by_pattern(name)

    def choose(self, databases: Iterable[ServerDatabase]) -> Choice:
        """Return which of a server's databases the job backs up, in the order of the server."""
        names, left_out, literal = [], {}, self.literal_names()
        present = set()
        for database in databases:
            present.add(database.name)
            if database.name not in literal and not self.names_by_pattern(database.name):
                continue
            excluded = self.excluding_pattern(database.name)
            why = f"excluded by {excluded}" if excluded else ""
            if not why and database.name not in literal:
                why = database.why_special()
            if why:
                left_out[database.name] = why
            else:
                names.append(database.name)
        return Choice(tuple(names), tuple(sorted(literal - present)), left_out)

    def require_consistent(self, subject: str) -> None:
        """Raise SauvegardeError for empty texts and names that are both chosen and excluded. subject: for the error."""
        if any(not pattern for pattern in (*self.patterns, *self.exclude)):
            raise SauvegardeError(f"The databases of {subject} have an empty name.", fix="Remove it.")
        both = sorted(name for name in self.literal_names() if self.excluding_pattern(name))
        if both:
            raise SauvegardeError(
                f"{subject} names databases that it excludes: {', '.join(both)}.",
                "`databases` has them by name, and `exclude` matches them.",
                "Remove them from one of the two.",
            )


def _matches(name: str, pattern: str) -> bool:
    return pattern == ALL or fnmatch.fnmatchcase(name, pattern)


def escape(name: str) -> str:
    """Return the pattern that only this name matches."""
    return "[a]ll" if name == ALL else re.sub(r"([*?[])", r"[\1]", name)


def literal_name(pattern: str) -> str | None:
    """Return the only name that a pattern can match; None for one that can match several."""
    if pattern == ALL:
        return None
    name, rest = "", pattern
    while rest:
        bracket = re.match(r"\[([^!\]])\]", rest, re.DOTALL)
        if bracket:
            name, rest = name + bracket.group(1), rest[bracket.end() :]
        elif rest[0] in "*?" or (rest[0] == "[" and "]" in rest[2:]):
            return None
        else:  # a bracket that is never closed stands for itself
            name, rest = name + rest[0], rest[1:]
    return name
