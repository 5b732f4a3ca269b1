"""Fixtures as streams: read object by object, compressed or not, in memory that does not grow with the file."""

import bz2
import codecs
import gzip
import json
import lzma
import re
import zipfile
from pathlib import Path

from ..errors import Damaged, SauvegardeError

# The key under which an exact fixture holds JSON as the database's text, where Python's floats do not hold its numbers.
JSON_TEXT = "__json_text__"
# By the ending of a file's name, as stock `loaddata` reads them; zst is ours.
COMPRESSIONS = ("gz", "bz2", "xz", "lzma", "zip", "zst")
FORMATS = ("json", "jsonl", "xml", "yaml", "yml")
# Models whose numbers depend on the order in which applications were installed: they mean nothing elsewhere.
NUMBERED = ("auth.permission", "contenttypes.contenttype")
# Why a migration leaves an unmanaged model out: the one reason that may stand for a loss.
NO_TABLE = "unmanaged, and without a table of its own"
UNMANAGED = "unmanaged: name it (migrate_include) to move its rows"

_READ = 1 << 18
_CUT = "unexpected end of data"  # what Python says of half a character at the end
_BETWEEN = re.compile(r"[ \t\r\n]*([,\]]?)[ \t\r\n]*")
_WHITE = " \t\r\n"


def kind_of(name):
    """(format, compression or None) by the name: `places.json.gz` is ("json", "gz")."""
    parts = Path(name).name.lower().split(".")
    compression = parts.pop() if parts[-1] in COMPRESSIONS else None
    if len(parts) < 2 or parts[-1] not in FORMATS:
        raise SauvegardeError(
            f"{name} is not named like a fixture.",
            "Its format is told by its name, for example places.json or places.jsonl.gz.",
            "Rename the file; formats: {}; compressions: {}.".format(", ".join(FORMATS), ", ".join(COMPRESSIONS)),
        )
    return "yaml" if parts[-1] == "yml" else parts[-1], compression


def expanded(source, compression, name="the fixture"):
    """A binary file that gives the plain text of the compressed binary file `source` (for zst see `files.opened`)."""
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
    raise SauvegardeError(f"{name}: the compression {compression} is not known.")


def wide_encoding(data):
    """The encoding of a text of two or four bytes a character by its mark, or by the zeros of its first character,
    which is one of ASCII in every fixture; an empty text for what is neither."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = tuple(byte == 0 for byte in data[:4])
    return {
        (True, True, True, False): "utf-32-be",
        (False, True, True, True): "utf-32-le",
        (True, False, True, False): "utf-16-be",
        (False, True, False, True): "utf-16-le",
    }.get(zeros, "")


class _Unmarked:
    """A binary file in UTF-8 without a mark, of one that begins with the mark of UTF-8 or UTF-16."""

    def __init__(self, source):
        self._source, self._decode, self._first = source, None, True

    def read(self, size):
        data = self._source.read(size)
        if self._first:
            while 0 < len(data) < len(codecs.BOM_UTF32_LE):
                more = self._source.read(size)
                if not more:
                    break
                data += more
            self._first = False
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


def not_utf8(name, error):
    """The error of a fixture in another encoding."""
    around = error.object[max(0, error.start - 30) : error.end + 10].decode("utf-8", "backslashreplace")
    return Damaged(
        f"{name} is not UTF-8, in which fixtures are written.",
        f"{error}: …{around}…",
        "Convert it, for example with: iconv -f ISO-8859-1 -t UTF-8. If it was UTF-8, it is damaged.",
    )


def objects(source, form, name="the fixture"):
    """Yield each object of the binary JSON or JSONL stream, as the dict it is. What is not a whole fixture raises."""
    source = _Unmarked(source)
    try:
        for entry in _json(source) if form == "json" else _jsonl(source):
            if not isinstance(entry, dict) or "model" not in entry or not isinstance(entry.get("fields"), dict):
                raise ValueError(f"an entry is not an object with a model and its fields: {json.dumps(entry):.80}")
            yield entry
    except (ValueError, EOFError, OSError, lzma.LZMAError, zipfile.BadZipFile) as error:
        if isinstance(error, UnicodeDecodeError) and error.reason != _CUT:
            raise not_utf8(name, error) from error
        raise Damaged(
            f"{name} is not a whole fixture.",
            str(error),
            "Write it again from its source; what it still holds was not used.",
        ) from error


def _json(source):
    """The entries of a JSON array, decoded one by one."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    parse = json.JSONDecoder().raw_decode
    text, position, ended = "", 0, False
    started = False
    while True:
        before = position
        if not started:
            while position < len(text) and text[position] in _WHITE:
                position += 1
            if position < len(text):
                if text[position] != "[":
                    raise ValueError("it does not start with a list of objects")
                position += 1
                started = first = True
                continue
        else:
            match = _BETWEEN.match(text, position)
            mark = match.group(1)
            if mark == "]" and match.end() <= len(text):
                rest = text[match.end() :]
                while not rest.strip(_WHITE) and not ended:
                    data = source.read(_READ)
                    ended = not data
                    rest = decode(data, ended)
                if rest.strip(_WHITE):
                    raise ValueError("something follows the end of the list")
                return
            # The separator is complete only when something follows it.
            if match.end() < len(text) and (mark == ",") != first:
                try:
                    entry, position = parse(text, match.end())
                except ValueError:
                    if ended:
                        raise
                else:
                    # A number or a word could go on in the next piece; an object is over at its brace.
                    if not isinstance(entry, dict):
                        raise ValueError(f"an entry is not an object: {entry!r:.80}")
                    first = False
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


def _jsonl(source):
    for line in lines(source):
        text = line.decode("utf-8")
        if text.strip():
            yield json.loads(text)


def lines(source):
    """The lines of anything with a `read(size)`."""
    rest = b""
    for piece in iter(lambda: source.read(_READ), b""):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest
