"""Describe an offsite repository: its address, what opens it, and how this host uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import SauvegardeError


@dataclass(frozen=True)
class Repository:
    """A restic repository with all that opens it.

    address: as restic takes it. environment: restic's own variables for its backend. ssh_key and ssh_known_hosts:
    texts, for sftp; empty for ssh's defaults. forget: false where the repository is append-only and its own host
    applies the retention. manifests: root's folder for manifests that were read from it; empty for none.

    While a job uses it: secrets_folder is a folder of the job's user for the files that restic reads its secrets from;
    cache one for restic's cache; init_lock an open file that serialises `restic init` on this host. known: whether a
    job of this host has copied to it before, so that its absence is an alarm.
    """

    name: str
    address: str
    password: str = field(repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssh_key: str = field(default="", repr=False)
    ssh_known_hosts: str = ""
    forget: bool = True
    manifests: str = ""
    secrets_folder: str = ""
    cache: str = ""
    init_lock: int | None = None
    known: bool = False

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Repository:
        """Return the repository of a settings file. Raises SauvegardeError that names a wrong key."""
        keys = ("environment", "ssh_key", "ssh_known_hosts", "forget", "manifests")
        names = {"name", "repository", "password", *keys}
        unknown = sorted(set(values) - names)
        if unknown:
            raise SauvegardeError(
                f"The settings of the repository {values['name']} have unknown keys: {', '.join(unknown)}.",
                fix=f"Use only {', '.join(sorted(names))}.",
            )
        environment = {key: str(value) for key, value in (values.get("environment") or {}).items()}
        return cls(
            name=values["name"],
            address=values["repository"],
            password=values["password"],
            environment=environment,
            ssh_key=values.get("ssh_key") or "",
            ssh_known_hosts=values.get("ssh_known_hosts") or "",
            forget=values.get("forget", True),
            manifests=values.get("manifests") or "",
        )
