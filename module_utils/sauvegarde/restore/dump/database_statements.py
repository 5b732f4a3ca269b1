"""Collect what a dump states about the database itself: encoding, locale, owner, settings, comment, grants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

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


def add_statements(database: dict[str, Any], entry: Entry, statements: Sequence[str]) -> None:
    """Add to `database` (Contents.database) what the statements of an entry about the database say."""
    text = "\n".join(statements)
    if entry.owner:
        database["owner"] = entry.owner
    if entry.kind == "DATABASE":
        for name, value in _OPTION.findall(text):
            database[name.lower()] = value[1:-1].replace("''", "'") if value.startswith("'") else value
        _add_limit(database, text)
    elif entry.kind == "DATABASE PROPERTIES":
        database["properties"] = True
        for statement in statements:
            setting = _SETTING.fullmatch(statement)
            if setting:
                role = unquoted(setting.group(1)) if setting.group(1) else ""
                database.setdefault("settings", []).append((role, setting.group(2), setting.group(3)))
            _add_limit(database, statement)
    elif entry.kind == "COMMENT":
        comment = _COMMENT.match(text)
        if comment:
            literal = comment.group(1)
            database["comment"] = None if literal == "NULL" else text_of_literal(literal)
    elif entry.kind == "ACL":
        database.setdefault("grants", []).extend(statements)


def _add_limit(database: dict[str, Any], text: str) -> None:
    """Add a connection limit. -2 marks a database whose DROP was interrupted; no server accepts it as a limit."""
    limit = _LIMIT.search(text)
    if limit:
        database["limit"] = max(-1, int(limit.group(1)))
