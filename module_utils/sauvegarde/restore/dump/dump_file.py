"""Find out what a path holds: one of our archives, or a file or directory that pg_dump wrote, in layers or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...archive import archive_reader, manifest
from ...errors import SauvegardeError
from . import cluster_dump, file_type, split_files
from .dump_stream import DumpStream
from .file_type import damaged
from .layer_detection import detect_layers
from .layers import ERRORS, Layer, open_layers

RESTORED_KIND = "pg_dump"


@dataclass(frozen=True)
class Source:
    """What a path holds.

    path: absolute.
    form: 'archive' (of Sauvegarde), 'custom', 'directory', 'tar', 'plain', or 'cluster' (pg_dumpall).
    compression: of an archive 'zst' as it is stored, '' in its plain form, which repositories hold; of other files the
      kinds of their layers, '' without any.
    manifest: of an archive, else None.
    size: bytes on disk.
    parts: the files of a source that is not an archive, in their order.
    layers: the layers around the dump in these files, the outermost first.
    notes: notes for a plan about parts and layers.
    section: the database that was chosen in a file with several dumps.
    """

    path: str
    form: str
    compression: str
    manifest: manifest.Manifest | None
    size: int
    parts: tuple[Path, ...] = ()
    layers: tuple[Layer, ...] = ()
    notes: tuple[str, ...] = ()
    section: str = ""


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a directory."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def detect(path: str | Path) -> Source:
    """Return the Source at `path`, by its content, never by its name. Checks nothing beyond its first bytes."""
    path = Path(path).absolute()
    if path.is_dir():
        return _detect_directory(path)
    parts, notes = split_files.parts(path)
    if not parts:
        raise SauvegardeError(f"There is nothing at {path}.", fix="Check the path; it is read on the target host.")
    detection = detect_layers(parts)
    return Source(
        path=str(path),
        form=detection.form,
        compression="+".join(layer.kind for layer in detection.layers),
        manifest=None,
        size=sum(part.stat().st_size for part in parts),
        parts=tuple(parts),
        layers=detection.layers,
        notes=(*notes, *detection.notes),
    )


def _detect_directory(path: Path) -> Source:
    if (path / manifest.NAME).exists():
        stated = manifest.load(path / manifest.NAME)
        _refuse_other_kinds(path, stated.kind)
        if (path / "dump" / "toc.dat").exists():
            # Expanded, or fetched from offsite.
            return Source(str(path), "archive", "", stated, size_of(path))
        return Source(str(path), "archive", "zst", archive_reader.read_manifest(path), size_of(path))
    if (path / "toc.dat").exists():
        return Source(str(path), "directory", "", None, size_of(path))
    raise file_type.folder_refusal(path)


def _refuse_other_kinds(path: Path, kind: str) -> None:
    if kind == RESTORED_KIND:
        return
    fix = "Put it in place with playbooks/migrate.yml (migrate_archive)"
    if kind == "globals":
        fix = "Name it as restore_globals, beside an archive of a database"
    raise SauvegardeError(
        f"{path} is an archive of the kind {kind}, and not of {RESTORED_KIND}.",
        "It holds no dump that pg_restore reads.",
        f"{fix}; or run the commands of restore_by_hand in its {manifest.NAME}.",
    )


def open_dump(source: Source) -> DumpStream:
    """Return a stream of the dump inside the source's files."""
    try:
        stream = DumpStream(open_layers(source.parts or (Path(source.path),), source.layers), source.path)
    except ERRORS as error:
        raise damaged(source.path, str(error)) from error
    return DumpStream(cluster_dump.Section(stream, source.section), source.path) if source.section else stream


def check(source: Source) -> None:
    """Read one of our archives completely and compare every checksum; raise Damaged."""
    if source.compression:
        archive_reader.verify(source.path)
    else:
        archive_reader.verify_plain(source.path)
