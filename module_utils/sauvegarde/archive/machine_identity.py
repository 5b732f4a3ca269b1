"""Tell archives of this machine from those of another machine that has the same name in its inventory.

An archive belongs to a host's name and to a system: the system identifier of the PostgreSQL cluster that it was dumped
from, or, where no server is dumped, an identifier of the machine. A job's own systems are those of the archives in its
folder, those that it has had before (a cluster that was upgraded has a new identifier), and those that its setting
`replaces` names. They are kept in `identities.json` in the job's state.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Container, Iterable
from pathlib import Path

from ..report import job_state
from .manifest import Manifest

FILE = "identities.json"
_MACHINE_ID = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def machine() -> str:
    """Return an identifier of this machine that does not reveal its machine id; empty for a machine without one."""
    for path in _MACHINE_ID:
        with contextlib.suppress(OSError, ValueError):
            text = Path(path).read_text(encoding="ascii").strip()
            if re.match(r"[0-9a-f]{32}\Z", text):
                return "machine-" + hashlib.sha256(f"sauvegarde {text}".encode("ascii")).hexdigest()[:16]
    return ""


class Identities:
    """The systems that a job knows: its own, and the system of each snapshot that does not state it in a tag.

    folder: where they are kept between runs; None to keep them nowhere.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._path = Path(folder) / FILE if folder else None
        values = job_state.read(self._path) if self._path else {}
        self.own = {system for system in values.get("own") or [] if isinstance(system, str)}
        snapshots = values.get("snapshots")
        self.snapshots: dict[str, str] = snapshots if isinstance(snapshots, dict) else {}
        databases = values.get("databases")
        # The database of each snapshot that does not state it in a tag, where that was needed.
        self.databases: dict[str, str] = databases if isinstance(databases, dict) else {}
        # A machine without an id, as some containers are, gets a random one.
        self.machine = machine() or str(values.get("machine") or "machine-" + os.urandom(8).hex())

    def of(self, manifest: Manifest) -> str:
        """Return the system that an archive of this machine belongs to."""
        return manifest.system_identifier or self.machine

    def save(self, present: Container[str]) -> None:
        """Write the file; of the snapshots only those that are `present`."""
        if self._path:
            snapshots = {key: value for key, value in self.snapshots.items() if key in present}
            databases = {key: value for key, value in self.databases.items() if key in present}
            values = {"own": sorted(self.own), "snapshots": snapshots, "machine": self.machine}
            job_state.write(self._path, {**values, **({"databases": databases} if databases else {})})


def groups(lineages: Iterable[Iterable[str]]) -> list[set[str]]:
    """Return sets of systems that follow one another: the systems of each lineage, joined where lineages overlap.

    lineages: of each snapshot its system and the former ones; empty names are ignored.
    """
    joined: list[set[str]] = []
    for lineage in lineages:
        group = set(lineage) - {""}
        for overlapping in [other for other in joined if other & group]:
            joined.remove(overlapping)
            group |= overlapping
        if group:
            joined.append(group)
    return joined
