"""Find the names of known people in texts: whole words only, in any case and with any accents.

Names are compared folded: without case, accents and soft hyphens, and with HTML entities for letters decoded.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Callable

# Letters, combining marks, invisible characters between letters, and HTML entities for letters.
_WORD = re.compile(
    r"(?:[^\W\d_]+|[\u0300-\u036f\u00ad\u200b-\u200d]"
    r"|&[A-Za-z]{1,2}(?:acute|grave|circ|uml|cedil|tilde|ring|caron|slash|lig);"
    r"|&#(?:19[2-9]|[2-5]\d\d);|&#x(?:[c-fC-F][\da-fA-F]|1[\da-fA-F]{2});)+"
)
_SHORTEST = 3
# Parts of names and titles that are ordinary words: found only together with other words of the name.
_PARTICLES = {"les", "des", "del", "della", "dem", "den", "der", "von", "van", "und", "the", "and"}
_PARTICLES |= {"mme", "mlle", "monsieur", "madame", "mister"}


@functools.lru_cache(maxsize=1 << 16)
def folded(word: str) -> str:
    """Return the word in the form in which words are compared."""
    letters = unicodedata.normalize("NFKD", html.unescape(word).casefold())
    return "".join(character for character in letters if character.isalpha())


def words(text: str) -> list[str]:
    """Return the folded words of the text."""
    return [folded(match.group()) for match in _WORD.finditer(text)]


def recased(new: str, old: str) -> str:
    """Return the new word in capitals or small letters, as the old one was."""
    old = html.unescape(old)
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new.lower() if old.islower() else new


class People:
    """Names of people. `kept`: words that stay in texts, although they are part of a name (a service, a company)."""

    def __init__(self, kept: Iterable[str] = ()) -> None:
        self._kept = {word for text in kept for word in words(text)}
        self._words: set[str] = set()
        self._phrases: dict[str, set[tuple[str, ...]]] = {}  # by their first word

    def __bool__(self) -> bool:
        return bool(self._words or self._phrases)

    def add(self, name: str) -> None:
        """Add the words of a name, and the whole name if a word is too short or too common to be searched alone."""
        for part in words(name):
            if len(part) >= _SHORTEST and part not in _PARTICLES and part not in self._kept:
                self._words.add(part)
        if any(len(part) < _SHORTEST or part in _PARTICLES for part in words(name)):
            self.add_phrase(name)

    def add_row(self, values: Iterable[tuple[str, Any]]) -> None:
        """Add the names of one row, as (mask of the field, value).

        First and last names are also added together, in either order; user names only if they have several words.
        """
        names = [(how, value) for how, value in values if isinstance(value, str) and value]
        for how, value in names:
            if how == "username":
                self.add_phrase(value)
            else:
                self.add(value)
        whole = [value for how, value in sorted(names) if how in ("first_name", "last_name")]
        if len(whole) > 1:
            self.add_phrase(" ".join(whole))
            self.add_phrase(" ".join(reversed(whole)))

    def add_phrase(self, name: str) -> None:
        """Add a name of several words that are only searched together."""
        parts = words(name)
        if sum(part not in self._kept for part in parts) > 1:
            self._phrases.setdefault(parts[0], set()).add(tuple(parts))

    def words_and_phrases(self) -> tuple[set[str], list[tuple[str, ...]]]:
        """Return (folded words, folded phrases)."""
        return self._words, [phrase for phrases in self._phrases.values() for phrase in phrases]

    def knows(self, text: str) -> bool:
        """Return whether the text holds a word of a known name."""
        return bool(self.spans(text))

    def spans(self, text: str) -> list[tuple[int, int, str]]:
        """Return (start, end, folded word) of each word of the text that is part of a known name."""
        if not self:
            return []
        places = [(match.start(), match.end(), folded(match.group())) for match in _WORD.finditer(text)]
        present = {place[2] for place in places}
        if self._words.isdisjoint(present) and self._phrases.keys().isdisjoint(present):
            return []
        is_name = [place[2] in self._words for place in places]
        for index, place in enumerate(places):
            for phrase in self._phrases.get(place[2], ()):
                if tuple(word for _, _, word in places[index : index + len(phrase)]) == phrase:
                    is_name[index : index + len(phrase)] = [True] * len(phrase)
        return [place for place, is_part in zip(places, is_name) if is_part]

    def replaced(self, text: str, substitute: Callable[[str], str]) -> str:
        """Return the text with `substitute(folded word)` in place of each word of a name, in capitals where it was."""
        parts: list[str] = []
        end = 0
        for start, stop, word in self.spans(text):
            parts += [text[end:start], recased(substitute(word), text[start:stop])]
            end = stop
        return "".join([*parts, text[end:]])
