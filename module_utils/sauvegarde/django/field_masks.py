"""Replace or empty the values of one field, and count them for the report.

Where a field must be unique and two originals would get the same value, the later one gets another value, which depends
on the rows before it and may change with them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Callable

from ..errors import SauvegardeError
from .known_people import People
from .text_scrub import Scrubber
from .value_masks import TEXT_MASKS, Digest, mask_letters, mask_number

MASKS = [*sorted(TEXT_MASKS), "number", "password", "scrub"]
# Masks for names of people.
PEOPLE = ("first_name", "last_name", "name")
# Masks with so few values that an original may be drawn again, and how often another value is tried then.
_SMALL = ("date", "digits", "number", "first_name", "last_name", "name", "phone", "text", "token", "ip")
_OTHERS = 50
# Masks whose values may get a suffix where they must be unique.
_SUFFIXED = ("first_name", "last_name", "name", "username", "slug")


@dataclass(frozen=True)
class Field:
    """What a mask must know of its field (from the description of the site's models)."""

    unique: bool = False  # alone or together with others
    max_length: int | None = None
    null: bool = False
    empty: object = ""  # what "empty" writes where NULL is not allowed
    nested: bool = False  # whether the value is a text that holds JSON (an array, a hstore)


class Mask:
    """Replaces the values of one field. Takes and returns the values of fixtures; None and "" stay."""

    def __init__(
        self, how: str, key: bytes, field: Field, name: str, password: str | None = None, people: People | None = None
    ) -> None:
        self.how, self.field, self.name = how, field, name
        self._key, self._password = key, password
        self._people = People() if people is None else people
        self._scrubber = Scrubber(key, self._people)
        # Of unique fields, the original of each masked value; both as short digests, to save memory.
        self._originals: dict[bytes, bytes] | None = {} if field.unique else None
        # For the report: masked values, and what was removed from texts.
        self.count, self.removed = 0, self._scrubber.removed

    def __call__(self, value: Any) -> Any:
        if value is None or value == "":
            return value
        self.count += 1
        if isinstance(value, bool):
            raise self._misfit(value, "it is true or false")
        for attempt in range(1000):
            masked = self._masked(value, attempt)
            if self.how in PEOPLE and isinstance(masked, str) and self._people.knows(masked):
                continue  # an invented name that a person of the site has
            if masked == value and attempt < _OTHERS and self.how in _SMALL and isinstance(value, (str, int, float)):
                continue  # the original, by chance
            if self._originals is None:
                return masked
            mark = hashlib.md5(repr(masked).encode()).digest()[:10]
            original = hashlib.md5(repr(value).encode()).digest()[:10]
            if self._originals.setdefault(mark, original) == original:
                return masked
        raise SauvegardeError(
            f"{self.name} must be unique, and its mask “{self.how}” ran out of different values.",
            f"{len(self._originals or ())} values were masked before.",
            "Choose a mask with more room in the policy, or drop the rows.",
        )

    def _masked(self, value: Any, attempt: int) -> Any:
        if self.field.nested and isinstance(value, str):
            try:
                return json.dumps(self._replaced(json.loads(value), attempt))
            except json.JSONDecodeError as error:
                raise self._misfit(value, "it is not JSON") from error
        return self._replaced(value, attempt)

    def _replaced(self, value: Any, attempt: int) -> Any:
        try:
            if self.how == "scrub":
                return _mask_texts(value, lambda text: self._fit(self._scrubber.scrub(text)), self._scrubber.scrub)
            if self.how == "text":
                masked = _mask_texts(
                    value, lambda text: mask_letters(self._digest(text, attempt), text), self._scrubber.scrub
                )
                return self._fit(masked) if isinstance(masked, str) else masked
            if isinstance(value, (list, dict)):
                return _mask_texts(value, lambda text: self._replaced(text, 0) if text else text, self._scrubber.scrub)
            if self.how == "password":
                return self._password or "!" + self._digest(value, 0).hex(40)
            if self.how == "number":
                return mask_number(self._digest(value, attempt), value)
            if not isinstance(value, str):
                raise ValueError("it is not text")
            return self._fit(self._masked_text(value, attempt))
        except ValueError as error:
            raise self._misfit(value, str(error)) from error

    def _masked_text(self, text: str, attempt: int) -> str:
        masked = TEXT_MASKS[self.how](self._digest(text, attempt), text)
        if attempt and self._originals is not None and self.how in _SUFFIXED:
            masked += self._digest(text, attempt).hex(8)
        return masked

    def _digest(self, value: object, attempt: int) -> Digest:
        return Digest(self._key, self.how, value, attempt)

    def _fit(self, masked: str) -> str:
        limit = self.field.max_length
        return masked[:limit] if limit else masked

    def _misfit(self, value: object, why: str) -> SauvegardeError:
        # The message omits the value, which must not be shown.
        return SauvegardeError(
            f"{self.name} cannot be masked as “{self.how}”.",
            f"A value of type {type(value).__name__}: {why}.",
            "Choose another mask for the field in the policy.",
        )


def _mask_texts(value: Any, mask: Callable[[str], Any], mask_name: Callable[[str], str] = str) -> Any:
    """Return the value with the mask applied to it, or to every text inside JSON; `mask_name` masks object keys."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_mask_texts(item, mask, mask_name) for item in value]
    if isinstance(value, dict):
        return {mask_name(name): _mask_texts(item, mask, mask_name) for name, item in value.items()}
    return value


class Empty:
    """Empties one field: NULL where it is allowed, else the emptiest value of its type."""

    def __init__(self, field: Field, many: bool = False) -> None:
        self.value = None if field.null else field.empty
        self.many = many
        self.count = None if many else 0

    def __call__(self, value: Any) -> Any:
        if self.count is not None and value not in (None, self.value):
            self.count += 1
        # A list holds the members of a many-to-many field, JSON, or a natural key, which becomes NULL where allowed.
        return [] if self.many or (isinstance(value, list) and self.value is not None) else self.value
