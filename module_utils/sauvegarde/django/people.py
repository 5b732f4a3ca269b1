"""Find the names of known people in texts, whole words only, whatever their case and accents.

Names are compared folded: without case, accents, soft hyphens and HTML's entities for letters.
"""

import functools
import html
import re
import unicodedata

# Letters, the marks that combine with them, what is invisible between them, and HTML's entities for letters.
_WORD = re.compile(
    r"(?:[^\W\d_]+|[\u0300-\u036f\u00ad\u200b-\u200d]"
    r"|&[A-Za-z]{1,2}(?:acute|grave|circ|uml|cedil|tilde|ring|caron|slash|lig);"
    r"|&#(?:19[2-9]|[2-5]\d\d);|&#x(?:[c-fC-F][\da-fA-F]|1[\da-fA-F]{2});)+"
)
_SHORTEST = 3
# Parts of names and titles that are ordinary words. Together with others they are still found.
_PARTICLES = {"les", "des", "del", "della", "dem", "den", "der", "von", "van", "und", "the", "and"}
_PARTICLES |= {"mme", "mlle", "monsieur", "madame", "mister"}


@functools.lru_cache(maxsize=1 << 16)
def folded(word):
    """The word as it is compared."""
    letters = unicodedata.normalize("NFKD", html.unescape(word).casefold())
    return "".join(character for character in letters if character.isalpha())


def words(text):
    """The folded words of the text, without what is no letter."""
    return [folded(match.group()) for match in _WORD.finditer(text)]


def recased(new, old):
    """The new word in capitals or small letters, as the old one was."""
    old = html.unescape(old)
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new.lower() if old.islower() else new


class People:
    """Names of people. `kept`: words that are no names, although they are part of one (of a service, a company)."""

    def __init__(self, kept=()):
        self._kept = {word for text in kept for word in words(text)}
        self._words, self._phrases = set(), {}

    def __bool__(self):
        return bool(self._words or self._phrases)

    def add(self, name):
        """Learn a name: each of its words, and the whole where a word is too short to be looked for alone."""
        for part in words(name):
            if len(part) >= _SHORTEST and part not in _PARTICLES and part not in self._kept:
                self._words.add(part)
        # Where the rest is too short, or too common, to be looked for alone.
        if any(len(part) < _SHORTEST or part in _PARTICLES for part in words(name)):
            self.add_phrase(name)

    def add_row(self, values):
        """Learn the names of one row: [(mask of the field, value)].

        Where a row has first and last names, they are known by both together, in either order; user names only where
        they are of several words.
        """
        values = [(how, value) for how, value in values if isinstance(value, str) and value]
        for how, value in values:
            if how == "username":
                self.add_phrase(value)
            else:
                self.add(value)
        whole = [value for how, value in sorted(values) if how in ("first_name", "last_name")]
        if len(whole) > 1:
            self.add_phrase(" ".join(whole))
            self.add_phrase(" ".join(reversed(whole)))

    def add_phrase(self, name):
        """Learn a name of several words that are looked for together."""
        parts = words(name)
        if sum(part not in self._kept for part in parts) > 1:
            self._phrases.setdefault(parts[0], set()).add(tuple(parts))

    def known(self):
        """(folded words, folded phrases as tuples)"""
        return self._words, [phrase for phrases in self._phrases.values() for phrase in phrases]

    def knows(self, text):
        """Whether the text holds a word of a known name."""
        return bool(self.spans(text))

    def spans(self, text):
        """[(start, end, folded word)] of each word of the text that is part of a known name."""
        if not self:
            return []
        places = [(match.start(), match.end(), folded(match.group())) for match in _WORD.finditer(text)]
        every = {place[2] for place in places}
        if self._words.isdisjoint(every) and self._phrases.keys().isdisjoint(every):
            return []
        found = [place[2] in self._words for place in places]
        for index, place in enumerate(places):
            for phrase in self._phrases.get(place[2], ()):
                if tuple(each[2] for each in places[index : index + len(phrase)]) == phrase:
                    found[index : index + len(phrase)] = [True] * len(phrase)
        return [place for place, is_found in zip(places, found) if is_found]

    def replaced(self, text, substitute):
        """The text with `substitute(folded word)` in place of each word of a name, in capitals where it was."""
        parts, end = [], 0
        for start, stop, word in self.spans(text):
            parts += [text[end:start], recased(substitute(word), text[start:stop])]
            end = stop
        return "".join([*parts, text[end:]])
