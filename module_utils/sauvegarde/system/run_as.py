"""Work that another OS user must do: in a child process with that user's rights, and only plain values come back."""

import json
import os
import pwd

from ..errors import SauvegardeError


def acting_as(user, function, *arguments):
    """What the function returns (plain values), called as the OS user. Its errors raise here as they are there.

    Where we are not root, or are that user, it is a plain call. Locks that are held stay held in the child.
    """
    if not user or os.geteuid() != 0:
        return function(*arguments)
    try:
        account = pwd.getpwnam(user)
    except KeyError as error:
        raise SauvegardeError(
            f"There is no user {user} on this host.", fix="Name the OS user who keeps the database."
        ) from error
    if account.pw_uid == 0:
        return function(*arguments)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        _answer(write, account, function, arguments)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        said = answers.read()
    os.waitpid(child, 0)
    if not said:
        raise SauvegardeError(f"What ran as {user} was killed.", fix="Run it again.")
    told = json.loads(said.decode("utf-8"))
    if "error" in told:
        raise SauvegardeError(**told["error"])
    return told["result"]


def _answer(write, account, function, arguments):
    """In the child: become the user, call, write the answer down. Never returns."""
    try:
        os.chdir("/")
        os.umask(0o077)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        try:
            told = {"result": function(*arguments)}
        except SauvegardeError as error:
            told = {"error": error.as_dict()}
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            told = {"error": {"what": f"What ran as {account.pw_name} failed.", "why": repr(error)}}
        with os.fdopen(write, "wb") as answers:
            answers.write(json.dumps(told).encode("utf-8"))
    finally:
        os._exit(0)
