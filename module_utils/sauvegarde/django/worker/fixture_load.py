"""Load fixtures as stock `loaddata` would, in bulk, after everything that could fail has been checked.

1. The source is read once: every value is converted and checked, rows are held in unnamed files (`model_rows`).
2. In one transaction, with the tables locked, references are checked against the files' rows and the database
   (`reference_check`), and what a replacement would remove (`replacement`).
3. Only then rows are written: COPY into PostgreSQL, many rows a statement into SQLite (`fast_write`). Before the end
   the database itself checks every reference of the written tables (`load_transaction`).

If the site has signal listeners, rows are written in the order of the files, and the listeners are called for each
object as by stock (`signal_replay`). An object takes the stock way (Django's deserializer and `save(raw=True)`) if only
that gives the stock result (`fast_or_stock`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.management.color import no_style
from django.core.management.utils import parse_apps_and_model_labels
from django.db import DatabaseError, connections, router, transaction

from ...errors import Locked, SauvegardeError
from ..worker_request import LoadOptions, LoadReport, WorkerRequest
from .database_triggers import silent
from .fast_write import writer_of
from .load_context import LoadContext
from .load_source import fixture_files
from .load_transaction import LoadTransaction
from .model_rows import ModelRows
from .model_write import ModelWriter
from .natural_key_references import NaturalReferences
from .reference_check import Dangling, ReferenceCheck
from .replacement import Replacement
from .run_lengths import RunLengths
from .signal_listeners import silenced
from .signal_replay import SignalReplay
from .stock_save import StockSaver

if TYPE_CHECKING:
    from .django_types import Entry, Model, Output, Source


def load(request: WorkerRequest, source: Source, output: Output) -> dict[str, Any]:
    """Load the source's fixtures (see `load_source.fixture_files`) with `LoadOptions`; returns a `LoadReport`."""
    loading = FixtureLoad(LoadContext(LoadOptions.from_values(request.options), connections[request.database], output))
    try:
        written = loading.run(source)
    except DatabaseError as error:
        what = "The fixture could not be loaded: the database refused it, and nothing was written."
        if "lock timeout" in str(error) or "database is locked" in str(error):
            raise Locked(
                what, str(error), "Run it again when no other session holds the tables, or raise lock_timeout."
            ) from error
        raise SauvegardeError(
            what,
            str(error),
            "Correct what the database names; a unique value under another key needs the mode replace.",
        ) from error
    return loading.report(written).as_dict()


