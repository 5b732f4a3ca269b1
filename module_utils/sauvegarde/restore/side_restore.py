"""Restore a dump into a side database and prove it: the steps of one run, from reading the dump to its properties."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import psycopg2
from psycopg2 import sql

from ..archive.manifest import Manifest
from ..errors import SauvegardeError
from ..postgres import (
    character_sets,
    client_tools,
    database_properties,
    extension_sequences,
    postgres_server,
    predefined_objects,
    sql_names,
)
from ..report import render
from ..system import process
from ..targets import side_database
from . import (
    archive_load,
    deferred_rows,
    dump_extensions,
    dump_roles,
    load_role,
    pg_cron,
    restore_plan,
    script_load,
    verification,
)
from .dump import loss_ledger, pg_restore, unpacking
from .dump.contents import Contents
from .dump.dump_reading import ReadDump
from .dump.load_errors import server_message
from .dump.loss_ledger import Loss
from .findings import Blocker
from .load_session import Denied, LoadSession
from .request import RestoreRequest
from .restore_plan import DumpReading, Plan, PlanDetails
from .restore_state import State
from .source_needs import SourceNeeds, needs_of
from .surviving_fingerprint import surviving_fingerprint


class SideRestore:
    """One restore into the side database `name`. Each step records in the run's state what it found."""

    def __init__(self, request: RestoreRequest, run: State, name: str) -> None:
        self.request, self.run, self.name = request, run, name
        self.target, self.server = request.target, request.target.server
        self.work = run.path / "work"
        self._started = time.monotonic()

    def restore(self) -> dict[str, Any]:
        """Do all steps. Returns what the run's state records of a proven side database."""
        self._read()
        self._plan()
        self._make_roles()
        try:
            session = self._load()
        except Denied as error:
            # Its owner lacks a privilege: load it again as the superuser.
            session = self._load(error.reason)
        with contextlib.closing(session):
            lost = self._check_losses(session)
            extension_sequences.advance_all(session.connection, *_sequences(self.manifest, lost))
            self._analyze(session)
            self.run.watch = None
            proof = self._prove(session, lost)
            skipped, size = self._finish(session)
        seconds = time.monotonic() - self._started
        return {
            "proof": proof,
            "notes": session.notes
            + [f"left out: the setting {name}, which this server does not know" for name in skipped],
            "roles_made": self.roles_made,
            "warned": [note.as_dict() for note in self.plan.notes],
            "archive": self.details.source,
            "lost": self.details.lost,
            "bytes": size,
            "seconds": round(seconds, 1),
            "rate": round(size / seconds),
        }

    def _read(self) -> None:
        self.work.mkdir(mode=0o700)
        self.run.update(step="read")
        with self.target.maintenance() as connection:
            self.version_num = connection.server_version
        self.dump: ReadDump = restore_plan.read_source(
            self.request, self.work, self.version_num, lambda count: self.run.note(bytes_read=count)
        )
        self.contents: Contents = self.dump.contents
        self.manifest = self.dump.source.manifest
        self.needs: SourceNeeds = needs_of(self.dump.source, self.contents)

    def _plan(self) -> None:
        """Plan again, now that the whole dump was read: refuse what stops the restore."""
        self.run.update(step="plan")
        self.plan: Plan = restore_plan.plan_of(self.request, DumpReading.of_dump(self.dump))
        blockers = [blocker for blocker in self.plan.blockers if blocker.prevents_start]
        if blockers:
            raise _not_started(blockers)
        self.plan.require_confirmed(self.request)
        self.run.update(plan_mark=str(self.plan.mark))
        assert self.plan.details is not None
        self.details: PlanDetails = self.plan.details
        self.properties = self.details.properties
        self.run.update(expected=self.details.expected, bytes_total=self.needs.bytes, tables_total=self.needs.tables)
        with self.target.maintenance() as connection:
            is_postponed = pg_cron.is_postponed(
                connection, self.request.mode, self.request.database, self.needs.extensions, self.contents
            )
        self.expected = {loss.object: loss.kept for loss in self.details.losses if loss.kept == loss_ledger.LEFT_OUT}
        self.expected.update(dict.fromkeys(pg_cron.NAMES if is_postponed else (), loss_ledger.POSTPONED))
        self.run.update(scheduled=pg_cron.keep(self.contents) if is_postponed else None)

    def _make_roles(self) -> None:
        self.run.update(step="roles")
        role_file = restore_plan.role_file_of(self.request, self.dump.source)
        with self.target.maintenance() as connection:
            self.roles_made = dump_roles.create(connection, self.details.roles_made, role_file)
            # Recorded at once, so that the caller can drop them however the run ends.
            self.run.update(roles_made=self.roles_made)
            postgis: str | None = postgres_server.value(
                connection, "SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'postgis'"
            )
        self.with_raster = self.needs.requires_postgis_raster(postgis or "")

    def _create(self, ledger: loss_ledger.Ledger) -> None:
        """Create the side database again, with its extensions and those settings that apply while it is filled."""
        self.run.update(step="create")
        with self.target.maintenance() as connection:
            side_database.drop(connection, self.name)
            side_database.create(connection, self.name, self.properties)
        self.run.update(step="extensions")
        self._make_schemas()
        search_path = dump_extensions.make(self.server, self.name, self.contents, self.with_raster, ledger)
        dump_extensions.comment(self.server, self.name, self.contents, ledger)
        if search_path and "settings" not in self.needs.properties:
            # The dump does not record settings: keep the search_path that postgis_topology set.
            self.properties["settings"] = dict({"search_path": search_path}, **self.properties["settings"])
        side_database.apply_settings(self.server, self.name, self.properties)

    def _make_schemas(self) -> None:
        """Create the schemas that a partial archive needs and does not hold."""
        partial = self.manifest.partial if self.manifest is not None else None
        if partial is None or not partial["schemas"]:
            return
        with self.target.connected(self.name) as connection:
            for schema in partial["schemas"]:
                side_database.make_schema(connection, schema["name"], schema["owner"])

    def _load(self, why_superuser: str = "") -> LoadSession:
        """Create the side database and load the dump. Returns the session, which the caller closes.

        why_superuser: why the superuser loads all of it; '' to let the dump decide.
        """
        ledger = loss_ledger.Ledger(self.request.accept_losses, self.contents.texts, self.expected)
        self._create(ledger)
        search_path = self.properties["settings"].get("search_path", "")
        self.run.watch = self._progress
        owner = self.properties["owner"]
        session = LoadSession(
            self.server, self.name, self.contents, ledger, owner, search_path, self.run.update, why_superuser
        )
        try:
            self._load_into(session)
        except BaseException:
            self.run.watch = None
            session.close()
            raise
        return session

    def _load_into(self, session: LoadSession) -> None:
        if self.manifest is not None:
            _restore_changed_srids(session.connection, self.manifest)
        prepared, tool, contents, jobs = self.dump.prepared, self.dump.tool, self.contents, self.request.jobs
        # pg_restore would keep the INSERTs of a table before the one that fails, and cannot load rows with OIDs.
        if tool is not None and tool.native and not contents.inserted and not contents.oids:
            archive_load.load_archive(session, prepared, tool, jobs)
            return
        with pg_restore.as_sql(prepared, tool) as stream:
            deferred = deferred_rows.DeferredRows(self.work, unpacking.space_guard(prepared, self.work))
            script_load.load_script(session, stream, deferred, jobs)

    def _progress(self) -> dict[str, int]:
        """Return the bytes and tables so far, for the run's state; {} if the server does not answer."""
        with contextlib.suppress(SauvegardeError, psycopg2.Error), self.target.connected(self.name) as connection:
            size, tables = postgres_server.query(
                connection,
                "SELECT pg_catalog.pg_database_size(pg_catalog.current_database()), count(*)"
                " FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.oid >= 16384"
                " AND pg_catalog.pg_relation_size(c.oid) > 0",
            )[0]
            return {"bytes": size, "tables": tables}
        return {}

    def _check_losses(self, session: LoadSession) -> Sequence[Loss]:
        """Record all losses; raises unless each is accepted."""
        session.find_all_losses()
        lost = session.ledger.losses()
        self.run.update(losses=[loss.as_dict() for loss in lost])
        session.ledger.check()
        return lost

    def _analyze(self, session: LoadSession) -> None:
        """Collect statistics with vacuumdb, since it analyzes several tables at a time."""
        self.run.update(step="analyze")
        vacuumdb = client_tools.client("vacuumdb", self.version_num)
        options = ["--analyze-only", "--quiet", "-j", str(self.request.jobs)]
        result = process.run(
            [vacuumdb.path, "-d", client_tools.conninfo(self.name), *options],
            env=session.environment(PGCLIENTENCODING=character_sets.RAW),
            checked=False,
        )
        if result.status:
            # The restore goes on: autovacuum collects the statistics later.
            message = server_message(result.stderr).splitlines()
            reason = message[0] if message else "vacuumdb gave no reason"
            session.notes.append(f"not all statistics were collected (run ANALYZE): {reason}")

    def _prove(self, session: LoadSession, lost: Sequence[Loss]) -> dict[str, Any]:
        self.run.update(step="prove")
        if self.manifest is not None:
            return verification.against_manifest(self.server, self.name, self.manifest, self.request.jobs, lost)
        return verification.by_counting(session.connection, self.contents, lost)

    def _finish(self, session: LoadSession) -> tuple[list[str], int]:
        """Restore event triggers and the database's properties. Returns the settings that were left out, and the size.

        It connects to the database itself, because the database's comment and roles' names are in its encoding, and
        before event triggers exist, which may react to logins.
        """
        self.run.update(step="properties")
        with self.target.connected(self.name) as connection:
            session.release_functions()
            session.notes += _restore_schema_public(connection, self.manifest, self.contents)
            session.create_event_triggers()
            self.run.update(losses=[loss.as_dict() for loss in session.ledger.losses()])
            # Only now it is certain which of the accepted objects did not fail.
            session.notes += session.ledger.check()
            skipped = side_database.finish(connection, self.name, self.properties)
            size: int = postgres_server.value(connection, "SELECT pg_catalog.pg_database_size(%s)", (self.name,))
        return skipped, size


