"""Convert PostgreSQL's version numbers: 150018 stands for 15.18, 90624 for 9.6.24."""

from __future__ import annotations

import re


def major(version_num: int) -> str:
    """Return '9.6' for 90624, '15' for 150018: the name of the directory of Debian's binaries."""
    if version_num < 100000:
        return f"{version_num // 10000}.{version_num // 100 % 100}"
    return str(version_num // 10000)


def generation(version_num: int) -> int:
    """Return the number without its minor part, to compare a client's with a server's: 906, 1500."""
    return version_num // 100 if version_num < 100000 else version_num // 10000 * 100


def number(version: str) -> int | None:
    """Return the version_num of a version at the start of a text, as `15.18 (Debian …)` or `17beta1`; None without."""
    match = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
    if match is None:
        return None
    first, second, third = (int(part or 0) for part in match.groups())
    return first * 10000 + (second * 100 + third if first < 10 else second)
