"""Act as another OS user: for good (`become`), for one call (`call_as`), or for a command (`command_prefix`).

Only root can. A process that is not root, or already is that user, simply goes on.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import SauvegardeError, from_dict
from . import process

RUN_AS_ROOT = "Run it as root, as cron does: only root can read the settings."
# The beginnings of environment variables that belong to one user.
_PERSONAL = ("MAIL", "SUDO_", "XDG_", "SSH_", "DBUS_", "GIT_")

_logger = logging.getLogger("sauvegarde")
_Result = TypeVar("_Result")


def account(user: str) -> pwd.struct_passwd:
    """Return the user's account. Raises SauvegardeError if there is none."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise SauvegardeError(
            f"There is no user {user} on this host.", fix="Create the account, or name another user."
        ) from None


def home(user: str = "") -> str:
    """Return the home folder of the user, by default of this process's own."""
    return account(user).pw_dir if user else str(Path.home())


def become(user: str) -> None:
    """Change this process to `user` irrevocably, with the user's HOME, USER and LOGNAME, and / as working directory.

    backup/supervisor.py calls it with the user of config.Job. Does nothing if this process is that user already; raises
    SauvegardeError if it is neither that user nor root.
    """
    entry = account(user)
    if os.geteuid() == entry.pw_uid:
        return
    if os.geteuid() != 0:
        raise SauvegardeError(f"This must run as {user}, but runs as uid {os.geteuid()}.", fix=RUN_AS_ROOT)
    _drop_privileges(entry)
    # libpq and git look for settings in HOME, and fail if they may not look there.
    for variable in [name for name in os.environ if name.startswith(_PERSONAL)]:
        del os.environ[variable]
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)


def _drop_privileges(entry: pwd.struct_passwd) -> None:
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.chdir("/")


def _account_to_change_to(user: str) -> pwd.struct_passwd | None:
    """Return the account that this process must change to; None if it has the user's rights already, or is not root."""
    if not user or os.geteuid() != 0:
        return None
    entry = account(user)
    return None if entry.pw_uid == 0 else entry


def command_prefix(user: str) -> list[str]:
    """Return the words in front of a command that make it run as `user`; none if that is not needed."""
    entry = _account_to_change_to(user)
    if entry is None:
        return []
    ids = ["--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--init-groups"]
    return [process.find("setpriv"), *ids, "--"]


def call_as(user: str, function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return what the function returns (plain values), called as `user` in a child process.

    Its SauvegardeErrors raise here as they are. Locks of this process stay held in the child.
    """
    entry = _account_to_change_to(user)
    if entry is None:
        return function(*arguments)
    _logger.debug("call %s as %s", getattr(function, "__qualname__", function), user)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        _answer(write, entry, function, arguments)
    os.close(write)
    with os.fdopen(read, "rb") as channel:
        answer = channel.read()
    os.waitpid(child, 0)
    if not answer:
        raise SauvegardeError(f"The process that ran as {user} was killed.", fix="Run it again.")
    values = json.loads(answer.decode("utf-8"))
    if "error" in values:
        raise from_dict(values["error"])
    result: _Result = values["result"]
    return result


def _answer(channel: int, entry: pwd.struct_passwd, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In the child: become the user, call the function, write its result or error. Never returns."""
    try:
        os.umask(0o077)
        _drop_privileges(entry)
        try:
            answer = {"result": function(*arguments)}
        except SauvegardeError as error:
            answer = {"error": error.as_dict()}
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller reports it
            answer = {"error": {"what": f"A process that ran as {entry.pw_name} failed.", "why": repr(error)}}
        with os.fdopen(channel, "wb") as answers:
            answers.write(json.dumps(answer).encode("utf-8"))
    finally:
        os._exit(0)
