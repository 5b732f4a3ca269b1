"""Reads a site's environment file as python-dotenv reads it, so that the site gets the values that it gets from there.

The grammar is python-dotenv's (1.2): `export`, comments, quoted values of several lines with their escapes, and
`${NAME}` and `${NAME:-default}` in every value, quoted ones included. A line that python-dotenv would pass over with a
warning is refused here, by its number and without its value.
"""

import codecs
import re
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional, Tuple

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
    """The text at this place is no binding."""


def read(path: str, base: Mapping[str, str]) -> Dict[str, str]:
    """Return {name: value} of the file. `base`: the variables that are set already, for `${NAME}`.

    A name without `=` is not set, as with python-dotenv. Raises where the file cannot be read or a line is none.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SauvegardeError(
            f"The site's environment file cannot be read: {path}",
            str(error),
            "Make it readable for the user who runs this, in UTF-8.",
        ) from error
    values = {}  # type: Dict[str, Optional[str]]
    for line, name, value in bindings(text, path):
        if value is not None:
            value = expanded(value, dict(base, **values))
            if "\0" in name + value or "=" in name:
                raise _refusal(path, line, "no environment can hold such a name or value")
        values[name] = value
    return {name: value for name, value in values.items() if value is not None}


def bindings(text: str, path: str) -> Iterator[Tuple[int, str, Optional[str]]]:
    """Yield (line number, name, value as it is written) of every binding; None as value where there is no `=`."""
    position = 0
    while True:
        position = _BLANK.match(text, position).end()
        if position == len(text):
            return
        line = len(_NEWLINE.findall(text, 0, position)) + 1
        try:
            name, value, position = _binding(text, position)
        except _Unreadable:
            raise _refusal(path, line, "it is not NAME=value, or its quotes are not closed") from None
        if name is not None:
            yield line, name, value


def expanded(value: str, known: Mapping[str, Optional[str]]) -> str:
    """The value with each `${NAME}` replaced: by what is known, else by the default behind `:-`, else by nothing.

    A name that is known without a value (None) is replaced by nothing, as python-dotenv does.
    """
    return _VARIABLE.sub(lambda match: known.get(match.group(1), match.group(2) or "") or "", value)


def _binding(text, position):
    """(name or None for a comment, value or None, the place behind it)."""
    position = _EXPORT.match(text, position).end()
    name = value = None
    if text[position : position + 1] != "#":
        pattern = _QUOTED_NAME if text[position : position + 1] == "'" else _NAME
        name, position = _taken(pattern, text, position)
    position = _SPACE.match(text, position).end()
    if text[position : position + 1] == "=":
        space, position = _taken(_EQUALS, text, position)
        value, position = _value(text, position, bool(space))
    end = _END.match(text, position)
    if end is None:
        raise _Unreadable()
    return name, value, end.end()


def _value(text, position, after_space):
    first = text[position : position + 1]
    if first in _QUOTED:
        pattern, escapes = _QUOTED[first]
        value, position = _taken(pattern, text, position)
        return escapes.sub(lambda match: codecs.decode(match.group(), "unicode-escape"), value), position
    if after_space and first == "#":
        return "", position
    value, position = _taken(_UNQUOTED, text, position)
    return _TRAILING_COMMENT.sub("", value).rstrip(), position


def _taken(pattern, text, position):
    match = pattern.match(text, position)
    if match is None:
        raise _Unreadable()
    return match.group(1), match.end()


def _refusal(path, line, why):
    return SauvegardeError(
        f"{path}, line {line}, is not NAME=value.",
        f"As python-dotenv reads the file, {why}.",
        "Correct the line, close its quotes, or make it a comment with #.",
    )
