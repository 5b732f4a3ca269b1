"""A job as its host knows it: /etc/sauvegarde/jobs/NAME.json, written by the backup role, read by every run.

Keys: name, kind, user, host (the inventory's name), root (of the archives), state (folder of its own), timeout
(seconds, 0 for none), nice, allow_failure, retention, before and after (lists of commands), metrics (folder, or
empty), offsite (names of repositories) and what the kind needs (kinds/*.py). The address of the ping, which is a
secret, is in /etc/sauvegarde/pings/NAME. These files are the job's user's, who can change what they say: root, who
reads them too, does nothing for them that this user may not.

A repository is /etc/sauvegarde/offsite/NAME.json, with all that opens it (offsite.py) and `users`, whose jobs may copy
to it. Only root can read it.
"""

import json
import os
import pwd
import re
from pathlib import Path

from . import credentials, retention
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
_ROOT_S = ("MAIL", "SUDO_", "XDG_", "SSH_", "DBUS_", "GIT_")  # the beginnings of variables that are of one user


def _read(path, what):
    """(the settings in the file, the uid that it belongs to)."""
    try:
        with path.open(encoding="utf-8") as file:
            found = json.load(file)
            owner = os.fstat(file.fileno()).st_uid
    except FileNotFoundError:
        known = sorted(each.stem for each in path.parent.glob("*.json")) if os.access(str(path.parent), os.R_OK) else []
        raise SauvegardeError(
            f"There is no {what} named {path.stem} on this host.",
            "Known: {}.".format(", ".join(known) or "none"),
            "Add it to the inventory and run the backup role, or name another.",
        ) from None
    except (OSError, ValueError) as error:
        fix = "Run it as root, as cron does." if isinstance(error, PermissionError) else ""
        raise SauvegardeError(f"The settings of the {what} {path.stem} cannot be read.", str(error), fix) from error
    if not isinstance(found, dict):
        raise SauvegardeError(f"The settings of the {what} {path.stem} are no mapping: {path}")
    return found, owner


def check_name(name):
    if not NAME.match(name):
        raise SauvegardeError(
            f"{name!r} cannot be a job's name.",
            fix="Use letters, digits, '_', '-' and '.', beginning with one of the first three.",
        )
    return name


def load(name, configuration=CONFIGURATION):
    """The job's settings with every default, checked; `configuration` says where they came from."""
    path = Path(configuration) / "jobs" / (check_name(name) + ".json")
    found, owner = _read(path, "job")
    job = dict(DEFAULTS, **found)
    missing = [key for key in REQUIRED if not job.get(key)]
    if missing or job["name"] != name:
        raise SauvegardeError(
            f"The settings of the job {name} are not whole.",
            "Missing or wrong: {}.".format(", ".join(missing) or "name"),
        )
    if owner and owner != _account(job["user"]).pw_uid:
        raise SauvegardeError(
            f"The settings of the job {name} are not its user's.",
            "{} is for {}, but belongs to uid {}.".format(path, job["user"], owner),
            "Run the backup role, which writes it.",
        )
    retention.policy(job["retention"])
    job["configuration"] = configuration
    try:
        job["ping"] = (Path(configuration) / "pings" / name).read_text(encoding="utf-8").strip()
    except OSError:
        job["ping"] = ""  # what a ping meets fails no backup
    return job


def _repository_path(name, configuration):
    return Path(configuration) / "offsite" / (check_name(name) + ".json")


def repository(name, configuration=CONFIGURATION):
    """A repository's settings with all that opens it, from the file that only root can read."""
    found, _ = _read(_repository_path(name, configuration), "repository")
    return dict({"environment": {}, "ssh_key": "", "ssh_known_hosts": "", "forget": True, "users": []}, **found)


def repositories(job):
    """The job's repositories as offsite takes them, {name: settings}; where one cannot be had, the error in its place,
    which keeps no backup from being made. To be called before `become`: only root can read them.
    """
    found = {}
    for name in job["offsite"]:
        try:
            settings = repository(name, job["configuration"])
            if job["user"] not in [*settings["users"], "root"]:
                raise SauvegardeError(
                    "The repository {} is not for jobs of {}.".format(name, job["user"]),
                    fix="Add it to the job in the inventory and run the backup role.",
                )
            settings["private"] = private(job["state"], job["name"], job["user"])
            settings["cache"] = str(Path(job["state"]) / "cache")
            settings["turn"] = os.open(str(_repository_path(name, job["configuration"])), os.O_RDONLY | os.O_CLOEXEC)
            found[name] = settings
        except SauvegardeError as error:
            found[name] = error
    return found


def private(state, name="", user="root"):
    """Where what opens repositories may lie in files of `user`'s while restic runs (credentials.py).

    Who is not root has only what that user can read anyway: `state`, a folder of its own, does for it.
    """
    if os.geteuid() != 0:
        return str(state)
    try:
        return credentials.place(name, _account(user).pw_uid)
    except OSError as error:
        raise SauvegardeError("What opens the repositories has no place to be in.", str(error)) from error


def forgetting(name, configuration=CONFIGURATION):
    """A repository that this host keeps for others, with their retention (offsite.forget_for_others)."""
    return _read(Path(configuration) / "forget" / (check_name(name) + ".json"), "repository to tidy")[0]


def names(configuration=CONFIGURATION):
    """The jobs of this host."""
    return sorted(path.stem for path in (Path(configuration) / "jobs").glob("*.json"))


def forgetting_names(configuration=CONFIGURATION):
    """The repositories that this host keeps for others."""
    return sorted(path.stem for path in (Path(configuration) / "forget").glob("*.json"))


def _account(user):
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise SauvegardeError(
            f"The user {user} does not exist on this host.", fix="Create it, or name another."
        ) from None


def become(user):
    """Go on as `user` for good, at home there. Only root can; anybody else must be that user already."""
    entry = _account(user)
    if os.geteuid() == entry.pw_uid:
        return
    if os.geteuid() != 0:
        raise SauvegardeError(f"This runs as {user}, not as uid {os.geteuid()}.", fix=f"Use root, or sudo -u {user}.")
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.chdir("/")
    # libpq and git look for settings in HOME, and fail where they may not look.
    for variable in [each for each in os.environ if each.startswith(_ROOT_S)]:
        del os.environ[variable]
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
