"""Find out what a migration must know of the site, also if its database does not exist yet."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.apps import apps
from django.db import OperationalError, connections
from django.db.migrations.executor import MigrationExecutor

from ..worker_request import SurveyOptions, WorkerRequest
from .database_guard import identity_of
from .database_triggers import triggers
from .derived_models import left_out, tables_of
from .fast_or_stock import why_load_stock
from .hidden_rows import chooses_rows, count_hidden_rows
from .model_description import description
from .model_selection import selected
from .signal_listeners import listener_names

if TYPE_CHECKING:
    from .django_types import Connection, Model, Output, Source

_SEARCH_PATH = re.compile(r"(?:-c|--)?search[_-]path\s*=\s*(.*)", re.IGNORECASE)
_RECORD = "django_migrations"  # Django's own table of applied migrations


def survey(request: WorkerRequest, source: Source, output: Output) -> dict[str, Any]:
    """Return the site in plain values, with `SurveyOptions`.

    {"django", "vendor", "engine", "name", "user", "models": as `model_description.description`, "selected": [labels],
    "tables": [names], "migrations": all that the code has, "replaced": those that its squashed ones stand for,
    "applied": those of the database (None if it cannot be asked), "refused": why not, "system": the server's system
    identifier where it may be asked, "schemas": those that the settings' search path names, "table_of": {label: table
    of a selected model that migrations create}, "listeners": {listener to saving: number of models},
    "by_django": {label: why Django itself must write every object}, "left_out": {label: why its rows are not moved},
    "hiding": [labels whose default manager chooses rows], "hidden": {label: rows that it does not show},
    "triggers": [the database's own as [name and table, why it stays on while a new database is filled, or ""]]}.
    """
    options, using = SurveyOptions.from_values(request.options), request.database
    connection: Connection = connections[using]
    result = _database(connection)
    result["models"] = description(using)
    chosen = selected(options.labels, options.exclude, using, True)
    is_there = result["applied"] is not None
    # Before a database has tables, none of them counts as missing.
    tables = tables_of(connection) if result["applied"] else None
    result["left_out"] = left_out(chosen, [*options.labels, *options.include], tables)
    chosen = [model for model in chosen if model._meta.label_lower not in result["left_out"]]
    result.update(_models(chosen, connection))
    result["hidden"] = count_hidden_rows(chosen, using) if is_there and options.hidden else {}
    result["triggers"] = [[str(one), one.stays] for one in triggers(connection)] if tables is not None else []
    return result


def _database(connection: Connection) -> dict[str, Any]:
    """Return what the settings and the database say about it and its migrations."""
    values = connection.settings_dict
    result: dict[str, Any] = {
        "django": django.get_version(),
        "vendor": connection.vendor,
        "engine": values["ENGINE"],
        "name": _absolute(values["NAME"]) if connection.vendor == "sqlite" else values["NAME"],
        "user": values["USER"],
        "tables": [*sorted(connection.introspection.django_table_names(include_views=False)), _RECORD],
        "applied": None,
        "refused": "",
        "system": "",
        "schemas": _schemas(values),
    }
    # A connection to a missing file of SQLite would create it.
    is_there = connection.vendor != "sqlite" or Path(result["name"]).exists()
    try:
        executor = MigrationExecutor(connection if is_there else None)
        if is_there:
            result["applied"] = sorted("{}.{}".format(*key) for key in executor.loader.applied_migrations)
            if connection.vendor == "postgresql":
                # The server's own words: a pooler may use other names, and a service file names the database elsewhere.
                identity = identity_of(connection)
                result.update(name=identity.database, system=identity.system)
    except OperationalError as error:
        executor = MigrationExecutor(None)
        result.update(applied=None, refused=str(error))
    migrations = executor.loader.disk_migrations
    result["migrations"] = sorted("{}.{}".format(*key) for key in migrations)
    result["replaced"] = sorted("{}.{}".format(*key) for one in migrations.values() for key in one.replaces)
    return result


def _models(chosen: Sequence[type[Model]], connection: Connection) -> dict[str, Any]:
    """Return what is known about the selected models."""
    listeners: dict[str, int] = {}
    by_django = {}
    for model in chosen:
        why = why_load_stock(model, connection.vendor)
        if why:
            by_django[model._meta.label_lower] = why
        for name in listener_names(model):
            listeners[name] = listeners.get(name, 0) + 1
    metas = [apps.get_model(model._meta.label_lower)._meta for model in chosen]
    return {
        "selected": [meta.label_lower for meta in metas],
        "hiding": [model._meta.label_lower for model in chosen if chooses_rows(model)],
        "table_of": {meta.label_lower: meta.db_table for meta in metas if meta.managed},
        "listeners": listeners,
        "by_django": by_django,
    }


def _schemas(values: Mapping[str, Any]) -> list[str]:
    """Return the schemas of the search path in the connection's options, without those that every database has."""
    path = ""
    for word in shlex.split(str((values.get("OPTIONS") or {}).get("options") or "")):
        match = _SEARCH_PATH.match(word)
        path = match.group(1) if match else path
    names = [name.strip().strip('"') for name in path.split(",")]
    return [name for name in names if name and name not in ("public", "$user") and not name.startswith("pg_")]


def _absolute(name: object) -> str:
    return str(Path(str(name)).absolute())
