"""Read identifiers and string literals in the SQL of a dump."""

from __future__ import annotations

import re

IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_LITERAL = re.compile(r"'(?:[^']|'')*'")


def unquoted(identifier: str) -> str:
    """Return the name that an SQL identifier stands for."""
    if identifier.startswith('"'):
        return identifier[1:-1].replace('""', '"')
    return identifier


def text_of_literal(literal: str) -> str:
    """Return the text of an SQL string literal."""
    body = literal[literal.index("'") + 1 : -1].replace("''", "'")
    return body.replace("\\\\", "\\") if literal[0] in "Ee" else body


def with_escape_literals(statement: str) -> str:
    """Return a statement whose literals mean the same under any setting of standard_conforming_strings.

    statement: of a dump with standard_conforming_strings = off, in whose literals backslashes are escapes.
    """
    return _LITERAL.sub(lambda match: ("E" if "\\" in match.group() else "") + match.group(), statement)
