"""Remove e-mail addresses, telephone numbers and names of known people from free text."""

from __future__ import annotations

import bisect
import re
from typing import NamedTuple

from .escapes import Decoded, in_json_strings, is_ambiguous, is_escaped, parse_json
from .known_people import People, recased
from .value_masks import Digest, mask_email, mask_phone

EMAIL = re.compile(r"[\w.+'-]+@[\w-]+(?:\.[\w-]+)+")
# What separates the digits of a telephone number; `\s` includes the non-breaking spaces.
_GAP = r"[\s./\u2010-\u2013-]"
# French numbers have a fixed number of digits. A day followed by an hour ("06-05-2024 12") is not one.
_FRENCH = (
    rf"(?:\+|(?<!\w)00)33\)?{_GAP}{{0,2}}(?:\(0\){_GAP}?|0{_GAP}?)?[1-9](?:{_GAP}?\d\d){{4}}"
    r"|(?<!\w)(?!\d\d[./-]\d\d[./-](?:19|20)\d\d(?!\d))"
    rf"0[1-9](?:/\d\d(?:{_GAP}\d\d){{3}}|(?:(?!/){_GAP}?\d\d){{4}})"
)
# Other numbers begin with a country code. Their length is not known, so all digits behind the code belong to them.
PHONE = re.compile(
    rf"(?:{_FRENCH})(?!\w)|(?:\+|(?<!\w)00(?!0))\d{{1,3}}(?:{_GAP}?\(0\))?(?:(?:{_GAP}|[()]){{0,2}}\d){{7,}}(?!\w)"
)


class _Passage(NamedTuple):
    """A part of a text that must be replaced. (A tuple, since frozen dataclasses are slow to create.)"""

    start: int
    end: int
    kind: str  # email, phone or name
    text: str
    word: str = ""  # of a name, the folded word


class Scrubber:
    """Replaces personal data inside texts. `people`: whose names are removed; it may be filled later."""

    def __init__(self, key: bytes, people: People) -> None:
        self._key, self._people = key, people
        self.removed = {"email": 0, "phone": 0, "name": 0}

    def scrub(self, text: str) -> str:
        """Return the text without personal data, also where escapes or JSON hide it."""
        if "\\" in text and parse_json(text) is not None:
            return in_json_strings(text, self.scrub)
        passages = self._passages_behind_escapes(text) if is_escaped(text) else self._passages(text)
        if not passages:
            return text
        parts, end = [], 0
        for passage in passages:
            self.removed[passage.kind] += 1
            parts += [text[end : passage.start], self._substitute(passage)]
            end = passage.end
        return "".join([*parts, text[end:]])

    def _passages_behind_escapes(self, text: str) -> list[_Passage]:
        decoded, passages = Decoded(text), []
        for passage in self._passages(decoded.text):
            start, end = decoded.span(passage.start, passage.end)
            passages.append(passage._replace(start=start, end=end))
        # Both readings count where they may differ: a folder name behind a backslash looks like an escape.
        return _merged(_merged([], passages), self._passages(text) if is_ambiguous(text) else [])

    def _passages(self, text: str) -> list[_Passage]:
        emails = [_Passage(match.start(), match.end(), "email", match.group()) for match in EMAIL.finditer(text)]
        phones = [_Passage(match.start(), match.end(), "phone", match.group()) for match in PHONE.finditer(text)]
        names = [_Passage(start, end, "name", text[start:end], word) for start, end, word in self._people.spans(text)]
        return _merged(_merged(emails, phones), names)

    def _substitute(self, passage: _Passage) -> str:
        if passage.kind == "name":
            return recased(self._other_name(passage.word), passage.text)
        digest = Digest(self._key, passage.kind, passage.text, 0)
        return mask_email(digest, "") if passage.kind == "email" else mask_phone(digest, passage.text)

    def _other_name(self, word: str) -> str:
        for attempt in range(100):
            other = Digest(self._key, "people", word, attempt).word(2)
            if not self._people.knows(other):
                break
        return other


def _merged(first: list[_Passage], second: list[_Passage]) -> list[_Passage]:
    """Return the passages of both lists in order, without those of the second list that overlap others."""
    if not second:
        return first
    merged, starts = list(first), [passage.start for passage in first]
    for passage in second:
        index = bisect.bisect_left(starts, passage.end)
        if index == 0 or merged[index - 1].end <= passage.start:
            merged.insert(index, passage)
            starts.insert(index, passage.start)
    return merged
