"""The folders of a host's jobs below the folder of its archives, on file systems that may refuse chown.

Each job's folder belongs to the job's user, mode 0700 (private_directory.check_private). Root makes it and gives it
away; where chown is refused, as NFS with root_squash and CIFS do, the user makes it itself if it can write there. What
exists is changed only where it is a job's own folder.

`problems` finds out before anything is made, by a temporary folder that it removes again; `ensure` makes the folders.
"""

import contextlib
import os
import pwd
import stat
import tempfile
from pathlib import Path

from ..errors import SauvegardeError
from . import user_groups
from .run_as import call_as

_PROBE = ".sauvegarde-probe-"
_NOBODY = 65534  # stands for an account that is still to be made


def problems(directory, jobs):
    """Sentences about folders that cannot be as they must, [SauvegardeError]. jobs: [{"name", "user"}]."""
    found = []
    for job in jobs:
        try:
            _way(Path(directory), job["name"], job["user"], _single(jobs))
        except SauvegardeError as error:
            if str(error) not in [str(other) for other in found]:
                found.append(error)
    return found


def ensure(directory, jobs, check=False):
    """Make what is missing; with `check` only say what. Returns the paths that are (or would be) changed.

    Raises SauvegardeError, with the operating system's own words.
    """
    directory, changed = Path(directory), []
    for job in jobs:
        way = _way(directory, job["name"], job["user"], _single(jobs))
        if way == "there":
            continue
        if not check:
            try:
                _make(directory, job["name"], job["user"], way)
            except OSError as error:
                raise _refused(directory / job["name"], job["user"], str(error)) from error
            if _look(directory / job["name"], job["user"]) != "there":
                raise _refused(directory / job["name"], job["user"], "It does not keep its owner and its mode.")
        changed.append(str(directory / job["name"]))
    if not jobs and not directory.exists():
        changed.append(str(directory))
        if not check:
            directory.mkdir(mode=0o755, parents=True)
    return changed


def _single(jobs):
    return len({job["user"] for job in jobs}) == 1


def _account(user):
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def _as(user, function, *arguments):
    """The function's answer as the user gets it; OSErrors come back as OSError."""

    def call():
        try:
            return {"answer": function(*arguments)}
        except OSError as error:
            return {"errno": error.errno, "text": error.strerror or str(error), "path": error.filename}

    told = call_as(user, call)
    if "errno" in told:
        raise OSError(told["errno"], told["text"], told["path"])
    return told["answer"]


def _look(folder, user):
    """Of a job's folder: "missing", "there", "loose" (its mode) or "another's"."""
    account = _account(user)

    def status():
        found = os.lstat(str(folder))
        return [found.st_uid, found.st_mode]

    try:
        # As the user: root may see nothing on a file system of the network.
        owner, mode = _as(user, status) if account else status()
    except FileNotFoundError:
        return "missing"
    if not stat.S_ISDIR(mode):
        raise SauvegardeError(f"Not a folder: {folder}", fix="Move away what is there, or give the job another name.")
    if account is None or owner != account.pw_uid:
        return "another's"
    return "loose" if stat.S_IMODE(mode) & 0o077 else "there"


def _way(directory, name, user, single):
    """How a job's folder becomes what it must be.

    "there" (it is), "mode" (chmod), "give" (root makes it or has it, chown), "own" (the user makes it) or "own all" (it
    makes the folder of the archives as well). Raises SauvegardeError where there is no way.
    """
    folder = directory / name
    try:
        _check_base(directory, user)
        state = _look(folder, user)
    except PermissionError as error:
        raise _refused(folder, user, str(error)) from error
    if state == "there":
        return "there"
    where = _nearest(directory)
    probe_root = _probe(where, None, _account(user))
    if state in ("loose", "another's"):
        if not probe_root:
            return "mode" if state == "loose" else "give"
        if state == "loose" and not _probe(where, user, _account(user)):
            return "mode"
        raise _refused(folder, user, probe_root)
    if not probe_root:
        return "give"
    if _account(user) is None:
        raise _refused(
            folder, user, f"{probe_root} The account does not exist yet, so it cannot make its folder itself."
        )
    probe_user = _probe(where, user, _account(user))
    if not probe_user and where == directory:
        return "own"
    if not probe_user and single:
        return "own all"
    raise _refused(folder, user, f"As root: {probe_root} As {user}: {probe_user or 'it is not the only user.'}")


