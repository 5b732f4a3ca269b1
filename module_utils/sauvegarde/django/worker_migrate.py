"""Inside the site: what a migration asks of it before, and a new database's schema from the site's own migrations."""

from pathlib import Path

import django
from django.core.management import call_command
from django.db import OperationalError, connections
from django.db.migrations.executor import MigrationExecutor

from .worker_models import description, selected

_RECORD = "django_migrations"  # which of them are applied: a table of Django's own


def survey(options, source, output):
    """The site in plain values, also where its database is not there yet.

    `options`: labels and exclude, of the models that matter. Returns {"django", "vendor", "engine", "name", "user",
    "models": as `worker_models.description`, "selected": [labels], "tables": [names], "migrations": all that the code
    has, "replaced": those that its squashed ones stand for, "applied": those of the database (None where it cannot be
    asked), "refused": why not}.
    """
    using = options["database"]
    connection = connections[using]
    values = connection.settings_dict
    found = {
        "django": django.get_version(),
        "vendor": connection.vendor,
        "engine": values["ENGINE"],
        "name": _path(values["NAME"]) if connection.vendor == "sqlite" else values["NAME"],
        "user": values["USER"],
        "models": description(using),
        "selected": [model._meta.label_lower for model in selected(options["labels"], options["exclude"], using, True)],
        "tables": [*sorted(connection.introspection.django_table_names(include_views=False)), _RECORD],
        "migrations": [],
        "replaced": [],
        "applied": None,
        "refused": "",
    }
    # A connection to SQLite would make the file.
    there = connection.vendor != "sqlite" or Path(found["name"]).exists()
    try:
        executor = MigrationExecutor(connection if there else None)
        if there:
            found["applied"] = sorted("{}.{}".format(*key) for key in executor.loader.applied_migrations)
    except OperationalError as error:
        executor = MigrationExecutor(None)
        found["refused"] = str(error)
    known = executor.loader.disk_migrations
    found["migrations"] = sorted("{}.{}".format(*key) for key in known)
    found["replaced"] = sorted("{}.{}".format(*key) for each in known.values() for key in each.replaces)
    return found


def _path(name):
    return str(Path(str(name)).absolute())


def migrate(options, source, output):
    """Bring the database to the state of the site's code, as `manage.py migrate` does: {"applied": [migrations]}."""
    connection = connections[options["database"]]
    before = set(MigrationExecutor(connection).loader.applied_migrations)
    call_command("migrate", database=options["database"], interactive=False, verbosity=0, run_syncdb=True)
    after = set(MigrationExecutor(connection).loader.applied_migrations)
    return {"applied": sorted("{}.{}".format(*key) for key in after - before)}
