"""Convert between the encodings of databases and Python's text, so that every name and text comes back as its bytes.

A database of encoding SQL_ASCII holds bytes of any kind, and names in a server's shared catalogs are in the encoding of
whichever database wrote them. Sessions therefore use the database's own encoding, in which the server converts nothing,
and bytes that are not valid in it become lone surrogates (PEP 383) instead of an error.
"""

from __future__ import annotations

import codecs
import re
from typing import Any

import psycopg2.extensions

_PREFIX = "sauvegarde_lenient_"
# What the server calls "no conversion": in a UTF8 database its bytes are UTF-8, in an SQL_ASCII one they may be.
RAW = "SQL_ASCII"


def _lenient_codec(name: str) -> codecs.CodecInfo | None:
    """Return a codec that keeps bytes which the codec of that name does not know; for codecs.register."""
    if not name.startswith(_PREFIX):
        return None
    strict = codecs.lookup(name[len(_PREFIX) :])

    def encode(text: str, _errors: str = "") -> tuple[bytes, int]:
        return strict.encode(text, "surrogateescape")

    def decode(data: Any, _errors: str = "") -> tuple[str, int]:
        return strict.decode(bytes(data), "surrogateescape")

    return codecs.CodecInfo(name=name, encode=encode, decode=decode)


def install() -> None:
    """Make psycopg2 read and write text leniently, in every encoding but UTF8 and LATIN1, whose codecs are built in
    (every byte is valid in LATIN1; sessions in UTF8 databases use RAW)."""
    codecs.register(_lenient_codec)
    psycopg2.extensions.encodings.setdefault("MULEINTERNAL", "ascii")  # below 128 it is; the server converts nothing
    for name, encoding in list(psycopg2.extensions.encodings.items()):
        if encoding == "ascii":
            encoding = "utf_8"
        elif encoding == "utf_8" or encoding.startswith(_PREFIX):
            continue
        psycopg2.extensions.encodings[name] = _PREFIX + encoding


install()


def codec(encoding: str) -> str | None:
    """Return Python's name for PostgreSQL's name of an encoding; None for one that Python does not have (EUC_TW)."""
    return psycopg2.extensions.encodings.get(re.sub("[^A-Z0-9]", "", encoding.upper()))


def session_encoding(server_encoding: str) -> str:
    """Return the client_encoding in which a session gets text as it is; UTF8 where Python lacks the database's own.
    MULE_INTERNAL cannot become UTF8, so its bytes are taken as those of SQL_ASCII are."""
    if server_encoding in ("UTF8", "MULE_INTERNAL", RAW):
        return RAW
    return server_encoding if codec(server_encoding) else "UTF8"


def encode(text: str, encoding: str) -> bytes:
    """Return the bytes of a text in a database's encoding."""
    return text.encode(codec(encoding) or "utf-8", "surrogateescape")


def decode(data: bytes, encoding: str) -> str:
    """Return the text of bytes in a database's encoding."""
    return data.decode(codec(encoding) or "utf-8", "surrogateescape")
