"""Find the parts of a file that was split (split, 7-Zip, Total Commander …), and put them in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import SauvegardeError

# How the names of parts end: .001, .part1, .p01, -00, and the letters of split (aa, ab …).
_NUMBER = re.compile(r"(.*?[._-](?:part|p|vol)?)(\d{1,4})", re.IGNORECASE)
_LETTERS = re.compile(r"(.*[._-]|x)([a-z]{2,3})")
_FIRST_ENDS = (".001", ".00", ".000", ".01", ".part1", ".part01", ".part001", ".part0", ".part00", ".aa", ".aaa", "-aa",
               "_aa", ".part.aa", ".part-aa", "-part-aa")  # fmt: skip
_LOOKAHEAD = 20  # names after a gap that are looked for
# How a complete file begins that is no part of another: rotated dumps (dump.1, dump.2) have numbers, too.
_HEADS = (
    b"PGDMP",
    b"--\n-- PostgreSQL",
    b"--\r\n-- PostgreSQL",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ",
    b"BZh",
)


def _is_complete_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(32).startswith(_HEADS)


def parts(path: Path) -> tuple[list[Path], list[str]]:
    """Return (the files that make up `path`, what a plan says of them); no files if it does not exist.

    path: the file, its first part, or the name of the whole without the end of a part.
    """
    if not path.exists():
        for end in _FIRST_ENDS:
            first = path.with_name(path.name + end)
            if first.is_file():
                return parts(first)
        return [], []
    files = _series(path)
    if len(files) < 2:
        return [path], []
    return files, [f"It is in {len(files)} parts, from {files[0].name} to {files[-1].name}, and read as one file."]


def _series(path: Path) -> list[Path]:
    """Return the files of the series that `path` begins; raise if it is one of its later parts."""
    for pattern, ends_from in ((_NUMBER, _numbers_from), (_LETTERS, _letters_from)):
        match = pattern.fullmatch(path.name)
        if not match:
            continue
        head, end = match.groups()
        files = _existing(path, head, ends_from(end))
        if files is None:
            return [path]
        first = None if _is_complete_file(path) else _first_part(path, head, end)
        if first is not None:
            raise SauvegardeError(
                f"{path} is a later part of a file that was split.",
                f"Its first part is {first.name}.",
                f"Name the first part: {first}",
            )
        if files:
            _refuse_gap(path, head, files, ends_from(end))
        if len(files) > 1:
            return files
    return [path]


def _existing(path: Path, head: str, ends: Iterable[str]) -> list[Path] | None:
    """Return the files with these ends, up to the first that is missing; None if a later one is a file of its own."""
    files: list[Path] = []
    for end in ends:
        part = path.with_name(head + end)
        if not part.is_file():
            break
        if files and _is_complete_file(part):
            return None
        files.append(part)
    return files


def _numbers_from(first: str) -> Iterator[str]:
    """Yield '001', '002' … for '001'; nothing for a number above 1."""
    if int(first) > 1:
        return
    for number in range(int(first), 10000):
        yield str(number).rjust(len(first), "0")


def _letters_from(first: str) -> Iterator[str]:
    """Yield 'aa', 'ab' … 'zz' for 'aa'; nothing for other letters."""
    if set(first) != {"a"}:
        return
    for number in range(26 ** len(first)):
        letters = ""
        for _ in first:
            number, rest = divmod(number, 26)
            letters = chr(ord("a") + rest) + letters
        yield letters


def _first_part(path: Path, head: str, end: str) -> Path | None:
    """Return the first part of the series that `path` is a later part of; None if it is not."""
    if end.isdigit():
        zero = path.with_name(head + "0".rjust(len(end), "0"))
        if int(end) == 0 or (int(end) == 1 and not zero.is_file()):
            return None
        before = str(int(end) - 1).rjust(len(end), "0")
        if not path.with_name(head + before).is_file():
            return None
        first_ends = ["0".rjust(len(end), "0"), "1".rjust(len(end), "0")]
    else:
        first_ends = ["a" * len(end)]
    candidates = [path.with_name(head + first) for first in first_ends if first != end]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _refuse_gap(path: Path, head: str, files: Sequence[Path], ends: Iterable[str]) -> None:
    """Raise if the series continues after a gap: what comes after it would be lost."""
    later = [path.with_name(head + end) for end in list(ends)[len(files) : len(files) + _LOOKAHEAD]]
    if any(part.is_file() and not _is_complete_file(part) for part in later[1:]):
        raise SauvegardeError(
            f"A part of {path} is missing: {later[0].name}.",
            "Later parts are there.",
            "Put all parts into one folder.",
        )
