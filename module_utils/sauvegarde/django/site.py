"""Describe a Django site on this host, and run the worker in its virtual environment."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import struct
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Callable, Protocol

from ..errors import Damaged, SauvegardeError, from_dict
from ..system import engine_files, process
from ..system.run_as import command_prefix, home
from . import environment_file
from .worker_request import WorkerRequest

# Isolated mode ignores PYTHONPATH and the working directory, but not the virtual environment's packages. It also
# ignores PYTHONDONTWRITEBYTECODE and PYTHONUTF8, so these are options here.
_ISOLATED = ("-I", "-B", "-X", "utf8")
# Reads the request with the modules from standard input, and passes the rest of it to the worker.
_BOOTSTRAP = """
import gc, importlib.abc, importlib.util, json, os, sys
if sys.version_info < (3, 9):
    sys.exit("The site needs Python 3.9 or newer; its virtual environment has %d.%d." % sys.version_info[:2])
gc.disable()  # what the start-up creates stays in use: collecting it again and again would only cost time
source = open(os.dup(0), "rb")
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)  # the site's code must not read the task's input
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
# The worker takes and frees blocks of some 100 KB all the time. By default glibc returns them to the kernel each time,
# and the kernel has to clear the next ones: a fifth of the work of a dump.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 26)}
_HEAD = struct.Struct(">cI")
_PIECE = 1 << 18  # bytes passed to the worker at a time


class Readable(Protocol):
    """A binary stream."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Site:
    """Where a site is and how it runs."""

    path: str  # the folder with manage.py
    python: str  # the virtual environment's interpreter, absolute
    settings: str  # the settings' module
    env_file: str = ""  # its variables, read as python-dotenv reads them
    user: str = ""  # the user to run as if this process is root; empty: no change
    database: str = "default"  # the alias in the settings
    name: str = ""  # the database to use in place of that of the settings: a side database, a side file
    system: str = ""  # the system identifier of the server of `name`, if it is known

    def replace(self, **changes: str) -> Site:
        """Return the site with other values."""
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, str]:
        """Return the plain values from which `site` returns the same."""
        return dataclasses.asdict(self)


def site(values: Mapping[str, Any]) -> Site:
    """Return the Site from plain values. Raises for a missing or unknown key, and for a path that does not exist."""
    names = [field.name for field in dataclasses.fields(Site)]
    unknown = sorted(set(values) - set(names))
    missing = [name for name in ("path", "python", "settings") if not values.get(name)]
    if unknown or missing:
        raise SauvegardeError(
            "The description of the Django site is not right.",
            "Not known: {}. Missing: {}.".format(", ".join(unknown) or "none", ", ".join(missing) or "none"),
            "A site has path, python, settings, and may have {}.".format(", ".join(names[3:])),
        )
    where = Site(**values)
    for what, path, key in (
        ("folder", where.path, "path"),
        ("interpreter", where.python, "python"),
        ("environment file", where.env_file, "env_file"),
    ):
        if path and not Path(path).exists():
            raise SauvegardeError(
                f"The site's {what} does not exist: {path}", fix=f"Correct “{key}” in the site's description."
            )
    return where


def environment(where: Site) -> dict[str, str]:
    """Return the site's environment: a fixed base, then its environment file. Never the caller's."""
    values = dict(process.BASE_ENVIRONMENT, PYTHONUTF8="1", PYTHONIOENCODING="utf-8", PYTHONDONTWRITEBYTECODE="1")
    values["HOME"] = home(where.user)
    if where.env_file:
        values.update(environment_file.read(where.env_file, values))
    return values


@functools.cache
def modules() -> dict[str, str]:
    """Return the modules that run inside the site: {name: source}. A package's source is that of its `__init__.py`."""
    sources = {"sauvegarde": ""}
    for path, content in engine_files.engine_files().items():
        if path == "errors.py" or path.startswith("django/"):
            name = path[: -len(".py")].replace("/", ".")
            sources["sauvegarde." + name.replace(".__init__", "")] = content.decode("utf-8")
    return sources


