"""A Django site on this host, and the way to run the engine's inner half in its virtual environment."""

import contextlib
import fcntl
import functools
import importlib.util
import json
import os
import pwd
import struct
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import errors, process
from ..errors import SauvegardeError
from . import environment_file

if TYPE_CHECKING:
    # Never imported here, where there is no Django: named so that Ansible brings them to the host.
    from . import (  # noqa: F401 - sent by name, below
        dependence,
        escapes,
        fixture,
        leaks,
        masking,
        people,
        personal,
        privacy,
        serialized,
        set_masking,
        worker,
        worker_dates,
        worker_derived,
        worker_direct,
        worker_dump,
        worker_exact,
        worker_guard,
        worker_leaks,
        worker_listeners,
        worker_load,
        worker_losses,
        worker_migrate,
        worker_models,
        worker_naturals,
        worker_oddities,
        worker_people,
        worker_plan,
        worker_preview,
        worker_samples,
        worker_start,
        worker_trees,
        worker_triggers,
        worker_values,
        worker_write,
    )

_SENT = ("errors", "django", "django.dependence", "django.escapes", "django.fixture", "django.masking", "django.worker")
_SENT += (
    "django.leaks",
    "django.people",
    "django.personal",
    "django.privacy",
    "django.serialized",
    "django.set_masking",
    "django.worker_dates",
    "django.worker_derived",
    "django.worker_direct",
    "django.worker_dump",
    "django.worker_exact",
    "django.worker_guard",
    "django.worker_leaks",
    "django.worker_listeners",
    "django.worker_load",
    "django.worker_losses",
    "django.worker_migrate",
    "django.worker_models",
    "django.worker_naturals",
    "django.worker_oddities",
    "django.worker_people",
    "django.worker_plan",
    "django.worker_preview",
    "django.worker_samples",
    "django.worker_start",
    "django.worker_trees",
    "django.worker_triggers",
    "django.worker_values",
    "django.worker_write",
)

# Isolated mode keeps PYTHONPATH and the working directory out; the virtual environment's own packages stay in. It keeps
# out PYTHONDONTWRITEBYTECODE and PYTHONUTF8 too, so they are said as options (3.6 passes over the second one).
_ISOLATED = ("-I", "-B", "-X", "utf8")
# Reads the modules from standard input and hands the rest of it to the worker.
_BOOTSTRAP = """
import gc, importlib.abc, importlib.util, json, os, sys
gc.disable()  # what is made until the site stands stays: looked through again and again, it would be found in use
source = open(os.dup(0), "rb")
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)  # the site's code must not read what is the task's
os.close(nothing)
request = json.loads(source.readline().decode("utf-8"))
modules = request.pop("modules")
class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in modules:
            return importlib.util.spec_from_loader(name, self, is_package=name in ("sauvegarde", "sauvegarde.django"))
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(modules[module.__name__], "<" + module.__name__ + ">", "exec"), module.__dict__)
sys.meta_path.insert(0, Sent())
from sauvegarde.django.worker import main
main(request, source)
"""
_HEAD = struct.Struct(">cI")
_SET_PIPE_SIZE = 1031  # Linux's F_SETPIPE_SZ, which Python names from 3.10 on


class Site(NamedTuple):
    """Where a site is and how it runs."""

    path: str  # the folder with manage.py
    python: str  # the virtual environment's interpreter, absolute
    settings: str  # the settings' module
    env_file: str = ""  # its variables, read as python-dotenv reads them
    user: str = ""  # whom to run as, where we are root; empty: as we are
    database: str = "default"  # the alias in the settings
    name: str = ""  # the database to work on in place of that of the settings: a side database, a side file
    system: str = ""  # the system identifier of the server that `name` is on, where it is known


def site(values):
    """A Site from plain values; what is missing or not there raises."""
    unknown = sorted(set(values) - set(Site._fields))
    missing = [name for name in ("path", "python", "settings") if not values.get(name)]
    if unknown or missing:
        raise SauvegardeError(
            "The description of the Django site is not right.",
            "Not known: {}. Missing: {}.".format(", ".join(unknown) or "none", ", ".join(missing) or "none"),
            "A site has path, python, settings, and may have {}.".format(", ".join(Site._fields[3:])),
        )
    made = Site(**values)
    for what, path, fix in (
        ("folder", made.path, "path"),
        ("interpreter", made.python, "python"),
        ("environment file", made.env_file, "env_file"),
    ):
        if path and not Path(path).exists():
            raise SauvegardeError(
                f"The site's {what} does not exist: {path}", fix=f"Correct “{fix}” in the site's description."
            )
    return made


def environment(where):
    """The site's environment: a fixed base, then what its environment file says. Never the caller's."""
    values = dict(process.BASE_ENVIRONMENT, PYTHONUTF8="1", PYTHONIOENCODING="utf-8", PYTHONDONTWRITEBYTECODE="1")
    values["HOME"] = home(where.user)
    if where.env_file:
        values.update(environment_file.read(where.env_file, values))
    return values


