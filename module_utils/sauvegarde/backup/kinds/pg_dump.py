"""Back up one database as a directory archive, with the fingerprint of exactly the same snapshot (kind `pg_dump`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...archive import archive_reader, compression
from ...archive.archive_writer import Stage
from ...archive.manifest import Manifest
from ...postgres import (
    character_sets,
    client_tools,
    database_properties,
    dump_selection,
    extension_sequences,
    foreign_keys,
    omissions,
    postgres_server,
    predefined_objects,
    server_versions,
)
from ...postgres.dump_selection import Selection
from ...postgres.postgres_server import Server
from ...system import disk_space, parallel_jobs
from .. import dump_attempts, dump_reader, manual_restore, partial_source, refused_options
from ..dump_attempts import Facts
from ..dump_reader import FOLDER
from ..kind import Notify, Part

PACKAGES = ()
SEVERAL = {"database": "databases"}
RESTORED_BY = "playbooks/restore.yml"


@dataclass(frozen=True)
class Options:
    """connection: see postgres_server.Server. workers: processes at once, by default the cores, at most 4.
    lock_timeout: seconds to wait for a lock on a table. schemas, exclude_schemas, tables, exclude_tables,
    exclude_table_data: patterns, see postgres/dump_selection.py. options: pg_dump's own, which are refused."""

    database: str
    connection: Server = field(default_factory=Server)
    workers: int | None = None
    lock_timeout: float = postgres_server.LOCK_TIMEOUT
    schemas: tuple[str, ...] = ()
    exclude_schemas: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    exclude_tables: tuple[str, ...] = ()
    exclude_table_data: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def selection(self) -> Selection:
        """What of the database is dumped."""
        return Selection.from_values({key: getattr(self, key) for key in dump_selection.KEYS})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Options:
        refused_options.require_none(values.get("options"))
        selection = Selection.from_values(values)
        return cls(
            str(values["database"]),
            Server.from_values(values.get("connection")),
            int(values["workers"]) if values.get("workers") else None,
            float(values.get("lock_timeout", postgres_server.LOCK_TIMEOUT)),
            **{key: getattr(selection, key) for key in dump_selection.KEYS},
        )


def preflight(options: Options, directory: Path, last: Manifest | None) -> Facts:
    """Log in; find a client as new as the server, its reader, and space for the archive and its uncompressed form."""
    last = last if last is not None and last.kind == "pg_dump" else None
    connection = postgres_server.connect(options.connection, options.database)
    try:
        server = postgres_server.server_properties(connection)
        dumper = client_tools.client("pg_dump", server.version_num)
        facts = Facts(
            server=server,
            libraries=database_properties.libraries(connection),
            encoding=postgres_server.encoding_of(connection),
            dumper=dumper,
            reader=client_tools.client("pg_restore", dumper.version_num),
            warnings=omissions.find(connection, dumper),
            extension_sequences=extension_sequences.read(connection),
            foreign_key_seconds=foreign_keys.time_limit(last),
        )
        size = postgres_server.value(connection, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())")
        if options.selection:
            with postgres_server.transaction(connection):
                selected = options.selection.resolve(connection)
            block = int(postgres_server.value(connection, "SHOW block_size"))
            size = min(size, selected.pages * block)
            facts.warnings.extend(options.selection.warnings() + selected.warnings())
    finally:
        connection.close()
    compression.tool_versions()  # raises if a tool is missing
    if last is not None:
        size = last.stored_bytes + last.bytes
    disk_space.require_space(directory, size + size // 10)
    return facts


def dump(options: Options, stage: Stage, facts: Facts, notify: Notify) -> Part:
    """Run pg_dump and read the dump back; write the SQL that pg_restore lacks."""
    settings = dump_attempts.Settings(
        options.connection,
        options.database,
        options.workers or parallel_jobs.default_jobs(),
        options.lock_timeout,
        options.selection,
    )
    result = dump_attempts.dump(settings, stage, facts, notify)
    source = result.source
    with stage.writer(manual_restore.AFTER) as target:
        text = manual_restore.after_sql(options.database, source, facts.encoding)
        target.write(character_sets.encode(text, facts.encoding))
    return Part(
        source=source,
        tools={
            "pg_dump": facts.dumper.version,
            "pg_restore": facts.reader.version,
            **compression.tool_versions(),
        },
        fingerprint=result.fingerprint,
        restore_by_hand=manual_restore.commands(source, facts.dumper),
        warnings=_warnings(source, facts, result.warnings) + omissions.without_fingerprint(result.fingerprint),
    )


def _warnings(source: Mapping[str, Any], facts: Facts, of_the_dump: list[str]) -> list[str]:
    warnings = facts.warnings + predefined_objects.warnings(source.get("schema_public", {}), facts.dumper)
    warnings += foreign_keys.warnings(source["foreign_keys"]) + of_the_dump
    warnings += partial_source.warnings(source.get("partial"))
    if source["spatial_ref_sys"]["reference"] is None and dump_attempts.has_postgis(source):
        warnings.append(
            "PostGIS's own script is not on this host: edited rows of spatial_ref_sys were not distinguished from"
            " shipped ones."
        )
    return warnings


def read(path: str | Path, manifest: Manifest) -> None:
    """Read a published archive completely: every checksum, and pg_restore over all of it. Raises Damaged.

    Also raises if no pg_restore is new enough: install one, or verify elsewhere.
    """
    reader = client_tools.client("pg_restore", server_versions.number(manifest.tools["pg_dump"]) or 0)
    dumped = [file for file in manifest.files if file.path.startswith(FOLDER + "/")]
    archive_reader.read_all(path, [file for file in manifest.files if file not in dumped])
    sequences = dump_reader.read_dump(path, dumped, reader).sequences
    if manifest.fingerprint is None or sequences != manifest.fingerprint["sequences"]:
        raise archive_reader.damaged_error(path, "Its manifest names other sequences, or other values, than its dump.")
