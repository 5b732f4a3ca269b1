"""Inside the site: starts it as its own manage.py does, and runs the task where manage.py would run its command.

manage.py makes the settings (class settings, files of variables, search paths), so it runs here, too, up to its
command. What a start-up may leave behind is kept from the task: a changed working directory or umask, signals, timers,
threads and processes, standard input and output. A start-up that does not end is ended.
"""

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
from typing import Any, Callable, Dict

from ...errors import SauvegardeError, TimedOut

# What applications look at to leave the database alone; those that write are harmless should they really run.
_COMMANDS = {
    "dump": ["dumpdata"],
    "convert": ["dumpdata"],
    "load": ["loaddata"],
    "migrate": ["migrate", "--plan"],
    "survey": ["showmigrations"],
    "describe": ["showmigrations"],
    "preview": ["dumpdata"],
}
_SECONDS = 600
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGALRM", "SIGPIPE", "SIGCHLD", "SIGUSR1", "SIGUSR2")


class _Hooks(importlib.abc.MetaPathFinder):
    """Calls a function with a module as soon as it is imported, so that nothing of Django is imported before its time
    (a manage.py may have to patch Python first)."""

    def __init__(self, hooks: Dict[str, Callable[[Any], None]]) -> None:
        self._hooks = hooks

    def find_spec(self, name, path=None, target=None):
        hook = self._hooks.pop(name, None)
        spec = None if hook is None else importlib.util.find_spec(name)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            hook(module)

        spec.loader.exec_module = exec_module
        return spec


def run(request: Dict[str, Any], guard: Any, work: Callable[[], None], fail: Callable[[BaseException], None]) -> None:
    """Start the site and call `work`. Both `work` and `fail`, which takes what the site raises, end the process.

    `request`: task, path, settings.
    """
    path, settings = request["path"], request["settings"]
    sys.path[0:0] = [path, *_python_path(path)]
    sys.argv = ["manage.py", *_COMMANDS[request["task"]]]
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    before = _Before()
    done = _watched(fail)

    def command(*_):
        # Behind it, manage.py could still catch what is raised here, and go on.
        try:
            _start_django(settings, guard)
            before.restore()
            done.set()
            work()
        except BaseException as error:  # noqa: BLE001 - told word for word
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


def _ended(what, error):
    return SauvegardeError(
        f"The site's {what} ended before it ran a command.",
        f"It ended with: {error}",
        "Run “manage.py check” as the site's user, and correct what it says.",
    )


def _install(hooks):
    for name in [name for name in hooks if name in sys.modules]:  # by a .pth file of the environment
        hooks.pop(name)(sys.modules[name])
    sys.meta_path.insert(0, _Hooks(hooks))


def _hooks(settings, guard, command):
    def conf(module):
        cls = module.LazySettings
        setup, configure = cls._setup, cls.configure

        def _setup(self, name=None):
            if self is module.settings:
                # As the option --settings does, which manage.py's own choice gives way to; here, too, where manage.py
                # already looks at a setting.
                os.environ["DJANGO_SETTINGS_MODULE"] = settings
            setup(self, name)
            if self is module.settings:
                guard.settings(self)

        def _configure(self, *arguments, **options):
            configure(self, *arguments, **options)
            if self is module.settings:
                guard.settings(self)

        cls._setup, cls.configure = _setup, _configure
        if module.settings.configured:
            guard.settings(module.settings)

    def management(module):
        module.ManagementUtility.execute = command

    return {
        "django.conf": conf,
        "django.core.management": management,
        "django.db.backends.base.base": guard.patch_connections,
        "django.db.backends.signals": guard.patch_signals,
    }


def _start_django(settings, guard):
    import django
    from django.conf import settings as loaded

    if not loaded.configured:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings  # as the option --settings would
    loaded.DATABASES  # noqa: B018 - loads the settings, which names the database
    found = getattr(loaded, "SETTINGS_MODULE", settings)
    if found != settings:
        raise SauvegardeError(
            f"The site's manage.py loads the settings {found}, the site's description says {settings}.",
            "",
            "Let manage.py choose them by os.environ.setdefault(), or correct “settings” in the site's description.",
        )
    guard.route()
    django.setup()
    guard.started()


def _python_path(path):
    """The folders of PYTHONPATH, which Python's isolated mode passes over."""
    return [str(Path(path) / each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]


class _Before:
    """What the process has before the site's start-up, to be had again behind it."""

    def __init__(self):
        self._folder = Path.cwd()
        self._pid = os.getpid()
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._signals = {number: signal.getsignal(number) for number in (getattr(signal, each) for each in _SIGNALS)}
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._depth = sys.getrecursionlimit()
        self._limits = {each: resource.getrlimit(each) for each in (resource.RLIMIT_FSIZE, resource.RLIMIT_AS)}

    def restore(self):
        if os.getpid() != self._pid:
            os._exit(0)  # a child of the start-up's own: only its parent goes on
        os.chdir(str(self._folder))
        os.umask(self._umask)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._signals.items():
            if handler is not None:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        sys.setrecursionlimit(max(self._depth, sys.getrecursionlimit()))
        for each, (soft, _) in self._limits.items():
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(each, (soft, resource.getrlimit(each)[1]))


def _watched(fail):
    """An event that must be set in time; else the process ends with the place where the start-up hangs."""
    done = threading.Event()
    main = threading.main_thread().ident

    def watch():
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


def _keep_descriptors():
    """Nothing that the site starts gets the streams of the task or the locks of its job: they would stay held."""
    kept = []
    for descriptor in [int(each.name) for each in Path("/proc/self/fd").iterdir() if int(each.name) > 2]:
        with contextlib.suppress(OSError):  # the folder's own, whose number may become another file's
            os.set_inheritable(descriptor, False)
            kept.append(descriptor)

    def close():
        for descriptor in kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    register = getattr(os, "register_at_fork", None)  # from Python 3.7 on
    if register:
        register(after_in_child=close)


def _keep_program():
    """A manage.py that changes to another interpreter would run a real command there, unguarded."""
    own = os.getpid()

    def refusing(execute):
        def refused(*arguments):
            if os.getpid() != own:
                return execute(*arguments)
            raise SauvegardeError(
                "The site's start-up replaces itself by another program, which would run a command of its own.",
                f"It starts {arguments[0]}.",
                "Give “python” the interpreter that manage.py changes to.",
            )

        return refused

    os.execv, os.execve = refusing(os.execv), refusing(os.execve)
