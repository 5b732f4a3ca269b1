"""Create the folders of a host's jobs in the folder of its archives, also on file systems that refuse chown.

Each job's folder belongs to the job's user, mode 0700 (private_directory.check_private). Root creates it and changes
its owner. NFS with root_squash and CIFS refuse chown: there the job's user creates the folder, if it can write there.
An existing folder is changed only if it belongs to a job.

`problems` tests this with a temporary folder before anything is created; `ensure` creates the folders.
"""

from __future__ import annotations

import contextlib
import enum
import os
import pwd
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import SauvegardeError
from . import user_groups
from .run_as import call_as

_PROBE = ".sauvegarde-probe-"
_NOBODY = 65534  # stands for an account that does not exist yet

Jobs = Sequence[Mapping[str, str]]  # {"name", "user"} each
_Result = TypeVar("_Result")


class _State(enum.Enum):
    """The state of a job's folder."""

    MISSING = enum.auto()
    RIGHT = enum.auto()
    LOOSE = enum.auto()  # its mode gives other users access
    OF_ANOTHER = enum.auto()


class _Way(enum.Enum):
    """How to create or correct a job's folder."""

    NOTHING = enum.auto()  # it is already
    CHMOD = enum.auto()
    CHOWN = enum.auto()  # root makes it, or has it, and gives it to the user
    BY_USER = enum.auto()
    BY_USER_WITH_PARENT = enum.auto()  # the user makes the folder of the archives as well


def problems(directory: str | Path, jobs: Jobs) -> list[SauvegardeError]:
    """Return errors about folders that cannot become what they must be."""
    errors: list[SauvegardeError] = []
    for job in jobs:
        try:
            _find_way(Path(directory), job["name"], job["user"], _have_one_user(jobs))
        except SauvegardeError as error:
            if str(error) not in map(str, errors):
                errors.append(error)
    return errors


def ensure(directory: str | Path, jobs: Jobs, check: bool = False) -> list[str]:
    """Make missing folders and correct others; return the paths that are changed (or, with `check`, would be).

    Raises SauvegardeError, with the operating system's own words.
    """
    directory = Path(directory)
    changed = []
    for job in jobs:
        name, user = job["name"], job["user"]
        way = _find_way(directory, name, user, _have_one_user(jobs))
        if way is _Way.NOTHING:
            continue
        if not check:
            try:
                _make(directory, name, user, way)
            except OSError as error:
                raise _refused(directory / name, user, str(error)) from error
            if _state_of(directory / name, user) is not _State.RIGHT:
                raise _refused(directory / name, user, "It does not keep its owner and its mode.")
        changed.append(str(directory / name))
    if not jobs and not directory.exists():
        changed.append(str(directory))
        if not check:
            directory.mkdir(mode=0o755, parents=True)
    return changed


def _have_one_user(jobs: Jobs) -> bool:
    return len({job["user"] for job in jobs}) == 1


