"""Sites of a few lines for tests of what a site's own code may do: models, start-up, settings and manage.py as told."""

import hashlib
import shutil
import sqlite3
from pathlib import Path

from sample_site import interpreter, manage
from sauvegarde.archive import ids
from sauvegarde.django import site
from sauvegarde.migrate import migration_plan, migration_run, migration_source
from sauvegarde.migrate.migration_request import MigrationRequest
from sauvegarde.restore import restore_state

MODELS = """
from django.db import models
class Setting(models.Model):
    key = models.CharField(max_length=50, unique=True)
    value = models.CharField(max_length=100)
class Note(models.Model):
    text = models.CharField(max_length=100)
"""
APPS = """
from django.apps import AppConfig
class Config(AppConfig):
    name = "a"
    def ready(self):
        from . import start
"""
MANAGE = """
import os, sys
def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "conf")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
if __name__ == "__main__":
    main()
"""
SETTINGS = """
import os
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "a"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DB"]}}
if os.environ["KIND"] == "pg":
    DATABASES["default"].update(ENGINE="django.db.backends.postgresql", USER="postgres")
    DATABASES["default"].update(HOST=os.environ["PGH"], PORT=os.environ["PGP"])
"""

_templates = {}  # databases that have the tables, by what makes them; the same for the whole session


class Folder:
    """The code of one site. `start`: what its ready() runs; `settings`: further lines; `head`: manage.py."""

    def __init__(self, folder, cluster, environment, start="", settings="", head=MANAGE, models=MODELS, **files):
        self.path, self.cluster, self.python = folder / "code", cluster, interpreter(environment)
        app = self.path / "a"
        app.mkdir(parents=True)
        texts = {"a/__init__.py": "", "a/models.py": models, "a/apps.py": APPS, "a/start.py": start}
        texts.update({"manage.py": head, "conf.py": SETTINGS + settings}, **files)
        for name, text in texts.items():
            (self.path / name).write_text(text, encoding="utf-8")
        self.start = app / "start.py"
        self._count = 0

    def new(self, kind, before=(), **variables):
        """A Site on an empty database of its own that has the tables; its start-up does not run for that.

        `before`: statements for a database of PostgreSQL before it gets them, where {} is its name. Code that made
        tables once does not make them again: without such statements, the database is a copy.
        """
        self._count += 1
        name = f"little_{self.path.parent.name[-12:]}_{self._count}".replace("-", "_").lower()
        database = name if kind == "pg" else str(self.path.parent / (name + ".sqlite3"))
        key = (kind, self.cluster.port, self.python, tuple(sorted(variables.items())), self._code())
        template = None if before else _templates.get(key)
        if kind == "pg":
            self.cluster.execute(f"DROP DATABASE IF EXISTS {name}")
            self.cluster.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template1'}")
            for statement in before:
                self.cluster.execute(statement.format(name), name)
        env_file = self.path.parent / (name + ".env")
        values = dict(KIND=kind, DB=database, PGH=self.cluster.folder, PGP=self.cluster.port, **variables)
        env_file.write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")
        where = site.site(
            {"path": str(self.path), "python": self.python, "settings": "conf", "env_file": str(env_file)}
        )
        if template and kind == "sqlite":
            Path(database).write_bytes(template)
        if template:
            return where
        text = self.start.read_text(encoding="utf-8")
        self.start.write_text("", encoding="utf-8")
        manage(where, "migrate", "--run-syncdb", "-v0")
        self.start.write_text(text, encoding="utf-8")
        if not before:
            _templates[key] = self._template(kind, database)
        return where

    def _code(self):
        """What the site's code says, but for its start-up."""
        files = (path for path in self.path.rglob("*.py") if path != self.start)
        texts = (f"{path.relative_to(self.path)}\n".encode() + path.read_bytes() for path in sorted(files))
        return hashlib.sha256(b"\0".join(texts)).hexdigest()

    def _template(self, kind, database):
        """A copy of the database that nothing changes: the file's bytes, or a database of PostgreSQL's."""
        if kind == "sqlite":
            return Path(database).read_bytes()
        name = f"little_template_{len(_templates)}"
        self.cluster.execute(f"CREATE DATABASE {name} TEMPLATE {database}")
        return name


def database(where):
    """The name of the live database, or the live file."""
    return site.environment(where)["DB"]


def execute(cluster, where, statement, name=""):
    """Rows of a statement in the site's database, or in another of its engine, asked without the site."""
    if site.environment(where)["KIND"] == "pg":
        return cluster.execute(statement, name or database(where))
    with sqlite3.connect(name or database(where)) as connection:
        return connection.execute(statement).fetchall()


def fill(cluster, where, word):
    execute(cluster, where, f"INSERT INTO a_setting (key, value) VALUES ('site', '{word}')")
    execute(cluster, where, f"INSERT INTO a_note (text) VALUES ('{word}')")


def rows(cluster, where, name=""):
    """All rows of the little models."""
    query = "SELECT key, value FROM a_setting UNION ALL SELECT '', text FROM a_note ORDER BY 1, 2"
    return [tuple(row) for row in execute(cluster, where, query, name)]


def about(where, folder, path=""):
    """What `source.make` wants to know."""
    values = {"path": path, "mark": None, "keeper": "root", "environment": "production"}
    connection = {}
    if site.environment(where)["KIND"] == "pg":
        result = site.environment(where)
        connection = {"host": result["PGH"], "port": int(result["PGP"]), "user": "postgres"}
    return dict(values, connection=connection, server_directory=str(folder / "server"))


def migrate(one, two, folder, path="", **values):
    """The final state of a migration from one little site, or from an archive, into another one's side database."""
    shutil.rmtree(str(folder / "out"), ignore_errors=True)
    report = about(two, folder)
    result = migration_source.make(
        one, folder / "out", migration_source.options(None, "", [], False), about(one, folder, path)
    )
    spec = {"site": two.as_dict(), "directory": str(folder / "in"), "path": result["path"], "keeper": "root"}
    spec.update(connection=report["connection"], server_directory=report["server_directory"], **values)
    spec = MigrationRequest.from_values(spec)
    return migration_run.fill(spec, ids.new_id(restore_state.folder(spec.directory)), migration_plan.survey(two))
