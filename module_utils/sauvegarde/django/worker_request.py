"""Define what the outer half asks of the worker, and what the worker reports: once for both sides of the pipe.

A request is one line of JSON: `WorkerRequest`. Its `options` are those of the task, as one of the dataclasses below.
The answer is JSON, too: a report for a dump or a load, plain values for other tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union

from ..errors import SauvegardeError

# Every site creates its own content types and permissions, by `migrate`; their numbers mean nothing elsewhere.
DEFAULT_EXCLUDE = ("contenttypes", "auth.permission")
# One action for all fields of a kind of problem, or {"model.field": action, "*": action}.
Action = Union[str, Mapping[str, str]]
_Plain = TypeVar("_Plain", bound="_Values")
_Options = TypeVar("_Options", bound="Options")


@dataclass(frozen=True)
class _Values:
    """A dataclass that passes the pipe as a JSON object."""

    @classmethod
    def from_dict(cls: type[_Plain], values: Mapping[str, Any]) -> _Plain:
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}


@dataclass(frozen=True)
class Options(_Values):
    """The options of a task."""

    @classmethod
    def from_values(cls: type[_Options], values: Mapping[str, Any]) -> _Options:
        """Return the options with defaults for those that are missing. An unknown name raises SauvegardeError."""
        names = {one.name for one in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise SauvegardeError(
                "A {} has no option {}.".format(cls.__name__[: -len("Options")].lower(), ", ".join(unknown)),
                fix="Options: {}.".format(", ".join(sorted(names))),
            )
        return cls.from_dict(values)


@dataclass(frozen=True)
class WorkerRequest(_Values):
    """One task for the worker, and the site and database that it works on."""

    task: str
    path: str  # the folder with manage.py
    settings: str  # the settings' module
    database: str = "default"  # the alias in the settings
    name: str = ""  # the database to use in place of that of the settings, "" for none
    system: str = ""  # the system identifier of the server of `name`, "" if unknown
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DumpOptions(Options):
    """What a dump writes, and how."""

    labels: Sequence[str] = ()
    exclude: Sequence[str] = DEFAULT_EXCLUDE
    format: str = "json"  # or jsonl
    indent: int | None = None
    natural_foreign: bool = True
    natural_primary: bool = False
    all: bool = False  # whether managers are bypassed
    # Whether views, unmanaged models and search indexes are written too, as stock does. A migration leaves them out,
    # except for those that `include` names.
    derived: bool = True
    include: Sequence[str] = ()
    exact: bool = False  # whether values keep what stock fixtures lose (microseconds, infinity …); loads take them
    pks: Sequence[Any] = ()
    sets: list[dict[str, Any]] | None = None  # fixture sets: what they hold of people is emptied, a number or masked
    # For a comparison of sets with the database: what they mask is written as it is, and is not in the fingerprint.
    compared: bool = False
    policy: Mapping[str, Any] | None = None  # the masking policy
    key: str = ""  # the masking key, in hexadecimal digits

    def __post_init__(self) -> None:
        if self.format not in ("json", "jsonl"):
            raise SauvegardeError(
                f"The format {self.format} cannot be dumped.", fix="Use json or jsonl; loads read all of Django's."
            )
        if self.policy and not self.key:
            raise SauvegardeError("Masking needs a secret key.", fix="Give the key, as hexadecimal digits.")


@dataclass(frozen=True)
class ConvertOptions(DumpOptions):
    """The options of a dump from fixtures. `files`: how many the source holds."""

    files: int = 0


@dataclass(frozen=True)
class LoadOptions(Options):
    """How fixtures are loaded."""

    mode: str = "merge"  # or replace
    policy: Mapping[str, Action] = field(default_factory=dict)  # see `data_load.POLICIES`
    exclude: Sequence[str] = ()
    models: Sequence[str] = ()  # whose rows a replacement covers although no file names them
    listeners: bool = True  # whether the site's listeners hear what is saved
    tell_deletions: bool = True  # whether they hear what a replacement deletes
    triggers: bool = True  # whether the database's own triggers and rules fire
    check_only: bool = False
    # The folder for rows that wait: as much as the largest fixture, in unnamed files. Not /tmp, which may be memory.
    spool: str = "/var/tmp"
    lock_timeout: float = 60  # seconds

    @property
    def replaces(self) -> bool:
        """Whether rows that no file holds are deleted."""
        return self.mode == "replace"


@dataclass(frozen=True)
class DescribeOptions(Options):
    """`asked`: whether the database is asked for its migrations; `rows`: rows of each model to sample, 0 for none."""

    asked: bool = True
    rows: int = 0


@dataclass(frozen=True)
class PreviewOptions(Options):
    """`count`: at most so many values of each field."""

    policy: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    count: int = 3


@dataclass(frozen=True)
class SurveyOptions(Options):
    """`hidden`: whether to count the rows that default managers hide."""

    labels: Sequence[str] = ()
    exclude: Sequence[str] = ()
    include: Sequence[str] = ()
    hidden: bool = False


@dataclass(frozen=True)
class MigrateOptions(Options):
    """The models that a migration moves."""

    labels: Sequence[str] = ()
    exclude: Sequence[str] = ()
    include: Sequence[str] = ()


@dataclass(frozen=True)
class DumpReport(_Values):
    """What a dump has written."""

    counts: dict[str, int]  # objects of each model
    stock: dict[str, str]  # {label: why it went through Django's serializer}
    masked: bool
    # As `masking.Masking.facts`, with the rows of each model that were "dropped"; None if nothing is masked.
    masking: dict[str, Any] | None
    warnings: list[str]  # what the text does not hold as the database does
    private: dict[str, Any] = field(default_factory=dict)  # as `set_privacy.actions` returns it


@dataclass(frozen=True)
class LoadReport(_Values):
    """What a load has found and written. While any problem is `stopping`, nothing is written."""

    counts: dict[str, int]  # objects of each model
    stock: dict[str, dict[str, Any]]  # {label: {"objects", "why"}} of models that Django saved or removed
    listeners: dict[str, list[str]]  # the signals that were sent for each model's objects
    skipped: dict[str, int]  # objects of models that are not loaded
    problems: list[dict[str, Any]]  # each {"kind", "model", "pk", "field", "detail", "action"}
    stopping: int  # how many problems stop the load
    mended: int  # how many problems the policy repaired
    touched: dict[str, list[Any]]  # {model: keys of the objects that are not stored as they came}
    changed: dict[str, list[list[Any]]]  # {model: [[key, fields]]} of those that are stored except for these fields
    silent: list[str]  # the database's triggers that were off
    written: bool
