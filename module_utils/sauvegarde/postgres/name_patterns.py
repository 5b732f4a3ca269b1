"""Translate pg_dump's name patterns (`app.*`, `"Odd Name"`, `log_[0-9]+`) to regular expressions of the server.

The rules are those of psql and pg_dump (patternToSQLRegex in their string_utils.c): unquoted letters are lower case,
`*` is any text, `?` any character, and an unquoted dot ends the schema's name. Double quotes take what they enclose
literally. Everything else is the server's own regular expression.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SauvegardeError

_ANY = "^(.*)$"
_SPECIAL = frozenset("|*+?()[]{}.^$\\")


@dataclass(frozen=True)
class NamePattern:
    """A pattern as it was written, and the regular expressions of its parts; None for one that every name matches, or
    for a schema that it does not name."""

    text: str
    has_schema: bool
    schema: str | None
    name: str | None


def schema_pattern(text: str, key: str) -> NamePattern:
    """Return the pattern of a schema. key: the setting it is in, for errors."""
    parts = _parts(text, key)
    if len(parts) != 1:
        raise _error(text, key, "A schema's pattern has one name.", f'Quote a name that holds a dot: "{text}".')
    return NamePattern(text, False, None, _condition(parts[0]))


def table_pattern(text: str, key: str) -> NamePattern:
    """Return the pattern of a table, view or sequence. key: the setting it is in, for errors."""
    parts = _parts(text, key)
    if len(parts) > 2:
        raise _error(text, key, "It has more than two names.", 'Write SCHEMA.NAME; quote a name with a dot: "a.b".')
    schema = parts[0] if len(parts) == 2 else None
    return NamePattern(text, schema is not None, _condition(schema) if schema else None, _condition(parts[-1]))


def _condition(expression: str) -> str | None:
    return None if expression in (_ANY, "^()$") else expression


def _error(text: str, key: str, why: str, fix: str) -> SauvegardeError:
    return SauvegardeError(f"The pattern {text!r} of {key} is wrong.", why, fix)


def _parts(text: str, key: str) -> list[str]:
    """Return the regular expression of each name in a pattern."""
    if not text.strip() or "\0" in text:
        raise _error(text, key, "It is empty, or holds a NUL.", "Write a name or a pattern.")
    parts, is_quoted, position = [""], False, 0
    while position < len(text):
        character, following = text[position], text[position + 1 : position + 2]
        position += 1
        if character == '"':
            if is_quoted and following == '"':
                parts[-1] += '"'
                position += 1
            else:
                is_quoted = not is_quoted
        elif is_quoted:
            parts[-1] += "\\" + character if character in _SPECIAL else character
        elif character == ".":
            parts.append("")
        elif character == "*":
            parts[-1] += ".*"
        elif character == "?":
            parts[-1] += "."
        elif character == "$" or character + following == "[]":
            parts[-1] += "\\" + character
        else:
            parts[-1] += character.lower() if character.isascii() else character
    if is_quoted:
        raise _error(text, key, "A double quote is not closed.", "Close it.")
    return [f"^({part})$" for part in parts]
