"""Collect what a dump states about the database itself: encoding, locale, owner, settings, comment, grants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .entries import Entry
from .sql_text import IDENTIFIER, text_of_literal, unquoted

_OPTION = re.compile(
    r"(ENCODING|LC_COLLATE|LC_CTYPE|LOCALE|LOCALE_PROVIDER|ICU_LOCALE|ICU_RULES|BUILTIN_LOCALE) = ('(?:[^']|'')*'|\w+)"
)
_LIMIT = re.compile(r" CONNECTION LIMIT = (-?\d+)")
_SETTING = re.compile(
    rf"ALTER (?:ROLE ({IDENTIFIER}) IN )?DATABASE {IDENTIFIER} SET ({IDENTIFIER}) TO (.*);", re.DOTALL
)
_COMMENT = re.compile(rf"COMMENT ON DATABASE {IDENTIFIER} IS (.*);\s*$", re.DOTALL)


def is_about_database(entry: Entry) -> bool:
    """Return whether the entry belongs to the database itself, and not to an object in it."""
    if entry.kind in ("DATABASE", "DATABASE PROPERTIES"):
        return True
    return (
        not entry.schema and entry.kind in ("ACL", "COMMENT", "SECURITY LABEL") and entry.name.startswith("DATABASE ")
    )


@dataclass
class DatabaseStatements:
    """What a dump states about its database.

    options: of CREATE DATABASE, by their names in lower case. has_properties: the dump has an entry of the kind
    DATABASE PROPERTIES. limit: of connections, -1 for none. settings: (role or '', name, value as SQL). grants:
    statements.
    """

    owner: str = ""
    options: dict[str, str] = field(default_factory=dict)
    has_properties: bool = False
    limit: int = -1
    comment: str | None = None
    settings: list[tuple[str, str, str]] = field(default_factory=list)
    grants: list[str] = field(default_factory=list)

    def add(self, entry: Entry, statements: Sequence[str]) -> None:
        """Take over what the statements of an entry about the database state."""
        text = "\n".join(statements)
        self.owner = entry.owner or self.owner
        if entry.kind == "DATABASE":
            for name, value in _OPTION.findall(text):
                self.options[name.lower()] = value[1:-1].replace("''", "'") if value.startswith("'") else value
            self._add_limit(text)
        elif entry.kind == "DATABASE PROPERTIES":
            self.has_properties = True
            for statement in statements:
                setting = _SETTING.fullmatch(statement)
                if setting:
                    role = unquoted(setting.group(1)) if setting.group(1) else ""
                    self.settings.append((role, setting.group(2), setting.group(3)))
                self._add_limit(statement)
        elif entry.kind == "COMMENT":
            comment = _COMMENT.match(text)
            if comment and comment.group(1) != "NULL":
                self.comment = text_of_literal(comment.group(1))
        elif entry.kind == "ACL":
            self.grants.extend(statements)

    def _add_limit(self, text: str) -> None:
        """Take over a connection limit. -2 marks a database whose DROP was interrupted; no server accepts it."""
        limit = _LIMIT.search(text)
        if limit:
            self.limit = max(-1, int(limit.group(1)))
