"""Find the parts of a file that was split (split, 7-Zip, Total Commander …), and put them in order."""

import re

from ...errors import SauvegardeError

# A name's end that counts: .001, .part1, .p01, -00, and the letters of split (aa, ab …).
_NUMBER = re.compile(r"(.*?[._-](?:part|p|vol)?)(\d{1,4})", re.IGNORECASE)
_LETTERS = re.compile(r"(.*[._-]|x)([a-z]{2,3})")
_FIRST_ENDS = (".001", ".00", ".000", ".01", ".part1", ".part01", ".part001", ".part0", ".part00", ".aa", ".aaa", "-aa",
               "_aa", ".part.aa", ".part-aa", "-part-aa")  # fmt: skip

# How a whole file begins that is no part of another: rotated dumps (dump.1, dump.2) have numbers, too.
_HEADS = (
    b"PGDMP",
    b"--\n-- PostgreSQL",
    b"--\r\n-- PostgreSQL",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ",
    b"BZh",
)


def _is_whole(path):
    with path.open("rb") as file:
        return file.read(32).startswith(_HEADS)


def parts(path):
    """([the files that make up `path`], [what a plan says of them]); no files where there are none."""
    if not path.exists():
        for end in _FIRST_ENDS:
            first = path.with_name(path.name + end)
            if first.is_file():
                return parts(first)
        return [], []
    found = _series(path)
    if len(found) < 2:
        return [path], []
    return found, [f"It is in {len(found)} parts, from {found[0].name} to {found[-1].name}, and read as one file."]


def _series(path):
    """The files of the series that `path` begins; refuses where it is one of its later parts."""
    for pattern, follow in ((_NUMBER, _numbers), (_LETTERS, _letters)):
        match = pattern.fullmatch(path.name)
        if not match:
            continue
        head, counted = match.groups()
        found = []
        for each in follow(counted):
            part = path.with_name(head + each)
            if not part.is_file():
                break
            if found and _is_whole(part):
                return [path]
            found.append(part)
        first = None if _is_whole(path) else _first(path, head, counted)
        if first is not None:
            raise SauvegardeError(
                f"{path} is a later part of a file that was split.",
                f"Its first part is {first.name}.",
                f"Name the first part: {first}",
            )
        if found:
            _complete(path, head, found, follow(counted))
        if len(found) > 1:
            return found
    return [path]


def _numbers(first):
    """'001' → '001', '002' …; only from 0 or 1 on."""
    if int(first) > 1:
        return
    for number in range(int(first), 10000):
        yield str(number).rjust(len(first), "0")


def _letters(first):
    """'aa' → 'aa', 'ab' … 'zz'; only from the first on."""
    if set(first) != {"a"}:
        return
    for number in range(26 ** len(first)):
        letters = ""
        for _ in first:
            number, rest = divmod(number, 26)
            letters = chr(ord("a") + rest) + letters
        yield letters


def _first(path, head, counted):
    """The first part of the series that `path` is a later part of; None where there is none."""
    if counted.isdigit():
        if int(counted) < 2 and not (
            int(counted) == 1 and path.with_name(head + "0".rjust(len(counted), "0")).is_file()
        ):
            return None
        ends = ["0".rjust(len(counted), "0"), "1".rjust(len(counted), "0")]
    else:
        ends = ["a" * len(counted)]
    before = str(int(counted) - 1).rjust(len(counted), "0") if counted.isdigit() else None
    if before and not path.with_name(head + before).is_file():
        return None
    return next(
        (path.with_name(head + end) for end in ends if path.with_name(head + end).is_file() and end != counted), None
    )


def _complete(path, head, found, ends):
    """Refuse a series with a gap: what comes after it would be lost."""
    later = list(ends)[len(found) : len(found) + 20]
    missing = path.with_name(head + later[0]) if later else None
    others = [path.with_name(head + end) for end in later[1:]]
    if any(each.is_file() and not _is_whole(each) for each in others):
        raise SauvegardeError(
            f"A part of {path} is missing: {missing.name}.",
            "Later parts are there.",
            "Put all parts into one folder.",
        )