def _account(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def _as_user(user: str, function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return the function's result as the user gets it; its OSErrors raise as OSError."""

    def call() -> dict[str, Any]:
        try:
            return {"answer": function(*arguments)}
        except OSError as error:
            return {"errno": error.errno, "text": error.strerror or str(error), "path": error.filename}

    outcome = call_as(user, call)
    if "errno" in outcome:
        raise OSError(outcome["errno"], outcome["text"], outcome["path"])
    result: _Result = outcome["answer"]
    return result


def _owner_and_mode(path: Path) -> list[int]:
    status = os.lstat(path)
    return [status.st_uid, status.st_mode]


def _state_of(folder: Path, user: str) -> _State:
    account = _account(user)
    try:
        # As the user: root may see nothing on a network file system.
        owner, mode = _as_user(user, _owner_and_mode, folder) if account else _owner_and_mode(folder)
    except FileNotFoundError:
        return _State.MISSING
    if not stat.S_ISDIR(mode):
        raise SauvegardeError(f"Not a folder: {folder}", fix="Move it away, or give the job another name.")
    if account is None or owner != account.pw_uid:
        return _State.OF_ANOTHER
    return _State.LOOSE if stat.S_IMODE(mode) & 0o077 else _State.RIGHT


def _find_way(directory: Path, name: str, user: str, one_user: bool) -> _Way:
    """Return how a job's folder becomes what it must be. Raises SauvegardeError if it cannot."""
    folder = directory / name
    try:
        _check_base(directory, user)
        state = _state_of(folder, user)
    except PermissionError as error:
        raise _refused(folder, user, str(error)) from error
    if state is _State.RIGHT:
        return _Way.NOTHING
    place = _nearest_existing(directory)
    account = _account(user)
    for_root = _probe(place, None, account)
    if not for_root:
        return _Way.CHMOD if state is _State.LOOSE else _Way.CHOWN
    if state is not _State.MISSING:
        if state is _State.LOOSE and not _probe(place, user, account):
            return _Way.CHMOD
        raise _refused(folder, user, for_root)
    if account is None:
        why = f"{for_root} The account does not exist yet, so it cannot make its folder itself."
        raise _refused(folder, user, why)
    for_user = _probe(place, user, account)
    if not for_user and place == directory:
        return _Way.BY_USER
    if not for_user and one_user:
        return _Way.BY_USER_WITH_PARENT
    raise _refused(folder, user, f"As root: {for_root} As {user}: {for_user or 'it is not the only user.'}")


def _check_base(directory: Path, user: str) -> None:
    """Refuse a folder of the archives that private_directory.check_private would refuse at every run."""
    try:
        status = os.lstat(directory)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode):
        raise SauvegardeError(
            f"The folder of the archives is a symbolic link: {directory}",
            fix=f"Give backup_directory the path that it leads to, {os.path.realpath(directory)}.",
        )
    if not stat.S_ISDIR(status.st_mode):
        raise SauvegardeError(
            f"The folder of the archives is no folder: {directory}", fix="Name another backup_directory."
        )
    account, mode = _account(user), stat.S_IMODE(status.st_mode)
    if status.st_uid not in {0, account.pw_uid if account else 0} or user_groups.others_may_write(directory, status):
        why = "others than root and the job's user could replace archives there."
    elif not (_as_user(user, os.access, str(directory), os.X_OK) if account else mode & 0o001):
        why = f"{user} cannot enter it."
    else:
        return
    raise SauvegardeError(
        f"Archives of {user} cannot be kept safely in {directory}, which exists and is left as it is.",
        f"Its owner is uid {status.st_uid} and its mode {mode:04o}: {why}",
        f"Its owner must be root or {user}, and its mode 0755 (for NFS, on the file server; for CIFS, by the mount "
        f"options uid={user},dir_mode=0755). Or name another backup_directory.",
    )


def _nearest_existing(directory: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    while not directory.is_dir():
        directory = directory.parent
    return directory


def _probe(place: Path, user: str | None, account: pwd.struct_passwd | None) -> str:
    """Return why `user` (None: root, which gives it away) cannot make a private folder of the account in `place`, or
    ""."""
    owner_wanted = account.pw_uid if account else _NOBODY

    def attempt() -> list[int]:
        before = place.stat()
        probe = Path(tempfile.mkdtemp(prefix=_PROBE, dir=place))
        try:
            _give(str(probe), owner_wanted if user is None else None)
            return _owner_and_mode(probe)
        finally:
            probe.rmdir()
            with contextlib.suppress(OSError):
                os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))

    try:
        owner, mode = _as_user(user, attempt) if user else attempt()
    except OSError as error:
        return f"{error.strerror or error} ({place})."
    if owner != owner_wanted or mode & 0o077:
        mode = stat.S_IMODE(mode)
        return f"A new folder in {place} belongs to uid {owner} and has mode {mode:04o}, whatever is requested."
    return ""


def _open(path: str, parent: int | None = None) -> int:
    """Return a descriptor of a folder; OSError if the path is a symbolic link, even one that was created just now."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


def _give(path: str, uid: int | None, parent: int | None = None) -> None:
    """Make a folder private and give it to the uid (None: keep its owner), never what a link in its place leads to."""
    folder = _open(path, parent)
    try:
        if uid is not None:
            os.fchown(folder, uid, -1)
        os.fchmod(folder, 0o700)
    finally:
        os.close(folder)


def _make(directory: Path, name: str, user: str, way: _Way) -> None:
    folder = directory / name
    if way is _Way.CHOWN:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        # The user may own the folder of the archives, and could replace what root is about to give away.
        parent = _open(str(directory))
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
            account = _account(user)
            if account is None:
                raise _refused(folder, user, "The account does not exist.")
            _give(name, account.pw_uid, parent)
        finally:
            os.close(parent)
    elif way is _Way.CHMOD:
        _as_user(user, os.chmod, str(folder), 0o700)
    else:
        if way is _Way.BY_USER_WITH_PARENT:
            _as_user(user, os.makedirs, str(directory), 0o755, True)
            _as_user(user, os.chmod, str(directory), 0o755)
        _as_user(user, os.mkdir, str(folder), 0o700)


def _refused(folder: Path, user: str, why: str) -> SauvegardeError:
    return SauvegardeError(
        f"The folder {folder} cannot belong to {user}.",
        why,
        f"NFS with root_squash: on the file server, chown {folder.parent} to {user}'s uid, mode 0755. CIFS: mount it "
        f"with uid={user},file_mode=0600,dir_mode=0700. Or name another backup_directory.",
    )