@functools.lru_cache(maxsize=None)
def modules():
    """{name: source} of the modules that are sent; they may come from a folder or from inside Ansible's zip.

    Read once: whoever goes on after Ansible has ended calls it before, since the zip goes with it.
    """
    package = __name__.rsplit(".", 2)[0]
    sources = {"sauvegarde": ""}
    for name in _SENT:
        spec = importlib.util.find_spec(package + "." + name)
        sources["sauvegarde." + name] = spec.loader.get_source(spec.name)
    return sources


def as_user(user):
    """The command's prefix that makes it run as that user; empty where we are that user, or not root."""
    if not user or os.geteuid() != 0:
        return []
    account = _account(user)
    if account.pw_uid == 0:
        return []
    who = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--init-groups"]
    return [process.find("setpriv"), *who, "--"]


def home(user):
    """The home folder of the user, or ours."""
    return _account(user).pw_dir if user else str(Path.home())


def _account(user):
    try:
        return pwd.getpwnam(user)
    except KeyError as error:
        raise SauvegardeError(
            f"There is no user {user} on this host.", fix="Correct “user”, or create the account."
        ) from error


def run(where, task, options, source=None, data=None, progress=None):
    """Run a task of the worker and return its result.

    `source`: a binary file whose rest is fed to the worker; `data`: a function that takes the worker's data as bytes;
    `progress`: a function that takes plain dicts. The worker's error raises here, word for word.
    """
    request = {
        "modules": modules(),
        "task": task,
        "path": where.path,
        "settings": where.settings,
        "options": dict(options, database=where.database, name=where.name, system=where.system),
    }
    child = process.start(
        [*as_user(where.user), where.python, *_ISOLATED, "-c", _BOOTSTRAP],
        env=environment(where),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=where.path,
    )
    for pipe in (child.stdin, child.stdout):
        # Both sides then work on while the other one is busy.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), _SET_PIPE_SIZE, 1 << 20)
    with child:
        feeder = _Feeder(child.stdin, json.dumps(request).encode("utf-8") + b"\n", source)
        feeder.start()
        try:
            result = _answers(child.stdout, data, progress)
        except _Cut:
            ended = child.wait()
            if feeder.error is not None:
                raise feeder.error from None
            process.check(ended, "The site's Python did not start the engine.")
            raise SauvegardeError(
                "The site's Python ended without an answer.",
                ended.stderr,
                "Run “manage.py check” as the site's user: something in its start-up ends the process.",
            ) from None
        feeder.finish()
        child.wait()
    if isinstance(result, SauvegardeError):
        # An unreadable source cuts the stream, and the worker can only tell that it was cut.
        raise feeder.error or result
    return result


class _Cut(Exception):
    """The worker's answers ended before its result."""


def _answers(stream, data, progress):
    while True:
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise _Cut()
        kind, size = _HEAD.unpack(head)
        payload = stream.read(size)
        if len(payload) < size:
            raise _Cut()
        if kind == b"D":
            data(payload)
            continue
        value = json.loads(payload.decode("ascii"))
        if kind == b"R":
            return value
        if kind == b"E":
            return SauvegardeError(value["what"], value["why"], value["fix"], value["exit_code"])
        if progress is not None:
            progress(value)


class _Feeder(threading.Thread):
    """Feeds the worker while its answers are read."""

    def __init__(self, target, head, source):
        super().__init__(daemon=True)
        self.target, self.head, self.source = target, head, source
        self.error = None

    def run(self):
        try:
            self.target.write(self.head)
            if self.source is not None:
                for piece in iter(lambda: self.source.read(1 << 18), b""):
                    self.target.write(piece)
            self.target.close()
        except BrokenPipeError:
            pass  # the worker went first: its own error says why
        except SauvegardeError as error:
            self.error = error
            self._close()
        except Exception as error:  # noqa: BLE001 - whatever makes the source unreadable is told by the caller
            self.error = SauvegardeError(
                "The data for the site could not be read.", str(error), exit_code=errors.DAMAGED
            )
            self._close()

    def _close(self):
        # The worker sees a stream that ends early, refuses it and writes nothing.
        with contextlib.suppress(OSError):
            self.target.close()

    def finish(self):
        self.join(30)


def completed(what, values, defaults):
    """The options of a dump or a load, with the defaults of those that were not given; unknown ones raise."""
    unknown = sorted(set(values) - set(defaults))
    if unknown:
        raise SauvegardeError(
            "A {} has no option {}.".format(what, ", ".join(unknown)),
            fix="Options: {}.".format(", ".join(sorted(defaults))),
        )
    return dict(defaults, **values)


def describe(where, asked=True, rows=0):
    """The site in plain values, as `worker_models.describe` gives them; its database is `asked`, or may be missing.

    `rows`: how many rows of each model are looked at for personal data.
    """
    return run(where, "describe", {"asked": asked, "rows": rows})
