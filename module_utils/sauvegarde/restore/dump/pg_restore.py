"""Choose the pg_restore that reads an archive of pg_dump's, and read archives with it as plain SQL."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import SauvegardeError
from ...postgres import client_tools, server_versions
from ...postgres.client_tools import Client
from ...system import process
from .dump_file import Source, open_dump
from .dump_stream import DumpStream, failure_message
from .file_type import damaged

# The archive is newer than the pg_restore, or compressed in a way that it does not know.
_NEWER = re.compile(r"unsupported version|does not support compression|compression (?:is )?not supported")


@dataclass(frozen=True)
class Reader:
    """A pg_restore that reads an archive. native: it is of the target's version, and writes only what that knows."""

    path: str
    version_num: int
    native: bool


def readers(version_num: int, dumped_by: int = 0) -> list[Client]:
    """Return this host's pg_restores of the version of the target (`version_num`) or newer ones, oldest first.

    dumped_by: the version of a pg_dump, if only those are of use that know the format of its archives.
    """
    major = server_versions.major(version_num)
    return [
        client
        for client in client_tools.clients("pg_restore")
        if (client.version_num // 100 >= version_num // 100 or server_versions.major(client.version_num) == major)
        and server_versions.dump_format(client.version_num) >= server_versions.dump_format(dumped_by)
    ]


def no_reader(path: str, version_num: int, why: str) -> SauvegardeError:
    """Return the error about an archive that no pg_restore on this host reads for a target of this version."""
    return SauvegardeError(
        f"No pg_restore on this host reads {path}.",
        why or f"There is none for PostgreSQL {server_versions.major(version_num)} or newer.",
        "Install the postgresql-client package of the version that made the dump.",
    )


def reader(source: Source, version_num: int) -> Reader | None:
    """Return the pg_restore for a target of this version: of its own version if that can read the archive, else a newer
    one, which writes settings that the target may not know. None for plain SQL."""
    if source.form == "plain":
        return None
    why = ""
    for client in readers(version_num):
        result = process.run([client.path, "-l", source.path], checked=False)
        if result.status == 0:
            native = server_versions.major(client.version_num) == server_versions.major(version_num)
            return Reader(client.path, client.version_num, native)
        why = result.stderr
        if not _NEWER.search(why):
            raise damaged(source.path, failure_message(result))
    raise no_reader(source.path, version_num, why)


def as_sql(source: Source, tool: Reader | None, *options: str) -> DumpStream:
    """Return a stream of the source as plain SQL. tool: None if it is plain SQL. options: of pg_restore (-s, -L …)."""
    if tool is None:
        return open_dump(source)
    stdout = ["-f", "-"] if tool.version_num >= 120000 else []
    child = process.start([tool.path, *stdout, *options, source.path], stdout=process.PIPE)
    return DumpStream(child.stdout, source.path, child)
