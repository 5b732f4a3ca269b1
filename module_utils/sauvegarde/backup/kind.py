"""Define what a kind of job is: a module in backup/kinds/ with these names. A new kind is one file there.

class Options        frozen dataclass of the kind's settings, named as in a job's file; one without a default is
                     required, and a Path is absolute: the role checks both. `from_values(values)` converts them, and
                     raises SauvegardeError for a wrong one.
PACKAGES             Debian packages that a job with a `repository` needs besides the engine's own
SEVERAL              optional: {option: the job's setting that chooses several in its place, one archive each}
RESTORED_BY          the playbook that restores its archives
preflight(options, directory, last) -> facts
                     find everything that would stop the dump, before anything is written. directory: where the
                     archive will go; last: the newest manifest of the job, or None
dump(options, stage, facts, notify) -> Part
                     fill the stage. notify(step, **values) reports progress
read(path, manifest) optional: read a published archive completely with the format's own reader, checksums included
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..archive.archive_writer import Stage
from ..archive.manifest import Manifest
from ..errors import SauvegardeError

Notify = Callable[..., None]


@dataclass(frozen=True)
class Part:
    """A kind's share of the manifest. What `source` and `fingerprint` hold depends on the kind (manifest_schema)."""

    source: dict[str, Any]
    tools: dict[str, str]
    fingerprint: dict[str, Any] | None
    restore_by_hand: dict[str, list[str]]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the manifest's keys."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


class Kind(Protocol):
    """The module of a kind. Only the kind itself reads its options and facts."""

    Options: Any
    PACKAGES: tuple[str, ...]
    RESTORED_BY: str

    def preflight(self, options: Any, directory: Path, last: Manifest | None) -> Any: ...

    def dump(self, options: Any, stage: Stage, facts: Any, notify: Notify) -> Part: ...


@dataclass(frozen=True)
class Declaration:
    """What a kind declares: all keys and the required keys of its settings; see the module's docstring for the rest."""

    options: tuple[str, ...]
    required: tuple[str, ...]
    packages: tuple[str, ...]
    restored_by: str

    @classmethod
    def of(cls, kind: Kind) -> Declaration:
        fields = dataclasses.fields(kind.Options)
        required = [
            field.name
            for field in fields
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        return cls(tuple(field.name for field in fields), tuple(required), kind.PACKAGES, kind.RESTORED_BY)


@dataclass(frozen=True)
class GitRepository:
    """The git repository that a job publishes its data in: path (of the clone), user (OS user that runs git), author's
    name and email, commit message. folder (fixtures) and file (sqlite): where, inside it."""

    path: str
    folder: str = "fixtures"
    file: str = ""
    user: str = ""
    name: str = ""
    email: str = ""
    message: str = ""
    push: bool = False

    @classmethod
    def from_values(cls, values: Mapping[str, Any] | None) -> GitRepository | None:
        """Return the repository of a job's `repository`; None if there is none."""
        if not values:
            return None
        keys = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values).difference(keys))
        if unknown or not values.get("path"):
            raise SauvegardeError(
                "The settings of a job's repository are wrong.",
                f"Unknown: {', '.join(unknown) or 'none'}. Required: path.",
                f"Use only {', '.join(keys)}.",
            )
        return cls(**{key: value for key, value in values.items() if value is not None})
