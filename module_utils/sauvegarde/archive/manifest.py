"""Read and write manifests: what an archive holds, how to prove it, and how to restore it without Sauvegarde.

manifest_schema defines the JSON of manifest.json.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import Damaged, SauvegardeError
from ..report import job_state
from ..report.name_list import name_list
from .manifest_schema import FORMAT, problems

NAME = "manifest.json"
_LARGEST = 256 * 1024 * 1024  # bytes: a manifest is read whole, so a forged giant is refused before that
_SHOWN = 20  # sentences of one error


@dataclass(frozen=True)
class ArchiveFile:
    """A file of an archive: its path, its size and SHA-256 uncompressed, and its size as stored locally.

    sha256 is empty while the archive is written and the file was not read back.
    """

    path: str
    bytes: int
    stored_bytes: int
    sha256: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the file's entry in manifest.json."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class ServerProperties:
    """A PostgreSQL server: version ('15.18 (Debian …)'), version_num (150018), system_identifier (of the cluster; empty
    where the role may not read it), whether it is a standby, and its HOST:PORT if it is on another host."""

    version: str
    version_num: int
    system_identifier: str
    standby: bool
    address: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ServerProperties:
        """Return the properties that `as_dict` gave; unknown keys are ignored."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for the manifest."""
        return {name: value for name, value in asdict(self).items() if name != "address" or value}


@dataclass(frozen=True)
class Manifest:
    """The manifest of an archive. Use `load` or `loads`, which validate.

    source and fingerprint are plain JSON: which keys they have depends on the archive's kind, see manifest_schema.
    """

    format: int
    id: str
    job: str
    kind: str
    tool: dict[str, str]
    host: str
    started: str
    ended: str
    files: tuple[ArchiveFile, ...]
    bytes: int
    stored_bytes: int
    source: dict[str, Any]
    tools: dict[str, str]
    fingerprint: dict[str, Any] | None
    restore_by_hand: dict[str, list[str]]
    warnings: tuple[str, ...]
    checksum: str

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """Return the manifest of validated values."""
        files = tuple(ArchiveFile(**entry) for entry in values["files"])
        return cls(**{**values, "files": files, "warnings": tuple(values["warnings"])})

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON of manifest.json."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values["files"] = [file.as_dict() for file in self.files]
        values["warnings"] = list(self.warnings)
        return values

    def __getitem__(self, key: str) -> Any:
        """Return the JSON of one key. For code that still treats a manifest as its JSON; new code uses attributes."""
        return self.as_dict()[key]

    @property
    def server(self) -> ServerProperties | None:
        """The server that was dumped; None for a kind without one."""
        values = self.source.get("server")
        return ServerProperties.from_dict(values) if values else None

    @property
    def system_identifier(self) -> str:
        """The system identifier of the cluster that was dumped; empty where the manifest does not have it."""
        return self.server.system_identifier if self.server else ""

    @property
    def replay(self) -> dict[str, Any]:
        """How far the standby that was dumped had replayed its primary (postgres/standby.py); empty for a primary."""
        return dict(self.source.get("replay") or {})

    @property
    def unproven(self) -> list[dict[str, str]]:
        """What the dump holds and the fingerprint does not: [{object, why}]."""
        return list((self.fingerprint or {}).get("unproven", ()))

    @property
    def partial(self) -> dict[str, Any] | None:
        """What of its database an archive holds (source.partial of the schema); None for a whole one."""
        return self.source.get("partial")

    @property
    def lacks(self) -> tuple[str, ...]:
        """Sentences about what an archive lacks by the patterns of its job; none for a whole one."""
        partial = self.partial
        if partial is None:
            return ()
        options = "; ".join(f"{key}: {', '.join(patterns)}" for key, patterns in sorted(partial["options"].items()))
        sentences = [f"It holds a part of the database ({options})."]
        for noun, names in sorted(partial["left_out"].items()):
            sentences.append(f"Without {len(names)} {noun}: {name_list(names)}.")
        if partial["without_rows"]:
            sentences.append(f"Without the rows of: {name_list(partial['without_rows'])}.")
        if not partial["whole_schemas"]:
            sentences.append("Without functions, types and schemas.")
        if not partial["everything_else"]:
            sentences.append("Without large objects, extensions and all else that belongs to no schema.")
        return tuple(sentences)

    @property
    def proof_scope(self) -> str:
        """What the fingerprint covers, as `rows of 212 of 213 tables`; '' for an archive without one of tables."""
        if not self.fingerprint or self.kind == "globals":
            return ""
        covered = len(self.fingerprint["tables"])
        missing = sum(entry["object"].startswith("TABLE ") for entry in self.unproven)
        return f"rows of {covered} of {covered + missing} tables"


def checksum(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything but the checksum itself, independent of spacing and key order."""
    rest = {key: value for key, value in values.items() if key != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def dumps(values: Mapping[str, Any]) -> str:
    """Return the text of a manifest with these values and a new checksum. Raises SauvegardeError for values that
    `loads` would refuse."""
    values = {**values, "checksum": checksum(values)}
    sentences = problems(values)
    if sentences:
        raise SauvegardeError("The manifest does not follow its own schema.", "\n".join(sentences[:_SHOWN]))
    return job_state.as_json(values, sort_keys=True) + "\n"


def loads(text: str, where: object) -> Manifest:
    """Return the manifest in a text. Raises Damaged unless it is complete and valid. where: its place, for messages."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise _damaged_error(where, str(error)) from error
    if isinstance(values, dict) and isinstance(values.get("format"), int) and values["format"] > FORMAT:
        raise SauvegardeError(
            f"The archive has format {values['format']}, this version of Sauvegarde knows up to {FORMAT}: {where}",
            fix="Use a newer Sauvegarde.",
        )
    sentences = problems(values)
    if sentences:
        raise _damaged_error(where, "\n".join(sentences[:_SHOWN]))
    if values["checksum"] != checksum(values):
        raise _damaged_error(where, "Its checksum is not that of its content: it was changed after it was written.")
    paths = [entry["path"] for entry in values["files"]]
    if len(set(paths)) != len(paths):
        raise _damaged_error(where, "A file is listed twice.")
    return Manifest.from_dict(values)


def load(path: str | Path) -> Manifest:
    """Return the manifest in a file, which must not be a symbolic link. Raises Damaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise _damaged_error(path, str(error)) from error
    if len(data) > _LARGEST:
        raise _damaged_error(path, f"It is larger than {_LARGEST} bytes.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged_error(path, str(error)) from error
    return loads(text, path)


def _damaged_error(where: object, why: str) -> Damaged:
    return Damaged(
        f"The manifest is damaged: {where}",
        why,
        "Use another archive; this one's data may still be restored by hand.",
    )
