"""A site of one application, `a`, whose models a test gives, on databases of its own: migrated once, copied after."""

import contextlib
import shutil
import sqlite3
import textwrap

from sample_site import manage
from sauvegarde.django import site

SETTINGS = """
import os
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.postgres"]
INSTALLED_APPS += [each for each in os.environ.get("APPS", "").split(",") if each] + ["a"]
if os.environ["KIND"] == "sqlite":
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DB"]}}
else:
    DATABASES = {"default": {"ENGINE": os.environ["KIND"], "NAME": os.environ["DB"], "HOST": os.environ["HOST"]}}
    DATABASES["default"].update(PORT=os.environ["PORT"], USER="postgres")
"""
MANAGE = "import sys; from django.core.management import execute_from_command_line as e; e(sys.argv)"


class Small:
    """The site; `new` gives it on an empty database of its own."""

    def __init__(
        self,
        python,
        cluster,
        folder,
        models,
        engine="django.db.backends.postgresql",
        apps="",
        extensions=(),
        settings="",
    ):
        self.python, self.cluster, self.folder = python, cluster, folder
        self.engine, self.apps, self.extensions = engine, apps, extensions
        (folder / "a" / "migrations").mkdir(parents=True)
        for path in ("a/__init__.py", "a/migrations/__init__.py"):
            (folder / path).write_text("", encoding="utf-8")
        for path, text in (("a/models.py", models), ("conf.py", SETTINGS + settings), ("manage.py", MANAGE)):
            (folder / path).write_text(textwrap.dedent(text), encoding="utf-8")
        self._count, self._templates = 0, {}

    def new(self, kind):
        if kind not in self._templates:
            template = self._site(kind)
            if not self._templates:
                self.make_migrations(template)
            manage(template, "migrate", "--run-syncdb", "-v0")
            self._templates[kind] = template
        return self._site(kind, self._templates[kind])

    def make_migrations(self, where):
        manage(where, "makemigrations", "a", "-v0")

    def _site(self, kind, template=None):
        self._count += 1
        name = f"small{self._count}_{abs(hash(str(self.folder))) % 10**8}"
        path = self.folder / name
        if kind == "pg":
            source = self.name(template) if template else "template0"
            self.cluster.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
            for extension in () if template else self.extensions:
                self.cluster.execute(f"CREATE EXTENSION {extension}", name)
        elif template:
            shutil.copy(str(self.folder / self.name(template)), str(path))
        values = {"KIND": self.engine if kind == "pg" else kind, "DB": name if kind == "pg" else path}
        values.update(HOST=self.cluster.folder, PORT=self.cluster.port, APPS=self.apps, DJANGO_SETTINGS_MODULE="conf")
        env_file = self.folder / f"{name}.env"
        env_file.write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")
        collected = {"path": str(self.folder), "python": self.python, "settings": "conf", "env_file": str(env_file)}
        return site.site(collected)

    def name(self, where):
        """The database's name."""
        return where.env_file.rsplit("/", 1)[1].rsplit(".", 1)[0]

    def rows(self, where, query):
        """What is in the database, asked without the site's code."""
        name = self.name(where)
        if site.environment(where)["KIND"] != "sqlite":
            return self.cluster.execute(query, name)
        with contextlib.closing(sqlite3.connect(str(self.folder / name))) as connection:
            return connection.execute(query).fetchall()


def same_rows(one, other, *labels):
    """Whether stock writes the same of both."""
    texts = [manage(where, "dumpdata", "--all", *(labels or ["a"])) for where in (one, other)]
    assert texts[0] == texts[1]
    return texts[0] != b"[]\n"
