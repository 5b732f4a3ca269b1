"""Tell archives of this machine from those of another machine that has the same name in its inventory.

An archive belongs to a host's name and to a system: the system identifier of the PostgreSQL cluster that it was dumped
from, or, where no server is dumped, an identifier of the machine. A job's own systems are those of the archives in its
folder, those that it has had before (a cluster that was upgraded has a new identifier), and those that its setting
`replaces` names. They are kept in `identities.json` in the job's state.
"""

import contextlib
import hashlib
import os
import re
from pathlib import Path

from ..report import job_state

FILE = "identities.json"
_MACHINE_ID = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def machine():
    """An identifier of this machine, which does not reveal its machine id; empty where it has no machine id."""
    for path in _MACHINE_ID:
        with contextlib.suppress(OSError, ValueError):
            text = Path(path).read_text(encoding="ascii").strip()
            if re.match(r"[0-9a-f]{32}\Z", text):
                return "machine-" + hashlib.sha256(f"sauvegarde {text}".encode("ascii")).hexdigest()[:16]
    return ""


class Identities:
    """What a job knows of systems: its own ones, and that of each snapshot which does not say it in a tag.

    folder: where this is kept between runs; without one it is kept nowhere.
    """

    def __init__(self, folder=None):
        self._path = Path(folder) / FILE if folder else None
        told = job_state.read(self._path) if folder else {}
        self.own = {each for each in told.get("own") or [] if isinstance(each, str)}
        snapshots = told.get("snapshots")
        self.snapshots = snapshots if isinstance(snapshots, dict) else {}
        # A machine without an id, as some containers are, is given one.
        self.machine = machine() or str(told.get("machine") or "machine-" + os.urandom(8).hex())

    def of(self, found):
        """The system that an archive of this machine belongs to, by its manifest."""
        return found.system_identifier or self.machine

    def save(self, present):
        """Write it down; of snapshots only what is said of those that are `present`."""
        if self._path:
            kept = {key: value for key, value in self.snapshots.items() if key in present}
            job_state.write(self._path, {"own": sorted(self.own), "snapshots": kept, "machine": self.machine})


def groups(lines):
    """Sets of systems that follow one another: those of {system, former} of each line, joined where they overlap."""
    found = []
    for line in lines:
        joined = {line["system"], *line["former"]} - {""}
        for each in [group for group in found if group & joined]:
            found.remove(each)
            joined |= each
        if joined:
            found.append(joined)
    return found
