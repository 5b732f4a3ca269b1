"""Read a site's environment file exactly as python-dotenv does, so that the site gets the same values.

The grammar is python-dotenv's (1.2): `export`, comments, quoted values of several lines with their escapes, and
`${NAME}` and `${NAME:-default}` in every value, quoted ones included. A line that python-dotenv would skip with a
warning is refused here, by its number and without its value.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import SauvegardeError

_BLANK = re.compile(r"\s*")
_EXPORT = re.compile(r"(?:export[^\S\r\n]+)?")
_QUOTED_NAME = re.compile(r"'([^']+)'")
_NAME = re.compile(r"([^=#\s]+)")
_SPACE = re.compile(r"[^\S\r\n]*")
_EQUALS = re.compile(r"=([^\S\r\n]*)")
# A backslash takes the character after it along, so an escaped backslash does not escape the closing quote.
_QUOTED = {
    "'": (re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL), re.compile(r"\\[\\']")),
    '"': (re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL), re.compile(r"\\[\\'\"abfnrtv]")),
}
_UNQUOTED = re.compile(r"([^\r\n]*)")
_TRAILING_COMMENT = re.compile(r"\s+#.*")
_END = re.compile(r"(?:[^\S\r\n]*#[^\r\n]*)?[^\S\r\n]*(?:\r\n|\n|\r|\Z)")
_NEWLINE = re.compile(r"\r\n|\n|\r")
_VARIABLE = re.compile(r"\$\{([^}:]*)(?::-([^}]*))?\}")


class _Unreadable(Exception):
    """The text at this position is no binding."""


def read(path: str, base: Mapping[str, str]) -> dict[str, str]:
    """Return {name: value} of the file. `base`: the variables that are set already, for `${NAME}`.

    A name without `=` is not set, as with python-dotenv. Raises if the file cannot be read or a line is not valid.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SauvegardeError(
            f"The site's environment file cannot be read: {path}",
            str(error),
            "Make it readable for the user who runs this, in UTF-8.",
        ) from error
    values: dict[str, str | None] = {}
    for line, name, value in bindings(text, path):
        if value is not None:
            value = expanded(value, dict(base, **values))
            if "\0" in name + value or "=" in name:
                raise _refusal(path, line, "no environment can hold such a name or value")
        values[name] = value
    return {name: value for name, value in values.items() if value is not None}


def bindings(text: str, path: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield (line number, name, value as it is written) of every binding; the value is None if there is no `=`."""
    position = 0
    while True:
        position = _end_of(_BLANK, text, position)
        if position == len(text):
            return
        line = len(_NEWLINE.findall(text, 0, position)) + 1
        try:
            name, value, position = _binding(text, position)
        except _Unreadable:
            raise _refusal(path, line, "it is not NAME=value, or its quotes are not closed") from None
        if name is not None:
            yield line, name, value


def expanded(value: str, variables: Mapping[str, str | None]) -> str:
    """Return the value with each `${NAME}` replaced: by its value in `variables`, else by the default behind `:-`.

    Without both, or with a name that has no value (None), it is replaced by nothing, as python-dotenv does.
    """
    return _VARIABLE.sub(lambda match: variables.get(match.group(1), match.group(2) or "") or "", value)


def _binding(text: str, position: int) -> tuple[str | None, str | None, int]:
    """Return (name or None for a comment, value or None, the position behind it)."""
    position = _end_of(_EXPORT, text, position)
    name = value = None
    if text[position : position + 1] != "#":
        pattern = _QUOTED_NAME if text[position : position + 1] == "'" else _NAME
        name, position = _taken(pattern, text, position)
    position = _end_of(_SPACE, text, position)
    if text[position : position + 1] == "=":
        space, position = _taken(_EQUALS, text, position)
        value, position = _value(text, position, bool(space))
    end = _END.match(text, position)
    if end is None:
        raise _Unreadable()
    return name, value, end.end()


def _value(text: str, position: int, after_space: bool) -> tuple[str, int]:
    first = text[position : position + 1]
    if first in _QUOTED:
        pattern, escapes = _QUOTED[first]
        value, position = _taken(pattern, text, position)
        return escapes.sub(lambda match: codecs.decode(match.group(), "unicode-escape"), value), position
    if after_space and first == "#":
        return "", position
    value, position = _taken(_UNQUOTED, text, position)
    return _TRAILING_COMMENT.sub("", value).rstrip(), position


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Return the position behind a pattern that matches everywhere, also an empty text."""
    match = pattern.match(text, position)
    return match.end() if match else position


def _taken(pattern: re.Pattern[str], text: str, position: int) -> tuple[str, int]:
    """Return the pattern's group and the position behind the match."""
    match = pattern.match(text, position)
    if match is None:
        raise _Unreadable()
    return match.group(1), match.end()


def _refusal(path: str, line: int, why: str) -> SauvegardeError:
    return SauvegardeError(
        f"{path}, line {line}, is not NAME=value.",
        f"As python-dotenv reads the file, {why}.",
        "Correct the line, close its quotes, or make it a comment with #.",
    )
