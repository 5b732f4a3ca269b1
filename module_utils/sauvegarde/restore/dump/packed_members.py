"""Choose the dump among the members of a tar or zip archive, and extract a directory that pg_dump -Fd wrote."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from . import file_type
from .byte_stream import CHUNK
from .layers import ERRORS, Layer, drain, open_layers

HEAD_BYTES = 1 << 16
_SHOWN = 10  # names in an error
# What macOS adds to an archive.
_METADATA = re.compile(r"(^|/)(\._[^/]*|\.DS_Store|__MACOSX/.*)$")


@dataclass(frozen=True)
class Member:
    """A file in an archive, with its first bytes."""

    name: str
    head: bytes


def tar_members(parts: Sequence[Path], layers: Sequence[Layer]) -> list[Member]:
    """Return the files in a tar archive."""
    try:
        with open_layers(parts, layers) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            return [Member(info.name, _head_of(archive, info)) for info in archive if info.isfile()]
    except ERRORS as error:
        raise file_type.damaged(parts[0], str(error)) from error


def _head_of(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    return file.read(HEAD_BYTES) if file is not None else b""


def zip_members(path: Path) -> list[Member]:
    """Return the files in a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            if any(info.flag_bits & 1 for info in files):
                raise file_type.refusal(
                    path, "It is a zip archive with a password.", "Unpack it, and name the dump that is in it."
                )
            members = []
            for info in files:
                with archive.open(info) as file:
                    members.append(Member(info.filename, file.read(HEAD_BYTES)))
            return members
    except ERRORS as error:
        raise file_type.damaged(path, str(error)) from error


def choose_member(path: Path, kind: str, members: Sequence[Member], looks_like_dump: Callable[[bytes], bool]) -> Layer:
    """Return the layer of the one dump among the members: a file, or a folder ('NAME/') that pg_dump -Fd wrote.

    Raises if there is none or more than one. looks_like_dump: whether a file with this head may be a dump.
    """
    members = [member for member in members if not _METADATA.search(member.name)]
    names = [member.name for member in members]
    folders = [name[: -len("toc.dat")] for name in names if name.rsplit("/", 1)[-1] == "toc.dat"]
    if len(folders) < 2 and any(name.rsplit("/", 1)[-1] == "manifest.json" for name in names):
        raise file_type.refusal(
            path,
            "It holds an archive of Sauvegarde's, which is a folder.",
            "Unpack it, and name the folder that holds manifest.json.",
        )
    description = file_type.describe_names(names)
    if description and not folders:
        raise file_type.refusal(path, *description)
    if len(folders) == 1:
        return Layer(kind, folders[0] or "./")
    dumps = [member.name for member in members if looks_like_dump(member.head)]
    if not folders and len(dumps or names) == 1:
        return Layer(kind, (dumps or names)[0])
    if not names:
        raise file_type.refusal(path, f"It is an empty {kind} archive.", "Take another archive.")
    shown = sorted(folders) + dumps if folders or dumps else names
    raise file_type.refusal(
        path,
        f"It is a {kind} archive of {len(shown)} files or folders: " + ", ".join(shown[:_SHOWN]) + ".",
        "Unpack it, and name the dump to restore.",
    )


def extract_folder(
    parts: Sequence[Path], layers: Sequence[Layer], target: Path, reserve: Callable[[int], object]
) -> None:
    """Write the files of the folder that the last layer names into `target`, a new directory.

    No links, and no folders below it. reserve: called with each number of bytes before they are written.
    """
    kind, folder = layers[-1].kind, layers[-1].detail
    bare = folder[2:] if folder.startswith("./") else folder
    prefixes = {bare, "./" + bare}

    def target_of(name: str) -> Path | None:
        head, _, tail = name.rpartition("/")
        return target / tail if tail and (head + "/" if head else "") in prefixes else None

    target.mkdir(mode=0o700)
    if kind == "zip":
        with zipfile.ZipFile(parts[0]) as archive:
            for info in archive.infolist():
                path = target_of(info.filename)
                if path is not None:
                    with archive.open(info) as file:
                        _write(file, path, reserve)
        return
    with open_layers(parts, layers[:-1]) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            path = target_of(member.name)
            content = tar.extractfile(member) if path is not None and member.isfile() else None
            if path is not None and content is not None:
                _write(content, path, reserve)
        drain(stream)


def _write(file: IO[bytes], path: Path, reserve: Callable[[int], object]) -> None:
    with path.open("xb") as target:
        for data in iter(lambda: file.read(CHUNK), b""):
            reserve(len(data))
            target.write(data)
