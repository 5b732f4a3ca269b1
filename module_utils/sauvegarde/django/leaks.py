"""Search what is about to leave for the originals of masked fields.

The inner half collects the originals as keyed hashes of their normalised words; the outer half looks at every text of
the finished stream, whatever made it. What both share is how a text becomes words: without case, accents, what is
invisible, HTML's entities, and the escapes of JSON and of addresses of pages.
"""

import hashlib
import re
import unicodedata

from ..errors import SauvegardeError
from .escapes import decode, is_ambiguous, parse_json
from .masking import EMAIL, PEOPLE, PHONE

_TOKEN = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"(?<!\d)\d{9,15}(?!\d)")
# A longer original is a free text: it is found as a whole, since its sentences may be anybody's.
_MOST_WORDS = 12
_SHOWN = 20
_KEPT_TOKENS = 200000
# These have too few different values: a masked one is often somebody's original.
_TOO_SMALL = ("date", "digits", "number", "scrub")
# In these an e-mail address or a telephone is only a part of the text.
_FREE = ("scrub", "text", "empty")
# Of each field so many values are compared with what leaves in their place: a mask that does nothing shows at once.
_ROWS = 20000
_KINDS = ("phrases", "whole", "phones", "names", "starts")


def tokens(text):
    """The normalised words of the text, which is `decode`d where it has escapes."""
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


def telephones(text):
    """The last nine digits of each telephone in the text."""
    found = [match.group() for match in PHONE.finditer(text)] + _DIGITS.findall(text)
    digits = [re.sub(r"\D", "", each) for each in found]
    return {each[-9:] for each in digits if len(each) >= 9}


class Hashes:
    """Keyed hashes, so that what is kept for the search names nobody."""

    def __init__(self, key):
        self._key = key[:64]

    def of(self, text):
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7, key=self._key).digest()
        return int.from_bytes(digest, "big")


class Originals:
    """What must not leave. `plain()` is what goes to the `Scanner`."""

    def __init__(self, key):
        self._hashes = Hashes(key)
        self._places = []
        self._found = {kind: {} for kind in _KINDS}
        self._rows, self._counts = set(), {}

    def plain(self):
        """Plain values: {"places": [label.field], "rows": hashes, and {hash: place or lengths} by kind}."""
        return dict(
            {kind: list(values.items()) for kind, values in self._found.items()},
            places=self._places,
            rows=list(self._rows),
        )

    def add_row(self, label, key, name, text):
        """Add the value that must not leave in just this place, in the form that `in_place` gives it."""
        count = self._counts[label, name] = self._counts.get((label, name), 0) + 1
        if text and count <= _ROWS:
            self._rows.add(self._hashes.of(_row(label, key, name, text)))

    def add(self, how, text, place):
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
            # What is emptied need not be personal: a word or two of it may well be elsewhere.
            if len(words) > 2 and length >= 12:
                self._phrase(words, place)
        elif (len(words) > 1 and length >= 8) or (how in ("token", "password") and length >= 16):
            self._phrase(words, place)
        elif length >= 5:
            self._put("whole", " ".join(words), place)

    def _add_parts(self, text, place):
        """Add the e-mail addresses and the telephones inside a free text."""
        for match in EMAIL.finditer(text):
            self.add("email", match.group(), place)
        for match in PHONE.finditer(text):
            self.add("phone", match.group(), place)

    def add_people(self, people):
        """Add the names that “scrub” removes: single words count in texts that were scrubbed, phrases everywhere."""
        words, phrases = people.known()
        for word in words:
            self._put("names", word, "people")
        for phrase in phrases:
            if sum(len(word) for word in phrase) >= 5:
                self._phrase(list(phrase), "people")

    def _phrase(self, words, place):
        self._put("phrases", " ".join(words), place)
        lengths = self._found["starts"].setdefault(self._hashes.of(words[0]), [])
        if len(words) not in lengths:
            lengths.append(len(words))

    def _put(self, kind, text, place):
        if not self._places or self._places[-1] != place:
            self._places.append(place)
        self._found[kind].setdefault(self._hashes.of(text), len(self._places) - 1)


def _row(label, key, name, text):
    return "\0".join((label, str(key), name, text))