def describe(where: Site, asked: bool = True, rows: int = 0) -> dict[str, Any]:
    """Return the site in plain values, as `worker.model_description.describe` does.

    `asked`: whether its database is asked for its migrations; else it may be missing. `rows`: rows of each model that
    are sampled for personal data.
    """
    return run(where, "describe", {"asked": asked, "rows": rows})


def run(
    where: Site,
    task: str,
    options: Mapping[str, Any],
    source: Readable | None = None,
    data: Callable[[bytes], object] | None = None,
    progress: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Run a task of the worker and return its result.

    `options`: those of the task (see `worker_request`). `source`: a stream that is passed to the worker. `data`: takes
    the data that the worker writes. `progress`: takes its reports. The worker's error is raised here as it is.
    """
    request = WorkerRequest(task, where.path, where.settings, where.database, where.name, where.system, options)
    child = process.start(
        [*command_prefix(where.user), where.python, *_ISOLATED, "-c", _BOOTSTRAP],
        env={**_MEMORY, **environment(where)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=where.path,
    )
    for pipe in (child.stdin, child.stdout):
        process.widen_pipe(pipe)
    with child:
        head = json.dumps(dict(request.as_dict(), modules=modules())).encode("utf-8") + b"\n"
        feeder = _Feeder(child.stdin, head, source)
        feeder.start()
        try:
            answer = _answer(child.stdout, data, progress)
        except _CutOff:
            raise _no_answer(child, feeder) from None
        feeder.join(30)
        child.wait()
    if isinstance(answer, SauvegardeError):
        # An unreadable source cuts the stream, and the worker can only report that it was cut.
        raise feeder.error or answer
    return answer


def _no_answer(child: process.Process, feeder: _Feeder) -> SauvegardeError:
    """Return the error of a worker that ended without an answer."""
    result = child.wait()
    if feeder.error is not None:
        return feeder.error
    process.check(result, "The site's Python did not start the engine.")
    return SauvegardeError(
        "The site's Python ended without an answer.",
        result.stderr,
        "Run “manage.py check” as the site's user: something in its start-up ends the process.",
    )


class _CutOff(Exception):
    """The worker's answers ended before its result."""


def _answer(
    stream: IO[bytes],
    data: Callable[[bytes], object] | None,
    progress: Callable[[dict[str, Any]], object] | None,
) -> dict[str, Any] | SauvegardeError:
    """Read the worker's frames (see `worker_main`) and return its result or its error."""
    while True:
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise _CutOff()
        kind, size = _HEAD.unpack(head)
        payload = stream.read(size)
        if len(payload) < size:
            raise _CutOff()
        if kind == b"D":
            if data is not None:
                data(payload)
            continue
        value: dict[str, Any] = json.loads(payload.decode("ascii"))
        if kind == b"R":
            return value
        if kind == b"E":
            return from_dict(value)
        if progress is not None:
            progress(value)


class _Feeder(threading.Thread):
    """Writes the request and the source to the worker while its answers are read. `error`: why it could not."""

    def __init__(self, target: IO[bytes], head: bytes, source: Readable | None) -> None:
        super().__init__(daemon=True)
        self.target, self.head, self.source = target, head, source
        self.error: SauvegardeError | None = None

    def run(self) -> None:
        try:
            self.target.write(self.head)
            source = self.source
            if source is not None:
                for piece in iter(lambda: source.read(_PIECE), b""):
                    self.target.write(piece)
            self.target.close()
        except BrokenPipeError:
            pass  # the worker ended first: its own error says why
        except SauvegardeError as error:
            self.error = error
            self._close()
        except Exception as error:  # noqa: BLE001 - whatever makes the source unreadable is reported by the caller
            self.error = Damaged("The data for the site could not be read.", str(error))
            self._close()

    def _close(self) -> None:
        # The worker sees a stream that ends early, refuses it and writes nothing.
        with contextlib.suppress(OSError):
            self.target.close()
