"""Search what is about to leave for the originals of masked fields.

The worker collects the originals as keyed hashes of their normalised words; the outer half searches every text of the
finished stream, however it was produced. Both normalise texts in the same way: without case, accents, invisible
characters, HTML entities, and the escapes of JSON and of URLs.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import SauvegardeError
from .escapes import decode, is_ambiguous, parse_json
from .field_masks import PEOPLE
from .known_people import People
from .text_scrub import EMAIL, PHONE

_TOKEN = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"(?<!\d)\d{9,15}(?!\d)")
# A longer original is a free text and is searched as a whole, since its sentences need not be personal.
_MOST_WORDS = 12
_SHOWN = 20
_KEPT_TOKENS = 200000
# Masks with too few different values: a masked value is often the original of another row.
_TOO_SMALL = ("date", "digits", "number", "scrub")
# Masks of fields in which an e-mail address or a telephone number is only a part of the text.
_FREE = ("scrub", "text", "empty")
# So many values of each field are compared with what leaves in their place: enough to show a mask that does nothing.
_ROWS = 20000
# Kinds of originals, all searched in texts; "names" only in texts that were scrubbed.
_KINDS = ("phrases", "whole", "phones", "names")


def tokens(text: str) -> list[str]:
    """Return the normalised words of a text without escapes (see `escapes.decode`)."""
    folded = text.casefold()
    try:
        folded.encode("ascii")
    except UnicodeEncodeError:
        folded = "".join(
            character
            for character in unicodedata.normalize("NFKD", folded)
            if not unicodedata.combining(character) and character not in "\u00ad\u200b\u200c\u200d"
        )
    return _TOKEN.findall(folded)


def telephones(text: str) -> set[str]:
    """Return the last nine digits of each telephone number in the text."""
    candidates = [match.group() for match in PHONE.finditer(text)] + _DIGITS.findall(text)
    digits = [re.sub(r"\D", "", candidate) for candidate in candidates]
    return {number[-9:] for number in digits if len(number) >= 9}


class Hashes:
    """Keyed hashes, so that the data stored for the search does not identify a person."""

    def __init__(self, key: bytes) -> None:
        self._key = key[:64]

    def of(self, text: str) -> int:
        """Return the hash of the text (56 bits)."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7, key=self._key).digest()
        return int.from_bytes(digest, "big")


