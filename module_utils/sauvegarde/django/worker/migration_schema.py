"""Bring a new database's schema to the state of the site's code, with the site's own migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from ..worker_request import MigrateOptions, WorkerRequest
from .derived_models import left_out, tables_of
from .model_selection import selected

if TYPE_CHECKING:
    from .django_types import Output, Source


def migrate(request: WorkerRequest, source: Source, output: Output) -> dict[str, Any]:
    """Bring the database to the state of the site's code, as `manage.py migrate` does, with `MigrateOptions`.

    Returns {"applied": [migrations], "left_out": {label: why its rows are not moved, now that tables exist}}.
    """
    options, using = MigrateOptions.from_values(request.options), request.database
    connection = connections[using]
    before = set(MigrationExecutor(connection).loader.applied_migrations)
    call_command("migrate", database=using, interactive=False, verbosity=0, run_syncdb=True)
    after = set(MigrationExecutor(connection).loader.applied_migrations)
    chosen = selected(options.labels, options.exclude, using, True)
    without = left_out(chosen, [*options.labels, *options.include], tables_of(connection))
    return {"applied": sorted("{}.{}".format(*key) for key in after - before), "left_out": without}
