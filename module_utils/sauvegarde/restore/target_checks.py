"""Check that a target's server can take a source: host, versions, extensions, roles, locale, disk space."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from ..postgres import disk_guard, postgres_server, server_versions
from ..postgres.postgres_server import Server
from ..system import disk_space
from . import dump_roles, locale_names
from .dump.contents import Contents
from .findings import Findings
from .request import RestoreRequest
from .source_needs import SourceNeeds

# Disk space that a restore needs, relative to the size at the source: data, sorts for indexes, and WAL.
ROOM = 1.3
_OFF = ("off", "false", "no", "0")


@dataclass(frozen=True)
class Space:
    """Bytes that a restore needs and that are free on the file system of `path`."""

    path: str
    needed: int
    free: int


def check_host(connection: Any, server: Server, findings: Findings) -> None:
    """Require that the server runs on this host: the confirmation names this host, and free space is checked here."""
    address = postgres_server.value(connection, "SELECT pg_catalog.host(pg_catalog.inet_server_addr())")
    if address is None:
        return
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            findings.block(
                "The target's server is not on this host.",
                f"{server.address} is {address}, which is not an address of {socket.gethostname()}.",
                "Name the host that the server runs on as the target (restore_target).",
            )


def check_versions(target: Mapping[str, Any], needs: SourceNeeds, findings: Findings) -> None:
    """Require a server that is no older than the source's. target: the server's properties."""
    same = server_versions.major(needs.version_num) == server_versions.major(target["version_num"])
    if not same and needs.version_num > target["version_num"]:
        findings.block(
            "The target's server is older than the archive's.",
            f"The archive is of PostgreSQL {needs.version}, the target runs {target['version']}.",
            f"Restore on PostgreSQL {server_versions.major(needs.version_num)} or newer.",
        )


def check_names(target: Mapping[str, Any], database: str, roles: Iterable[str], findings: Findings) -> None:
    """Require names that the target accepts: from version 19 on they have no line breaks.

    target: the server's properties. roles: names of those that the restore would create.
    """
    if target["version_num"] < 190000:
        return
    names = [("database", database), *(("role", role) for role in roles)]
    refused = [f"{kind} {name!r}" for kind, name in names if "\n" in name or "\r" in name]
    if refused:
        findings.block(
            f"The target refuses names with a line break: {', '.join(refused)}.",
            f"It runs {target['version']}; from 19 on, names of databases and roles have neither CR nor LF.",
            "Rename at the source (ALTER ROLE … RENAME TO …) and back up again, or restore on PostgreSQL 18.",
        )


def check_literals(target: Mapping[str, Any], values: Iterable[str], findings: Findings) -> None:
    """Require literals that the target reads: from version 19 on, standard_conforming_strings is always on.

    target: the server's properties. values: of that setting, in the dump and of its database.
    """
    if target["version_num"] >= 190000 and any(value.strip("' ").lower() in _OFF for value in values):
        findings.block(
            "The source has standard_conforming_strings off, which the target refuses.",
            f"It runs {target['version']}; from 19 on, a backslash in a literal is always a backslash.",
            "At the source: ALTER DATABASE … RESET standard_conforming_strings (or in postgresql.conf), and back up"
            " again. Or restore on PostgreSQL 18.",
        )


def note_public(target: Mapping[str, Any], needs: SourceNeeds, contents: Contents | None, findings: Findings) -> None:
    """Note that PUBLIC may no longer create in the schema public.

    New databases do not allow it from version 15 on, and no dump contains the privileges of older ones.
    """
    if not 0 < needs.version_num < 150000 <= target["version_num"] or not needs.public_may_create:
        return
    entries = contents.entries if contents is not None else ()
    if not any(entry.kind == "ACL" and entry.name in ("public", "SCHEMA public") for entry in entries):
        findings.note(
            "Only the database's owner may create objects in the schema public.",
            "At the source every role can; new databases of PostgreSQL 15 and newer do not allow it.",
            "If an application needs it: GRANT CREATE ON SCHEMA public TO its role.",
        )


def _version_parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def check_extensions(connection: Any, needs: SourceNeeds, findings: Findings) -> list[dict[str, str]]:
    """Check PostGIS's version. Returns the source's extensions, [{name, source, target}]: versions, '' for none."""
    available = dict(
        postgres_server.query(connection, "SELECT name, default_version FROM pg_catalog.pg_available_extensions")
    )
    postgis, source = available.get("postgis", ""), needs.postgis
    if postgis and source and _version_parts(postgis) < _version_parts(source):
        findings.block(
            "The target's PostGIS is older than the archive's.",
            f"The archive holds PostGIS {source}, the target has {postgis}.",
            f"Install PostGIS {'.'.join(map(str, _version_parts(source)))} or newer on the target.",
        )
    if needs.requires_postgis_raster(postgis) and "postgis_raster" not in available:
        findings.block(
            "The extension postgis_raster is not available on the target.",
            "PostGIS 2 held raster itself.",
            "Install PostGIS's raster package.",
        )
    return [
        {"name": name, "source": needs.extensions[name]["version"], "target": available.get(name, "")}
        for name in sorted(needs.extensions)
    ]


def plan_roles(
    connection: Any,
    request: RestoreRequest,
    needs: SourceNeeds,
    properties: Mapping[str, Any],
    role_file: dump_roles.Globals,
    findings: Findings,
) -> list[str]:
    """Return the roles that the restore will create.

    Those that the archive names, as the globals file describes them or plain ones, and with `globals_roles` all others
    of the globals file.
    """
    existing = dump_roles.existing(connection)
    named = set(needs.roles) | {properties["owner"]} | set(properties["role_settings"])
    named |= {grant["grantee"] for grant in properties["acl"] or () if grant["grantee"]}
    described = dump_roles.needed(role_file, named)
    absent = [name for name in role_file.roles if name not in existing]
    others = [name for name in absent if name not in described]
    created = [name for name in absent if name in described]
    if request.globals_roles == "all":
        created = absent
    elif others:
        findings.note(
            f"Roles of the globals file that the archive does not name are not created: {', '.join(sorted(others))}.",
            "They may include login roles that are members of a role of the archive.",
            "To create all of them: restore_globals_roles=all.",
        )
    missing = sorted(named - existing - set(created) - {""})
    if missing and request.missing_roles == "refuse":
        findings.block(
            "Roles are missing on the target: " + ", ".join(missing) + ".",
            "The archive's objects and grants name them.",
            "Give the globals file of the source (pg_dumpall --globals-only), make them with the postgresql role,"
            " or ask for them to be made without login (restore_missing_roles: create).",
        )
        return created
    return created + missing


def check_locale(connection: Any, properties: dict[str, Any], findings: Findings) -> None:
    """Require the database's locale. If the server has it under another name only, `properties` get that one."""
    if not properties["collate"] or properties["provider"] == "builtin":
        return
    error = _locale_error(connection, properties)
    if error is None:
        return
    available = locale_names.available(connection)
    encoding = properties["encoding"] or _own_encoding(connection)
    renamed = {
        key: locale_names.find(properties[key], encoding, available) or properties[key]
        for key in ("collate", "ctype")
        if properties[key]
    }
    changed = sorted({(properties[key], name) for key, name in renamed.items() if properties[key] != name})
    if changed and _locale_error(connection, dict(properties, **renamed)) is None:
        for source, here in changed:
            findings.note(f"The locale {source} is called {here} here.", "The restored database gets it by that name.")
        properties.update(renamed)
        return
    names = ", ".join(locale_names.similar(properties["collate"], available)) or "none of that language"
    findings.block(
        f"The target lacks the locale {properties['collate']}.",
        str(error),
        "Generate it and restart the server (one generated since its start is unknown to it), or name another locale"
        f" (restore_locale; the target has {names}), with its encoding where that differs (restore_encoding).",
    )


