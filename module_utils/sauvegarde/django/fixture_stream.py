"""Read fixtures as streams: object by object, compressed or not, in memory that does not grow with the file."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Callable, Protocol

from ..errors import Damaged, SauvegardeError

# The key under which an exact fixture holds JSON as the database's text, where Python's floats do not hold its numbers.
JSON_TEXT = "__json_text__"
# By the suffix of a file's name, as stock `loaddata` reads them; zst is an addition.
COMPRESSIONS = ("gz", "bz2", "xz", "lzma", "zip", "zst")
FORMATS = ("json", "jsonl", "xml", "yaml", "yml")
# Models whose numbers depend on the order in which applications were installed, and mean nothing elsewhere.
NUMBERED = ("auth.permission", "contenttypes.contenttype")
# Why a migration leaves an unmanaged model out. The first reason may mean a loss.
NO_TABLE = "unmanaged, and without a table of its own"
UNMANAGED = "unmanaged: name it (migrate_include) to move its rows"

_READ = 1 << 18
_CUT = "unexpected end of data"  # Python's reason for half a character at the end
_BETWEEN = re.compile(r"[ \t\r\n]*([,\]]?)[ \t\r\n]*")
_WHITE = " \t\r\n"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def kind_of(name: str) -> tuple[str, str | None]:
    """Return (format, compression or None) by the name: `places.json.gz` is ("json", "gz"). Others raise."""
    parts = Path(name).name.lower().split(".")
    compression = parts.pop() if parts[-1] in COMPRESSIONS else None
    if len(parts) < 2 or parts[-1] not in FORMATS:
        raise SauvegardeError(
            f"{name} is not named like a fixture.",
            "Its name must say its format, for example places.json or places.jsonl.gz.",
            "Rename the file; formats: {}; compressions: {}.".format(", ".join(FORMATS), ", ".join(COMPRESSIONS)),
        )
    return "yaml" if parts[-1] == "yml" else parts[-1], compression


def expanded(source: IO[bytes], compression: str | None, name: str = "the fixture") -> Any:
    """Return a binary file with the plain text of a compressed one (for zst see `data_load.opened`)."""
    if compression is None:
        return source
    if compression == "gz":
        return gzip.GzipFile(fileobj=source)
    if compression == "bz2":
        return bz2.BZ2File(source)
    if compression in ("xz", "lzma"):
        return lzma.LZMAFile(source)
    if compression == "zip":
        archive = zipfile.ZipFile(source)
        members = archive.namelist()
        if len(members) != 1:
            raise SauvegardeError(
                f"{name} holds {len(members)} files.",
                "Stock Django reads a zip of one file only.",
                "Pack one fixture a zip.",
            )
        return archive.open(members[0])
    raise SauvegardeError(f"{name}: unknown compression {compression}.")


def wide_encoding(data: bytes) -> str:
    """Return the encoding of a text with two or four bytes a character; an empty text for any other.

    It is known by the byte order mark, or by the zeros of the first character, which is ASCII in every fixture.
    """
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    encodings: dict[tuple[bool, ...], str] = {
        (True, True, True, False): "utf-32-be",
        (False, True, True, True): "utf-32-le",
        (True, False, True, False): "utf-16-be",
        (False, True, False, True): "utf-16-le",
    }
    return encodings.get(tuple(byte == 0 for byte in data[:4]), "")


class _Utf8:
    """A binary file in UTF-8 without a byte order mark, read from one in UTF-8, UTF-16 or UTF-32 with or without it."""

    def __init__(self, source: _Readable) -> None:
        self._source, self._is_first = source, True
        self._decode: Callable[[bytes, bool], str] | None = None

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        if self._is_first:
            while 0 < len(data) < len(codecs.BOM_UTF32_LE):
                more = self._source.read(size)
                if not more:
                    break
                data += more
            self._is_first = False
            if data.startswith(codecs.BOM_UTF8):
                data = data[len(codecs.BOM_UTF8) :] or self._source.read(size)
            else:
                encoding = wide_encoding(data)
                self._decode = codecs.getincrementaldecoder(encoding)().decode if encoding else None
        if self._decode is None:
            return data
        text = self._decode(data, not data)
        while data and not text:  # half a character
            data = self._source.read(size)
            text = self._decode(data, not data)
        return text.encode("utf-8")


def not_utf8(name: str, error: UnicodeDecodeError) -> Damaged:
    """Return the error for a fixture in another encoding."""
    around = error.object[max(0, error.start - 30) : error.end + 10].decode("utf-8", "backslashreplace")
    return Damaged(
        f"{name} is not UTF-8, in which fixtures are written.",
        f"{error}: …{around}…",
        "Convert it, for example with: iconv -f ISO-8859-1 -t UTF-8. If it was UTF-8, it is damaged.",
    )


def objects(source: _Readable, form: str, name: str = "the fixture") -> Iterator[dict[str, Any]]:
    """Yield each object of the binary stream of JSON or JSON lines. What is not a complete fixture raises."""
    utf8 = _Utf8(source)
    try:
        for entry in _json(utf8) if form == "json" else _jsonl(utf8):
            if not isinstance(entry, dict) or "model" not in entry or not isinstance(entry.get("fields"), dict):
                raise ValueError(f"an entry is not an object with a model and its fields: {json.dumps(entry):.80}")
            yield entry
    except (ValueError, EOFError, OSError, lzma.LZMAError, zipfile.BadZipFile) as error:
        if isinstance(error, UnicodeDecodeError) and error.reason != _CUT:
            raise not_utf8(name, error) from error
        raise Damaged(
            f"{name} is not a whole fixture.",
            str(error),
            "Write it again from its source; nothing in it was used.",
        ) from error


def _json(source: _Readable) -> Iterator[Any]:
    """Yield the entries of a JSON array, decoded one by one."""
    decode: Callable[[bytes, bool], str] = codecs.getincrementaldecoder("utf-8")().decode
    parse = json.JSONDecoder().raw_decode
    text, position, ended, is_first = _behind_bracket(source, decode), 0, False, True
    while True:
        before = position
        match = _BETWEEN.match(text, position)
        assert match is not None  # the pattern matches an empty text
        mark = match.group(1)
        if mark == "]" and match.end() <= len(text):
            _check_end(source, decode, text[match.end() :])
            return
        # The separator is complete only when something follows it.
        if match.end() < len(text) and (mark == ",") != is_first:
            try:
                entry, position = parse(text, match.end())
            except ValueError:
                if ended:
                    raise
            else:
                # A number or a word could continue in the next piece; an object ends with its brace.
                if not isinstance(entry, dict):
                    raise ValueError(f"an entry is not an object: {entry!r:.80}")
                is_first = False
                yield entry
                continue
        elif match.end() < len(text):
            raise ValueError(f"a comma is missing or too many before: {text[match.end() : match.end() + 40]!r}")
        if ended:
            raise ValueError("it ends before its list does")
        text = text[before:]
        position = 0
        data = source.read(max(_READ, len(text)))
        ended = not data
        text += decode(data, ended)


def _behind_bracket(source: _Readable, decode: Callable[[bytes, bool], str]) -> str:
    """Return the first text behind the opening bracket of the list."""
    text = ""
    while not text:
        data = source.read(_READ)
        text = decode(data, not data).lstrip(_WHITE)
        if not data and not text:
            raise ValueError("it ends before its list does")
    if text[0] != "[":
        raise ValueError("it does not start with a list of objects")
    return text[1:]


def _check_end(source: _Readable, decode: Callable[[bytes, bool], str], rest: str) -> None:
    """Raise if anything but blanks follows the closing bracket. `rest`: the text behind it that was read already."""
    ended = False
    while not rest.strip(_WHITE) and not ended:
        data = source.read(_READ)
        ended = not data
        rest = decode(data, ended)
    if rest.strip(_WHITE):
        raise ValueError("something follows the end of the list")


def _jsonl(source: _Readable) -> Iterator[Any]:
    for line in lines(source):
        text = line.decode("utf-8")
        if text.strip():
            yield json.loads(text)


def lines(source: _Readable) -> Iterator[bytes]:
    """Yield the lines of a binary stream."""
    rest = b""
    for piece in iter(lambda: source.read(_READ), b""):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest
