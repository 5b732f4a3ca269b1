"""Find which entries of a dump depend on which others: by its table of contents, or by the text of definitions."""

from __future__ import annotations

import re

from .byte_stream import buffered
from .dump_file import Source
from .entries import HEADER, Entry, entry_of_header
from .pg_restore import Reader, as_sql
from .sql_text import IDENTIFIER, unquoted

_TOC_ENTRY = re.compile(rb"-- TOC entry (\d+) \(class ")
# Kinds whose name other definitions can mention.
_MENTIONED_KINDS = (
    "AGGREGATE", "COLLATION", "CONVERSION", "DOMAIN", "FOREIGN TABLE", "FUNCTION", "MATERIALIZED VIEW",
    "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURE", "SEQUENCE", "SHELL TYPE", "TABLE", "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TYPE", "VIEW",
)  # fmt: skip
_NAME = re.compile(rf"(?<![\w.\"])(?:({IDENTIFIER})\.)?({IDENTIFIER})")
_NO_KEY = re.compile(r'no unique constraint matching given keys for referenced table "(.+?)"')


def dependencies(source: Source, tool: Reader, encoding: str) -> dict[Entry, set[Entry]]:
    """Return, for each definition of a pg_dump archive, the entries that it depends on by its table of contents."""
    entries: dict[bytes, Entry] = {}
    needs: dict[Entry, list[bytes]] = {}
    number = b""
    numbers: list[bytes] = []
    with as_sql(source, tool, "-s", "-v") as stream, buffered(stream.read) as lines:
        for line in lines:
            if not line.startswith(b"-- "):
                continue
            begin = _TOC_ENTRY.match(line)
            header = HEADER.match(line)
            if begin:
                number, numbers = begin.group(1), []
            elif line.startswith(b"-- Dependencies: "):
                numbers = line.split()[2:]
            elif header and number:
                entry = entry_of_header(header, encoding)
                entries[number], needs[entry] = entry, numbers
                number = b""
    return {entry: {entries[each] for each in numbers if each in entries} for entry, numbers in needs.items()}


def mentions(entry: Entry, text: str, root: Entry, message: str = "") -> bool:
    """Return whether an entry depends on `root`, by its text and the server's message about it.

    text: the entry's SQL, and the message if there is one. message: '' if the entry was not loaded.
    """
    if root.kind in ("EXTENSION", "PROCEDURAL LANGUAGE"):
        language = rf"^    LANGUAGE \"?{re.escape(root.name)}\"?\b"
        return f'"{root.name}"' in message or bool(re.search(language, text, re.MULTILINE))
    keyless = _NO_KEY.search(message)
    if root.kind == "CONSTRAINT" and keyless:
        return root.name.startswith(keyless.group(1) + " ")
    if root.kind == "TABLE DATA":
        return f'is not present in table "{root.name}"' in message
    if root.kind == "SCHEMA":
        return entry.schema == root.name or f'schema "{root.name}" does not exist' in message
    if root.kind not in _MENTIONED_KINDS:
        return False
    if entry.kind in ("TABLE DATA", "SEQUENCE SET") and entry.key == root.key:
        return True
    names = root.possible_names()
    return any(
        unquoted(name) in names and (not schema or unquoted(schema) == root.schema)
        for schema, name in _NAME.findall(text)
    )