def _check_base(directory, user):
    """Refuse a folder of the archives that private_directory.check_private would refuse at every run."""
    try:
        found = os.lstat(str(directory))
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise SauvegardeError(
            f"The folder of the archives is a symbolic link: {directory}",
            fix=f"Give backup_directory the path that it leads to, {os.path.realpath(str(directory))}.",
        )
    if not stat.S_ISDIR(found.st_mode):
        raise SauvegardeError(
            f"The folder of the archives is no folder: {directory}", fix="Name another backup_directory."
        )
    account, mode = _account(user), stat.S_IMODE(found.st_mode)
    if found.st_uid not in {0, account.pw_uid if account else 0} or user_groups.others_may_write(directory, found):
        why = "others than root and the job's user could replace archives there."
    elif not (_as(user, lambda: os.access(str(directory), os.X_OK)) if account else mode & 0o001):
        why = f"{user} cannot enter it."
    else:
        return
    raise SauvegardeError(
        f"Archives of {user} cannot be kept safely in {directory}, which exists and is left as it is.",
        f"Its owner is uid {found.st_uid} and its mode {mode:04o}: {why}",
        f"Its owner must be root or {user}, and its mode 0755 (for NFS, on the file server; for CIFS, by the mount "
        f"options uid={user},dir_mode=0755). Or name another backup_directory.",
    )


def _nearest(directory):
    """The folder itself, or the nearest one above it that exists."""
    while not directory.is_dir():
        directory = directory.parent
    return directory


def _probe(where, user, account):
    """Why `user` (None: root, which gives it away) cannot make a private folder of the account in `where`, or ""."""

    def attempt():
        before = where.stat()
        probe = Path(tempfile.mkdtemp(prefix=_PROBE, dir=str(where)))
        try:
            _give(str(probe), (account.pw_uid if account else _NOBODY) if user is None else None)
            found = probe.lstat()
            return [found.st_uid, stat.S_IMODE(found.st_mode)]
        finally:
            probe.rmdir()
            with contextlib.suppress(OSError):
                os.utime(str(where), ns=(before.st_atime_ns, before.st_mtime_ns))

    try:
        owner, mode = _as(user, attempt) if user else attempt()
    except OSError as error:
        return f"{error.strerror or error} ({where})."
    if owner != (account.pw_uid if account else _NOBODY) or mode & 0o077:
        return f"A new folder in {where} belongs to uid {owner} and has mode {mode:04o}, whatever was asked for."
    return ""


def _open(path, parent=None):
    """A descriptor of a folder; OSError where the path is a symbolic link, even one that was put there just now."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


def _give(path, uid, parent=None):
    """Make a folder private and the uid's (None: leave its owner), never what a link at its place leads to."""
    folder = _open(path, parent)
    try:
        if uid is not None:
            os.fchown(folder, uid, -1)
        os.fchmod(folder, 0o700)
    finally:
        os.close(folder)


def _make(directory, name, user, way):
    folder = directory / name
    if way == "give":
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        # The user may own the folder of the archives, and could replace what root is about to give away.
        parent = _open(str(directory))
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
            _give(name, _account(user).pw_uid, parent)
        finally:
            os.close(parent)
    elif way == "mode":
        _as(user, lambda: folder.chmod(0o700))
    else:
        if way == "own all":
            _as(user, lambda: directory.mkdir(mode=0o755, parents=True, exist_ok=True))
            _as(user, lambda: directory.chmod(0o755))
        _as(user, lambda: folder.mkdir(mode=0o700))


def _refused(folder, user, why):
    return SauvegardeError(
        f"The folder {folder} cannot be {user}'s.",
        why,
        f"NFS with root_squash: on the file server, chown {folder.parent} to {user}'s uid, mode 0755. CIFS: mount it "
        f"with uid={user},file_mode=0600,dir_mode=0700. Or name another backup_directory.",
    )
