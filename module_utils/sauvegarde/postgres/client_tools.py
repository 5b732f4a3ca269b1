"""Find PostgreSQL's client programs (pg_dump, pg_restore, psql …) and give them their environment."""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import SauvegardeError
from ..system import process
from . import postgres_server, server_versions
from .postgres_server import NO_PASSFILE, Server

_BINARIES = Path("/usr/lib/postgresql")  # Debian's real programs, not the wrappers that choose for themselves

_DUMPERS = ("pg_dump", "pg_dumpall")  # they refuse old servers; pg_restore reads the archives of all versions
_NEWEST_FOR_ALL = 19  # the newest client that dumps every server from 9.6 on


@dataclass(frozen=True)
class Client:
    """A client program: its absolute path, its version_num (150018) and its version as it states it (15.18 …)."""

    path: str
    version_num: int
    version: str


def _inspect(path: Path) -> Client:
    """Return the Client behind a path, by its answer to `--version`: 'pg_dump (PostgreSQL) 15.18 (Debian …)'."""
    text = process.run([str(path), "--version"], timeout=30).text.strip()
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+){0,2})", text)
    number = server_versions.number(match.group(1)) if match else None
    if match is None or number is None:
        raise SauvegardeError(f"{path} does not state its version.", text)
    return Client(str(path), number, match.group(1))


def clients(tool: str) -> list[Client]:
    """Return every installed version of a program, oldest first.

    The programs state their versions; the directories' names do not: a server package without client programs links a
    newer client's beside it.
    """
    installed: dict[int, Client] = {}
    for path in sorted(_BINARIES.glob("*/bin/" + tool)):
        if os.access(path, os.X_OK):
            program = _inspect(path)
            installed.setdefault(program.version_num, program)
    return [installed[number] for number in sorted(installed)]


def client(tool: str, version_num: int) -> Client:
    """Return the oldest installed `tool` that is at least as new as a server of `version_num`.

    The oldest, because a newer one writes settings and archive versions that the server's own generation cannot read.
    Raises SauvegardeError if every installed one is older, or so new that it no longer dumps such a server.
    """
    installed = clients(tool)
    versions = ", ".join(program.version for program in installed) or "none"
    major = server_versions.major(version_num)
    for candidate in installed:
        if server_versions.generation(candidate.version_num) >= server_versions.generation(version_num):
            if tool in _DUMPERS and version_num < server_versions.oldest_dumped_server(candidate.version_num):
                raise SauvegardeError(
                    f"No {tool} on this host still dumps the server, which is {major}.",
                    f"Found under {_BINARIES}: {versions}. Such a new client refuses so old a server.",
                    f"Install an older client beside it: postgresql-client-{_NEWEST_FOR_ALL} dumps every server.",
                )
            return candidate
    raise SauvegardeError(
        f"No {tool} on this host is as new as the server, which is {major}.",
        f"Found under {_BINARIES}: {versions}. An older client refuses a newer server.",
        f"Install postgresql-client-{major}.",
    )


def environment(server: Server, database: str, application: str = "sauvegarde", **more: str) -> dict[str, str]:
    """Return the whole environment of a program that connects with libpq. It holds no secret, only the passfile's path.

    The database's name is here, too: on a command line, a name with `=` would be read as a connection string. The
    session gets `postgres_server.session_settings`, for the server's version if this process has connected to it.
    PGOPTIONS in `more` come after them and so win.
    """
    env = dict(process.BASE_ENVIRONMENT)
    settings = postgres_server.session_settings(postgres_server.known_version(server))
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    env.update(
        PGHOST=server.host,
        PGPORT=str(server.port),
        PGUSER=server.login,
        PGDATABASE=database,
        PGPASSFILE=server.passfile or NO_PASSFILE,
        PGAPPNAME=application,
        PGCONNECT_TIMEOUT="10",
        PGCLIENTENCODING=postgres_server.client_encoding(server, database),
        PG_COLOR="never",
        HOME=pwd.getpwuid(os.geteuid()).pw_dir,
    )
    env.update({f"PG{name.upper()}": value for name, value in server.security.items()})
    env.update(more)
    env["PGOPTIONS"] = f"{options} {more.get('PGOPTIONS', '')}".rstrip()
    return env


def conninfo(database: str) -> str:
    """Return `dbname='…'`, quoted for libpq, for programs that take it on the command line (pg_restore -d)."""
    return "dbname='{}'".format(database.replace("\\", "\\\\").replace("'", "\\'"))