def in_place(how, value):
    """The text by which a value is recognised in its own place; "" of those that are not compared."""
    if isinstance(value, bool) or how == "scrub":
        return ""
    text = str(value) if isinstance(value, (str, int, float)) else ""
    # Of a moment its day, as the mask keeps the rest.
    text = text[:10] if how == "date" else text
    if how in ("digits", "number", "phone"):
        # What these leave as it is says nothing: letters, and a telephone's first sign.
        changed = any(character.isdigit() for character in (text[1:] if how == "phone" else text))
    else:
        changed = any(character.isalpha() or character.isdigit() for character in text)
    return text if changed else ""


class Scanner:
    """Takes a fixture's objects one by one and looks for originals in their texts. `policy`: the one that masked."""

    def __init__(self, policy, key, originals):
        self._hashes = Hashes(key)
        self._places = originals["places"]
        for kind in _KINDS:
            setattr(self, "_" + kind, dict(map(tuple, originals[kind])))
        self._rows = frozenset(originals["rows"])
        self._rules = {label.lower(): rules for label, rules in policy["models"].items()}
        self._tokens = {}
        self._hits, self._count = [], 0
        self.facts = {"originals": len(self._rows) + sum(len(originals[kind]) for kind in _KINDS[:3]), "texts": 0}

    def add(self, entry):
        label = entry["model"].lower()
        rules = self._rules.get(label)
        rules = rules if isinstance(rules, dict) else {}
        for name, value in [("pk", entry.get("pk")), *entry["fields"].items()]:
            action = rules.get(name)
            if action != "public" and isinstance(value, (str, list, dict, int, float)):
                self.facts["texts"] += 1
                place = self._in_place(label, entry.get("pk"), name, value, action)
                if place is None:
                    place = self._searched(value, action == {"mask": "scrub"})
                if place is not None:
                    self._count += 1
                    if len(self._hits) < _SHOWN:
                        self._hits.append(f"{label} {entry.get('pk', '(no key)')}, {name}: holds {place}")

    def end(self):
        """Raise where something was found."""
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

    def _in_place(self, label, key, name, value, action):
        """Whether the value of a masked field is what it was before."""
        how = action.get("mask") if isinstance(action, dict) else action
        if not self._rows or how in (None, "keep"):
            return None
        text = in_place(how, value)
        found = text and self._hashes.of(_row(label, key, name, text)) in self._rows
        return "its own value, unmasked" if found else None

    def _searched(self, value, is_scrubbed):
        if isinstance(value, (int, float)):
            # A telephone, or another long number, that is no text.
            return self._in_text(str(value), False) if self._phones and abs(value) >= 10**8 else None
        if isinstance(value, dict):
            value = [*value, *value.values()]
        if isinstance(value, list):
            for item in value:
                place = self._searched(item, is_scrubbed) if isinstance(item, (str, list, dict, int)) else None
                if place is not None:
                    return place
            return None
        plain = decode(value)
        place = self._in_text(plain, is_scrubbed)
        if place is None and plain != value and is_ambiguous(value):
            place = self._in_text(value, is_scrubbed)
        # Each text inside JSON is also one of its own.
        inside = parse_json(value) if place is None else None
        return place if inside is None else self._searched(inside, is_scrubbed)

    def _in_text(self, text, is_scrubbed):
        words = tokens(text)
        if not words:
            return None
        found = self._whole.get(self._hashes.of(" ".join(words)))
        if found is not None:
            return self._said(found)
        for index, word in enumerate(words):
            lengths, is_name = self._about(word)
            if is_name and is_scrubbed:
                return "a name of known people"
            for length in lengths:
                found = self._phrases.get(self._hashes.of(" ".join(words[index : index + length])))
                if found is not None:
                    return self._said(found)
        if self._phones:
            for number in telephones(text):
                found = self._phones.get(self._hashes.of(number))
                if found is not None:
                    return self._said(found)
        return None

    def _said(self, place):
        where = self._places[place]
        return "a name of known people" if where == "people" else f"a value of {where}"

    def _about(self, word):
        """(lengths of the phrases that begin with the word, whether it is a name)"""
        found = self._tokens.get(word)
        if found is None:
            if len(self._tokens) > _KEPT_TOKENS:
                self._tokens.clear()
            mark = self._hashes.of(word)
            found = self._tokens[word] = (self._starts.get(mark, ()), mark in self._names)
        return found
