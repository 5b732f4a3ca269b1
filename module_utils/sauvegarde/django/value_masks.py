"""Replace single values by invented ones of the same shape.

An invented value depends on the original and on a secret key alone, so equal originals stay equal in every table and in
every dump.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import Any, Callable

_SYLLABLES = ("ba", "bel", "cha", "do", "fa", "gan", "ju", "ka", "lo", "mer", "na", "nor", "pa", "ré", "ri", "sa", "vé")
_DATE = re.compile(r"(\d{4})-\d{2}-\d{2}(.*)", re.DOTALL)


class Digest:
    """A stream of numbers that is the same for the same value and that only the owner of the key can predict."""

    def __init__(self, key: bytes, domain: str, value: object, attempt: int) -> None:
        seed = json.dumps([domain, value, attempt], sort_keys=True).encode("utf-8")
        self._key = hmac.new(key, seed, hashlib.sha256).digest()
        self._counter = 0
        self._bytes = b""

    def below(self, limit: int) -> int:
        """Return a number from 0 to limit - 1 (with a limit of at most some thousands, the bias does not matter)."""
        if len(self._bytes) < 4:
            self._bytes += hmac.new(self._key, str(self._counter).encode(), hashlib.sha256).digest()
            self._counter += 1
        number, self._bytes = int.from_bytes(self._bytes[:4], "big"), self._bytes[4:]
        return number % limit

    def hex(self, length: int) -> str:
        """Return hexadecimal digits."""
        return "".join("0123456789abcdef"[self.below(16)] for _ in range(length))

    def word(self, syllables: int) -> str:
        """Return an invented word with a capital letter."""
        return "".join(_SYLLABLES[self.below(len(_SYLLABLES))] for _ in range(syllables)).capitalize()


def mask_letters(digest: Digest, text: str) -> str:
    """Replace letters by letters and digits by digits; keep everything else and the length."""
    masked = []
    for character in text:
        if character.isdigit():
            masked.append("0123456789"[digest.below(10)])
        elif character.isalpha():
            letter = "abcdefghijklmnopqrstuvwxyz"[digest.below(26)]
            masked.append(letter.upper() if character.isupper() else letter)
        else:
            masked.append(character)
    return "".join(masked)


def _mask_digits(digest: Digest, text: str) -> str:
    return "".join("0123456789"[digest.below(10)] if character.isdigit() else character for character in text)


def mask_phone(digest: Digest, text: str) -> str:
    """Replace the digits behind the first character: a leading zero or plus is the shape of the number."""
    return text[:1] + _mask_digits(digest, text[1:])


def mask_email(digest: Digest, text: str) -> str:
    """Return an address at example.org."""
    return digest.hex(12) + "@example.org"


def _mask_token(digest: Digest, text: str) -> str:
    if re.match(r"[0-9a-f-]*\Z", text):  # a UUID stays one
        return "".join(character if character == "-" else digest.hex(1) for character in text)
    return mask_letters(digest, text)


def _mask_ip(digest: Digest, text: str) -> str:
    if ":" in text:
        return ":".join(["fd00", *(digest.hex(4).lstrip("0") or "0" for _ in range(7))])
    return ".".join(["10", *(str(digest.below(256)) for _ in range(3))])


def _mask_date(digest: Digest, text: str) -> str:
    """Return another day of the same year; a time behind the day is kept."""
    match = _DATE.match(text)
    if match is None:
        raise ValueError("it is not a date")
    return f"{match.group(1)}-{1 + digest.below(12):02d}-{1 + digest.below(28):02d}{match.group(2)}"


def mask_number(digest: Digest, value: Any) -> Any:
    """Return a number with as many digits and decimals and the same sign, of the type of the original."""
    text = _mask_digits(digest, str(value))
    # A leading zero would shorten the number, or produce text that is not a JSON number.
    text = re.sub(r"\A(-?)0(?=\d)", r"\g<1>1", text)
    return text if isinstance(value, str) else type(value)(text)


# The name of a mask is the domain of its digest, so that equal values stay equal across tables.
TEXT_MASKS: dict[str, Callable[[Digest, str], str]] = {
    "text": mask_letters,
    "digits": _mask_digits,
    "phone": mask_phone,
    "token": _mask_token,
    "ip": _mask_ip,
    "date": _mask_date,
    "email": mask_email,
    "username": lambda digest, text: "user-" + digest.hex(12),
    "slug": lambda digest, text: "s-" + digest.hex(12),
    "url": lambda digest, text: "https://example.org/" + digest.hex(16),
    "first_name": lambda digest, text: digest.word(2),
    "last_name": lambda digest, text: digest.word(3),
    "name": lambda digest, text: digest.word(2) + " " + digest.word(3),
}
