"""Inside the site: what a migration asks of it before, and a new database's schema from the site's own migrations."""

import re
import shlex
from pathlib import Path

import django
from django.apps import apps
from django.core.management import call_command
from django.db import OperationalError, connections
from django.db.migrations.executor import MigrationExecutor

from .database_guard import place
from .database_triggers import triggers
from .derived_models import (
    hidden_rows,
    hides,
    left_out,
    tables_of,
)
from .model_rows import why_by_django
from .site_models import description, listeners, selected

_SEARCH_PATH = re.compile(r"(?:-c|--)?search[_-]path\s*=\s*(.*)", re.IGNORECASE)
_RECORD = "django_migrations"  # which of them are applied: a table of Django's own


def survey(options, source, output):
    """The site in plain values, also where its database is not there yet.

    `options`: labels, exclude and include, of the models that matter; `hidden`: whether to count hidden rows. Returns
    {"django", "vendor", "engine", "name", "user", "models": as `worker_models.description`, "selected": [labels],
    "tables": [names], "migrations": all that the code has, "replaced": those that its squashed ones stand for,
    "applied": those of the database (None where it cannot be asked), "refused": why not, "system": the server's
    system identifier where it may be asked, "schemas": those that the settings' search path names, "table_of":
    {label: table of a selected model that migrations make}, "listeners": {name of a function that hears of saving: of
    how many models}, "by_django": {label: why Django itself must write every object}, "left_out": {label: why its
    rows are not moved}, "hiding": [labels whose default manager chooses rows], "hidden": {label: rows that it does
    not show}, "triggers": [the database's own as [name and table, why it stays on while a new database is filled, or
    ""]]}.
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
        "tables": [*sorted(connection.introspection.django_table_names(include_views=False)), _RECORD],
        "migrations": [],
        "replaced": [],
        "applied": None,
        "refused": "",
        "system": "",
        "schemas": _schemas(values),
    }
    # A connection to SQLite would make the file.
    there = connection.vendor != "sqlite" or Path(found["name"]).exists()
    try:
        executor = MigrationExecutor(connection if there else None)
        if there:
            found["applied"] = sorted("{}.{}".format(*key) for key in executor.loader.applied_migrations)
            if connection.vendor == "postgresql":
                here = place(connection)
                # What the server says: a pooler may have names of its own, and a service file names it elsewhere.
                found.update(name=here.database, system=here.system)
    except OperationalError as error:
        there, executor = False, MigrationExecutor(None)
        found["refused"] = str(error)
    known = executor.loader.disk_migrations
    found["migrations"] = sorted("{}.{}".format(*key) for key in known)
    found["replaced"] = sorted("{}.{}".format(*key) for each in known.values() for key in each.replaces)
    chosen = selected(options["labels"], options["exclude"], using, True)
    # Before a database has tables nothing is missing there.
    tables = tables_of(connection) if there and found["applied"] else None
    found["left_out"] = left_out(chosen, options["labels"] + options["include"], tables)
    chosen = [model for model in chosen if model._meta.label_lower not in found["left_out"]]
    found["selected"] = [model._meta.label_lower for model in chosen]
    found["hiding"] = [model._meta.label_lower for model in chosen if hides(model)]
    found["hidden"] = hidden_rows(chosen, using) if there and options.get("hidden") else {}
    models = {label: apps.get_model(label)._meta for label in found["selected"]}
    found["table_of"] = {label: meta.db_table for label, meta in models.items() if meta.managed}
    found["triggers"] = [[str(each), each.stays] for each in triggers(connection)] if tables is not None else []
    found["listeners"], found["by_django"] = {}, {}
    for label in found["selected"]:
        model = apps.get_model(label)
        why = why_by_django(model, connection.vendor)
        if why:
            found["by_django"][label] = why
        for name in listeners(model):
            found["listeners"][name] = found["listeners"].get(name, 0) + 1
    return found


def _schemas(values):
    """The schemas of the search path in the connection's options, those that every database has left out."""
    path = ""
    for word in shlex.split(str((values.get("OPTIONS") or {}).get("options") or "")):
        match = _SEARCH_PATH.match(word)
        path = match.group(1) if match else path
    names = [name.strip().strip('"') for name in path.split(",")]
    return [name for name in names if name and name not in ("public", "$user") and not name.startswith("pg_")]


def _path(name):
    return str(Path(str(name)).absolute())


def migrate(options, source, output):
    """Bring the database to the state of the site's code, as `manage.py migrate` does.

    `options`: labels, exclude, include. Returns {"applied": [migrations], "left_out": as `survey`, by the new tables}.
    """
    connection = connections[options["database"]]
    before = set(MigrationExecutor(connection).loader.applied_migrations)
    call_command("migrate", database=options["database"], interactive=False, verbosity=0, run_syncdb=True)
    after = set(MigrationExecutor(connection).loader.applied_migrations)
    chosen = selected(options["labels"], options["exclude"], options["database"], True)
    without = left_out(chosen, options["labels"] + options["include"], tables_of(connection))
    return {"applied": sorted("{}.{}".format(*key) for key in after - before), "left_out": without}
