"""Find the layers around a dump by the content of its files, never by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import SauvegardeError
from . import file_type
from .code_pages import console_code_page, utf16_kind
from .layers import ERRORS, Layer, open_layers
from .packed_members import HEAD_BYTES, choose_member, tar_members, zip_members

_MAXIMUM = 8  # layers around one dump
_SHOWN = 3  # lines before a dump in a note
_PACKED = (
    (b"\x1f\x8b", "gz"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    (b"BZh", "bz2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DUMP = re.compile(rb"--\r?\n-- PostgreSQL database (?:cluster )?dump\r?\n")
_ARCHIVE = re.compile(rb"PGDMP\x01[\x00-\x20]", re.DOTALL)
# The byte of an archive's head that states its form, and its value for tar.
_FORM, _TAR = 10, 3


@dataclass(frozen=True)
class Detection:
    """What the files of a dump hold: its layers, the outermost first; its form (`dump_file.Source`); notes for a plan
    about the layers."""

    layers: tuple[Layer, ...]
    form: str
    notes: tuple[str, ...]


def detect_layers(parts: Sequence[Path]) -> Detection:
    """Return what the files hold. Raises if it is no dump, and says what it is."""
    layers: list[Layer] = []
    notes: list[str] = []
    while len(layers) < _MAXIMUM:
        head = _head(parts, layers)
        layer = _layer(parts, layers, head, notes)
        if layer is None:
            form = file_type.form_of_head(head, parts[0], packed=bool(layers))
            return Detection(tuple(layers), form, tuple(notes))
        layers.append(layer)
        if layer.kind in ("tar", "zip") and layer.detail.endswith("/"):
            return Detection(tuple(layers), "directory", tuple(notes))
    raise SauvegardeError(f"{parts[0]} is packed more than {_MAXIMUM} times.", fix="Unpack it, and name what is in it.")


def _head(parts: Sequence[Path], layers: Sequence[Layer]) -> bytes:
    try:
        with open_layers(parts, layers) as stream:
            return stream.read(HEAD_BYTES)
    except ERRORS as error:
        raise file_type.damaged(parts[0], str(error)) from error


def _layer(parts: Sequence[Path], layers: Sequence[Layer], head: bytes, notes: list[str]) -> Layer | None:
    """Return the layer that begins with the head; None if the dump itself does."""
    for mark, kind in _PACKED:
        if head.startswith(mark):
            return Layer(kind)
    if head.startswith(b"PK\x03\x04"):
        if layers or len(parts) > 1:
            raise file_type.refusal(parts[0], "It holds a zip archive.", "Unpack it, and name the dump that is in it.")
        return choose_member(parts[0], "zip", zip_members(parts[0]), _looks_like_dump)
    if _is_tar(head) and not _is_tar_of_pg_dump(head):
        return choose_member(parts[0], "tar", tar_members(parts, layers), _looks_like_dump)
    if head.startswith(_BYTE_ORDER_MARK):
        return Layer("skip", str(len(_BYTE_ORDER_MARK)))
    kind = utf16_kind(head)
    if kind:
        return _utf16_layer(parts, layers, kind, notes)
    if head.startswith(b"PGDMP") or _is_tar(head):
        return None
    return _text_layer(layers, head, notes)


def _text_layer(layers: Sequence[Layer], head: bytes, notes: list[str]) -> Layer | None:
    """Return the layer of text before a dump, or of Windows line ends; None for neither."""
    archive = _ARCHIVE.search(head)
    if archive and file_type.is_text(head[: archive.start()]):
        return _skip(head[: archive.start()], notes)
    dump = _DUMP.search(head)
    if dump and dump.start() and file_type.is_noise(head[: dump.start()]):
        return _skip(head[: dump.start()], notes)
    if dump and b"\r\n" in dump.group() and not any(layer.kind == "crlf" for layer in layers):
        notes.append(
            "Its lines end as on Windows: every such line end is read as the one of Unix that pg_dump writes, also"
            " inside values of several lines."
        )
        return Layer("crlf")
    return None


def _skip(noise: bytes, notes: list[str]) -> Layer:
    lines = noise.decode("utf-8", "replace").strip().replace("\r", "").split("\n")
    shown = " / ".join(lines[:_SHOWN]) + (" …" if len(lines) > _SHOWN else "")
    notes.append(f"What stands before the dump is passed over: {shown}")
    return Layer("skip", str(len(noise)))


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _is_tar_of_pg_dump(head: bytes) -> bool:
    """Return whether pg_dump -Ft wrote a tar archive: it begins with a table of contents that states so."""
    return head[:8] == b"toc.dat\0" and head[512:517] == b"PGDMP" and head[512 + _FORM] == _TAR


def _utf16_layer(parts: Sequence[Path], layers: Sequence[Layer], kind: str, notes: list[str]) -> Layer:
    head = _head(parts, layers).decode(kind, "ignore").lstrip("\ufeff")
    if "PGDMP" in head[:1000]:
        raise file_type.refusal(
            parts[0],
            "It is an archive of pg_dump's that was written as text in UTF-16, as PowerShell's > does: bytes are lost.",
            "Take another archive, or dump again with the option -f FILE in place of > FILE.",
        )
    page = console_code_page(lambda: open_layers(parts, layers), kind)
    how = f", and through the code page {page} before" if page else ""
    notes.append(f"It is text in UTF-16{how}: it is read as what pg_dump wrote, with line ends as on Unix.")
    return Layer(kind, page)


def _looks_like_dump(head: bytes) -> bool:
    packed = any(head.startswith(mark) for mark, _ in _PACKED)
    return packed or _is_tar(head) or bool(_ARCHIVE.search(head) or _DUMP.search(head) or utf16_kind(head))
