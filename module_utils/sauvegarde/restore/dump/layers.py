"""Read a dump through the layers around it: compression, tar or zip, text before it, another encoding.

Each layer is a step from a stream of bytes to the stream inside it, so nested layers cost nothing more, and plain SQL
is read through all of them without being unpacked on a disk. `layer_detection` finds the layers of a file.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import lzma
import re
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from ...postgres import character_sets
from ...system import process
from .byte_stream import CHUNK, Readable, buffered

TOOLS = {"zst": ("zstd", "-dcq"), "lz4": ("lz4", "-dcq")}
# What reading raises if a file is cut short or damaged. RuntimeError is zipfile's, for what it cannot unpack.
ERRORS = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
_ENCODING = re.compile(r"^SET client_encoding = '([^']*)';", re.MULTILINE)


@dataclass(frozen=True)
class Layer:
    """One layer.

    kind: gz, xz, zst, bz2, lz4, tar, zip, skip, utf-16-le, utf-16-be or crlf. detail: the member of a tar or zip
    archive, a folder if it ends with '/'; the number of bytes to skip; the code page that UTF-16 text went through.
    """

    kind: str
    detail: str = ""


def open_layers(parts: Sequence[Path], layers: Sequence[Layer]) -> IO[bytes]:
    """Return a stream of what is inside the layers of a file in these parts."""
    if len(parts) == 1 and layers and layers[0].kind == "zip":
        stream, rest = _zip_member(parts[0], layers[0].detail), layers[1:]
    else:
        stream, rest = _joined(parts), layers
    for layer in rest:
        stream = _inside(stream, layer)
    return stream


def _joined(parts: Iterable[Path]) -> IO[bytes]:
    """Return a stream of the files' bytes, one file after the other."""
    files = list(parts)
    current: list[IO[bytes]] = []

    def give() -> bytes:
        while True:
            if not current:
                if not files:
                    return b""
                current.append(files.pop(0).open("rb"))
            data = current[0].read(CHUNK)
            if data:
                return data
            current.pop().close()

    def close() -> None:
        for file in current:
            file.close()

    return buffered(give, close)


def _inside(stream: IO[bytes], layer: Layer) -> IO[bytes]:
    if layer.kind == "gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream, mode="rb"))
    if layer.kind == "xz":
        return lzma.LZMAFile(stream)
    if layer.kind == "bz2":
        return bz2.BZ2File(stream)
    if layer.kind in TOOLS:
        return _tool(stream, TOOLS[layer.kind])
    if layer.kind == "skip":
        rest = int(layer.detail)
        while rest:
            rest -= len(stream.read(min(rest, CHUNK))) or rest
        return stream
    if layer.kind == "tar":
        return _tar_member(stream, layer.detail)
    if layer.kind == "crlf":
        return _unix_line_ends(stream)
    if layer.kind.startswith("utf-16"):
        return _transcoded(stream, layer)
    raise ValueError(layer.kind)


def _tool(stream: Readable, argv: Sequence[str]) -> IO[bytes]:
    """Return the output of a program that a thread feeds with the stream."""
    child = process.start([process.find(argv[0]), *argv[1:]], stdin=process.PIPE, stdout=process.PIPE)
    failures: list[Exception] = []
    results: list[process.Result] = []

    def feed() -> None:
        try:
            for data in iter(lambda: stream.read(CHUNK), b""):
                child.stdin.write(data)
        except BrokenPipeError:
            pass  # the child has ended, and says why
        except Exception as error:  # noqa: BLE001 - the reader raises it
            failures.append(error)
        finally:
            # Otherwise the child would wait for more, and its reader with it.
            with contextlib.suppress(OSError, ValueError):
                child.stdin.close()

    feeder = threading.Thread(target=feed, name="unpack", daemon=True)
    feeder.start()

    def give() -> bytes:
        data: bytes = child.stdout.read(CHUNK)
        if not data and not results:
            results.append(child.wait())
            feeder.join()
            if failures:
                raise OSError(str(failures[0])) from failures[0]
            if results[0].status:
                raise OSError(results[0].stderr)
        return data

    return buffered(give, child.kill)


def _tar_member(stream: IO[bytes], name: str) -> IO[bytes]:
    archive = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 - lives as long as the member is read
    member = next((member for member in archive if member.isfile() and member.name == name), None)
    file = archive.extractfile(member) if member is not None else None
    if file is None:
        raise EOFError(f"{name} is not in it.")

    def give() -> bytes:
        data = file.read(CHUNK)
        if not data:
            drain(stream)
        return data

    return buffered(give)


def drain(stream: Readable) -> None:
    """Read what comes after a tar archive, which ends before the checksum of the layer around it."""
    while stream.read(CHUNK):
        pass


def _zip_member(path: Path, name: str) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    file = archive.open(name)

    def give() -> bytes:
        try:
            return file.read(CHUNK)
        except zipfile.BadZipFile as error:
            raise OSError(str(error)) from error

    return buffered(give, archive.close)


def _unix_line_ends(stream: Readable) -> IO[bytes]:
    """Return a stream with a Unix line end in place of every Windows line end."""
    carry = b""

    def give() -> bytes:
        nonlocal carry
        while True:
            read = stream.read(CHUNK)
            data = carry + read
            carry = b""
            if read and data.endswith(b"\r"):
                carry = b"\r"
                data = data[:-1]
            data = data.replace(b"\r\n", b"\n")
            if data or not read:
                return data

    return buffered(give)


def _transcoded(stream: Readable, layer: Layer) -> IO[bytes]:
    """Return UTF-16 text as bytes in the encoding that its own SET client_encoding states, with Unix line ends."""
    decoder = codecs.getincrementaldecoder(layer.kind)("strict")
    codec, carry, ended = layer.detail, "", False

    def give() -> bytes:
        nonlocal codec, carry, ended
        while not ended:
            read = stream.read(CHUNK)
            ended = not read
            text = carry + decoder.decode(read, final=not read)
            carry = "\r" if read and text.endswith("\r") else ""
            text = text[: len(text) - len(carry)].lstrip("\ufeff").replace("\r\n", "\n")
            if not codec:
                encoding = _ENCODING.search(text)
                codec = (character_sets.codec(encoding.group(1)) if encoding else None) or "utf-8"
            if text:
                return text.encode(codec)
        return b""

    return buffered(give)
