"""Recognize a dump by its first bytes, and explain what a file or folder is that is none."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

from ...errors import Damaged, SauvegardeError

_DUMP = (b"-- PostgreSQL database dump", b"-- Dumped by pg_dump")
_CLUSTER = b"-- PostgreSQL database cluster dump"
_ERROR = re.compile(
    rb"\A(?:[^\n]*\n){0,5}?(?:psql|pg_dump|pg_dumpall|pg_restore|ssh|docker|sudo|su)\b[^\n]*:", re.IGNORECASE
)
_SQL = re.compile(
    rb"(?:--|\\|/\*|(?:SET|SELECT|CREATE|DROP|ALTER|INSERT|COPY|BEGIN|GRANT|UPDATE|DELETE)\b)", re.IGNORECASE
)
_BINARY = (b"PGDMP", b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh", b"PK\x03\x04")
_SAMPLE = 1 << 22  # bytes that are searched for signs of a copy as text
_SHOWN = 10  # names in an error
_SEGMENT = re.compile(r"[0-9A-F]{24}(\.\w+)?")
_UNPACK = "Unpack it, and name the dump that is in it."
_DECRYPT = "Decrypt it, and name the result."
_ANOTHER = "Name a file that pg_dump wrote."
_COPY_OF_A_SERVER = (
    "It is a copy of a whole server's files (pg_basebackup, or a data directory), which holds no dump.",
    "Start a server of the same version on a copy of it (see PostgreSQL's manual, Continuous Archiving), and pg_dump"
    " the database from there.",
)
_WAL = (
    "It is a segment of PostgreSQL's WAL, which holds no dump.",
    "It belongs to a base backup: " + _COPY_OF_A_SERVER[1][0].lower() + _COPY_OF_A_SERVER[1][1:],
)
# (first bytes of the file, what it is, what to do)
_HEADS = (
    (rb"SQLite format 3\0", "It is an SQLite database.", "Restore it as one: restore takes dumps of PostgreSQL."),
    (rb"7z\xbc\xaf\x27\x1c", "It is a 7z archive.", _UNPACK),
    (rb"Rar!\x1a\x07", "It is a RAR archive.", _UNPACK),
    (rb"PK\x05\x06", "It is an empty zip archive.", "Take another archive."),
    (rb"PK\x07\x08", "It is one part of a zip archive in several parts.", _UNPACK),
    (rb"\x1f\x9d", "It is packed by compress (.Z).", "Unpack it (gzip -d), and name the result."),
    (rb"LZIP", "It is packed by lzip.", "Unpack it (lzip -d), and name the result."),
    (rb"\x89LZO", "It is packed by lzop.", "Unpack it (lzop -d), and name the result."),
    (rb"MSCF", "It is a Windows cabinet.", _UNPACK),
    (rb"Salted__", "It is encrypted by openssl.", _DECRYPT),
    (rb"age-encryption\.org/v1", "It is encrypted by age.", _DECRYPT),
    (rb"-----BEGIN (?:PGP|AGE)", "It is encrypted by GnuPG or age.", _DECRYPT),
    (rb"[\x84\x85\x8c][\x01-\x0f]", "It seems to be encrypted by GnuPG.", _DECRYPT),
    (rb"version https://git-lfs", "It is a pointer of Git LFS, not the file.", "Fetch the file: git lfs pull."),
    (rb"\s*(?:<!doctype html|<html)", "It is a web page, not what was to be downloaded.", "Download it again; look into"
     " the page for the reason (often a login)."),
    (rb"\s*<\?xml|\s*<Error>", "It is XML, perhaps the error of a download.", "Look into it, and download it again."),
    (rb"\s*\[\s*\{\s*\"model\"", "It is a Django fixture (dumpdata).", "Load it into the site: migrate.yml, or"
     " loaddata."),
    (rb"\s*[\[{]\s*[\"{\]}]", "It is JSON, perhaps the error of a download.", "Look into it, and download it again."),
    (rb"(?s).{0,200}?-- (?:MySQL|MariaDB) dump|/\*M?!\d{5,6}", "It is a dump of MySQL or MariaDB.", "Restore it there;"
     " pgloader can move its data to PostgreSQL."),
    (rb"PRAGMA foreign_keys", "It is a dump of SQLite.", "Read it with sqlite3; restore takes dumps of PostgreSQL."),
    (rb"TAPE\0\0", "It is a backup of Microsoft SQL Server.", "Restore it there."),
    (rb"PGCOPY\n\xff\r\n\0", "It holds the rows of one table (COPY … BINARY).", "Take a dump of the database."),
    (rb".[\xd0\xd1][\x00-\x0f]\x00[\x01-\xff]\x00\x00\x00", *_WAL),
)  # fmt: skip


# What keeps an undamaged file from being read: (part of the message, fix).
_OTHER_CAUSES = tuple(
    (re.compile(pattern), fix)
    for pattern, fix in (
        (r"was ended by signal", "Look in the kernel's log for what ended it (memory?), and run it again."),
        (r"Permission denied", "Let the OS user that the restore runs as read it, and every folder above it."),
        (r"Cannot allocate memory|out of memory", "Free memory on this host, and run it again."),
        (r"No space left on device|Disk quota exceeded", "Free space on this host, and run it again."),
        (
            r"Input/output error|Stale file handle|Transport endpoint",
            "The disk or the mount below it failed: look there.",
        ),
        (r"Too many open files", "Raise the limit of open files, and run it again."),
        (
            r"[Nn]ot support(?:ed)?\b.*compression|compression.*not support",
            "Install a pg_restore with that compression.",
        ),
    )
)


def damaged(path: str | Path, why: str) -> SauvegardeError:
    """Return the error about a file that cannot be read to its end: damaged, changed on its way, or unreadable here."""
    for pattern, fix in _OTHER_CAUSES:
        if pattern.search(why):
            return SauvegardeError(f"{path} cannot be read here.", why, fix)
    change = ""
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        change = text_mode_damage(file.read(_SAMPLE))
    if change:
        return _changed(path, f"{change}\n{why}")
    return Damaged(
        f"{path} cannot be read to its end.",
        why,
        "It is damaged or cut short: take another archive.",
    )


def _changed(path: str | Path, why: str) -> Damaged:
    return Damaged(
        f"{path} was changed on its way.",
        why,
        "Copy it again from where it was dumped, as it is (scp, rsync, FTP's binary mode); or take another archive.",
    )


def refusal(path: str | Path, why: str, fix: str) -> SauvegardeError:
    """Return the error about a file that is not a dump."""
    return SauvegardeError(f"{path} is not a dump.", why, fix)


def form_of_head(head: bytes, path: Path, packed: bool = False) -> str:
    """Return the form (`dump_file.Source`) of a dump that begins with the head. Raises if it is none, and says what it
    is. packed: whether the head comes from inside the file's layers."""
    if head.startswith(b"PGDMP"):
        # pg_restore may read a changed archive to its end, and find less in it.
        change = text_mode_damage(head)
        if change:
            raise _changed(path, change)
        return "custom"
    if head[257:262] == b"ustar":
        return "tar"
    if not head.strip():
        raise damaged(path, "What is packed in it is empty." if packed else "It is empty.")
    if not any(mark in head for mark in (*_DUMP, _CLUSTER)):
        _refuse_known(head, path)
    if b"\0" in head:
        raise refusal(
            path,
            "It is neither SQL nor one of pg_dump's formats, nor one of them packed by gzip, xz, zstd, bzip2, lz4, tar"
            " or zip.",
            _ANOTHER,
        )
    return "cluster" if _CLUSTER in head and _begins_with_cluster(head) else "plain"


