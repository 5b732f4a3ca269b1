"""Run a site's stock commands in forks of a process that has Django imported: its imports take most of their time.

A fork has the folder, the environment, the streams and the arguments that `python manage.py` would have.
"""

import atexit
import json
import subprocess
import tempfile
import threading
from pathlib import Path

SERVER = r"""
import atexit, importlib, json, os, runpy, sys, time, traceback

MODULES = [
    "django.contrib.admin.filters", "django.contrib.admin.options", "django.contrib.auth.management",
    "django.contrib.contenttypes.management", "django.contrib.gis.db.backends.postgis.base",
    "django.contrib.gis.db.models", "django.core.checks", "django.core.mail",
    "django.core.management.commands.dumpdata", "django.core.management.commands.loaddata",
    "django.core.management.commands.makemigrations", "django.core.management.commands.migrate",
    "django.core.management.commands.shell", "django.core.serializers.json",
    "django.db.backends.postgresql.base", "django.db.backends.sqlite3.base", "django.db.migrations.autodetector",
    "django.db.migrations.executor", "django.db.models", "django.forms", "django.template", "django.urls",
    "django.utils.translation.trans_real",
]


def fork(call):
    # In the child, whose end is that of the command.
    for number, path in enumerate(call["streams"]):
        os.dup2(os.open(path, os.O_WRONLY if number else os.O_RDONLY), number)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    time.tzset()
    paths = call["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[0:1] = [call["folder"], *filter(None, paths)]
    sys.argv = ["manage.py", *call["arguments"]]
    code = 0
    try:
        runpy.run_path("manage.py", run_name="__main__")
    except SystemExit as error:
        code = error.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


calls, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
for number in (0, 1):
    os.dup2(os.open(os.devnull, os.O_RDWR), number)
for name in MODULES:
    try:
        importlib.import_module(name)
    except Exception:  # it needs the site's settings
        pass
for line in calls:
    pid = os.fork()
    if pid == 0:
        fork(json.loads(line))
    print(os.waitpid(pid, 0)[1], file=answers, flush=True)
"""
# What an interpreter reads when it starts, and a fork no more.
AT_START = ("PYTHON", "LANG", "LC_")

_servers = {}
_mutex = threading.Lock()


def run(python, folder, environment, arguments, stdin=None):
    """(wait status, standard output, standard error) of a stock command."""
    with _mutex, tempfile.TemporaryDirectory(prefix="sauvegarde-stock-") as place:
        streams = [Path(place) / name for name in ("in", "out", "err")]
        for path in streams:
            path.write_bytes((stdin or b"") if path.name == "in" else b"")
        call = {"folder": str(folder), "environment": environment, "arguments": [str(each) for each in arguments]}
        call["streams"] = [str(path) for path in streams]
        server = _server(python, {key: value for key, value in environment.items() if key.startswith(AT_START)})
        server.stdin.write(json.dumps(call) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return status, streams[1].read_bytes(), streams[2].read_bytes()


def _server(python, at_start):
    key = (str(python), *sorted(at_start.items()))
    if key not in _servers:
        variables = {key: value for key, value in at_start.items() if key != "PYTHONPATH"}
        _servers[key] = subprocess.Popen(
            [str(python), "-c", SERVER],
            env={"PATH": "/usr/bin:/bin", **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            universal_newlines=True,
        )
    return _servers[key]


@atexit.register
def _end():
    for server in _servers.values():
        server.stdin.close()
        server.wait()
        server.stdout.close()
