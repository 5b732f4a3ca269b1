"""Interpret psql's own commands in a plain dump: which are passed over, and which database they connect to."""

from __future__ import annotations

import re
from collections.abc import Sequence

# They concern psql's own screen or its guard against itself (\restrict).
_PASSED_OVER = frozenset(
    (
        "restrict", "unrestrict", "echo", "qecho", "warn", "timing", "pset", "x", "a", "t", "f", "H", "errverbose",
        "unset", "conninfo",
    )
)  # fmt: skip
# Variables that only control psql. Others may stand in the SQL that follows (:name), which only psql could fill in.
_OWN_VARIABLES = frozenset(
    (
        "ON_ERROR_STOP", "ON_ERROR_ROLLBACK", "ECHO", "ECHO_HIDDEN", "QUIET", "VERBOSITY", "SHOW_CONTEXT", "HISTSIZE",
        "HISTCONTROL", "PROMPT1", "PROMPT2", "PROMPT3", "FETCH_COUNT", "COMP_KEYWORD_CASE", "HIDE_TABLEAM",
    )
)  # fmt: skip
_ARGUMENT = re.compile(r"""(?:"(?:[^"]|"")*"|'(?:[^'\\]|''|\\.)*'|[^\s"'])+""")
_DATABASE = re.compile(r"(?:^|\s)dbname\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))")


def parse(line: str) -> tuple[str, list[str]]:
    """Return (name, arguments) of a line that begins with a backslash."""
    name, _, rest = line[1:].strip().partition(" ")
    return name, [_without_quotes(argument) for argument in _ARGUMENT.findall(rest)]


def _without_quotes(argument: str) -> str:
    if len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "\"'":
        return argument[1:-1].replace(argument[0] * 2, argument[0])
    return argument


def is_passed_over(name: str, arguments: Sequence[str]) -> bool:
    """Return whether a server is sent the same without the command."""
    return name in _PASSED_OVER or (name == "set" and (not arguments or arguments[0] in _OWN_VARIABLES))


def database(arguments: Sequence[str]) -> str:
    """Return the database that the arguments of `\\connect` name, '' for none."""
    names = [argument for argument in arguments if not argument.startswith("-reuse-previous=")]
    if not names or names[0] == "-":
        return ""
    if "=" in names[0] or names[0].startswith(("postgresql://", "postgres://")):
        match = _DATABASE.search(names[0])
        return re.sub(r"\\(.)", r"\1", match.group(1) or match.group(2)) if match else names[0]
    return names[0]
