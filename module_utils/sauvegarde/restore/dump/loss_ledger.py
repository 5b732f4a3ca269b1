"""Record the objects that a load could not restore (losses), and stop the restore unless each is accepted by name.

A load continues after an object fails, so that one run finds all of them, and the objects that depend on them. At the
end the run fails with the complete list and with the setting that accepts exactly these objects, unless each is
accepted already. An accepted object that does not fail is restored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import SauvegardeError
from .entries import Entry
from .entry_dependencies import mentions
from .load_errors import FIX_OF_DEPENDENT, fix_for
from .loss_names import loss_name, setting

POSTPONED = "for after the swap"
LEFT_OUT = "left out"
_VIOLATED = re.compile(r"violates foreign key constraint|is violated by some row")
_SHOWN = 3  # names in the first line of a refusal


@dataclass(frozen=True)
class Loss:
    """An object that the target cannot restore.

    object: its `loss_name`. why: the server's message. fix: what can be done other than to accept the loss.
    depends: names of the losses that it depends on. kept: what of it was restored all the same ('NOT VALID',
    `POSTPONED`), `LEFT_OUT` if nothing needs it, '' for nothing.
    """

    object: str
    why: str
    fix: str
    accepted: bool
    depends: tuple[str, ...] = ()
    kept: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a plan or a run's state."""
        return {
            "object": self.object,
            "why": self.why,
            "fix": self.fix,
            "accepted": self.accepted,
            "depends": list(self.depends),
            "kept": self.kept,
        }


@dataclass
class _Failure:
    """An entry that failed. needs: entries that it depends on, None if the dump does not say."""

    entry: Entry
    why: str
    needs: set[Entry] | None
    kept: str = ""


class Ledger:
    """The losses of one load.

    accepted: names, normalized. texts: the SQL of each entry, to see what depends on what. expected: name → `kept` of
    the objects that need no acceptance: created after the swap, or left out.
    """

    def __init__(
        self,
        accepted: Iterable[str],
        texts: Mapping[Entry, str] | None = None,
        expected: Mapping[str, str] | None = None,
    ) -> None:
        self.accepted, self._expected = list(accepted), expected or {}
        self._texts = texts or {}
        self._failures: dict[str, _Failure] = {}

    def __bool__(self) -> bool:
        return bool(self._failures)

    def record(self, entry: Entry, why: str, needs: set[Entry] | None = None) -> None:
        """Record that an entry failed. needs: entries that it depends on, None if the dump does not say.

        Of several entries with one name, the first counts.
        """
        failure = self._failures.setdefault(loss_name(entry), _Failure(entry, why, needs))
        if needs and failure.needs is None:
            failure.needs = needs

    def add_dependencies(self, needs: Mapping[Entry, set[Entry]]) -> None:
        """Take over what the dump says of dependencies (`entry_dependencies.dependencies`)."""
        for failure in self._failures.values():
            if failure.needs is None:
                failure.needs = needs.get(failure.entry)

    def names(self) -> list[str]:
        """Return the names of the losses."""
        return list(self._failures)

    def accepted_violated_constraints(self) -> list[tuple[Entry, str]]:
        """Return (entry, SQL) of the accepted constraints that rows violate: they can still hold for new rows."""
        return [
            (failure.entry, self._texts[failure.entry])
            for name, failure in self._failures.items()
            if name in self.accepted and _VIOLATED.search(failure.why) and failure.entry in self._texts
        ]

    def keep(self, entry: Entry, how: str) -> None:
        """Record that a part of the entry was restored."""
        self._failures[loss_name(entry)].kept = how

    def _dependencies(self, name: str, failure: _Failure) -> tuple[str, ...]:
        """Return the names of the losses that a loss depends on."""
        return tuple(
            other
            for other, other_failure in self._failures.items()
            if other != name and self._depends_on(failure, other_failure.entry)
        )

    def _depends_on(self, failure: _Failure, root: Entry) -> bool:
        if failure.needs is not None and root.kind != "TABLE DATA":
            return root in failure.needs
        text = failure.why + "\n" + self._texts.get(failure.entry, "")
        return mentions(failure.entry, text, root, failure.why)

    def losses(self) -> list[Loss]:
        """Return the losses in the order in which they were recorded."""
        losses = []
        for name, failure in self._failures.items():
            depends = self._dependencies(name, failure)
            losses.append(
                Loss(
                    name,
                    failure.why,
                    FIX_OF_DEPENDENT if depends else fix_for(failure.why),
                    name in self.accepted or name in self._expected,
                    depends,
                    self._expected.get(name, failure.kept),
                )
            )
        return losses

    def check(self) -> list[str]:
        """Raise unless every loss is accepted. Return notes about accepted objects that did not fail."""
        losses = self.losses()
        if not all(loss.accepted for loss in losses):
            raise refusal(losses)
        return [f"accepted as a loss, but restored: {name}" for name in self.accepted if name not in self._failures]


def paragraphs(losses: Iterable[Loss]) -> list[str]:
    """Return the lines that describe the losses to people, one paragraph each."""
    lines = []
    for loss in losses:
        lines.append(loss.object + (" (accepted)" if loss.accepted else ""))
        lines += ["  " + line for line in loss.why.splitlines()]
        if loss.depends:
            lines.append("  depends on " + ", ".join(loss.depends))
        elif not loss.accepted:
            lines.append("  Fix: " + loss.fix)
    return lines


def acceptance(losses: Iterable[Loss]) -> str:
    """Return the sentence that says how to restore without these objects."""
    names = [loss.object for loss in losses]
    return f"To restore everything except these objects, accept them by name:\n{setting(names)}"


def refusal(losses: Sequence[Loss]) -> SauvegardeError:
    """Return the error of a restore whose losses were not all accepted; it names them all."""
    unaccepted = [loss.object for loss in losses if not loss.accepted]
    count = "1 object" if len(unaccepted) == 1 else f"{len(unaccepted)} objects"
    names = ", ".join(unaccepted[:_SHOWN]) + (", …" if len(unaccepted) > _SHOWN else "")
    return SauvegardeError(
        f"{count} of the dump cannot be restored here, and nothing was swapped: {names}.",
        "\n".join(paragraphs(losses)),
        acceptance(losses),
    )
