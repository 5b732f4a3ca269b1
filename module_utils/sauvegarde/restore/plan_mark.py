"""Mark a plan, so that what is carried out is the plan that was confirmed.

A mark has one digest for each part of a plan: what is restored, onto what, in place of which live database, and what
stops it or would be lost. Sizes, sessions and times are not part of it: they change while a site works.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from ..errors import SauvegardeError

_PARTS = {
    "source": "the archive, or an option that was given",
    "target": "the target",
    "live": "the live database",
    "blockers": "what stops it, or what would be lost",
}
_DIGITS = 16


def digest(value: Any) -> str:
    """Return the digest of plain values, for one part of a mark."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:_DIGITS]


@dataclass(frozen=True)
class PlanMark:
    """The digests of a plan's parts. As text, they are joined by dashes."""

    source: str
    target: str
    live: str
    blockers: str

    @classmethod
    def from_text(cls, text: str) -> PlanMark:
        """Return the mark that a plan printed. Raises SauvegardeError for anything else."""
        parts = text.strip().split("-")
        if len(parts) != len(fields(cls)) or not all(len(part) == _DIGITS for part in parts):
            raise SauvegardeError(
                f"{text!r} is not the mark of a plan.", fix="Copy it from the plan's last lines, or leave it away."
            )
        return cls(*parts)

    def __str__(self) -> str:
        return "-".join(getattr(self, field.name) for field in fields(self))

    def require(self, now: PlanMark, parts: Iterable[str] = tuple(_PARTS)) -> None:
        """Raise SauvegardeError if one of the parts of this mark, which was confirmed, is another one now."""
        changed = [_PARTS[part] for part in parts if getattr(self, part) != getattr(now, part)]
        if changed:
            raise SauvegardeError(
                f"This is not the plan that was confirmed; changed since: {'; '.join(changed)}.",
                f"Confirmed: {self}. Now: {now}.",
                "Make the plan again (--tags plan), read it, and confirm that one. The live database is as it was.",
            )
