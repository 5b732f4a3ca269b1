"""Take off what a dump is wrapped in: compression, tar or zip around it, lines before it, another encoding.

A file is looked at by its content. Each layer is a step from a stream of bytes to the stream inside it, so that layers
in layers cost nothing more, and plain SQL is read through all of them without being unpacked on a disk.
"""

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
from pathlib import Path
from typing import NamedTuple

import psycopg2.extensions

from ...errors import SauvegardeError
from ...system import process
from . import file_type
from .byte_stream import CHUNK, buffered

HEAD = 1 << 16
_MOST = 8

_PACKED = (
    (b"\x1f\x8b", "gz"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    (b"BZh", "bz2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
)
_TOOLS = {"zst": ["zstd", "-dcq"], "lz4": ["lz4", "-dcq"]}
_DUMP = re.compile(rb"--\r?\n-- PostgreSQL database (?:cluster )?dump\r?\n")
_ENCODING = re.compile(r"^SET client_encoding = '([^']*)';", re.MULTILINE)
_ARCHIVE = re.compile(rb"PGDMP\x01[\x00-\x20]", re.DOTALL)
# Code pages of the consoles whose PowerShell takes what a program writes for text in them.
_CONSOLES = ("cp850", "cp437", "cp1252", "cp852", "cp858", "cp1250", "cp866", "cp1251", "cp932", "cp936")
# What reading raises where a file is cut short or damaged. RuntimeError is zipfile's, for what it cannot unpack.
ERRORS = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
# The byte of an archive's head that says its form, and what it stands for.
_FORM, _TAR = 10, 3


class Layer(NamedTuple):
    """kind: gz, xz, zst, bz2, lz4, tar, zip, skip, utf-16-le, utf-16-be or crlf; what: the member, or bytes to skip, or
    the code page that the text went through."""

    kind: str
    what: str = ""


def joined(parts):
    """A stream of the files' bytes, one after the other."""
    waiting, current = list(parts), []

    def give():
        while True:
            if not current:
                if not waiting:
                    return b""
                current.append(Path(waiting.pop(0)).open("rb"))  # noqa: SIM115 - closed at its end
            data = current[0].read(CHUNK)
            if data:
                return data
            current.pop().close()

    return buffered(give, lambda: [each.close() for each in current])


def opened(parts, layers):
    """A stream of what the layers are around."""
    if len(parts) == 1 and layers and layers[0].kind == "zip":
        stream, rest = _zip_member(parts[0], layers[0].what), layers[1:]
    else:
        stream, rest = joined(parts), layers
    for layer in rest:
        stream = _inside(stream, layer)
    return stream


def _inside(stream, layer):
    if layer.kind == "gz":
        return gzip.GzipFile(fileobj=stream, mode="rb")
    if layer.kind == "xz":
        return lzma.LZMAFile(stream)
    if layer.kind == "bz2":
        return bz2.BZ2File(stream)
    if layer.kind in _TOOLS:
        return _tool(stream, _TOOLS[layer.kind])
    if layer.kind == "skip":
        left = int(layer.what)
        while left:
            left -= len(stream.read(min(left, CHUNK))) or left
        return stream
    if layer.kind == "tar":
        return _tar_member(stream, layer.what)
    if layer.kind == "crlf":
        return _line_ends(stream)
    if layer.kind.startswith("utf-16"):
        return _transcoded(stream, layer)
    raise ValueError(layer.kind)


def _tool(stream, argv):
    child = process.start([process.find(argv[0]), *argv[1:]], stdin=process.PIPE, stdout=process.PIPE)

    failed, ended = [], []

    def feed():
        try:
            for data in iter(lambda: stream.read(CHUNK), b""):
                child.stdin.write(data)
        except BrokenPipeError:
            pass  # the child has ended, and says why
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader hears of it
            failed.append(error)
        finally:
            # Without this the child would wait for more, and its reader with it.
            with contextlib.suppress(OSError, ValueError):
                child.stdin.close()

    feeder = threading.Thread(target=feed, name="unpack", daemon=True)
    feeder.start()

    def give():
        data = child.stdout.read(CHUNK)
        if not data and not ended:
            ended.append(child.wait())
            feeder.join()
            if failed:
                raise OSError(str(failed[0])) from failed[0]
            if ended[0].status:
                raise OSError(ended[0].stderr)
        return data

    return buffered(give, child.kill)


def _tar_member(stream, name):
    with_members = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 - lives as long as the member is read
    member = next((each for each in with_members if each.isfile() and each.name == name), None)
    if member is None:
        raise EOFError(f"{name} is not in it.")
    file = with_members.extractfile(member)

    def give():
        data = file.read(CHUNK)
        if not data:
            _drain(stream)
        return data

    return buffered(give)


def _drain(stream):
    """Read what is left behind a tar archive, which ends before the checksum of what is around it."""
    while stream.read(CHUNK):
        pass


def _zip_member(path, name):
    packed = zipfile.ZipFile(str(path))
    file = packed.open(name)

    def give():
        try:
            return file.read(CHUNK)
        except zipfile.BadZipFile as error:
            raise OSError(str(error)) from error

    return buffered(give, packed.close)


def _line_ends(stream):
    """Every line end of Windows as the one that was in its place."""
    kept = []

    def give():
        while True:
            read = stream.read(CHUNK)
            data = b"".join(kept) + read
            kept.clear()
            if read and data.endswith(b"\r"):
                kept.append(b"\r")
                data = data[:-1]
            data = data.replace(b"\r\n", b"\n")
            if data or not read:
                return data

    return buffered(give)


def _transcoded(stream, layer):
    """Text in UTF-16 as bytes in the encoding that its own SET client_encoding says, lines ended as pg_dump does."""
    decoder = codecs.getincrementaldecoder(layer.kind)("strict")
    state = {"codec": layer.what, "ended": False, "kept": ""}

    def give():
        while not state["ended"]:
            read = stream.read(CHUNK)
            state["ended"] = not read
            text = state["kept"] + decoder.decode(read, final=not read)
            state["kept"] = "\r" if read and text.endswith("\r") else ""
            text = text[: len(text) - len(state["kept"])].lstrip("\ufeff").replace("\r\n", "\n")
            if not state["codec"]:
                found = _ENCODING.search(text)
                state["codec"] = _codec(found.group(1)) if found else "utf-8"
            if text:
                return text.encode(state["codec"])
        return b""

    return buffered(give)


def _codec(name):
    return psycopg2.extensions.encodings.get(re.sub("[^A-Z0-9]", "", name.upper())) or "utf-8"


def console(open_stream, kind):
    """The code page through which a text in UTF-16 went before, where its characters can only be read that way; ''.

    PowerShell decodes what a program writes by the console's code page: "é" in UTF-8 becomes two box characters. Read
    back through the same page it is UTF-8 again, which no text becomes by chance.
    """
    left = {name: codecs.getincrementaldecoder("utf-8")("strict") for name in _CONSOLES}
    seen = False
    decoder = codecs.getincrementaldecoder(kind)("strict")
    with open_stream() as stream:
        for data in iter(lambda: stream.read(CHUNK), b""):
            text = decoder.decode(data).lstrip("\ufeff")
            if all(each < "\x80" for each in text):
                continue
            seen = True
            for name in list(left):
                try:
                    left[name].decode(text.encode(name))
                except UnicodeError:
                    del left[name]
            if not left:
                return ""
    return next(iter(left)) if seen and left else ""


def look(parts):
    """(layers, form, notes) of what the files hold: form as source.Source has it, or '' where it is a folder inside.

    notes: what a plan says about the layers. Raises where it is no dump, saying what it is.
    """
    layers, notes = [], []
    path = parts[0]
    while len(layers) < _MOST:
        head = _head(parts, layers)
        step = _step(parts, layers, head, notes)
        if step is None:
            return tuple(layers), file_type.form(head, path, packed=bool(layers)), notes
        if step.kind in ("tar", "zip") and (step.what.endswith("/") or not step.what):
            return (*layers, step), "directory", notes
        layers.append(step)
    raise SauvegardeError(f"{path} is packed more than {_MOST} times.", fix="Unpack it, and name what is in it.")


def _head(parts, layers):
    try:
        with opened(parts, layers) as stream:
            return stream.read(HEAD)
    except ERRORS as error:
        raise file_type.damaged(parts[0], str(error)) from error


def _step(parts, layers, head, notes):
    """The layer that begins with the head; None where the dump itself does."""
    for mark, kind in _PACKED:
        if head.startswith(mark):
            return Layer(kind)
    if head.startswith(b"PK\x03\x04"):
        if layers or len(parts) > 1:
            raise file_type.refusal(parts[0], "It holds a zip archive.", "Unpack it, and name the dump that is in it.")
        return _chosen(parts, layers, "zip", _zip_members(parts[0]))
    if head[257:262] == b"ustar" and not _is_archive_tar(head):
        return _chosen(parts, layers, "tar", _tar_members(parts, layers))
    if head.startswith(b"\xef\xbb\xbf"):
        return Layer("skip", "3")
    wide = _wide(head)
    if wide:
        return _utf16(parts, layers, wide, notes)
    if head.startswith(b"PGDMP") or head[257:262] == b"ustar":
        return None
    found = _ARCHIVE.search(head)
    if found and file_type.is_text(head[: found.start()]):
        notes.append(_skipped(head[: found.start()]))
        return Layer("skip", str(found.start()))
    found = _DUMP.search(head)
    if found and found.start() and file_type.is_noise(head[: found.start()]):
        notes.append(_skipped(head[: found.start()]))
        return Layer("skip", str(found.start()))
    if found and b"\r\n" in found.group() and not any(each.kind == "crlf" for each in layers):
        notes.append(
            "Its lines end as on Windows: every such line end is read as the one of Unix that pg_dump writes, also"
            " inside values of several lines."
        )
        return Layer("crlf")
    return None


def _skipped(noise):
    text = noise.decode("utf-8", "replace").strip().replace("\r", "")
    lines = text.split("\n")
    shown = " / ".join(lines[:3]) + (" …" if len(lines) > 3 else "")
    return f"What stands before the dump is passed over: {shown}"


def _is_archive_tar(head):
    """Whether a tar archive is what pg_dump -Ft writes: it begins with a table of contents that says so."""
    return head[:8] == b"toc.dat\0" and head[512:517] == b"PGDMP" and head[512 + _FORM] == _TAR


def _wide(head):
    """utf-16-le or utf-16-be where the head is text in it, else ''."""
    for mark, kind in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if head.startswith(mark):
            return kind
    for kind, first in (("utf-16-le", 1), ("utf-16-be", 0)):
        zeros, others = head[first:2000:2], head[1 - first : 2000 : 2]
        if len(zeros) > 20 and zeros.count(0) > 0.9 * len(zeros) and others.count(0) == 0:
            return kind
    return ""


def _utf16(parts, layers, kind, notes):
    head = _head(parts, layers).decode(kind, "ignore").lstrip("\ufeff")
    if "PGDMP" in head[:1000]:
        raise file_type.refusal(
            parts[0],
            "It is an archive of pg_dump's that was written as text in UTF-16, as PowerShell's > does: bytes are lost.",
            "Take another archive, or dump again with the option -f FILE in place of > FILE.",
        )
    page = console(lambda: opened(parts, layers), kind)
    how = f", and through the code page {page} before" if page else ""
    notes.append(f"It is text in UTF-16{how}: it is read as what pg_dump wrote, with line ends as on Unix.")
    return Layer(kind, page)


def _tar_members(parts, layers):
    """[(name, size, head)] of the files in a tar archive."""
    try:
        with opened(parts, layers) as stream, tarfile.open(fileobj=stream, mode="r|") as packed:
            return [(each.name, each.size, packed.extractfile(each).read(HEAD)) for each in packed if each.isfile()]
    except ERRORS as error:
        raise file_type.damaged(parts[0], str(error)) from error


def _zip_members(path):
    """The same of a zip archive."""
    try:
        with zipfile.ZipFile(str(path)) as packed:
            files = [each for each in packed.infolist() if not each.filename.endswith("/")]
            if any(each.flag_bits & 1 for each in files):
                raise file_type.refusal(
                    path, "It is a zip archive with a password.", "Unpack it, and name the dump that is in it."
                )
            return [(each.filename, each.file_size, packed.open(each).read(HEAD)) for each in files]
    except ERRORS as error:
        raise file_type.damaged(path, str(error)) from error


def _chosen(parts, layers, kind, members):
    """The layer for the one dump among the members: a file, or a folder ('NAME/') that pg_dump -Fd wrote."""
    path = parts[0]
    members = [each for each in members if not re.search(r"(^|/)(\._[^/]*|\.DS_Store|__MACOSX/.*)$", each[0])]
    names = [name for name, _, _ in members]
    folders = [name[: -len("toc.dat")] for name in names if name.rsplit("/", 1)[-1] == "toc.dat"]
    ours = [name for name in names if name.rsplit("/", 1)[-1] == "manifest.json"]
    if ours and len(folders) < 2:
        raise file_type.refusal(
            path,
            "It holds an archive of Sauvegarde's, which is a folder.",
            f"Unpack it, and name the folder that holds {ours[0].rsplit('/', 1)[-1]}.",
        )
    what = file_type.of_names(names)
    if what and not folders:
        raise file_type.refusal(path, *what)
    if len(folders) == 1:
        return Layer(kind, folders[0] or "./")
    dumps = [name for name, _, head in members if _looks_like_a_dump(head)]
    if not folders and len(dumps or names) == 1:
        return Layer(kind, (dumps or names)[0])
    if not names:
        raise file_type.refusal(path, f"It is an empty {kind} archive.", "Take another archive.")
    shown = sorted(folders) + dumps if folders or dumps else names
    raise file_type.refusal(
        path,
        f"It is a {kind} archive of {len(shown)} files or folders: " + ", ".join(shown[:10]) + ".",
        "Unpack it, and name the dump to restore.",
    )


def _looks_like_a_dump(head):
    packed = any(head.startswith(mark) for mark, _ in _PACKED)
    return packed or head[257:262] == b"ustar" or bool(_ARCHIVE.search(head) or _DUMP.search(head) or _wide(head))


def extract(parts, layers, target, enough):
    """Write the files of the folder that the last layer names into the folder `target`, which is new; no links, no
    folders below. `enough` is called with each number of bytes before they are written."""
    kind, folder = layers[-1]
    prefix = "" if folder == "./" else folder
    names = {prefix, "./" + prefix} if not folder.startswith("./") else {folder, folder[2:]}

    def wanted(name):
        head, _, tail = name.rpartition("/")
        return tail and (head + "/" if head else "") in names

    target.mkdir(mode=0o700)
    if kind == "zip":
        with zipfile.ZipFile(str(parts[0])) as packed:
            for each in packed.infolist():
                if wanted(each.filename):
                    with packed.open(each) as file:
                        _write(file, target / each.filename.rsplit("/", 1)[-1], enough)
        return
    with opened(parts, layers[:-1]) as stream, tarfile.open(fileobj=stream, mode="r|") as packed:
        for each in packed:
            if each.isfile() and wanted(each.name):
                _write(packed.extractfile(each), target / each.name.rsplit("/", 1)[-1], enough)
        _drain(stream)


def _write(file, path, enough):
    with path.open("xb") as target:
        for data in iter(lambda: file.read(CHUNK), b""):
            enough(len(data))
            target.write(data)