class Originals:
    """The values that must not leave. The `Scanner` takes what `plain()` returns."""

    def __init__(self, key: bytes) -> None:
        self._hashes = Hashes(key)
        self._places: list[str] = []
        self._by_kind: dict[str, dict[int, int]] = {kind: {} for kind in _KINDS}
        self._phrase_lengths: dict[int, list[int]] = {}  # by the hash of the first word
        self._rows: set[int] = set()
        self._counts: dict[tuple[str, str], int] = {}

    def plain(self) -> dict[str, Any]:
        """Return JSON values: {"places": [label.field], "rows": hashes, "starts": [(hash, lengths of phrases)], and by
        kind [(hash, index of the place)]}."""
        return dict(
            {kind: list(values.items()) for kind, values in self._by_kind.items()},
            starts=list(self._phrase_lengths.items()),
            places=self._places,
            rows=list(self._rows),
        )

    def add_row(self, label: str, key: object, name: str, text: str) -> None:
        """Add the value (as `in_place` returns it) that must not leave in its own row and field; elsewhere it may."""
        count = self._counts[label, name] = self._counts.get((label, name), 0) + 1
        if text and count <= _ROWS:
            self._rows.add(self._hashes.of(_row(label, key, name, text)))

    def add(self, how: str, text: str, place: str) -> None:
        """Add a value of the field `place`, which has the mask `how` ("empty" included)."""
        text = decode(text)
        if how in _FREE:
            self._add_parts(text, place)
        elif how in ("number", "digits"):
            for number in telephones(text) if how == "digits" or "." not in text else ():
                self._put("phones", number, place)
        words = tokens(text)
        length = sum(len(word) for word in words)
        if how in _TOO_SMALL or length < 4:
            return
        if how == "phone":
            for number in telephones(text):
                self._put("phones", number, place)
        elif how == "email" and len(words) > 1:
            self._phrase(words, place)
        elif how in PEOPLE:
            if len(words) > 1:
                self._phrase(words, place)
            elif how != "first_name" and length >= 5:
                self._put("whole", " ".join(words), place)
        elif len(words) > _MOST_WORDS:
            self._put("whole", " ".join(words), place)
        elif how == "empty":
            # An emptied value need not be personal: one or two of its words may well be elsewhere.
            if len(words) > 2 and length >= 12:
                self._phrase(words, place)
        elif (len(words) > 1 and length >= 8) or (how in ("token", "password") and length >= 16):
            self._phrase(words, place)
        elif length >= 5:
            self._put("whole", " ".join(words), place)

    def _add_parts(self, text: str, place: str) -> None:
        """Add the e-mail addresses and the telephone numbers inside a free text."""
        for match in EMAIL.finditer(text):
            self.add("email", match.group(), place)
        for match in PHONE.finditer(text):
            self.add("phone", match.group(), place)

    def add_people(self, people: People) -> None:
        """Add the names that “scrub” removes: single words are searched in scrubbed texts, phrases in all texts."""
        words, phrases = people.words_and_phrases()
        for word in words:
            self._put("names", word, "people")
        for phrase in phrases:
            if sum(len(word) for word in phrase) >= 5:
                self._phrase(list(phrase), "people")

    def _phrase(self, words: Sequence[str], place: str) -> None:
        self._put("phrases", " ".join(words), place)
        lengths = self._phrase_lengths.setdefault(self._hashes.of(words[0]), [])
        if len(words) not in lengths:
            lengths.append(len(words))

    def _put(self, kind: str, text: str, place: str) -> None:
        if not self._places or self._places[-1] != place:
            self._places.append(place)
        self._by_kind[kind].setdefault(self._hashes.of(text), len(self._places) - 1)


def _row(label: str, key: object, name: str, text: str) -> str:
    return "\0".join((label, str(key), name, text))


def in_place(how: str, value: object) -> str:
    """Return the text that identifies a value in its own place, "" for values that are not compared."""
    if isinstance(value, bool) or how == "scrub":
        return ""
    text = str(value) if isinstance(value, (str, int, float)) else ""
    # Only the day of a time, because the mask keeps the rest.
    text = text[:10] if how == "date" else text
    if how in ("digits", "number", "phone"):
        # These masks keep letters, and the first character of a telephone number.
        changed = any(character.isdigit() for character in (text[1:] if how == "phone" else text))
    else:
        changed = any(character.isalpha() or character.isdigit() for character in text)
    return text if changed else ""


