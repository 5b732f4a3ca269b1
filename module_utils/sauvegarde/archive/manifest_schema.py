"""Define the schema of the manifest, one for every kind, and check values against it.

manifest.dumps and manifest.loads call it. docs/manifest.schema.json is the published copy; a test compares the two.
"""

from __future__ import annotations

import re
from typing import Any

from . import ids

FORMAT = 1

_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_MOMENT: dict[str, Any] = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
_DIGEST: dict[str, Any] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_VALUES: dict[str, Any] = {"type": "object", "additionalProperties": _TEXT}
_NAMES: dict[str, Any] = {"type": "object", "additionalProperties": _TEXTS}
_LABEL: dict[str, Any] = {"type": ["string", "null"]}
_SRIDS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "object", "required": ["srid", "auth_name", "srtext", "proj4text"]},
}
_SERVER: dict[str, Any] = {
    "type": "object",
    "required": ["version", "version_num", "system_identifier", "standby"],
    "properties": {
        "version": _TEXT,
        "version_num": _COUNT,
        "system_identifier": dict(_TEXT, description="Of the cluster; empty where the dump role may not read it."),
        "standby": {"type": "boolean"},
        "address": dict(_TEXT, description="HOST:PORT of a server on another host than the job's."),
    },
}
_REPLAY: dict[str, Any] = {
    "type": "object",
    "description": "Of a standby: how far it had replayed its primary when its snapshot was taken. Null for unknown.",
    "required": ["lsn", "time", "timeline", "primary"],
    "properties": {
        "lsn": dict(_LABEL, description="Position in the WAL."),
        "time": {
            "type": ["string", "null"],
            "pattern": _MOMENT["pattern"],
            "description": "UTC, when the last replayed transaction was committed on the primary: data as of then.",
        },
        "timeline": {"type": ["integer", "null"]},
        "primary": dict(_LABEL, description="HOST:PORT that it streams from."),
    },
}
_PROPERTIES: dict[str, Any] = {
    "type": "object",
    "description": "What belongs to a database rather than to its tables.",
    "required": ["owner", "encoding", "provider", "collate", "ctype", "connection_limit", "acl", "settings"],
    "properties": {
        "owner": _TEXT,
        "encoding": _TEXT,
        "provider": dict(_TEXT, description="Of its locale: libc, icu or builtin."),
        "collate": _TEXT,
        "ctype": _TEXT,
        "locale": dict(_LABEL, description="ICU's or the builtin provider's."),
        "icu_rules": dict(_LABEL, description="Own rules of an ICU collation."),
        "collation_version": _LABEL,
        "tablespace": _TEXT,
        "connection_limit": {"type": "integer"},
        "comment": _LABEL,
        "acl": {"type": ["array", "null"], "description": "Grants; null for the default ones."},
        "settings": dict(_VALUES, description="ALTER DATABASE … SET."),
        "role_settings": {"type": "object", "additionalProperties": _VALUES},
    },
}
# Keys of all kinds; which of them an archive has depends on its kind.
_SOURCE: dict[str, Any] = {
    "type": "object",
    "description": "What was dumped; which keys are there depends on the kind.",
    "properties": {
        "server": _SERVER,
        "replay": _REPLAY,
        "libraries": dict(_VALUES, description="What PostGIS computed with: its own version, GEOS's and PROJ's."),
        "database": {
            "type": ["string", "object"],
            "description": "Its name; where a Django site's data was dumped, {vendor, engine} of its connection.",
        },
        "database_bytes": _COUNT,
        "properties": _PROPERTIES,
        "extensions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "version", "schema"],
                "properties": {"name": _TEXT, "version": _TEXT, "schema": _TEXT},
            },
        },
        "roles": dict(_TEXTS, description="That the dump needs."),
        "spatial_ref_sys": {
            "type": "object",
            "required": ["custom", "changed", "reference"],
            "description": "Rows that the site added or changed, and PostGIS's own script that says so.",
            "properties": {"custom": _SRIDS, "changed": _SRIDS, "reference": _LABEL},
        },
        "extension_sequences": {
            "type": "array",
            "description": "Sequences behind columns of extensions' tables that no dump holds; names are quoted.",
            "items": {
                "type": "object",
                "required": ["sequence", "table", "column", "value"],
                "properties": {
                    "sequence": _TEXT,
                    "table": _TEXT,
                    "column": _TEXT,
                    "value": {"type": ["integer", "null"], "description": "Null where the dump role may not read it."},
                },
            },
        },
        "foreign_keys": {
            "type": "object",
            "description": "How many validated foreign keys there are and were looked at, and names of broken ones.",
            "required": ["of", "looked_at", "broken"],
            "properties": {"of": _COUNT, "looked_at": _COUNT, "broken": _TEXTS},
        },
        "public_may_create": {
            "type": "boolean",
            "description": "Whether every role could create objects in the schema public.",
        },
        "public_oid": {
            "type": ["integer", "null"],
            "description": "Of the schema public, by which lists of pg_restore name it; null where there is none.",
        },
        "schema_public": {
            "type": "object",
            "description": "Owner and comment of the schema public, where pg_dump left out what no new database has.",
            "properties": {"owner": _TEXT, "comment": _LABEL},
        },
        "partial": {
            "type": "object",
            "description": "Only where the job dumps a part of its database: which part the archive holds.",
            "required": [
                "options",
                "whole_schemas",
                "everything_else",
                "left_out",
                "without_rows",
                "extensions",
                "schemas",
                "unrestorable",
                "foreign_keys",
            ],
            "properties": {
                "options": dict(_NAMES, description="The job's patterns, by setting."),
                "whole_schemas": {
                    "type": "boolean",
                    "description": "Whether it holds functions, types and all else of its schemas.",
                },
                "everything_else": {
                    "type": "boolean",
                    "description": "Whether it holds what belongs to no schema: extensions, large objects …",
                },
                "left_out": dict(_NAMES, description="Names of what is not in it, by kind."),
                "without_rows": dict(_TEXTS, description="Tables that it holds without their rows."),
                "extensions": dict(_TEXTS, description="Extensions that its objects need and it does not hold."),
                "schemas": {
                    "type": "array",
                    "description": "Schemas that its objects are in and that it does not create.",
                    "items": {
                        "type": "object",
                        "required": ["name", "owner"],
                        "properties": {"name": _TEXT, "owner": _TEXT},
                    },
                },
                "unrestorable": {
                    "type": "array",
                    "description": "Objects in it that need one which is not in it, by the names of losses.",
                    "items": {
                        "type": "object",
                        "required": ["object", "why"],
                        "properties": {"object": _TEXT, "why": _TEXT},
                    },
                },
                "foreign_keys": dict(_TEXTS, description="Foreign keys to tables that it holds without their rows."),
            },
        },
        "databases": {"type": "object", "additionalProperties": _PROPERTIES},
        "passwords": {"type": "boolean", "description": "Whether the globals hold the roles' passwords."},
        "path": dict(_TEXT, description="Of a SQLite file."),
        "user_version": {"type": "integer", "description": "Of a SQLite file: what its application wrote there."},
        "site": dict(_TEXT, description="Folder of a Django site."),
        "commit": dict(_LABEL, description="That published the data in a git repository; null for none."),
    },
}
_SUM: dict[str, Any] = {
    "type": "object",
    "required": ["rows", "hash"],
    "properties": {"rows": _COUNT, "hash": {"type": "string", "pattern": "^[0-9a-f]{32}$"}},
}

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Manifest of a Sauvegarde archive",
    "type": "object",
    "required": [
        "format",
        "id",
        "job",
        "kind",
        "tool",
        "host",
        "started",
        "ended",
        "files",
        "bytes",
        "stored_bytes",
        "source",
        "tools",
        "fingerprint",
        "restore_by_hand",
        "warnings",
        "checksum",
    ],
    "additionalProperties": False,
    "properties": {
        "format": {"const": FORMAT, "description": "Version of this format."},
        "id": {
            "type": "string",
            "pattern": f"^{ids.ID_PATTERN}$",
            "description": "UTC label of the archive; later archives of a job have greater labels.",
        },
        "job": {"type": "string", "pattern": f"^{ids.JOB_NAME_PATTERN}$"},
        "kind": {"type": "string", "pattern": "^[a-z_]+$"},
        "tool": {
            "type": "object",
            "required": ["name", "version"],
            "properties": {"name": _TEXT, "version": _TEXT},
        },
        "host": {"type": "string", "description": "Name of the host that made it."},
        "started": dict(_MOMENT, description="UTC; for a database, just before its snapshot was taken."),
        "ended": dict(_MOMENT, description="UTC, when everything had been read back."),
        "files": {
            "type": "array",
            "description": "Every file; stored locally as PATH.zst, elsewhere as PATH.",
            "items": {
                "type": "object",
                "required": ["path", "bytes", "sha256", "stored_bytes"],
                "additionalProperties": False,
                "properties": {
                    "path": {"type": "string", "pattern": r"^(?!.*(^|/)\.{0,2}(/|$))[^\x00-\x1f]+$"},
                    "bytes": dict(_COUNT, description="Uncompressed."),
                    "sha256": dict(_DIGEST, description="Of the uncompressed bytes."),
                    "stored_bytes": dict(_COUNT, description="Size of the local zstd file."),
                },
            },
        },
        "bytes": dict(_COUNT, description="Sum over the files, uncompressed."),
        "stored_bytes": dict(_COUNT, description="Sum over the files, as stored locally."),
        "source": _SOURCE,
        "tools": {
            "type": "object",
            "additionalProperties": _TEXT,
            "description": "Program name to version, of all that had a hand in it.",
        },
        "fingerprint": {
            "type": ["object", "null"],
            "description": "Null in archives of globals that were made before these had one.",
            "required": ["algorithm", "tables"],
            "properties": {
                "algorithm": _TEXT,
                "tables": {
                    "type": "object",
                    "description": "Of globals: roles, memberships, role_settings, tablespaces, databases, passwords.",
                    "additionalProperties": {
                        "type": "object",
                        "required": ["rows", "hash"],
                        "properties": dict(
                            _SUM["properties"],
                            columns=_TEXTS,
                            condition=_TEXT,
                            by=dict(_TEXT, description="`columns`: rows go in by the md5 of each column's bytes."),
                            partitions=dict(_TEXTS, description="The tables that hold the rows, summed as a whole."),
                        ),
                    },
                },
                "large_objects": _SUM,
                "srids": _SUM,
                "sequences": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "array",
                        "items": {"type": ["integer", "boolean"]},
                        "description": "Last value, and whether it has been given out.",
                    },
                },
                "matviews": {"type": "object", "additionalProperties": {"type": "boolean"}},
                "unproven": {
                    "type": "array",
                    "description": "What the dump holds and the fingerprint does not, and why.",
                    "items": {
                        "type": "object",
                        "required": ["object", "why"],
                        "properties": {"object": _TEXT, "why": _TEXT},
                    },
                },
            },
        },
        "restore_by_hand": {
            "type": "object",
            "required": ["local", "plain"],
            "description": "Shell lines with stock tools only, to run in the archive's folder.",
            "properties": {"local": _TEXTS, "plain": _TEXTS},
        },
        "warnings": dict(
            _TEXTS,
            description="Sentences about what it lacks, or what was odd; pg_dump's own begin with its name.",
        ),
        "checksum": dict(_DIGEST, description="SHA-256 of the canonical JSON of all the other keys."),
    },
}