def _not_started(blockers: Sequence[Blocker]) -> SauvegardeError:
    what = "The restore was not started: " + " ".join(blocker.what for blocker in blockers)
    if len(blockers) == 1:
        return SauvegardeError(what, blockers[0].why, blockers[0].fix)
    return SauvegardeError(
        what, "\n".join(render.of_obstacles({"obstacles": [blocker.as_dict() for blocker in blockers]}))
    )


def _sequences(manifest: Manifest | None, lost: Sequence[Loss]) -> tuple[Any, Any]:
    """Return the `recorded` and `proven` of extension_sequences.advance_all from a manifest."""
    if manifest is None:
        return (), ()
    sums = surviving_fingerprint(manifest.fingerprint or {}, [loss.object for loss in lost])
    return manifest.source.get("extension_sequences", ()), sums.get("sequences", ())


def _restore_schema_public(connection: Any, manifest: Manifest | None, contents: Contents) -> list[str]:
    """Restore the owner and comment of the schema public from the manifest. Returns notes about what failed.

    Of a dump by pg_dump before 11, whose CREATE SCHEMA public is excluded, restore the owner unless it is a superuser.
    """
    if manifest is not None:
        public = manifest.source.get("schema_public", {})
    else:
        owners = {entry.owner for entry in contents.predefined if entry.kind == "SCHEMA" and entry.owner}
        owners -= load_role.superusers(connection)
        public = {"owner": owners.pop()} if owners else {}
    notes = []
    for statement in predefined_objects.statements(public):
        try:
            postgres_server.execute(connection, statement)
        except psycopg2.Error as error:
            notes.append(f"left out: {statement} ({server_message(str(error))})")
    return notes


def _restore_changed_srids(connection: Any, manifest: Manifest) -> None:
    """Restore the site's changes to rows of spatial_ref_sys that PostGIS ships: dumps do not contain them."""
    changed = manifest.source["spatial_ref_sys"]["changed"]
    table = database_properties.spatial_table(connection)
    if not changed or table is None:
        return
    statement = sql.SQL(
        "INSERT INTO {0} (srid, auth_name, auth_srid, srtext, proj4text)"
        " VALUES (%(srid)s, %(auth_name)s, %(auth_srid)s, %(srtext)s, %(proj4text)s)"
        " ON CONFLICT (srid) DO UPDATE SET auth_name = excluded.auth_name, auth_srid = excluded.auth_srid,"
        " srtext = excluded.srtext, proj4text = excluded.proj4text"
    ).format(sql_names.identifier(table[0], "spatial_ref_sys"))
    for row in changed:
        postgres_server.execute(connection, statement, row)
