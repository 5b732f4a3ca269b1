"""Start the site as its own manage.py does, and run the task where manage.py would run its command.

manage.py prepares the settings (class settings, files of variables, search paths), so it runs here, too, up to its
command. What a start-up may change is restored before the task: working directory, umask, signals, timers, limits,
standard input and output. A start-up that does not end is ended.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import os
import resource
import runpy
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from ...errors import SauvegardeError, TimedOut

if TYPE_CHECKING:
    from ..worker_request import WorkerRequest
    from .database_guard import Guard

Fail = Callable[[BaseException], NoReturn]  # reports what the site raises, and ends the process

# Applications look at the command to leave the database alone. These do no harm even if manage.py really runs them.
_COMMANDS = {
    "dump": ["dumpdata"],
    "convert": ["dumpdata"],
    "load": ["loaddata"],
    "migrate": ["migrate", "--plan"],
    "survey": ["showmigrations"],
    "describe": ["showmigrations"],
    "preview": ["dumpdata"],
}
_SECONDS = 600  # for the start-up
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGALRM", "SIGPIPE", "SIGCHLD", "SIGUSR1", "SIGUSR2")


class _Hooks(importlib.abc.MetaPathFinder):
    """Calls a function with a module as soon as the site imports it. Importing Django here would be too early: a
    manage.py may have to patch Python first."""

    def __init__(self, hooks: dict[str, Callable[[Any], None]]) -> None:
        self._hooks = hooks

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        hook = self._hooks.pop(name, None)
        spec = None if hook is None else importlib.util.find_spec(name)
        if hook is None or spec is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            hook(module)

        loader.exec_module = exec_module
        return spec


def run(request: WorkerRequest, guard: Guard, work: Callable[[], NoReturn], fail: Fail) -> None:
    """Start the site and call `work`, which ends the process."""
    path, settings = request.path, request.settings
    sys.path[0:0] = [path, *_python_path(path)]
    sys.argv = ["manage.py", *_COMMANDS[request.task]]
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    before = _ProcessState()
    done = _watch(fail)

    def command(*_: object) -> None:
        # Report every error here: manage.py could catch it and continue.
        try:
            _start_django(settings, guard)
            before.restore()
            done.set()
            work()
        except BaseException as error:  # noqa: BLE001 - reported word for word
            fail(_ended("start-up", error) if isinstance(error, SystemExit) else error)

    _install(_hooks(settings, guard, command))
    _keep_descriptors()
    _keep_program()
    manage = Path(path) / "manage.py"
    if manage.exists():
        try:
            runpy.run_path(str(manage), run_name="__main__")
        except SystemExit as error:
            fail(_ended("manage.py", error))
    command()


def _ended(what: str, error: SystemExit) -> SauvegardeError:
    return SauvegardeError(
        f"The site's {what} ended before it ran a command.",
        f"It ended with: {error}",
        "Run “manage.py check” as the site's user, and correct what it reports.",
    )


def _install(hooks: dict[str, Callable[[Any], None]]) -> None:
    for name in [name for name in hooks if name in sys.modules]:  # imported by a .pth file of the environment
        hooks.pop(name)(sys.modules[name])
    sys.meta_path.insert(0, _Hooks(hooks))


def _hooks(settings: str, guard: Guard, command: Callable[..., None]) -> dict[str, Callable[[Any], None]]:
    def conf(module: Any) -> None:
        cls = module.LazySettings
        setup, configure = cls._setup, cls.configure

        def _setup(self: Any, name: str | None = None) -> None:
            if self is module.settings:
                # The option --settings takes precedence over manage.py's own choice: here, too, if manage.py reads a
                # setting itself.
                os.environ["DJANGO_SETTINGS_MODULE"] = settings
            setup(self, name)
            if self is module.settings:
                guard.settings(self)

        def _configure(self: Any, *arguments: Any, **options: Any) -> None:
            configure(self, *arguments, **options)
            if self is module.settings:
                guard.settings(self)

        cls._setup, cls.configure = _setup, _configure
        if module.settings.configured:
            guard.settings(module.settings)

    def management(module: Any) -> None:
        module.ManagementUtility.execute = command

    return {
        "django.conf": conf,
        "django.core.management": management,
        "django.db.backends.base.base": guard.patch_connections,
        "django.db.backends.signals": guard.patch_signals,
    }


def _start_django(settings: str, guard: Guard) -> None:
    import django
    from django.conf import settings as loaded

    if not loaded.configured:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings  # as the option --settings would
    loaded.DATABASES  # noqa: B018 - loads the settings, and calls guard.settings
    actual = getattr(loaded, "SETTINGS_MODULE", settings)
    if actual != settings:
        raise SauvegardeError(
            f"The site's manage.py loads the settings {actual}, the site's description says {settings}.",
            "",
            "Let manage.py choose them by os.environ.setdefault(), or correct “settings” in the site's description.",
        )
    guard.route()
    django.setup()
    guard.started()


def _python_path(path: str) -> list[str]:
    """Return the folders of PYTHONPATH, which Python's isolated mode ignores."""
    return [str(Path(path) / folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]


class _ProcessState:
    """The state of the process before the site's start-up, which is restored after it."""

    def __init__(self) -> None:
        self._folder = Path.cwd()
        self._pid = os.getpid()
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._signals = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in _SIGNALS)}
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._depth = sys.getrecursionlimit()
        self._limits = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_AS)}

    def restore(self) -> None:
        if os.getpid() != self._pid:
            os._exit(0)  # a child that the start-up forked: only its parent runs the task
        os.chdir(self._folder)
        os.umask(self._umask)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._signals.items():
            if handler is not None:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        sys.setrecursionlimit(max(self._depth, sys.getrecursionlimit()))
        for kind, (soft, _) in self._limits.items():
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))


def _watch(fail: Fail) -> threading.Event:
    """Return an event that must be set in time. Otherwise the process ends and reports where the start-up hangs."""
    done = threading.Event()
    main = threading.main_thread().ident or 0

    def watch() -> None:
        if not done.wait(_SECONDS):
            frame = sys._current_frames().get(main)
            where = "".join(traceback.format_stack(frame)[-3:]) if frame else ""
            fail(
                TimedOut(
                    f"The site's start-up did not end within {_SECONDS} seconds.",
                    where,
                    "Find out what its manage.py or a ready() waits for.",
                )
            )

    threading.Thread(target=watch, daemon=True).start()
    return done


def _keep_descriptors() -> None:
    """Keep the task's streams and the job's locks from what the site starts: it would hold them after the task."""
    kept = []
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir() if int(path.name) > 2]:
        with contextlib.suppress(OSError):  # the folder's own, whose number may become another file's
            os.set_inheritable(descriptor, False)
            kept.append(descriptor)

    def close() -> None:
        for descriptor in kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    os.register_at_fork(after_in_child=close)


def _keep_program() -> None:
    """Refuse a manage.py that replaces the process by another interpreter: it would run a command there, unguarded."""
    own = os.getpid()

    def refusing(execute: Callable[..., Any]) -> Any:
        def refuse(*arguments: Any) -> Any:
            if os.getpid() != own:
                return execute(*arguments)
            raise SauvegardeError(
                "The site's start-up replaces itself by another program, which would run a command of its own.",
                f"It starts {arguments[0]}.",
                "Give “python” the interpreter that manage.py changes to.",
            )

        return refuse

    os.execv, os.execve = refusing(os.execv), refusing(os.execve)
