"""Character sets of databases: how their names and texts become Python's text and come back as the same bytes.

A database of encoding SQL_ASCII holds bytes of any kind, and names in a server's shared catalogs are in the encoding of
whichever database made them. Sessions therefore talk in the database's own encoding, in which the server converts
nothing, and bytes that are not valid in it become lone surrogates (PEP 383) instead of an error.
"""

import codecs
import re

import psycopg2.extensions

_PREFIX = "sauvegarde_lenient_"
# What the server calls "no conversion": in a UTF8 database its bytes are UTF-8, in an SQL_ASCII one they may be.
RAW = "SQL_ASCII"


def _lenient(name):
    """A codec that keeps bytes which the one of that name does not know, for codecs.register."""
    if not name.startswith(_PREFIX):
        return None
    strict = codecs.lookup(name[len(_PREFIX) :])
    return codecs.CodecInfo(
        name=name,
        encode=lambda text, errors="": strict.encode(text, "surrogateescape"),
        decode=lambda data, errors="": strict.decode(bytes(data), "surrogateescape"),
    )


def install():
    """Make psycopg2 read and write text leniently, in every encoding but UTF8 and LATIN1, whose codecs are built in
    (every byte is valid in LATIN1; sessions in UTF8 databases use RAW)."""
    codecs.register(_lenient)
    psycopg2.extensions.encodings.setdefault("MULEINTERNAL", "ascii")  # below 128 it is; the server converts nothing
    for name, codec in list(psycopg2.extensions.encodings.items()):
        if codec == "ascii":
            codec = "utf_8"
        elif codec == "utf_8" or codec.startswith(_PREFIX):
            continue
        psycopg2.extensions.encodings[name] = _PREFIX + codec


install()


def codec(encoding):
    """Python's codec for PostgreSQL's name of an encoding; None for one that Python does not have (EUC_TW)."""
    return psycopg2.extensions.encodings.get(re.sub("[^A-Z0-9]", "", encoding.upper()))


def session_encoding(server_encoding: str) -> str:
    """The client_encoding in which a session gets text as it is; UTF8 where Python lacks the database's own.
    MULE_INTERNAL cannot become UTF8, so its bytes are taken as those of SQL_ASCII are."""
    if server_encoding in ("UTF8", "MULE_INTERNAL", RAW):
        return RAW
    return server_encoding if codec(server_encoding) else "UTF8"


def encode(text, encoding):
    """The bytes of a text in a database's encoding."""
    return text.encode(codec(encoding) or "utf-8", "surrogateescape")


def decode(data, encoding):
    """The text of bytes in a database's encoding."""
    return data.decode(codec(encoding) or "utf-8", "surrogateescape")
