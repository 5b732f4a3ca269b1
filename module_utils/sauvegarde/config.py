"""A job as its host knows it: /etc/sauvegarde/jobs/NAME.json, written by the backup role, read by every run.

Keys: name, kind, user, host (the inventory's name), root (of the archives), state (folder of its own), timeout
(seconds, 12 hours by default, 0 for none), nice, allow_failure, retention, before and after (lists of commands),
metrics (folder, or empty), offsite (names of repositories), replaces (systems whose archives there are this job's, too:
identity.py) and what the kind needs (kinds/*.py). The address of the
ping, which is a secret, is in /etc/sauvegarde/pings/NAME. A repository is /etc/sauvegarde/offsite/NAME.json, with all
that opens it (offsite.py) and `manifests`, a folder of root's for those that it has been asked for (catalog.py).

All these files are root's alone, who does what they say, and reads them before going on as the job's user.
"""

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

from .archive import ids, retention
from .errors import Locked, SauvegardeError
from .offsite import credentials
from .report import job_state
from .system import lock
from .system.run_as import RUN_AS_ROOT, account

CONFIGURATION = "/etc/sauvegarde"
DEFAULTS = {
    "timeout": 12 * 3600,  # every job ends by itself
    "nice": 10,
    "allow_failure": False,
    "retention": None,
    "before": [],
    "after": [],
    "metrics": "",
    "offsite": [],
    "replaces": [],
}
REQUIRED = ("name", "kind", "user", "host", "root", "state")


def _read(path, what, required):
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
        fix = RUN_AS_ROOT if isinstance(error, PermissionError) else ""
        raise SauvegardeError(f"The settings of the {what} {path.stem} cannot be read.", str(error), fix) from error
    if not isinstance(found, dict):
        raise SauvegardeError(f"The settings of the {what} {path.stem} are no mapping: {path}")
    wrong = [key for key in required if not found.get(key) or not isinstance(found[key], str)]
    if wrong or found["name"] != path.stem:
        raise SauvegardeError(
            f"The settings of the {what} {path.stem} are not whole.",
            "Missing or wrong: {}.".format(", ".join(wrong) or "name"),
            "Run the backup role, which writes them.",
        )
    return found