class Scanner:
    """Searches the texts of a fixture's objects for originals. `policy`: the one that masked them."""

    def __init__(self, policy: Mapping[str, Any], key: bytes, originals: Mapping[str, Any]) -> None:
        self._hashes = Hashes(key)
        self._places: Sequence[str] = originals["places"]
        self._phrases, self._whole, self._phones, self._names = (_pairs(originals[kind]) for kind in _KINDS)
        self._starts = _pairs(originals["starts"])
        self._rows = frozenset(originals["rows"])
        self._rules = {label.lower(): rules for label, rules in policy.get("models", {}).items()}
        self._tokens: dict[str, tuple[Sequence[int], bool]] = {}
        self._hits: list[str] = []
        self._count = 0
        searched = len(self._rows) + len(self._phrases) + len(self._whole) + len(self._phones)
        self.facts = {"originals": searched, "texts": 0}

    def add(self, entry: Mapping[str, Any]) -> None:
        """Search the object and remember where it holds originals."""
        label = entry["model"].lower()
        rules = self._rules.get(label)
        rules = rules if isinstance(rules, dict) else {}
        for name, value in [("pk", entry.get("pk")), *entry["fields"].items()]:
            action = rules.get(name)
            if action != "public" and isinstance(value, (str, list, dict, int, float)):
                self.facts["texts"] += 1
                original = self._in_place(label, entry.get("pk"), name, value, action)
                if original is None:
                    original = self._search(value, action == {"mask": "scrub"})
                if original is not None:
                    self._count += 1
                    if len(self._hits) < _SHOWN:
                        self._hits.append(f"{label} {entry.get('pk', '(no key)')}, {name}: holds {original}")

    def end(self) -> None:
        """Raise SauvegardeError if any object held an original."""
        if not self._count:
            return
        more = self._count - len(self._hits)
        lines = self._hits + ([f"and {more} more"] if more else [])
        raise SauvegardeError(
            "Originals of masked fields would leave: nothing is published.",
            "\n".join(lines),
            "Mask the fields that hold them (scrub, for free text). Where a field's values are no people's (towns, "
            "trades), say “public” in place of “keep”; name a masked field whose values may be anywhere in "
            "not_searched; add to kept_words what is part of a name and harmless.",
        )

    # The methods below return what a value holds, in words, or None.

    def _in_place(self, label: str, key: object, name: str, value: object, action: Any) -> str | None:
        """Compare the value of a masked field with what it was before."""
        how = action.get("mask") if isinstance(action, dict) else action
        if not self._rows or how in (None, "keep"):
            return None
        text = in_place(how, value)
        is_same = text and self._hashes.of(_row(label, key, name, text)) in self._rows
        return "its own value, unmasked" if is_same else None

    def _search(self, value: Any, is_scrubbed: bool) -> str | None:
        if isinstance(value, (int, float)):
            # A telephone number, or another long number, that is not stored as text.
            return self._search_text(str(value), False) if self._phones and abs(value) >= 10**8 else None
        if isinstance(value, dict):
            value = [*value, *value.values()]
        if isinstance(value, list):
            for item in value:
                original = self._search(item, is_scrubbed) if isinstance(item, (str, list, dict, int)) else None
                if original is not None:
                    return original
            return None
        plain = decode(value)
        original = self._search_text(plain, is_scrubbed)
        if original is None and plain != value and is_ambiguous(value):
            original = self._search_text(value, is_scrubbed)
        # Each text inside JSON is also searched by itself.
        inside = parse_json(value) if original is None else None
        return original if inside is None else self._search(inside, is_scrubbed)

    def _search_text(self, text: str, is_scrubbed: bool) -> str | None:
        words = tokens(text)
        if not words:
            return None
        place = self._whole.get(self._hashes.of(" ".join(words)))
        if place is not None:
            return self._describe(place)
        for index, word in enumerate(words):
            lengths, is_name = self._facts_of(word)
            if is_name and is_scrubbed:
                return "a name of known people"
            for length in lengths:
                place = self._phrases.get(self._hashes.of(" ".join(words[index : index + length])))
                if place is not None:
                    return self._describe(place)
        for number in telephones(text) if self._phones else ():
            place = self._phones.get(self._hashes.of(number))
            if place is not None:
                return self._describe(place)
        return None

    def _describe(self, index: int) -> str:
        place = self._places[index]
        return "a name of known people" if place == "people" else f"a value of {place}"

    def _facts_of(self, word: str) -> tuple[Sequence[int], bool]:
        """Return (lengths of the phrases that begin with the word, whether it is a name)."""
        facts = self._tokens.get(word)
        if facts is None:
            if len(self._tokens) > _KEPT_TOKENS:
                self._tokens.clear()
            mark = self._hashes.of(word)
            facts = self._tokens[word] = (self._starts.get(mark, ()), mark in self._names)
        return facts


def _pairs(values: Iterable[Sequence[Any]]) -> dict[int, Any]:
    """Return the pairs, which are lists after JSON, as a dict."""
    return dict(map(tuple, values))
