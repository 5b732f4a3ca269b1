"""Recognize text in UTF-16, and the console's code page through which PowerShell decoded it before."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import IO

from .byte_stream import CHUNK

_MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
# Code pages of the consoles whose PowerShell takes what a program writes for text in them.
_CONSOLES = ("cp850", "cp437", "cp1252", "cp852", "cp858", "cp1250", "cp866", "cp1251", "cp932", "cp936")
_SAMPLE = 2000  # bytes of a head that are looked at


def utf16_kind(head: bytes) -> str:
    """Return utf-16-le or utf-16-be if the head of a file is text in it, else ''."""
    for mark, kind in _MARKS:
        if head.startswith(mark):
            return kind
    for kind, first in (("utf-16-le", 1), ("utf-16-be", 0)):
        zeros, others = head[first:_SAMPLE:2], head[1 - first : _SAMPLE : 2]
        if len(zeros) > 20 and zeros.count(0) > 0.9 * len(zeros) and others.count(0) == 0:
            return kind
    return ""


def console_code_page(open_stream: Callable[[], IO[bytes]], kind: str) -> str:
    """Return the code page by which a text in UTF-16 was decoded before, '' for none.

    PowerShell decodes the output of a program by the console's code page: "é" in UTF-8 becomes two box characters.
    Encoded by the same page it is UTF-8 again, which does not happen to other text by chance.
    """
    candidates = {name: codecs.getincrementaldecoder("utf-8")("strict") for name in _CONSOLES}
    beyond_ascii = False
    decoder = codecs.getincrementaldecoder(kind)("strict")
    with open_stream() as stream:
        for data in iter(lambda: stream.read(CHUNK), b""):
            text = decoder.decode(data).lstrip("\ufeff")
            if text.isascii():
                continue
            beyond_ascii = True
            for name in list(candidates):
                try:
                    candidates[name].decode(text.encode(name))
                except UnicodeError:
                    del candidates[name]
            if not candidates:
                return ""
    return next(iter(candidates)) if beyond_ascii else ""
