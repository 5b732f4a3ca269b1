"""Read texts through their escapes: HTML's entities, percent-encoding, and the escapes of JSON.

An e-mail address may be written as `&#109;e&commat;a.fr`, `me%40a.fr` or `me\\u0040a.fr`, also one inside another
(`&amp;#64;`, JSON inside JSON). `decode` gives the text that a reader sees, `Decoded` also says which part of the
original each part of it stands for, so that this part can be replaced.
"""

import bisect
import html
import json
import re
from typing import Callable, List, NamedTuple, Tuple

# How deep escapes are looked for inside others.
_ROUNDS = 4
# With all backslashes before it: JSON inside JSON has more than one.
_BACKSLASHED = r"\\+(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[nrtbf\"'/])"
_TAIL = "%[89abAB][0-9a-fA-F]"
# One character: of UTF-8, or else of Latin-1.
_PERCENT = (
    r"%(?:[0-7][0-9a-fA-F]|[c-dC-D][0-9a-fA-F]{0}|[eE][0-9a-fA-F]{0}{0}|[fF][0-7]{0}{0}{0}|[89a-fA-F][0-9a-fA-F])"
).replace("{0}", _TAIL)
_ENTITY = r"&(?:#[0-9]{1,8}|#[xX][0-9a-fA-F]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});?"
_ESCAPE = re.compile(_BACKSLASHED + "|" + _PERCENT + "|" + _ENTITY)
_SHORT = {"n": "\n", "r": "\r", "t": "\t", "b": " ", "f": " "}
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def is_escaped(text: str) -> bool:
    """Whether the text may hold escapes: a quick look, which most texts end with."""
    return "&" in text or "%" in text or "\\" in text


def is_ambiguous(text: str) -> bool:
    """Whether what looks like an escape in the text may be none, as in `C:\\new` or `100%ca`."""
    return "%" in text or "\\" in text


def decode(text: str) -> str:
    """The text without its escapes."""
    for _ in range(_ROUNDS if is_escaped(text) else 0):
        plain = _ESCAPE.sub(_character, text)
        if plain == text:
            break
        text = plain
    return text


def _character(match: "re.Match[str]") -> str:
    escape = match.group()
    if escape[0] == "&":
        return html.unescape(escape)
    if escape[0] == "%":
        data = bytes.fromhex(escape.replace("%", ""))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")
    escape = escape.lstrip("\\")
    return chr(int(escape[1:], 16)) if escape[0] in "ux" else _SHORT.get(escape, escape)


class _Place(NamedTuple):
    """An escape: where its characters begin and end in the decoded text, and where it stands in the text."""

    start: int
    end: int
    from_start: int
    from_end: int


class Decoded:
    """A text without its escapes (`text`), and where each part of it comes from."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._rounds = []  # type: List[Tuple[List[int], List[_Place]]]
        for _ in range(_ROUNDS):
            places = self._decode()
            if not places:
                break
            self._rounds.append(([place.start for place in places], places))

    def _decode(self) -> List[_Place]:
        parts, places, length, end = [], [], 0, 0
        for match in _ESCAPE.finditer(self.text):
            new = _character(match)
            if new == match.group():
                continue
            start = length + match.start() - end
            places.append(_Place(start, start + len(new), match.start(), match.end()))
            parts += [self.text[end : match.start()], new]
            length, end = start + len(new), match.end()
        self.text = "".join([*parts, self.text[end:]])
        return places

    def span(self, start: int, end: int) -> Tuple[int, int]:
        """(start, end) in the original text of what stands in the decoded one from `start` to before `end`."""
        for starts, places in reversed(self._rounds):
            start, end = _origin(starts, places, start)[0], _origin(starts, places, end - 1)[1]
        return start, end


def _origin(starts: List[int], places: List[_Place], position: int) -> Tuple[int, int]:
    """(start, end) of what the character at the position was before."""
    # Of several escapes at one place (some decode to nothing) the last one holds the character.
    index = bisect.bisect_right(starts, position) - 1
    if index < 0:
        return position, position + 1
    place = places[index]
    if position < place.end:
        return place.from_start, place.from_end
    before = place.from_end + position - place.end
    return before, before + 1


def parse_json(text: str) -> object:
    """The value of a text that is an object or a list of JSON; None of every other text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def in_json_strings(text: str, change: Callable[[str], str]) -> str:
    """The JSON text with `change` applied to each of its strings; all else stays as it is written, numbers too."""

    def changed(match: "re.Match[str]") -> str:
        before = json.loads(match.group(), strict=False)
        after = change(before)
        return match.group() if after == before else json.dumps(after, ensure_ascii="\\u" in match.group())

    return _JSON_STRING.sub(changed, text)
