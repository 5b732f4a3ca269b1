"""Compare a password with the one that a PostgreSQL server stores, as md5 or as SCRAM-SHA-256 (RFC 7677)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import stringprep
import unicodedata

_SCRAM = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)\Z")
_MD5 = re.compile(r"md5[0-9a-f]{32}\Z")
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def matches(stored: str | None, password: str, role: str) -> bool:
    """Return whether `stored` (pg_authid.rolpassword, or None) is what the server stores for the role's password.

    A password that is a hash itself, which the server accepts as well, is compared as it is.
    """
    if stored is None:
        return password == ""
    if _SCRAM.match(password) or _MD5.match(password):
        return stored == password
    scram = _SCRAM.match(stored)
    if scram:
        iterations, salt, server_key = int(scram.group(1)), base64.b64decode(scram.group(2)), scram.group(4)
        salted = hashlib.pbkdf2_hmac("sha256", prepare(password), salt, iterations)
        return hmac.compare_digest(hmac.new(salted, b"Server Key", "sha256").digest(), base64.b64decode(server_key))
    hashed = hashlib.md5(password.encode("utf-8") + role.encode("utf-8")).hexdigest()
    return hmac.compare_digest(stored, "md5" + hashed)


def prepare(password: str) -> bytes:
    """Return the password's bytes after SASLprep (RFC 4013), or unchanged if it prohibits them, as PostgreSQL does."""
    raw = password.encode("utf-8")
    if len(raw) == len(password):
        return raw
    mapped = "".join(
        " " if stringprep.in_table_c12(letter) else letter
        for letter in password
        if stringprep.in_table_c12(letter) or not stringprep.in_table_b1(letter)
    )
    text = unicodedata.normalize("NFKC", mapped)
    if not text or any(in_table(letter) for letter in text for in_table in _PROHIBITED):
        return raw
    if any(stringprep.in_table_d1(letter) for letter in text) and (
        any(stringprep.in_table_d2(letter) for letter in text)
        or not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))
    ):
        return raw
    return text.encode("utf-8")
