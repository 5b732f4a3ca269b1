"""The manifest: what an archive holds, how to prove it, and how to restore it without us. One schema for every kind,
published as docs/manifest.schema.json.
"""

import hashlib
import json
import os
import re
from pathlib import Path

from . import state
from .errors import DAMAGED, SauvegardeError

FORMAT = 1
NAME = "manifest.json"
_LARGEST = 256 * 1024 * 1024  # bytes: a manifest is read whole, so a forged giant is refused before that

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXTS = {"type": "array", "items": _TEXT}
_MOMENT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_VALUES = {"type": "object", "additionalProperties": _TEXT}
_LABEL = {"type": ["string", "null"]}
_SRIDS = {"type": "array", "items": {"type": "object", "required": ["srid", "auth_name", "srtext", "proj4text"]}}
_SERVER = {
    "type": "object",
    "required": ["version", "version_num", "system_identifier", "standby"],
    "properties": {
        "version": _TEXT,
        "version_num": _COUNT,
        "system_identifier": dict(_TEXT, description="Of the cluster; empty where the dump role may not read it."),
        "standby": {"type": "boolean"},
    },
}
_PROPERTIES = {
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
# Of every kind; which of them are there depends on it.
_SOURCE = {
    "type": "object",
    "description": "What was dumped; which keys are there depends on the kind.",
    "properties": {
        "server": _SERVER,
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
        "databases": {"type": "object", "additionalProperties": _PROPERTIES},
        "passwords": {"type": "boolean", "description": "Whether the globals hold the roles' passwords."},
        "path": dict(_TEXT, description="Of a SQLite file."),
        "user_version": {"type": "integer", "description": "Of a SQLite file: what its application wrote there."},
        "site": dict(_TEXT, description="Folder of a Django site."),
        "commit": dict(_LABEL, description="That published the data in a git repository; null for none."),
    },
}
_SUM = {
    "type": "object",
    "required": ["rows", "hash"],
    "properties": {"rows": _COUNT, "hash": {"type": "string", "pattern": "^[0-9a-f]{32}$"}},
}

SCHEMA = {
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
            "pattern": r"^\d{8}T\d{6}Z$",
            "description": "UTC label of the archive; later archives of a job have greater labels.",
        },
        "job": {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"},
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

_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "null": type(None),
}


def _is(value, name):
    if name == "integer" and isinstance(value, bool):
        return False
    return isinstance(value, _TYPES[name])


def problems(value, schema=None, where="manifest"):
    """What a value breaks of the schema, as sentences; empty when it is valid. Covers the words that SCHEMA uses."""
    schema = SCHEMA if schema is None else schema
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        return [f"{where} is {value!r:.80}, not {schema['const']!r}"]
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_is(value, name) for name in names):
            return [f"{where} is not of type {' or '.join(names)}"]
    found = []
    if isinstance(value, str) and "pattern" in schema and not _matches(schema["pattern"], value):
        found.append(f"{where} is {value!r:.80}, which does not match {schema['pattern']}")
    if _is(value, "integer") and value < schema.get("minimum", value):
        found.append(f"{where} is {value}, less than {schema['minimum']}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += problems(item, schema["items"], f"{where}[{index}]")
    if isinstance(value, dict):
        found += [f"{where} has no {name!r}" for name in schema.get("required", []) if name not in value]
        known = schema.get("properties", {})
        others = schema.get("additionalProperties", True)
        for name, item in value.items():
            if name in known:
                found += problems(item, known[name], f"{where}.{name}")
            elif others is False:
                found.append(f"{where} has the unknown key {name!r:.80}")
            elif isinstance(others, dict):
                found += problems(item, others, f"{where}[{name!r:.80}]")
    return found


def _matches(pattern, text):
    return re.search(pattern.replace("$", r"\Z") if pattern.endswith("$") else pattern, text) is not None


def checksum(manifest):
    """SHA-256 of everything but the checksum itself, independent of spacing and key order."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def dumps(manifest):
    """The manifest's text, its checksum renewed; refuses to write what `loads` would refuse to read."""
    manifest = dict(manifest, checksum=checksum(manifest))
    wrong = problems(manifest)
    if wrong:
        raise SauvegardeError("The manifest does not keep to its own schema.", "\n".join(wrong[:20]))
    return state.as_json(manifest, sort_keys=True) + "\n"


def proven(manifest):
    """What the fingerprint covers, e.g. `rows of 212 of 213 tables`; '' for an archive without one of tables."""
    found = manifest["fingerprint"]
    if not found or manifest["kind"] == "globals":
        return ""
    covered = len(found["tables"])
    missed = sum(each["object"].startswith("TABLE ") for each in found.get("unproven", ()))
    return f"rows of {covered} of {covered + missed} tables"


def loads(text, where):
    """The manifest in a text; raises with exit code DAMAGED when it is anything but whole and valid."""
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise _damaged(where, str(error)) from error
    if isinstance(manifest, dict) and isinstance(manifest.get("format"), int) and manifest["format"] > FORMAT:
        raise SauvegardeError(
            f"The archive has format {manifest['format']}, this version of Sauvegarde knows up to {FORMAT}: {where}",
            fix="Use a newer Sauvegarde.",
        )
    wrong = problems(manifest)
    if wrong:
        raise _damaged(where, "\n".join(wrong[:20]))
    if manifest["checksum"] != checksum(manifest):
        raise _damaged(where, "Its checksum is not that of its content: it was changed after it was written.")
    paths = [entry["path"] for entry in manifest["files"]]
    if len(set(paths)) != len(paths):
        raise _damaged(where, "A file is listed twice.")
    return manifest


def load(path):
    """The manifest in a file (never through a symbolic link)."""
    path = Path(str(path))
    try:
        descriptor = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise _damaged(path, str(error)) from error
    if len(data) > _LARGEST:
        raise _damaged(path, f"It is larger than {_LARGEST} bytes.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(path, str(error)) from error
    return loads(text, path)


def _damaged(where, why):
    return SauvegardeError(
        f"The manifest is damaged: {where}",
        why,
        "Use another archive; this one's data may still be restored by hand.",
        DAMAGED,
    )
