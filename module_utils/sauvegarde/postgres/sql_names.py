"""Quote SQL identifiers and literals, for any name and text that a database can hold."""

from __future__ import annotations

import re

from psycopg2 import sql

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")


def quote(*names: str) -> str:
    """Return the names quoted and joined by dots: `"public"."offers"`."""
    return ".".join('"{}"'.format(name.replace('"', '""')) for name in names)


def identifier(*names: str) -> sql.SQL:
    """Return a quoted name (see `quote`) for a psycopg2.sql statement, also one whose bytes are not UTF-8, which
    sql.Identifier refuses."""
    return sql.SQL(quote(*names))


def plain_name(*names: str) -> str:
    """Return the names joined by dots as people write them: quoted only where SQL needs it, keywords aside."""
    return ".".join(name if _PLAIN.match(name) else quote(name) for name in names)


def literal(text: str | None) -> str:
    """Return a string literal that is right whatever standard_conforming_strings says: E'' where there is a backslash.
    None becomes NULL."""
    if text is None:
        return "NULL"
    body = text.replace("'", "''")
    if "\\" in body:
        return "E'{}'".format(body.replace("\\", "\\\\"))
    return f"'{body}'"
