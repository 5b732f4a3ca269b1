"""A job as its host knows it: /etc/sauvegarde/jobs/NAME.json, written by the backup role, read by every run.

Keys: name, kind, user, host (the inventory's name), root (of the archives), state (folder of its own), timeout
(seconds, 0 for none), nice, allow_failure, retention, before and after (lists of commands), metrics (folder, or
empty), offsite (names of repositories) and what the kind needs (kinds/*.py). A repository is
/etc/sauvegarde/offsite/USER/NAME.json (offsite.py). The address of the ping, which is a secret, is in
/etc/sauvegarde/pings/NAME.
"""

import json
import os
import pwd
import re
from pathlib import Path

from . import retention
from .errors import SauvegardeError

CONFIGURATION = "/etc/sauvegarde"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
DEFAULTS = {
    "timeout": 0,
    "nice": 10,
    "allow_failure": False,
    "retention": None,
    "before": [],
    "after": [],
    "metrics": "",
    "offsite": [],
}
REQUIRED = ("name", "kind", "user", "host", "root", "state")


def _read(path, what):
    try:
        with path.open(encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        known = sorted(each.stem for each in path.parent.glob("*.json")) if os.access(str(path.parent), os.R_OK) else []
        raise SauvegardeError(
            f"There is no {what} named {path.stem} on this host.",
            "Known: {}.".format(", ".join(known) or "none"),
            "Add it to the inventory and run the backup role, or name another.",
        ) from None
    except (OSError, ValueError) as error:
        raise SauvegardeError(f"The settings of the {what} {path.stem} cannot be read.", str(error)) from error
    if not isinstance(found, dict):
        raise SauvegardeError(f"The settings of the {what} {path.stem} are no mapping: {path}")
    return found


def check_name(name):
    if not NAME.match(name):
        raise SauvegardeError(
            f"{name!r} cannot be a job's name.",
            fix="Use letters, digits, '_', '-' and '.', beginning with one of the first three.",
        )
    return name


def load(name, configuration=CONFIGURATION):
    """The job's settings with every default, checked; `configuration` says where they came from."""
    job = dict(DEFAULTS, **_read(Path(configuration) / "jobs" / (check_name(name) + ".json"), "job"))
    missing = [key for key in REQUIRED if not job.get(key)]
    if missing or job["name"] != name:
        raise SauvegardeError(
            f"The settings of the job {name} are not whole.",
            "Missing or wrong: {}.".format(", ".join(missing) or "name"),
        )
    retention.policy(job["retention"])
    job["configuration"] = configuration
    try:
        job["ping"] = (Path(configuration) / "pings" / name).read_text(encoding="utf-8").strip()
    except OSError:
        job["ping"] = ""  # what a ping meets fails no backup
    return job


def repository(name, user, configuration=CONFIGURATION):
    """A repository's settings, from the files that only `user` can read."""
    found = _read(Path(configuration) / "offsite" / user / (check_name(name) + ".json"), "repository")
    return dict({"environment": {}, "ssh_key": "", "ssh_known_hosts": "", "forget": True}, **found)


def forgetting(name, configuration=CONFIGURATION):
    """A repository that this host keeps for others, with their retention (offsite.forget_for_others)."""
    return _read(Path(configuration) / "forget" / (check_name(name) + ".json"), "repository to tidy")


def names(configuration=CONFIGURATION):
    """The jobs of this host."""
    return sorted(path.stem for path in (Path(configuration) / "jobs").glob("*.json"))


def forgetting_names(configuration=CONFIGURATION):
    """The repositories that this host keeps for others."""
    return sorted(path.stem for path in (Path(configuration) / "forget").glob("*.json"))


def become(user):
    """Go on as `user` for good. Only root can; anybody else must be that user already."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise SauvegardeError(
            f"The user {user} does not exist on this host.", fix="Create it, or name another."
        ) from None
    if os.geteuid() == entry.pw_uid:
        return
    if os.geteuid() != 0:
        raise SauvegardeError(f"This runs as {user}, not as uid {os.geteuid()}.", fix=f"Use root, or sudo -u {user}.")
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.chdir("/")
