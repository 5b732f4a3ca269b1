"""Decide whether an operator confirmed that a database is replaced: by name, and in production by a phrase as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SauvegardeError
from ..targets.target_choice import label_of
from .host_environment import PRODUCTION

PHRASE = "overwrite production"


@dataclass(frozen=True)
class Confirmation:
    """What the operator typed, and the host that it has to name.

    names: DATABASE@HOST, comma-separated if the playbook was given several hosts. environment: of the host. phrase: for
    production. targets: number of hosts that the playbook was given; each must be named, so that one name never
    confirms two. prefix: of the playbook's variables.
    """

    names: str
    host: str
    environment: str = ""
    phrase: str = ""
    targets: int = 1
    prefix: str = "restore"

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], prefix: str = "restore") -> Confirmation:
        """Return the confirmation among a module's parameters (restore_arguments.CONFIRMATION)."""
        return cls(
            parameters["confirm"],
            parameters["host"],
            parameters["environment_of_host"],
            parameters["production"],
            parameters["targets"],
            prefix,
        )

    def require(self, database: str) -> None:
        """Raise SauvegardeError unless it confirms that `database` (of an SQLite file, its path) is replaced."""
        label = label_of(database)
        expected = f"{label}@{self.host}"
        # The name itself may contain a comma.
        names = [self.names.strip()] + [name.strip() for name in self.names.split(",")]
        fix = f"Read the plan; if {expected} is what is to be replaced: {self.prefix}_confirm={expected}"
        if expected not in names and any(name.startswith(f"{label}@") for name in names):
            raise SauvegardeError(
                f"This is {self.host}, but another host was confirmed.", f"Confirmed: {self.names!r}.", fix
            )
        if expected not in names or len(set(names[1:])) < self.targets:
            raise SauvegardeError(
                f"The replacement of {expected} was not confirmed.",
                f"Confirmed: {self.names!r}." if self.names else "Nothing was confirmed.",
                fix,
            )
        require_phrase(self.host, self.environment, self.phrase, "replacing its data", self.prefix)


def require_phrase(host: str, environment: str, phrase: str, action: str, prefix: str = "restore") -> None:
    """Raise SauvegardeError if the host is production and the phrase is not PHRASE.

    action: what the phrase confirms, for people. prefix: of the playbook's variables.
    """
    if environment == PRODUCTION and phrase != PHRASE:
        raise SauvegardeError(
            f"{host} is production: {action} needs a phrase of its own.",
            f"It is {phrase!r}." if phrase else "It is missing.",
            f"-e \"{prefix}_production='{PHRASE}'\"",
        )
