"""Determine what a source requires of its target: versions, space, extensions, roles, database properties."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .dump.contents import Contents
from .dump.dump_file import Source
from .dump.dump_properties import properties_of_dump

# The size of a database relative to its plain dump, which contains no indexes. An estimate.
_GROWTH = 2.0


@dataclass(frozen=True)
class SourceNeeds:
    """What a source requires of a target.

    version, version_num, system_identifier, standby: of the source's server; the last two are None if unknown.
    database: its name, '' unknown. bytes: on the target's disk. unpacked: bytes beside it while the restore runs. rows,
    tables: how many; tables that have rows. started: ISO time of the archive, '' unknown. data_as_of: of the last
    transaction that a standby had replayed, '' unknown. properties: those that the source knows of its database.
    extensions: {name: {schema, version}}. raster: it uses PostGIS's raster type.
    public_may_create: every role could create objects in the schema public (True if unknown).
    """

    version: str
    version_num: int
    system_identifier: str | None
    standby: bool | None
    database: str
    bytes: int
    unpacked: int
    rows: int
    tables: int
    started: str
    data_as_of: str
    properties: dict[str, Any]
    extensions: dict[str, dict[str, str]]
    raster: bool
    roles: tuple[str, ...]
    public_may_create: bool

    @property
    def postgis(self) -> str:
        """The source's version of PostGIS, '' unknown."""
        return self.extensions.get("postgis", {}).get("version", "")

    def requires_postgis_raster(self, target_postgis: str) -> bool:
        """Return whether the target needs postgis_raster beside its PostGIS, though the source has no such extension.

        Before 3 PostGIS held raster itself. target_postgis: the version on the target, '' for none.
        """
        held = self.raster or _holds_raster(self.postgis)
        return held and bool(target_postgis) and not _holds_raster(target_postgis)


def _holds_raster(postgis: str) -> bool:
    return postgis.startswith(("1.", "2."))


def needs_of(source: Source, contents: Contents | None = None) -> SourceNeeds:
    """Return what a source requires: from the manifest of our own archive, else from what was read of the dump."""
    if source.manifest is not None:
        return _of_manifest(source)
    assert contents is not None, "a foreign dump is read before its needs are known"
    return _of_contents(source, contents)


def _of_manifest(source: Source) -> SourceNeeds:
    manifest = source.manifest
    assert manifest is not None and manifest.server is not None and manifest.fingerprint is not None
    origin, server, tables = manifest.source, manifest.server, manifest.fingerprint["tables"]
    return SourceNeeds(
        version=server.version,
        version_num=server.version_num,
        system_identifier=server.system_identifier,
        standby=server.standby,
        database=origin["database"],
        bytes=origin["database_bytes"],
        unpacked=manifest.bytes if source.compression else 0,
        rows=sum(table["rows"] for table in tables.values()),
        tables=sum(1 for table in tables.values() if table["rows"]),
        started=manifest.started,
        data_as_of=manifest.replay.get("time") or "",
        properties=origin["properties"],
        extensions={
            extension["name"]: {"schema": extension["schema"], "version": extension["version"]}
            for extension in origin["extensions"]
        },
        raster=False,
        roles=tuple(origin["roles"]),
        public_may_create=origin.get("public_may_create", True),
    )


def _of_contents(source: Source, contents: Contents) -> SourceNeeds:
    return SourceNeeds(
        version=contents.server,
        version_num=version_number(contents.server),
        system_identifier=None,
        standby=None,
        database=source.section,
        bytes=int(contents.size * _GROWTH),
        unpacked=contents.size if source.compression and source.form != "plain" else 0,
        rows=sum(contents.rows.values()),
        tables=sum(1 for rows in contents.rows.values() if rows) or len(contents.names("TABLE")),
        started="",
        data_as_of="",
        properties=properties_of_dump(contents.database, version_number(contents.tool)),
        extensions={name: {"schema": schema, "version": ""} for name, schema in contents.extensions.items()},
        raster=contents.raster,
        roles=tuple(sorted(contents.roles)),
        public_may_create=True,
    )


def version_number(text: str) -> int:
    """Return 90610 for '9.6.10', 150018 for '15.18 (Debian …)', 0 for a text without a version."""
    match = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", text)
    if not match:
        return 0
    first, second, third = (int(part or 0) for part in match.groups())
    return first * 10000 + (second * 100 + third if first < 10 else second)