_TYPES: dict[str, type] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "null": type(None),
}


def _has_type(value: Any, name: str) -> bool:
    if name == "integer" and isinstance(value, bool):
        return False
    return isinstance(value, _TYPES[name])


def problems(value: Any, schema: dict[str, Any] | None = None, where: str = "manifest") -> list[str]:
    """Return what a value breaks of the schema, as sentences; empty for a valid one.

    Only the keywords that SCHEMA uses are known. where: what the sentences call the value.
    """
    schema = SCHEMA if schema is None else schema
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        return [f"{where} is {value!r:.80}, not {schema['const']!r}"]
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_has_type(value, name) for name in names):
            return [f"{where} is not of type {' or '.join(names)}"]
    sentences = []
    if isinstance(value, str) and "pattern" in schema and not _matches(schema["pattern"], value):
        sentences.append(f"{where} is {value!r:.80}, which does not match {schema['pattern']}")
    if _has_type(value, "integer") and value < schema.get("minimum", value):
        sentences.append(f"{where} is {value}, less than {schema['minimum']}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            sentences += problems(item, schema["items"], f"{where}[{index}]")
    if isinstance(value, dict):
        sentences += _object_problems(value, schema, where)
    return sentences


def _object_problems(value: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    sentences = [f"{where} has no {name!r}" for name in schema.get("required", []) if name not in value]
    properties = schema.get("properties", {})
    additional = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in properties:
            sentences += problems(item, properties[name], f"{where}.{name}")
        elif additional is False:
            sentences.append(f"{where} has the unknown key {name!r:.80}")
        elif isinstance(additional, dict):
            sentences += problems(item, additional, f"{where}[{name!r:.80}]")
    return sentences


def _matches(pattern: str, text: str) -> bool:
    return re.search(pattern.replace("$", r"\Z") if pattern.endswith("$") else pattern, text) is not None
