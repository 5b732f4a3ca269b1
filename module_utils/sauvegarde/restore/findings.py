"""Collect what a plan finds: blockers, which stop a restore or a migration, and notes, which do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from ..errors import SauvegardeError


@dataclass(frozen=True)
class Note:
    """Something that an operator should know before they confirm a plan."""

    what: str
    why: str = ""
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"what": self.what, "why": self.why, "fix": self.fix}


@dataclass(frozen=True)
class Blocker:
    """Something that stops a restore or a migration, and what to do about it.

    exit_code: of an error that is a blocker. object: the object of the dump that it is about; the load itself finds it
    together with all others that fail, unless it `stops` the restore before.
    """

    what: str
    why: str = ""
    fix: str = ""
    exit_code: int | None = None
    object: str | None = None
    stops: bool | None = None

    @classmethod
    def from_error(cls, error: SauvegardeError) -> Blocker:
        return cls(error.what, error.why, error.fix, error.exit_code)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Blocker:
        return cls(**values)

    @property
    def prevents_start(self) -> bool:
        """Whether the restore may not even begin."""
        return not self.object or bool(self.stops)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a module's result; keys that do not apply are absent."""
        values: dict[str, Any] = {"what": self.what, "why": self.why, "fix": self.fix}
        for name in ("exit_code", "object", "stops"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        return values


@dataclass
class Findings:
    """The blockers and notes of one plan, in the order in which they were found."""

    blockers: list[Blocker] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def block(self, what: str, why: str = "", fix: str = "") -> None:
        self.blockers.append(Blocker(what, why, fix))

    def note(self, what: str, why: str = "", fix: str = "") -> None:
        self.notes.append(Note(what, why, fix))

    def check(self, check: Callable[..., object], *arguments: object) -> bool:
        """Call a check; the error that it raises becomes a blocker. Returns whether it raised none."""
        try:
            check(*arguments)
        except SauvegardeError as error:
            self.blockers.append(Blocker.from_error(error))
            return False
        return True