class FixtureLoad:
    """One load. `models`: the rows of each model, in the order in which the files name them."""

    def __init__(self, context: LoadContext) -> None:
        self.context, self.options, self.problems = context, context.options, context.problems
        self.connection, self.using = context.connection, context.using
        self.connection.queries_log.clear()
        self.models: dict[type[Model], ModelRows] = {}
        self._order: RunLengths[ModelRows] = RunLengths()  # the models of the objects, in the files' order
        self._naturals = NaturalReferences(context, self.models)
        self._replacement = Replacement(context, self.models)
        self._excluded = parse_apps_and_model_labels(self.options.exclude)
        self._by_label: dict[str, ModelRows | None] = {}  # None for models that are skipped
        self._skipped: dict[str, int] = {}
        self._count = 0
        self._silent: list[str] = []  # the database's triggers that are off while rows are written

    def run(self, source: Source) -> bool:
        """Read, check and write. Returns whether anything was written."""
        with contextlib.ExitStack() as stack:
            if self.options.check_only:
                stack.enter_context(_undone(self.using))
            self._read_all(source)
            if not self.options.listeners:
                stack.enter_context(silenced())
            tables = [table for rows in self.models.values() for table in rows.tables]
            transaction_ = LoadTransaction(self.connection, tables, self.options.lock_timeout)
            stack.enter_context(transaction_.open(sum(rows.spool.size for rows in self.models.values())))
            references = ReferenceCheck(self.context, self.models, self._naturals)
            dangling = references.check()
            if self.options.replaces:
                self._replacement.check(references)
            references.drop(dangling)
            if self.problems.stopping or self.options.check_only:
                # Code of the site (a manager, a default) may have written.
                transaction.set_rollback(True, using=self.using)
                return False
            with contextlib.ExitStack() as quiet:
                if not self.options.triggers:
                    self._silent = [str(trigger) for trigger in quiet.enter_context(silent(self.connection))]
                self._write(dangling)
                transaction_.check_references(self._written_tables())
                self._reset_sequences()
        return True

    # --- reading ------------------------------------------------------------------------------------------------------

    def _read_all(self, source: Source) -> None:
        for label in self.options.models:
            self._rows_of(apps.get_model(label))
        for file in fixture_files(source):
            self._read(file.entries(self.using))
        for rows in list(self.models.values()):
            rows.flush()

    def _read(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            label = entry["model"]
            if label not in self._by_label:
                self._by_label[label] = self._rows_of_label(label)
            rows = self._by_label[label]
            if rows is not None:
                self._order.add(rows)
                rows.add(entry, self._count)
                self._count += 1
            else:
                self._skipped[label] = self._skipped.get(label, 0) + 1

    def _rows_of_label(self, label: str) -> ModelRows | None:
        try:
            model = apps.get_model(label)
        except (LookupError, ValueError):
            self.problems.add("unknown", label, None, "", "the site has no such model")
            return None
        excluded_models, excluded_apps = self._excluded
        if model in excluded_models or model._meta.app_config in excluded_apps:
            return None
        if not router.allow_migrate_model(self.using, model):
            return None
        return self._rows_of(model)

    def _rows_of(self, model: type[Model]) -> ModelRows:
        if model not in self.models:
            self.models[model] = ModelRows(self.context, model)
        return self.models[model]

    # --- writing ------------------------------------------------------------------------------------------------------

    def _write(self, dangling: Dangling) -> None:
        writer, saver = writer_of(self.connection), StockSaver(self.connection)
        if self.options.replaces:
            self._replacement.remove(writer)
        models = ModelWriter(self._naturals, writer, saver, dangling)
        if self.context.has_objects or self._naturals.needs_order():
            replay = SignalReplay(self.context, self.models, self._naturals, writer, saver)
            replay.run(self._order, models)
        else:
            for rows in self.models.values():
                models.write(rows)
                self.context.output.progress(model=rows.label, objects=rows.written)
        self.context.output.progress(step="references")
        saver.finish()
        self._naturals.finish(writer)

    def _written_tables(self) -> set[str]:
        """Return the tables of all models of the load, and those that they inherit from."""
        tables = {table for rows in self.models.values() for table in rows.tables}
        return tables.union(
            parent._meta.db_table for rows in self.models.values() for parent in rows.model._meta.parents
        )

    def _reset_sequences(self) -> None:
        """Let new rows get numbers above the existing ones.

        A sequence cannot go below 1: it stays as it is if the table's greatest number is below.
        """
        quote, below = self.connection.ops.quote_name, []
        written = [rows.model for rows in self.models.values() if rows.spool.count or rows.counts["stock"]]
        with self.connection.cursor() as cursor:
            for model in written if self.connection.vendor == "postgresql" else ():
                key = model._meta.auto_field
                if key is not None:
                    cursor.execute(f"SELECT max({quote(key.column)}) FROM {quote(model._meta.db_table)}")
                    greatest = cursor.fetchone()[0]
                    below += [model] if greatest is not None and greatest < 1 else []
            models = [model for model in written if model not in below]
            for statement in self.connection.ops.sequence_reset_sql(no_style(), models):
                cursor.execute(statement)

    # --- report -------------------------------------------------------------------------------------------------------

    def report(self, written: bool) -> LoadReport:
        """Return what was loaded, and how. `written`: what `run` returned."""
        models = list(self.models.values())
        reasons = {rows.label: self._stock_reasons(rows) for rows in models}
        return LoadReport(
            counts={rows.label: rows.written for rows in models},
            stock={
                rows.label: {"objects": rows.counts["stock"], "why": "; ".join(reasons[rows.label])}
                for rows in models
                if reasons[rows.label]
            },
            listeners={rows.label: sorted(rows.sent_signals) for rows in models if rows.sent_signals and rows.written},
            skipped=self._skipped,
            problems=self.problems.listed,
            stopping=self.problems.stopping,
            mended=self.problems.repaired,
            touched=self.problems.touched,
            changed=self.problems.changed,
            silent=self._silent,
            written=written,
        )

    def _stock_reasons(self, rows: ModelRows) -> list[str]:
        """Return why objects of the model took the stock way, or why Django removed its rows."""
        signal = self._replacement.deletion_signal(rows)
        return sorted(rows.stock_reasons) + (
            [f"has a listener to {signal}, so Django deletes what goes"] if signal else []
        )


@contextlib.contextmanager
def _undone(using: str) -> Iterator[None]:
    """Roll back what the block writes."""
    with transaction.atomic(using=using):
        yield
        transaction.set_rollback(True, using=using)
