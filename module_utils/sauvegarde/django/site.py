"""A Django site on this host, and the way to run the engine's inner half in its virtual environment."""

import contextlib
import fcntl
import functools
import json
import struct
import subprocess
import threading
from pathlib import Path
from typing import NamedTuple

from ..errors import Damaged, SauvegardeError, from_dict
from ..system import engine_files, process
from ..system.run_as import command_prefix, home
from . import environment_file
from .worker_request import WorkerRequest

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
packages = {name.rpartition(".")[0] for name in modules}
class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in modules:
            return importlib.util.spec_from_loader(name, self, is_package=name in packages)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(modules[module.__name__], "<" + module.__name__ + ">", "exec"), module.__dict__)
sys.meta_path.insert(0, Sent())
from sauvegarde.django.worker.worker_main import main
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
def modules() -> dict[str, str]:
    """Return the modules that run inside the site: {name: source}. A package's source is that of its `__init__.py`."""
    sources = {"sauvegarde": ""}
    for path, content in engine_files.engine_files().items():
        if path == "errors.py" or path.startswith("django/"):
            name = path[: -len(".py")].replace("/", ".")
            sources["sauvegarde." + name.replace(".__init__", "")] = content.decode("utf-8")
    return sources


def run(where, task, options, source=None, data=None, progress=None):
    """Run a task of the worker and return its result.

    `source`: a binary file whose rest is fed to the worker; `data`: a function that takes the worker's data as bytes;
    `progress`: a function that takes plain dicts. The worker's error raises here, word for word.
    """
    request = WorkerRequest(task, where.path, where.settings, where.database, where.name, where.system, options)
    child = process.start(
        [*command_prefix(where.user), where.python, *_ISOLATED, "-c", _BOOTSTRAP],
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
        feeder = _Feeder(
            child.stdin, json.dumps(dict(request.as_dict(), modules=modules())).encode("utf-8") + b"\n", source
        )
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
            return from_dict(value)
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
            self.error = Damaged("The data for the site could not be read.", str(error))
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