def load(name, configuration=CONFIGURATION):
    """The job's settings with every default, checked; `configuration` says where they came from."""
    path = Path(configuration) / "jobs" / (ids.check_job_name(name) + ".json")
    job = dict(DEFAULTS, **_read(path, "job", REQUIRED))
    for key in ("offsite", "replaces"):
        if not isinstance(job[key], list):
            raise SauvegardeError(f"The settings of the job {name} are not whole.", f"Wrong: {key}, which is no list.")
    retention.RetentionPolicy.from_values(job["retention"])
    job["configuration"] = configuration
    try:
        job["ping"] = (Path(configuration) / "pings" / name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        job["ping"] = ""  # what a ping meets fails no backup
    return job


def _repository_path(name, configuration):
    return Path(configuration) / "offsite" / (ids.check_job_name(name) + ".json")


def repository(name, configuration=CONFIGURATION):
    """A repository's settings with all that opens it, from the file that only root can read."""
    found = _read(_repository_path(name, configuration), "repository", ("name", "repository", "password"))
    return dict({"environment": {}, "ssh_key": "", "ssh_known_hosts": "", "forget": True, "manifests": ""}, **found)


def repositories(job):
    """The job's repositories as offsite takes them, {name: settings}, and `known`: whether any job of this host has
    copied to it. Where one cannot be had, the error is in its place, which keeps no backup from being made.

    To be called before `become`: only root can read all this.
    """
    found = {}
    for name in job["offsite"]:
        try:
            settings = repository(name, job["configuration"])
            settings["private"] = private(job["state"], job["name"], job["user"])
            settings["cache"] = str(Path(job["state"]) / "cache")
            settings["turn"] = os.open(str(_repository_path(name, job["configuration"])), os.O_RDONLY | os.O_CLOEXEC)
            settings["known"] = _known(job, name)
            found[name] = settings
        except SauvegardeError as error:
            found[name] = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the backup itself needs no repository
            found[name] = SauvegardeError(f"The repository {name} cannot be used.", f"{type(error).__name__}: {error}")
    return found


def _known(job, repository):
    folders = {job["state"]}
    for name in names(job["configuration"]):
        with contextlib.suppress(Exception):  # another job's settings; its own run tells what is wrong with them
            folders.add(load(name, job["configuration"])["state"])
    for folder in folders:
        told = job_state.read(Path(folder) / "state.json")
        with contextlib.suppress(AttributeError):  # the state is its job's user's, who can write anything there
            if told.get("offsite", {}).get(repository, {}).get("last_success"):
                return True
    return False


def private(state, name="", user="root"):
    """Where what opens repositories may lie in files of `user`'s while restic runs (credentials.py).

    Who is not root has only what that user can read anyway: `state`, a folder of its own, does for it.
    """
    if os.geteuid() != 0:
        return str(state)
    try:
        return credentials.place(name, account(user).pw_uid)
    except OSError as error:
        raise SauvegardeError("What opens the repositories has no place to be in.", str(error)) from error


def forgetting(name, configuration=CONFIGURATION):
    """A repository that this host keeps for others, with their retention (offsite.forget_for_others)."""
    path = Path(configuration) / "forget" / (ids.check_job_name(name) + ".json")
    return _read(path, "repository to tidy", ("name", "repository", "password", "user", "state"))


def _names(configuration, kind):
    try:
        found = [each.name for each in (Path(configuration) / kind).iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SauvegardeError("What this host has to do cannot be read.", str(error), RUN_AS_ROOT) from error
    return sorted(name[: -len(".json")] for name in found if name.endswith(".json") and not name.startswith("."))


def names(configuration=CONFIGURATION):
    """The jobs of this host."""
    return _names(configuration, "jobs")


def repository_names(configuration=CONFIGURATION):
    """The repositories that jobs of this host copy to."""
    return _names(configuration, "offsite")


def forgetting_names(configuration=CONFIGURATION):
    """The repositories that this host keeps for others."""
    return _names(configuration, "forget")


def described(job):
    """Whether the job is still in the inventory; its user can tell, too."""
    return os.path.lexists(str(Path(job["configuration"]) / "jobs" / (job["name"] + ".json")))


def leftovers(described, copied_to, states, manifests, configuration=CONFIGURATION):
    """What jobs and repositories that are described no more have left, but archives: (names of jobs, folders).

    described: names of folders in `states`. A folder there that is no job's is not among them.
    """
    places = {each.name for each in _folders(credentials.RUN)}
    gone = places.union(each.name for each in _folders(states) if _is_state(each)).difference(described)
    # The settings of repositories lay in a folder for each user once.
    caches = [each for each in _folders(manifests) if each.name not in copied_to]
    return sorted(gone), sorted(map(str, caches + _folders(Path(configuration) / "offsite")))


def _folders(path):
    try:
        return [each for each in Path(path).iterdir() if ids.is_job_name(each.name) and each.is_dir()]
    except FileNotFoundError:
        return []


def _is_state(folder):
    return os.path.lexists(str(folder / "lock")) or not list(folder.iterdir())


def discard(name, states, patience=60):
    """Remove the state of a job that is described no more, and what opened repositories for it; its archives stay.

    Waits `patience` seconds for a run to end, then raises Locked.
    """
    folder, until = Path(states) / name, time.monotonic() + patience
    while True:
        try:
            with contextlib.ExitStack() as stack:
                there = folder.is_dir() and _is_state(folder)
                if there:
                    stack.enter_context(lock.hold(folder / "lock", f"The job {name}"))
                credentials.remove(name)
                if there:
                    shutil.rmtree(str(folder))
                return
        except Locked:
            if time.monotonic() >= until:
                raise
        time.sleep(0.5)


def sweep(described, copied_to, states, manifests, configuration=CONFIGURATION, check=False, patience=60):
    """Remove what `leftovers` finds; with `check` only say what. Returns {"removed": names of jobs, then paths,
    "left": sentences about jobs whose run goes on for longer than `patience` seconds}.
    """
    gone, folders = leftovers(described, copied_to, states, manifests, configuration)
    removed, left = [], []
    try:
        for name in gone:
            try:
                if not check:
                    discard(name, states, patience)
                removed.append(name)
            except Locked as error:
                left.append(f"What the job {name} has left stays until this is run again. {error}")
        for folder in folders:
            if not check:
                shutil.rmtree(folder)
            removed.append(folder)
    except OSError as error:
        raise SauvegardeError(
            "What jobs have left cannot be removed.", str(error), "See to it that root can, then run this again."
        ) from error
    return {"removed": removed, "left": left}