def _refuse_known(head: bytes, path: Path) -> None:
    """Raise if the head is that of a known kind of file that is no dump."""
    for pattern, what, fix in _HEADS:
        if re.match(pattern, head, re.IGNORECASE | re.DOTALL):
            raise refusal(path, what, fix)
    if _SEGMENT.fullmatch(path.name) and b"\0" in head:
        raise refusal(path, *_WAL)
    if _ERROR.match(head) and b";" not in head:
        message = head[:500].decode("utf-8", "replace").strip()
        raise refusal(path, f"It holds the error message of a program, and no dump: {message}", "Dump again.")


def _begins_with_cluster(head: bytes) -> bool:
    """Return whether the mark of a cluster's dump comes before that of a database's."""
    return _DUMP[0] not in head or head.index(_CLUSTER) < head.index(_DUMP[0])


def is_text(data: bytes) -> bool:
    """Return whether the bytes are a few lines of text, as a shell or ssh writes before the output of a program."""
    return b"\0" not in data and len(data) <= 1 << 14 and (not data or data.endswith(b"\n") or len(data) < 200)


def is_noise(data: bytes) -> bool:
    """Return whether lines before or after a dump are neither SQL nor psql commands."""
    lines = [line.strip() for line in data.replace(b"\r", b"").split(b"\n") if line.strip()]
    return is_text(data) and bool(lines) and not any(_SQL.match(line) for line in lines)


def describe_names(paths: Iterable[str]) -> tuple[str, str] | None:
    """Return (what it is, fix) of a folder or archive that holds these paths and no dump; None if that is unknown."""
    names = {path.rsplit("/", 1)[-1] for path in paths}
    if names & {"PG_VERSION", "backup_label", "backup_manifest"} or {"base.tar", "base.tar.gz"} & names:
        return _COPY_OF_A_SERVER
    if names & {"backup.info", "archive.info"}:
        return (
            "It is a repository of pgBackRest or Barman.",
            "Restore from it with that program, then pg_dump from there.",
        )
    if names and all(_SEGMENT.fullmatch(name) or name.endswith(".history") for name in names):
        return _WAL[0].replace("It is a segment", "It holds segments"), _WAL[1]
    if "toc.dat.gz" in names:
        return ("Its table of contents is packed.", "Unpack that one file (gunzip toc.dat.gz), and name the folder.")
    return None


def folder_refusal(path: Path) -> SauvegardeError:
    """Return the error about a folder that is neither an archive nor a dump; it says what the folder is."""
    names = sorted(entry.name for entry in path.iterdir())
    description = describe_names(names)
    if description:
        return SauvegardeError(f"{path} holds no backup.", *description)
    subfolders = [
        name for name in names if (path / name / "toc.dat").exists() or (path / name / "manifest.json").exists()
    ]
    why = "There is neither a manifest.json nor a toc.dat in it."
    if not names:
        why = "It is empty."
    elif subfolders:
        why += " These folders in it have one: " + ", ".join(subfolders[:_SHOWN]) + "."
    return SauvegardeError(
        f"{path} holds no backup.",
        why,
        "Name one archive's own directory, a directory written by pg_dump -Fd, or a file.",
    )


def text_mode_damage(data: bytes) -> str:
    """Return how an archive or packed file that begins with the data was changed by a copy as text, '' if not."""
    if not data.startswith(_BINARY):
        return ""
    ends = data.count(b"\n")
    if ends >= 8 and ends == data.count(b"\r\n"):
        return "Every line end in it has become one of Windows: it was copied or written as text."
    if len(set(data)) == 255 and b"\r" not in data:
        return "It holds every byte but the carriage return: it was copied as text."
    if data.count(b"\xef\xbf\xbd") >= 8 and not data.startswith(b"PGDMP"):
        return "Bytes in it have been replaced by the mark of unknown characters: it was read and written as text."
    return ""