def _own_encoding(connection: Any) -> str:
    encoding: str = postgres_server.value(
        connection,
        "SELECT pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database"
        " WHERE datname = pg_catalog.current_database()",
    )
    return encoding


def _locale_error(connection: Any, properties: Mapping[str, Any]) -> psycopg2.Error | None:
    """Return the server's error about a database's locale, None if it accepts it.

    The server itself is asked: it does not know a locale that was generated since it started.
    """
    if properties["encoding"] in ("", _own_encoding(connection)):
        probe = "CREATE COLLATION pg_temp.sauvegarde_probe (LC_COLLATE = {}, LC_CTYPE = {})"
    else:
        # A collation has its database's encoding; this asks for the locale alone.
        probe = "SET LOCAL lc_monetary TO {}; SET LOCAL lc_monetary TO {}"
    collate = sql.Literal(properties["collate"])
    ctype = sql.Literal(properties["ctype"] or properties["collate"])
    try:
        postgres_server.execute(connection, "BEGIN")
        postgres_server.execute(connection, sql.SQL(probe).format(collate, ctype))
    except psycopg2.Error as error:
        return error
    finally:
        postgres_server.execute(connection, "ROLLBACK")
    return None


def check_space(connection: Any, directory: Path, needs: SourceNeeds, findings: Findings) -> list[Space]:
    """Require disk space for the database and, in `directory`, for the unpacked dump. One entry per file system."""
    data = postgres_server.value(connection, "SHOW data_directory")
    needed: dict[int, tuple[str, int]] = {}
    for path, size in ((data, int(needs.bytes * ROOM)), (str(directory), needs.unpacked)):
        existing = Path(path)
        while not existing.exists():
            existing = existing.parent
        size += disk_guard.reserve(existing) if path == data else 0
        device = existing.stat().st_dev
        first, sum_so_far = needed.get(device, (str(existing), 0))
        needed[device] = (first, sum_so_far + size)
    spaces = [Space(path, size, disk_space.free_bytes(path)) for path, size in needed.values()]
    for space in spaces:
        if space.free < space.needed:
            findings.block(
                f"There is too little space on {space.path}.",
                f"The restore needs about {space.needed // 2**20 + 1} MiB, {space.free // 2**20} MiB are free.",
                "Free space there (kept databases are listed in the plan), or restore elsewhere.",
            )
    return spaces
