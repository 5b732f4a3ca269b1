"""The sample site on databases of its own, in real virtual environments, for the tests of Django data.

SAUVEGARDE_DJANGO names the environments, for example `3.2:psycopg2,5.2:psycopg`; `newest` is whatever pip finds. They
are kept under SAUVEGARDE_VENVS (by default the checkout's .cache) and made by pip where they are missing.
"""

import ctypes.util
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import stock_commands
from sauvegarde.django import (
    data_dump,
    data_load,
    fixture_fingerprint,
    site,
)

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("SAUVEGARDE_SITE") or ROOT / "molecule" / "_shared" / "site")
VENVS = Path(os.environ.get("SAUVEGARDE_VENVS") or ROOT / ".cache" / "venvs")
ENVIRONMENTS = (os.environ.get("SAUVEGARDE_DJANGO") or "5.2:psycopg2,4.2:psycopg").split(",")
# What Django 3.2 and the newest run on, where the tests' own Python is not one of them.
INTERPRETERS = {"3.2": ["python3.9", "python3.10"], "newest": ["python3.13", "python3.12"]}
PIP = ["-m", "pip", "install", "--quiet", "--retries", "1"]
CANARY = "Zéphyrine Canaribel"
USED = {}  # {DJANGO:DRIVER: Python} of the environments that a test has asked for


def interpreter(name, *packages, requirements=None):
    """The virtual environment's Python for `DJANGO:DRIVER`, made where it is missing. `requirements`: a file of pip's.

    Where pip cannot, it skips, unless SAUVEGARDE_DJANGO asked for it: what did not run then is a failure.
    """
    version, driver = name.split(":")
    parts = [version, driver, *packages, f"py{sys.version_info[0]}{sys.version_info[1]}"]
    if requirements:
        parts.append(hashlib.md5(requirements.read_bytes()).hexdigest()[:8])
        packages = (*packages, "--requirement", str(requirements))
    folder = VENVS / "-".join(parts)
    ready = folder / "ready"
    if not ready.exists():
        shutil.rmtree(str(folder), ignore_errors=True)
        collected = [shutil.which(each) for each in INTERPRETERS.get(version, [])]
        base = next((each for each in collected if each and _works(each)), sys.executable)
        django = "Django" if version == "newest" else f"Django=={version}.*"
        binary = "psycopg2-binary" if driver == "psycopg2" else "psycopg[binary]"
        commands = [
            [base, "-m", "venv", str(folder)],
            [str(folder / "bin" / "python"), *PIP, django, binary, *packages],
        ]
        for command in commands:
            result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            if result.returncode:
                end = pytest.fail if os.environ.get("SAUVEGARDE_DJANGO") else pytest.skip
                end(f"no virtual environment with {name}: {result.stdout.decode()[-300:]}")
        ready.write_text("", encoding="ascii")
    USED[name] = str(folder / "bin" / "python")
    return USED[name]


def _works(python):
    return (
        subprocess.run([python, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    )


_known = {}


def sites_of(environment, cluster, factory, *packages):
    """The Sites of an environment, the same for the whole session."""
    key = (environment, cluster.port, packages)
    if key not in _known:
        _known[key] = Sites(environment, cluster, factory.mktemp("sites"), len(_known), *packages)
    return _known[key]


class Sites:
    """Databases for one virtual environment: empty migrated and filled ones, copied for each test."""

    def __init__(self, environment, cluster, folder, number, *packages):
        self.python, self.cluster, self.folder = interpreter(environment, *packages), cluster, folder
        self.name = str(number)
        self._templates = {}
        self._count = 0

    def new(self, kind, filled=False, **variables):
        """A Site on a database of its own, `pg` or `sqlite`: migrated, and filled where wanted."""
        key = (kind, filled, tuple(sorted(variables.items())))
        if key not in self._templates:
            template = self._template(kind, filled, variables)
            self._templates[key] = template
        self._count += 1
        name = f"site{self._count}_{self.name}"
        if kind == "pg":
            self.cluster.execute(f"CREATE DATABASE {name} TEMPLATE {self._templates[key]}")
        else:
            shutil.copy(str(self.folder / self._templates[key]), str(self.folder / name))
        return self._site(kind, name, variables)

    def _template(self, kind, filled, variables):
        name = f"template{len(self._templates)}_{self.name}"
        if kind == "pg":
            self.cluster.execute(f"CREATE DATABASE {name} TEMPLATE template0")
            if self.geographic:
                self.cluster.execute("CREATE EXTENSION postgis", name)
        where = self._site(kind, name, variables)
        manage(where, "migrate", "-v0")
        if filled:
            manage(where, "generate", "--offers", "120", "--canary", CANARY)
        return name

    @property
    def geographic(self):
        query = "SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'"
        return bool(self.cluster.execute(query)) and ctypes.util.find_library("gdal") is not None

    def _site(self, kind, name, variables):
        if kind == "pg":
            scheme = "postgis" if self.geographic else "postgres"
            url = f"{scheme}://postgres@/{name}?host={self.cluster.folder}&port={self.cluster.port}"
        else:
            url = f"sqlite:///{self.folder / name}"
        env_file = self.folder / f"{name}.env"
        lines = dict(variables, SITE_ENV="/nonexistent", DATABASE_URL=url)
        env_file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
        return site.site(
            {"path": str(SITE), "python": self.python, "settings": "cap.settings", "env_file": str(env_file)}
        )


def manage(where, *arguments, stdin=None):
    """A stock command of the site; its output as bytes."""
    status, output, errors = stock_commands.run(where.python, where.path, site.environment(where), arguments, stdin)
    assert status == 0, errors.decode()
    return output


def shell(where, code):
    """What the code in the site prints, parsed as JSON."""
    text = manage(where, "shell", "-c", "import json\n" + code).decode()
    return json.loads(text.strip().splitlines()[-1])


def fingerprint(where, **values):
    """The fingerprint of the site's data."""
    return data_dump.stream(where, values, lambda piece: None)["fingerprint"]


def text_of(where, **values):
    """The site's data as our dump writes it."""
    pieces = []
    data_dump.stream(where, values, pieces.append)
    return b"".join(pieces)


def differences(one, other):
    return [each["sentence"] for each in fixture_fingerprint.compare(one, other)]


def write(path, entries):
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return path


def problems(where, path, **values):
    """What a load that only checks has to say: {(kind, model, key, field): action}."""
    result = data_load.load(where, [path], dict(values, check_only=True))
    return {(each["kind"], each["model"], each["pk"], each["field"]): each["action"] for each in result["problems"]}
