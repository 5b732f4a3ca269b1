"""Describe PostgreSQL's versions: what each major version added, and its numbers (150018: 15.18; 90624: 9.6.24).

A new major version of PostgreSQL is one entry in `MAJOR_VERSIONS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class MajorVersion:
    """A major version of PostgreSQL.

    version_num: the lowest of its numbers. dump_format: of the archives that its pg_dump writes (K_VERS_SELF in
    PostgreSQL's pg_backup_archiver.h); a pg_restore reads all formats up to its own. timeouts: the settings that it
    added which can end a session.
    """

    version_num: int
    dump_format: tuple[int, int]
    timeouts: tuple[str, ...] = ()


MAJOR_VERSIONS = (
    # Since March 2018 (9.6.8, 10.3); earlier minor versions wrote and read 1.12.
    MajorVersion(90600, (1, 13), ("idle_in_transaction_session_timeout",)),
    MajorVersion(100000, (1, 13)),
    MajorVersion(110000, (1, 13)),
    MajorVersion(120000, (1, 14)),
    MajorVersion(130000, (1, 14)),
    MajorVersion(140000, (1, 14), ("idle_session_timeout",)),
    MajorVersion(150000, (1, 14)),
    MajorVersion(160000, (1, 15)),
    MajorVersion(170000, (1, 16), ("transaction_timeout",)),
    MajorVersion(180000, (1, 16)),
    MajorVersion(190000, (1, 16)),
)

# (a pg_dump's version, the oldest server that it and newer ones dump). pg_restore reads the archives of all versions.
_OLDEST_DUMPED_SERVERS = ((0, 0), (150000, 90200), (200000, 100000))


def major(version_num: int) -> str:
    """Return '9.6' for 90624, '15' for 150018: the name of the directory of Debian's binaries."""
    if version_num < 100000:
        return f"{version_num // 10000}.{version_num // 100 % 100}"
    return str(version_num // 10000)


def dump_format(version_num: int) -> tuple[int, int]:
    """Return the format of the archives that a pg_dump of this version writes; of unknown versions, the nearest."""
    formats = [version.dump_format for version in MAJOR_VERSIONS if version.version_num <= version_num]
    return formats[-1] if formats else MAJOR_VERSIONS[0].dump_format


def oldest_dumped_server(client_version_num: int) -> int:
    """Return the version_num of the oldest server that a pg_dump or pg_dumpall of this version dumps."""
    return max(oldest for client, oldest in _OLDEST_DUMPED_SERVERS if client <= client_version_num)


def session_timeouts(version_num: int) -> list[str]:
    """Return the names of the settings that a server of this version has to end sessions, except statement_timeout."""
    return [name for version in MAJOR_VERSIONS if version.version_num <= version_num for name in version.timeouts]


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
